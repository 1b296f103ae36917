"""What runs the graphs: onnxruntime for every form, OpenVINO for a pair."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from dualres_plugin.common.card import CARD_MB, Card
from dualres_plugin.common.errors import DualResError
from dualres_plugin.common.files.schema import read_object
from dualres_plugin.runtime.graphs import OpenVinoGraph, OrtGraph
from dualres_plugin.runtime.providers import Provider
from dualres_plugin.runtime.thumbnail import check_thumbnail

logger = logging.getLogger("dualres")
MANIFEST = "manifest.json"
ROUTER = "router"  # the graph of a pair beside those of its sizes
Found = tuple[np.ndarray, int, float]  # raw detections; the size: 0 for the largest, 1 for the next; the score
Content = Sequence[int] | None
Limits = tuple[float, ...]  # thresholds between the sizes, descending
Given = tuple[np.ndarray, Content, np.ndarray | None]  # images, content, thumbnail


class Engine(Protocol):
    """Runs an exported model; safe to share between threads."""

    card: Card

    def run(
        self, images: np.ndarray, content: Content, thresholds: Limits, thumbnail: np.ndarray | None = None
    ) -> Found:
        """Run one image.

        Args:
            images: (1, 3, H, W) float32, RGB in [0, 1].
            content: (x0, y0, x1, y1) of the photo in pixels; None is the whole frame.
            thresholds: scores between the sizes; one, of high and low.
            thumbnail: (1, 3, S, S) float32, RGB in [0, 1], where the card has one; else it is not looked at.

        Returns:
            Raw detections in pixels of `images`, the number of the size that the image went to, and the router's score.
        """

    def run_batch(self, inputs: Sequence[Given], thresholds: Limits) -> list[Found]:
        """Run several images.

        Args:
            inputs: `images`, `content` and `thumbnail` of each, as of `run`.
            thresholds: the same for all.

        Returns:
            As of `run`, in order.
        """


def load_engine(
    path: Path,
    engine: str,
    threads: int | None,
    providers: Sequence[Provider] | None,
    cache: Path | str | None = None,
) -> Engine:
    """Load an exported file or pair.

    Args:
        path: the `.onnx` file, or the folder or manifest of a pair.
        engine: "onnxruntime", or "openvino" for a pair, or a file with its thumbnail outside.
        threads: for one run; None is the runtime's default.
        providers: onnxruntime's execution providers, or (name, options); None is CUDA where it is there, else CPU.
        cache: folder for TensorRT's engines; None keeps none.

    Raises:
        DualResError: If it is missing, damaged or foreign, or the engine is unknown or not installed.
    """
    if engine not in ("onnxruntime", "openvino"):
        raise DualResError(f"unknown engine '{engine}': use onnxruntime or openvino.")
    if not path.exists():
        raise DualResError(f"model '{path}' does not exist. Make one with: dualres export")
    if path.is_dir() or path.suffix == ".json":
        manifest = path / MANIFEST if path.is_dir() else path
        card = _read_manifest(manifest)
        # OpenVINO takes the antialiased resize of a thumbnail for a plain one: such a router stays with onnxruntime.
        inside = None if card.thumbnail else ROUTER
        graphs = {
            name: _graph(manifest.parent / file, "onnxruntime" if name == inside else engine, threads, providers, cache)
            for name, file in card.files.items()
            if name in (ROUTER, *card.routes)
        }
        return PairEngine(card, graphs)
    if engine == "openvino":
        compiled = OpenVinoGraph(path, threads)
        card = compiled.card()
        if compiled.averages:
            raise DualResError(
                f"'{path}' averages photos down in its graph, for its thumbnail or a size, which OpenVINO ignores: it "
                "takes a pair (export --form pair), or mostly a file with --thumbnail outside."
            )
        return FileEngine(card, compiled)
    graph = OrtGraph(path, threads, providers, cache)
    return FileEngine(graph.card(), graph)


def _read_manifest(path: Path) -> Card:
    read_object(path, "model manifest", CARD_MB)
    card = Card.from_json(path.read_text(encoding="utf-8"), str(path))
    missing = [n for n in (ROUTER, *card.routes) if not (path.parent / card.files.get(n, "?")).is_file()]
    if missing:
        raise DualResError(f"the pair '{path.parent}' lacks its {', '.join(missing)} graph: copy the whole folder.")
    for name, wanted in card.checksums.items():
        file = path.parent / name
        if not file.is_file() or sha256_of(file) != wanted:
            raise DualResError(
                f"'{file}' is not the file that the pair was exported with: parts are lost, changed or swapped. Copy "
                "the whole folder, or export again."
            )
    return card


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal.

    Args:
        path: of the file.
    """
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for block in iter(partial(file.read, 1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def _graph(
    path: Path,
    engine: str,
    threads: int | None,
    providers: Sequence[Provider] | None,
    cache: Path | str | None,
) -> Any:
    if engine == "openvino":
        graph = OpenVinoGraph(path, threads)
        if not graph.averages:
            return graph
        logger.warning("OpenVINO cannot average a photo down, as '%s' does: onnxruntime runs this size.", path.name)
    return OrtGraph(path, threads, providers, cache)


class FileEngine:
    """`cond`, `resize` and `branches`: router and detector in one graph."""

    def __init__(self, card: Card, graph: OrtGraph | OpenVinoGraph):
        self.card = card
        self.graph = graph

    def run(
        self, images: np.ndarray, content: Content, thresholds: Limits, thumbnail: np.ndarray | None = None
    ) -> Found:
        """As of `Engine`."""
        check_input(images, self.card)
        outputs = ["detections", choice(self.card), "score"]
        inputs = {"images": images, **router_feeds(self.card, images, content, thresholds, thumbnail)}
        found, chosen, score = self.graph(inputs, outputs)
        return found, _step(chosen, self.card), float(score[0])

    def run_batch(self, inputs: Sequence[Given], thresholds: Limits) -> list[Found]:
        """As of `Engine`, one after the other."""
        return [self.run(images, content, thresholds, thumbnail) for images, content, thumbnail in inputs]


class PairEngine:
    """Router, and each size, as graphs with fixed shapes."""

    def __init__(self, card: Card, graphs: dict[str, Any]):
        self.card = card
        self.graphs = graphs

    def run(
        self, images: np.ndarray, content: Content, thresholds: Limits, thumbnail: np.ndarray | None = None
    ) -> Found:
        """As of `Engine`."""
        return self.run_batch([(images, content, thumbnail)], thresholds)[0]

    def run_batch(self, inputs: Sequence[Given], thresholds: Limits) -> list[Found]:
        """As of `Engine`: all are scored, then those of each size run, the largest size first."""
        chosen: list[tuple[int, float]] = []
        for images, content, thumbnail in inputs:
            check_input(images, self.card)
            given = router_feeds(self.card, images, content, thresholds, thumbnail)
            step, score = self.graphs[ROUTER](given, [choice(self.card), "score"])
            chosen.append((_step(step, self.card), float(score[0])))
        found: dict[int, np.ndarray] = {}
        for number, name in enumerate(self.card.routes):
            for i, (images, *_) in enumerate(inputs):
                if chosen[i][0] == number:
                    found[i] = self.graphs[name]({"images": images}, ["detections"])[0]
        return [(found[i], *one) for i, one in enumerate(chosen)]


def choice(card: Card) -> str:
    """The output that says where an image went: `route`, true at high; of more than two sizes `step`, a number.

    Args:
        card: of the model.
    """
    return "route" if len(card.sizes) == 2 else "step"


def _step(chosen: np.ndarray, card: Card) -> int:
    """The number of the size, from what the graph says."""
    step = int(not chosen[0]) if chosen.dtype == bool else int(chosen[0])
    if not 0 <= step < len(card.sizes):
        raise DualResError(f"the graph chose size number {step} of {len(card.sizes)}: it is not that of its metadata.")
    return step


def router_feeds(
    card: Card, images: np.ndarray, content: Content, thresholds: Limits, thumbnail: np.ndarray | None
) -> dict[str, np.ndarray]:
    """The router's inputs by name.

    Args:
        card: of the model: it tells whether the router takes `images` or `thumbnail`.
        images: (1, 3, H, W) float32, RGB in [0, 1].
        content: (x0, y0, x1, y1) of the photo in pixels; None leaves the default, the whole frame.
        thresholds: of the router: one becomes the scalar `threshold`, more become `thresholds`.
        thumbnail: (1, 3, S, S) float32, RGB in [0, 1]; None where the graph makes it.

    Raises:
        DualResError: If a thumbnail is wanted, and is not as it should be.
    """
    values: dict[str, np.ndarray] = {}
    if card.thumbnail:
        values["thumbnail"] = check_thumbnail(thumbnail, card.thumbnail)
    else:
        values["images"] = images
    if len(thresholds) == 1:
        values["threshold"] = np.array(thresholds[0], dtype=np.float32)
    else:
        values["thresholds"] = np.array(thresholds, dtype=np.float32)
    if content is not None and not card.thumbnail:
        values["content"] = np.array(content, dtype=np.int64)
    return values


def check_input(images: np.ndarray, card: Card) -> None:
    """Refuse what the graph would fail on, or worse, would not.

    Args:
        images: should be (1, 3, H, W) float32.
        card: of the model that is to run them.

    Raises:
        DualResError: If the shape or type is wrong.
    """
    shape = tuple(getattr(images, "shape", ()))
    if len(shape) != 4 or shape[:2] != (1, 3):
        raise DualResError(f"`images` must be (1, 3, H, W), RGB in [0, 1]: one image a run; got {shape}.")
    if images.dtype != np.float32:
        raise DualResError(f"`images` must be float32 in [0, 1]; got {images.dtype}.")
    if card.static:  # whatever it is: effdet's Lite0 was built for 320, which is off its stride of 128
        h, w = card.static
        if shape[2:] != (h, w):
            raise DualResError(f"this model was exported for inputs (1, 3, {h}, {w}); got {shape}.")
        return
    if card.preprocess.kind == "letterbox" and (shape[2] % card.stride or shape[3] % card.stride or not shape[2]):
        raise DualResError(f"`images` must have sides that are multiples of {card.stride}; got {shape}.")
