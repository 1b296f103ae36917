"""`dualres bench`: what a routed detector costs in eager PyTorch and in every exported form, in one interleaved run."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm.auto import tqdm

from dualres_plugin.budget.ladder import step_of
from dualres_plugin.common.card import FORMS, Card
from dualres_plugin.common.errors import DualResError, check_number
from dualres_plugin.common.files.atomic import make_dir
from dualres_plugin.common.flops import milliseconds
from dualres_plugin.common.resize import make_thumbnails, resize_images
from dualres_plugin.common.types import RouterImages
from dualres_plugin.export.bench.layout import layout_table
from dualres_plugin.export.bench.result import OUTSIDE, BenchResult, Timing, points_of
from dualres_plugin.export.build import export_model, export_network, export_plain
from dualres_plugin.export.graph import require_onnx
from dualres_plugin.export.parity import sample_photos
from dualres_plugin.hosts.contract import HostAdapter
from dualres_plugin.hosts.ladder import Ladder
from dualres_plugin.hosts.routing import run_routed
from dualres_plugin.router.gate import Gate
from dualres_plugin.router.network import ResolutionRouter
from dualres_plugin.runtime.engines import choice
from dualres_plugin.runtime.graphs import OrtGraph
from dualres_plugin.runtime.photo import Frame, make_frame
from dualres_plugin.runtime.session import DualResSession
from dualres_plugin.runtime.thumbnail import content_bytes, make_thumbnail

logger = logging.getLogger("dualres")
Case = Callable[[], object]
WARM_UP = 3


@dataclass(frozen=True)
class BenchSettings:
    """What to measure.

    Attributes:
        high: high size in pixels.
        scale: low / high ratio, or several sizes.
        forms: exported forms; "cond-outside" is "cond" with the thumbnail outside the graph, and so with the others.
        images: folder or glob of photos; None takes one that comes with matplotlib.
        count: photos.
        threads: of onnxruntime and of PyTorch.
        rounds: passes over the photos.
        memory: measure resident memory too.
        check: photos to check each export with.

    Raises:
        DualResError: If a number is out of range.
    """

    high: int
    scale: float | Ladder
    forms: tuple[str, ...] = FORMS
    images: str | None = None
    count: int = 128
    threads: int = 2
    rounds: int = 1
    memory: bool = True
    check: int = 2

    def __post_init__(self) -> None:
        Ladder.of(self.scale)
        for name in ("high", "count", "threads", "rounds"):
            check_number(name, getattr(self, name), 1)
        check_number("check", self.check, 0)

    @property
    def ladder(self) -> Ladder:
        """The sizes."""
        return Ladder.of(self.scale)


@dataclass(frozen=True)
class Models:
    """The exported files of one bench.

    Attributes:
        plain: `plain_high`, `plain_low`, and `lean_high`, `lean_low` where the detector decodes distributions; or
            `plain_640`, … of several sizes.
        forms: form -> file, or folder of a pair.
        card: of these.
        router: makes its thumbnail itself; `network` is the router without that.
    """

    plain: dict[str, Path]
    forms: dict[str, Path]
    card: Card
    router: Path
    network: Path


def run_bench(adapter: HostAdapter[Any], router: ResolutionRouter, out: Path, settings: BenchSettings) -> BenchResult:
    """Export, measure and write `table.txt`, `times.csv`, `bench.json` and `bench.png` into a folder.

    Every photo goes through every case before the next photo comes, in random order, so that a busy moment of the
    machine, and what the case before left in the caches, hit all cases alike.

    Args:
        adapter: of the detector.
        router: decides the routes.
        out: the folder.
        settings: what to measure.

    Returns:
        The figures.

    Raises:
        DualResError: If a form does not suit the detector, or no photo can be read.
    """
    make_dir(out)
    unknown = {form for form in settings.forms if form.removesuffix(OUTSIDE) not in FORMS}
    if unknown:
        raise DualResError(f"unknown form(s) {sorted(unknown)}: use {', '.join(FORMS)}, or one of them with {OUTSIDE}.")
    threads = torch.get_num_threads()
    torch.set_num_threads(settings.threads)
    try:
        models = _export(adapter, router, out / "models", settings)
        photos = sample_photos(settings.images, settings.count)
        timings, shares = _measure(adapter, router, models, photos, settings)
    finally:
        torch.set_num_threads(threads)
    sizes = {name: _size(path) for name, path in {**models.plain, **models.forms}.items()}
    sizes["router"] = _with_weights(models.router)
    layouts = layout_table([*models.plain.values(), *models.forms.values()])
    memory = _memory(models, settings) if settings.memory else {}
    parity = {form: DualResSession(path, warm_up=False).card.parity for form, path in models.forms.items()}
    result = BenchResult(
        timings, shares, sizes, memory, forms=list(models.forms), images=len(photos), threads=settings.threads,
        high=settings.high, scales=models.card.scales, names=models.card.routes, layouts=layouts,
        parity=parity if settings.check else {},
    )  # fmt: skip
    result.write(out)
    return result


def _export(adapter: HostAdapter[Any], router: ResolutionRouter, folder: Path, settings: BenchSettings) -> Models:
    make_dir(folder)
    plain = export_plain(adapter, folder, settings.high, settings.ladder)
    threshold = (0.0,) * len(settings.ladder.lower)
    forms = {}
    for form in dict.fromkeys(("pair", *settings.forms)):  # a pair holds the router alone
        kind = form.removesuffix(OUTSIDE)
        path = folder / (form if kind == "pair" else f"{form}.onnx")
        logger.info("exporting %s", path)
        forms[form] = export_model(
            adapter, router, path, form=kind, high=settings.high, scale=settings.ladder, threshold=threshold,
            thumbnail="inside" if form == kind else "outside", images=settings.images, photos=settings.check,
        )  # fmt: skip
    wanted = {form: forms[form] for form in settings.forms}
    network = export_network(router, folder / "router_network.onnx")
    card = DualResSession(forms["pair"], warm_up=False).card
    return Models(plain, wanted, card, forms["pair"] / "router.onnx", network)


# -- time ------------------------------------------------------------------------------------------------------


def _measure(
    adapter: HostAdapter[Any],
    router: ResolutionRouter,
    models: Models,
    photos: list[np.ndarray],
    settings: BenchSettings,
) -> tuple[dict[str, Timing], tuple[float, ...]]:
    """Times of every case, and the share of the photos at each size where they are mixed: the same at each."""
    exported = Exported(models, router.config.input_size, settings.threads)
    eager = Eager(adapter, router, models.card, settings)
    scores = [exported.score(photo) for photo in photos]
    count = len(models.card.sizes)
    middle = tuple(float(np.quantile(scores, 1 - number / count)) for number in range(1, count))
    steps = [step_of(score, middle) for score in scores]
    timings: dict[str, Timing] = {}
    order = np.random.default_rng(0)
    for turn in range(settings.rounds):
        for number in tqdm(range(-WARM_UP if not turn else 0, len(photos)), desc="bench", unit="img"):
            photo, step = photos[max(number, 0)], steps[max(number, 0)]
            cases = {**exported.cases(photo, middle), **eager.cases(photo, middle)}
            for name in order.permutation(list(cases)):
                spent = milliseconds(cases[name])
                if number >= 0:
                    timings.setdefault(name, Timing()).add(spent, step)
    return timings, tuple(float(np.mean([s == step for s in steps])) for step in range(count))


class Exported:
    """Every exported model, loaded."""

    def __init__(self, models: Models, side: int, threads: int):
        self.sessions = {f: DualResSession(path, threads=threads, warm_up=False) for f, path in models.forms.items()}
        self.plain = {name: OrtGraph(path, threads) for name, path in models.plain.items()}
        self.router, self.network = OrtGraph(models.router, threads), OrtGraph(models.network, threads)
        self.card = models.card
        self.side = side

    def score(self, photo: np.ndarray) -> float:
        """The router's, of an RGB uint8 photo (H, W, 3)."""
        return float(self.router(_feeds(make_frame(photo, self.card)), ["score"])[0][0])

    def cases(self, photo: np.ndarray, middle: tuple[float, ...]) -> dict[str, Case]:
        """What is timed on one photo.

        Args:
            photo: (H, W, 3) RGB uint8.
            middle: the thresholds where sizes are mixed.
        """
        frame = make_frame(photo, self.card)
        images = torch.from_numpy(frame.images)
        thumbnail = make_thumbnails(RouterImages(images, [frame.content]), self.side).numpy()
        make_own = partial(make_thumbnail, content_bytes(frame.images, frame.content), self.side)
        cases: dict[str, Case] = {
            "router": partial(self.router, _feeds(frame), [choice(self.card), "score"]),
            "router_network": partial(self.network, {"images": thumbnail}, ["found"]),
            "thumbnail": make_own,
        }
        for name, graph in self.plain.items():
            shape = tuple(graph.session.get_inputs()[0].shape[2:])
            sized = resize_images(images, shape, antialias=False).numpy()
            cases[name] = partial(graph, {"images": sized}, ["detections"])
        for form, session in self.sessions.items():
            for point in points_of(self.card.routes):
                limits = middle if point.step is None else self.card.only(point.step)
                make = make_own if session.card.thumbnail else None
                cases[f"{form}_{point.name}"] = partial(_routed, session, frame, limits, make)
        return cases


def _routed(
    session: DualResSession, frame: Frame, limits: tuple[float, ...], thumbnail: Callable[[], np.ndarray] | None
) -> object:
    """One run, with the making of the thumbnail where the graph leaves that to the session."""
    return session.run(frame.images, frame.content, limits, thumbnail() if thumbnail else None)


def _feeds(frame: Frame) -> dict[str, np.ndarray]:
    """The inputs of the router alone; its threshold stays the default."""
    return {"images": frame.images, "content": np.array(frame.content, dtype=np.int64)}


class Eager:
    """The same in PyTorch, as the host itself runs it (batch norms folded)."""

    def __init__(self, adapter: HostAdapter[Any], router: ResolutionRouter, card: Card, settings: BenchSettings):
        self.adapter = adapter.for_inference()
        self.collate = adapter.export_batch
        self.router = router
        self.card = card
        self.size, self.ladder = settings.high, settings.ladder

    def cases(self, photo: np.ndarray, middle: tuple[float, ...]) -> dict[str, Case]:
        """As of `Exported`."""
        batch = self.collate(photo, self.size, True)
        whole = torch.arange(1)
        sized = [batch, *(self.adapter.resize(batch, whole, scale) for scale in self.card.scales)]
        cases: dict[str, Case] = {
            f"eager_plain_{name}": partial(self.adapter.predict, one) for name, one in zip(self.card.routes, sized)
        }
        cases["eager_router"] = partial(self.router.score, self.adapter.router_images(batch))
        for point in points_of(self.card.routes):
            limits = middle if point.step is None else self.card.only(point.step)
            cases[f"eager_{point.name}"] = self._routed(batch, limits)
        return cases

    def _routed(self, batch: Any, thresholds: tuple[float, ...]) -> Case:
        return partial(run_routed, self.adapter, batch, Gate(self.router, thresholds), self.ladder)


# -- size and memory -------------------------------------------------------------------------------------------


def _size(path: Path) -> float:
    """Bytes on disk in MB; graphs that keep their weights beside them count these too."""
    files = [p for p in path.iterdir() if p.is_file()] if path.is_dir() else [path]
    return sum(f.stat().st_size for f in files) / 1e6


def _with_weights(path: Path) -> float:
    """A graph of a pair with its own share of the common weights file, in MB."""
    model = require_onnx().load(str(path), load_external_data=False)
    outside = [int(e.value) for w in model.graph.initializer for e in w.external_data if e.key == "length"]
    return (path.stat().st_size + sum(outside)) / 1e6


def _memory(models: Models, settings: BenchSettings) -> dict[str, dict[str, float]]:
    size = f"{settings.high}x{settings.high}"
    largest = f"plain_{models.card.routes[0]}"
    jobs = {"nothing": ("-", "none"), largest: (str(models.plain[largest]), "plain")}
    jobs.update({form: (str(path), "dualres") for form, path in models.forms.items()})
    return {name: _in_own_process(*job, size, settings.threads) for name, job in jobs.items()}


def _in_own_process(model: str, kind: str, size: str, threads: int) -> dict[str, float]:
    command = [sys.executable, "-m", "dualres_plugin.runtime.memory", model, kind, size, str(threads)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise DualResError(f"measuring the memory of '{model}' failed: {done.stderr.strip().splitlines()[-1:]}")
    values: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return values
