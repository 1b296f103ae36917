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

from dualres_plugin.common.card import FORMS
from dualres_plugin.common.errors import DualResError, check_number
from dualres_plugin.common.files.atomic import make_dir
from dualres_plugin.common.flops import milliseconds
from dualres_plugin.common.resize import check_scale, make_thumbnails, resize_images
from dualres_plugin.common.types import RouterImages
from dualres_plugin.export.bench.layout import layout_table
from dualres_plugin.export.bench.result import BenchResult, Timing
from dualres_plugin.export.build import export_model, export_network, export_plain
from dualres_plugin.export.graph import require_onnx
from dualres_plugin.export.parity import sample_photos
from dualres_plugin.hosts.contract import HostAdapter
from dualres_plugin.hosts.routing import run_routed
from dualres_plugin.router.gate import Gate
from dualres_plugin.router.network import ResolutionRouter
from dualres_plugin.runtime.engines import OrtGraph
from dualres_plugin.runtime.photo import Frame, make_frame
from dualres_plugin.runtime.session import DualResSession

logger = logging.getLogger("dualres")
Case = Callable[[], object]
WARM_UP = 3
POINTS = {100: float("-inf"), 50: None, 0: float("inf")}  # share at high in % -> threshold; 50 is calibrated


@dataclass(frozen=True)
class BenchSettings:
    """What to measure.

    Attributes:
        high: high size in pixels.
        scale: low / high ratio.
        forms: exported forms.
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
    scale: float
    forms: tuple[str, ...] = FORMS
    images: str | None = None
    count: int = 128
    threads: int = 2
    rounds: int = 1
    memory: bool = True
    check: int = 2

    def __post_init__(self) -> None:
        check_scale(self.scale)
        for name in ("high", "count", "threads", "rounds"):
            check_number(name, getattr(self, name), 1)
        check_number("check", self.check, 0)


@dataclass(frozen=True)
class Models:
    """The exported files of one bench.

    Attributes:
        plain: `plain_high`, `plain_low`, and `lean_high`, `lean_low` where the detector decodes distributions.
        forms: form -> file, or folder of a pair.
        router: makes its thumbnail itself; `network` is the router without that.
    """

    plain: dict[str, Path]
    forms: dict[str, Path]
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
    unknown = set(settings.forms) - set(FORMS)
    if unknown:
        raise DualResError(f"unknown form(s) {sorted(unknown)}: use {', '.join(FORMS)}.")
    threads = torch.get_num_threads()
    torch.set_num_threads(settings.threads)
    try:
        models = _export(adapter, router, out / "models", settings)
        photos = sample_photos(settings.images, settings.count)
        timings, share = _measure(adapter, router, models, photos, settings)
    finally:
        torch.set_num_threads(threads)
    sizes = {name: _size(path) for name, path in {**models.plain, **models.forms}.items()}
    sizes["router"] = _with_weights(models.router)
    layouts = layout_table([*models.plain.values(), *models.forms.values()])
    memory = _memory(models, settings) if settings.memory else {}
    parity = {form: DualResSession(path, warm_up=False).card.parity for form, path in models.forms.items()}
    result = BenchResult(
        timings, share, sizes, memory, forms=list(models.forms), images=len(photos), threads=settings.threads,
        high=settings.high, scale=settings.scale, layouts=layouts,
        parity=parity if settings.check else {},
    )  # fmt: skip
    result.write(out)
    return result


def _export(adapter: HostAdapter[Any], router: ResolutionRouter, folder: Path, settings: BenchSettings) -> Models:
    make_dir(folder)
    plain = export_plain(adapter, folder, settings.high, settings.scale)
    forms = {}
    for form in dict.fromkeys(("pair", *settings.forms)):  # a pair holds the router alone
        path = folder / (form if form == "pair" else f"{form}.onnx")
        logger.info("exporting %s", path)
        forms[form] = export_model(
            adapter, router, path, form=form, high=settings.high, scale=settings.scale, images=settings.images,
            photos=settings.check,
        )  # fmt: skip
    wanted = {form: forms[form] for form in settings.forms}
    network = export_network(router, folder / "router_network.onnx")
    return Models(plain, wanted, forms["pair"] / "router.onnx", network)


# -- time ------------------------------------------------------------------------------------------------------


def _measure(
    adapter: HostAdapter[Any],
    router: ResolutionRouter,
    models: Models,
    photos: list[np.ndarray],
    settings: BenchSettings,
) -> tuple[dict[str, Timing], float]:
    """Times of every case, and the share of the photos that the router sends high at its median score."""
    exported = Exported(models, router.config.input_size, settings.threads)
    eager = Eager(adapter, router, settings)
    scores = [exported.score(photo) for photo in photos]
    middle = float(np.median(scores))
    timings: dict[str, Timing] = {}
    order = np.random.default_rng(0)
    for turn in range(settings.rounds):
        for number in tqdm(range(-WARM_UP if not turn else 0, len(photos)), desc="bench", unit="img"):
            photo, is_high = photos[max(number, 0)], scores[max(number, 0)] > middle
            cases = {**exported.cases(photo, middle), **eager.cases(photo, middle)}
            for name in order.permutation(list(cases)):
                spent = milliseconds(cases[name])
                if number >= 0:
                    timings.setdefault(name, Timing()).add(spent, is_high)
    return timings, float(np.mean([s > middle for s in scores]))


class Exported:
    """Every exported model, loaded."""

    def __init__(self, models: Models, side: int, threads: int):
        self.sessions = {f: DualResSession(path, threads=threads, warm_up=False) for f, path in models.forms.items()}
        self.plain = {name: OrtGraph(path, threads) for name, path in models.plain.items()}
        self.router, self.network = OrtGraph(models.router, threads), OrtGraph(models.network, threads)
        self.card = DualResSession(models.router.parent, warm_up=False).card
        self.side = side

    def score(self, photo: np.ndarray) -> float:
        """The router's, of an RGB uint8 photo (H, W, 3)."""
        return float(self.router(_feeds(make_frame(photo, self.card)), ["score"])[0][0])

    def cases(self, photo: np.ndarray, middle: float) -> dict[str, Case]:
        """What is timed on one photo.

        Args:
            photo: (H, W, 3) RGB uint8.
            middle: the threshold of the point called 50 %.
        """
        assert self.card.low is not None
        frame = make_frame(photo, self.card)
        images = torch.from_numpy(frame.images)
        small = resize_images(images, self.card.low, antialias=False).numpy()
        thumbnail = make_thumbnails(RouterImages(images, [frame.content]), self.side).numpy()
        cases: dict[str, Case] = {
            "router": partial(self.router, _feeds(frame), ["route", "score"]),
            "router_network": partial(self.network, {"images": thumbnail}, ["found"]),
        }
        for name, graph in self.plain.items():
            inputs = {"images": small if name.endswith("_low") else frame.images}
            cases[name] = partial(graph, inputs, ["detections"])
        for form, session in self.sessions.items():
            for percent, threshold in POINTS.items():
                limit = middle if threshold is None else threshold
                cases[f"{form}_{percent}"] = partial(session.run, frame.images, frame.content, limit)
        return cases


def _feeds(frame: Frame) -> dict[str, np.ndarray]:
    """The inputs of the router alone; its threshold stays the default."""
    return {"images": frame.images, "content": np.array(frame.content, dtype=np.int64)}


class Eager:
    """The same in PyTorch, as the host itself runs it (batch norms folded)."""

    def __init__(self, adapter: HostAdapter[Any], router: ResolutionRouter, settings: BenchSettings):
        self.adapter = adapter.for_inference()
        self.collate = adapter.export_batch
        self.router = router
        self.size, self.scale = settings.high, settings.scale

    def cases(self, photo: np.ndarray, middle: float) -> dict[str, Case]:
        """As of `Exported`."""
        batch = self.collate(photo, self.size, True)
        whole = torch.arange(1)
        low = self.adapter.resize(batch, whole, self.scale)
        images = self.adapter.router_images(batch)
        cases: dict[str, Case] = {
            "eager_plain_high": partial(self.adapter.predict, batch),
            "eager_plain_low": partial(self.adapter.predict, low),
            "eager_router": partial(self.router.score, images),
        }
        for percent, threshold in POINTS.items():
            cases[f"eager_{percent}"] = self._routed(batch, middle if threshold is None else threshold)
        return cases

    def _routed(self, batch: Any, threshold: float) -> Case:
        return partial(run_routed, self.adapter, batch, Gate(self.router, threshold), self.scale)


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
    jobs = {"nothing": ("-", "none"), "plain_high": (str(models.plain["plain_high"]), "plain")}
    jobs.update({form: (str(path), "dualres") for form, path in models.forms.items()})
    return {name: _in_own_process(*job, size, settings.threads) for name, job in jobs.items()}


def _in_own_process(model: str, kind: str, size: str, threads: int) -> dict[str, float]:
    command = [sys.executable, "-m", "dualres_plugin.runtime.memory", model, kind, size, str(threads)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise DualResError(f"measuring the memory of '{model}' failed: {done.stderr.strip().splitlines()[-1:]}")
    values: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return values
