"""What runs the graphs: onnxruntime for every form, OpenVINO for a pair."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from dualres_plugin.common.card import CARD_MB, KEY, Card
from dualres_plugin.common.errors import DualResError
from dualres_plugin.common.files.schema import read_object

logger = logging.getLogger("dualres")
MANIFEST = "manifest.json"
ROUTER = "router"  # the graph of a pair beside those of its sizes
INSTALL = 'Install it with: pip install "dualres-plugin[export]"'
Found = tuple[np.ndarray, int, float]  # raw detections; the size: 0 for the largest, 1 for the next; the score
Content = Sequence[int] | None
Limits = tuple[float, ...]  # thresholds between the sizes, descending


class Engine(Protocol):
    """Runs an exported model; safe to share between threads."""

    card: Card

    def run(self, images: np.ndarray, content: Content, thresholds: Limits) -> Found:
        """Run one image.

        Args:
            images: (1, 3, H, W) float32, RGB in [0, 1].
            content: (x0, y0, x1, y1) of the photo in pixels; None is the whole frame.
            thresholds: scores between the sizes; one, of high and low.

        Returns:
            Raw detections in pixels of `images`, the number of the size that the image went to, and the router's score.
        """

    def run_batch(self, inputs: Sequence[tuple[np.ndarray, Content]], thresholds: Limits) -> list[Found]:
        """Run several images.

        Args:
            inputs: `images` and `content` of each, as of `run`.
            thresholds: the same for all.

        Returns:
            As of `run`, in order.
        """


def load_engine(path: Path, engine: str, threads: int | None, providers: Sequence[str] | None) -> Engine:
    """Load an exported file or pair.

    Args:
        path: the `.onnx` file, or the folder or manifest of a pair.
        engine: "onnxruntime", or "openvino" for a pair.
        threads: for one run; None is the runtime's default.
        providers: onnxruntime's execution providers; None is CUDA where it is there, else CPU.

    Raises:
        DualResError: If it is missing, damaged or foreign, or the engine is unknown or not installed.
    """
    if engine not in ("onnxruntime", "openvino"):
        raise DualResError(f"unknown engine '{engine}': use onnxruntime, or openvino for a pair.")
    if not path.exists():
        raise DualResError(f"model '{path}' does not exist. Make one with: dualres export")
    if path.is_dir() or path.suffix == ".json":
        manifest = path / MANIFEST if path.is_dir() else path
        card = _read_manifest(manifest)
        # OpenVINO takes the antialiased resize of the thumbnail for a plain one: the router stays with onnxruntime.
        graphs = {
            name: _graph(manifest.parent / file, "onnxruntime" if name == ROUTER else engine, threads, providers)
            for name, file in card.files.items()
            if name in (ROUTER, *card.routes)
        }
        return PairEngine(card, graphs)
    if engine != "onnxruntime":
        raise DualResError(f"'{path}' is one file with dynamic shapes: {engine} takes a pair (export --form pair).")
    graph = OrtGraph(path, threads, providers)
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


def _graph(path: Path, engine: str, threads: int | None, providers: Sequence[str] | None) -> Any:
    if engine == "openvino":
        graph = OpenVinoGraph(path, threads)
        if not graph.averages:
            return graph
        logger.warning("OpenVINO cannot average a photo down, as '%s' does: onnxruntime runs this size.", path.name)
    return OrtGraph(path, threads, providers)


class FileEngine:
    """`cond`, `resize` and `branches`: router and detector in one graph."""

    def __init__(self, card: Card, graph: OrtGraph):
        self.card = card
        self.graph = graph

    def run(self, images: np.ndarray, content: Content, thresholds: Limits) -> Found:
        """As of `Engine`."""
        check_input(images, self.card)
        outputs = ["detections", choice(self.card), "score"]
        found, chosen, score = self.graph(feeds(images, content, thresholds), outputs)
        return found, _step(chosen, self.card), float(score[0])

    def run_batch(self, inputs: Sequence[tuple[np.ndarray, Content]], thresholds: Limits) -> list[Found]:
        """As of `Engine`, one after the other."""
        return [self.run(images, content, thresholds) for images, content in inputs]


class PairEngine:
    """Router, and each size, as graphs with fixed shapes."""

    def __init__(self, card: Card, graphs: dict[str, Any]):
        self.card = card
        self.graphs = graphs

    def run(self, images: np.ndarray, content: Content, thresholds: Limits) -> Found:
        """As of `Engine`."""
        return self.run_batch([(images, content)], thresholds)[0]

    def run_batch(self, inputs: Sequence[tuple[np.ndarray, Content]], thresholds: Limits) -> list[Found]:
        """As of `Engine`: all are scored, then those of each size run, the largest size first."""
        chosen: list[tuple[int, float]] = []
        for images, content in inputs:
            check_input(images, self.card)
            step, score = self.graphs[ROUTER](feeds(images, content, thresholds), [choice(self.card), "score"])
            chosen.append((_step(step, self.card), float(score[0])))
        found: dict[int, np.ndarray] = {}
        for number, name in enumerate(self.card.routes):
            for i, (images, _) in enumerate(inputs):
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


class OrtGraph:
    """An onnxruntime session."""

    def __init__(self, path: Path, threads: int | None = None, providers: Sequence[str] | None = None):
        try:
            import onnxruntime as ort
        except ImportError:
            raise DualResError(f"running an exported model needs onnxruntime. {INSTALL}") from None
        self.path = path
        options = ort.SessionOptions()
        options.log_severity_level = 3
        # Between photos the session resizes, sorts and waits in Python: its threads must not burn the cores meanwhile.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        if threads:
            options.intra_op_num_threads = threads
        try:
            self.session = ort.InferenceSession(str(path), options, providers=list(providers or _best(ort)))
        except Exception as error:  # onnxruntime has an exception class per cause, and no common base
            reason = str(error).strip().splitlines()[0][:200]
            raise DualResError(
                f"'{path}' cannot be loaded by onnxruntime: it is damaged, cut short or not an ONNX model ({reason})."
            ) from None

    def card(self) -> Card:
        """The metadata in the file.

        Raises:
            DualResError: If there is none, or it is damaged.
        """
        text = self.session.get_modelmeta().custom_metadata_map.get(KEY)
        if text is None:
            raise DualResError(
                f"'{self.path}' is an ONNX model, but not a DualRes one (no '{KEY}' metadata). "
                "Make one with: dualres export"
            )
        return Card.from_json(text, str(self.path))

    def __call__(self, inputs: dict[str, np.ndarray], outputs: list[str]) -> list[np.ndarray]:
        try:
            return list(self.session.run(outputs, inputs))
        except Exception as error:
            reason = str(error).strip().splitlines()[0][:300]
            raise DualResError(f"'{self.path}' failed on an input {inputs['images'].shape}: {reason}") from None


def _best(ort: Any) -> list[str]:
    available = ort.get_available_providers()
    wanted = ("CUDAExecutionProvider", "CPUExecutionProvider")
    return [p for p in wanted if p in available]


class OpenVinoGraph:
    """A compiled OpenVINO model; each call has its own request, so threads do not disturb each other.

    Args:
        path: of the graph.
        threads: for one run; None is the runtime's default.

    Attributes:
        averages: it holds an antialiased resize, which OpenVINO would take for a plain one; it was not compiled then.

    Raises:
        DualResError: If OpenVINO is not installed, or cannot load the graph.
    """

    def __init__(self, path: Path, threads: int | None = None):
        try:
            import openvino as ov
        except ImportError:
            raise DualResError(
                "engine='openvino' needs OpenVINO. Install it with: pip install \"dualres-plugin[openvino]\""
            ) from None
        # On processors with bfloat16 units OpenVINO would use them unasked, and boxes would move by a tenth of a pixel.
        config: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "f32"}
        if threads:
            config["INFERENCE_NUM_THREADS"] = threads
        try:
            core = ov.Core()
            model = core.read_model(str(path))
            self.averages = any(node.get_attributes().get("antialias") for node in model.get_ops())
            if self.averages:
                return
            self.model = core.compile_model(model, "CPU", config)
        except Exception as error:
            reason = str(error).strip().splitlines()[0][:200]
            raise DualResError(f"'{path}' cannot be loaded by OpenVINO: {reason}") from None
        self.names = {name for port in self.model.inputs for name in port.get_names()}

    def __call__(self, inputs: dict[str, np.ndarray], outputs: list[str]) -> list[np.ndarray]:
        given = {k: v for k, v in inputs.items() if k in self.names}
        found = self.model.create_infer_request().infer(given)
        return [np.array(found[name]) for name in outputs]


def feeds(images: np.ndarray, content: Content, thresholds: Limits) -> dict[str, np.ndarray]:
    """The graph's inputs by name.

    Args:
        images: (1, 3, H, W) float32, RGB in [0, 1].
        content: (x0, y0, x1, y1) of the photo in pixels; None leaves the default, the whole frame.
        thresholds: of the router: one becomes the scalar `threshold`, more become `thresholds`.
    """
    values = {"images": images}
    if len(thresholds) == 1:
        values["threshold"] = np.array(thresholds[0], dtype=np.float32)
    else:
        values["thresholds"] = np.array(thresholds, dtype=np.float32)
    if content is not None:
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
