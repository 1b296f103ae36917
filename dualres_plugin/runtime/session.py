"""`DualResSession`: runs an exported file on photos. Imports neither torch nor the detector's host."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dualres_plugin.budget import calibration
from dualres_plugin.budget.controller import BudgetController, refuse_threshold
from dualres_plugin.common.card import Card
from dualres_plugin.common.errors import DualResError, check_number
from dualres_plugin.common.images.sources import iter_source
from dualres_plugin.runtime.boxes import select
from dualres_plugin.runtime.engines import Engine, Found, load_engine
from dualres_plugin.runtime.photo import Frame, make_frame

logger = logging.getLogger("dualres")


@dataclass(frozen=True)
class SessionResult:
    """What was found in one photo.

    Attributes:
        boxes: (N, 4) float32, xyxy in pixels of the photo.
        scores: (N,) float32 in [0, 1], best first.
        labels: (N,) int64.
        route: "high" or "low".
        score: the router's.
        names: label -> class name.
        image: file name of the photo; `image12` for arrays, `video_000012` for frames of a video.
    """

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    route: str
    score: float
    names: dict[int, str]
    image: str = ""

    def __len__(self) -> int:
        """Number of objects."""
        return len(self.scores)

    def to_supervision(self) -> Any:
        """`supervision.Detections`, with the route of the photo in `data`."""
        from dualres_plugin.common.supervision import to_supervision

        return to_supervision(self.boxes, self.scores, self.labels, self, self.names)


class DualResSession:
    """An exported detector with its router.

    One session may be shared by threads: nothing in it changes after it was made. With `hold_rate` it belongs to one
    stream.

    Args:
        path: the `.onnx` file, or the folder or manifest of a pair.
        threshold: score above which a photo goes high; None is the file's own.
        target_high_rate: wanted share at high instead, read off the calibration in the file.
        hold_rate: keep the share at high on target when the content drifts, by moving the threshold from photo to
            photo (`controller.BudgetController`; its state is `session.controller.state`). A threshold beside it, here
            or in a call, is refused.
        threads: of the runtime for one run; None is its default.
        engine: "onnxruntime", or "openvino" for a pair.
        providers: onnxruntime's execution providers.
        warm_up: run both routes once now, so that the first photo is as fast as the others.

    Raises:
        DualResError: If the file is damaged or not a DualRes model, a package is missing, the rate is impossible, or a
            threshold is given beside a rate.

    Examples:
        >>> session = DualResSession("yolo11n_dualres.onnx", target_high_rate=0.3)  # doctest: +SKIP
        >>> session.predict("bus.jpg")[0].route  # doctest: +SKIP
        'low'
    """

    def __init__(
        self,
        path: Path | str,
        *,
        threshold: float | None = None,
        target_high_rate: float | None = None,
        hold_rate: bool = False,
        threads: int | None = None,
        engine: str = "onnxruntime",
        providers: Sequence[str] | None = None,
        warm_up: bool = True,
    ):
        if hold_rate:
            refuse_threshold(threshold)
        check_number("threads", threads, 1)
        if threshold is not None:
            calibration.check_threshold(threshold)
        self.engine: Engine = load_engine(Path(path), engine, threads, providers)
        self.card: Card = self.engine.card
        self.threshold = self._threshold(threshold, target_high_rate)
        self.controller = self._controller(target_high_rate) if hold_rate else None
        if warm_up:
            blank = make_frame(np.zeros((self.card.high, self.card.high, 3), dtype=np.uint8), self.card)
            for limit in (float("-inf"), float("inf")):
                self.engine.run(blank.images, blank.content, limit)

    def _threshold(self, threshold: float | None, rate: float | None) -> float:
        if threshold is not None and rate is not None:
            raise DualResError("give either threshold or target_high_rate.")
        if threshold is not None:
            return calibration.check_threshold(threshold)
        return self.card.threshold if rate is None else self.threshold_for(rate)

    def _controller(self, rate: float | None) -> BudgetController:
        if rate is None:
            raise DualResError("hold_rate keeps a rate: give target_high_rate.")
        return BudgetController(rate, self.card.quantiles)

    @property
    def expected_rate(self) -> float | None:
        """The share at high on photos like those of the calibration; None where the file has none."""
        if self.controller is not None:
            return self.controller.target
        return calibration.rate_of(self.threshold, self.card.quantiles) if self.card.quantiles else None

    def __repr__(self) -> str:
        card = self.card
        rate = "" if self.expected_rate is None else f", {self.expected_rate:.0%} at high expected"
        return (
            f"DualResSession(form {card.form}, high {card.high} px, low {card.high * card.scale:.0f} px, "
            f"{len(card.names)} classes)\n  threshold {self.next_threshold:+.4f}{rate}"
        )

    @property
    def next_threshold(self) -> float:
        """The threshold that the next photo of a stream meets."""
        return self._limit(None)

    def _limit(self, threshold: float | None) -> float:
        if self.controller is not None:
            refuse_threshold(threshold)
            return self.controller.threshold
        return self.threshold if threshold is None else calibration.check_threshold(threshold)

    def threshold_for(self, target_high_rate: float) -> float:
        """The threshold that sends a share of the calibration images high.

        Args:
            target_high_rate: the share, 0 to 1; both ends are exact.

        Raises:
            DualResError: If the rate is outside [0, 1], or the router was exported without calibration.
        """
        return calibration.threshold_for(target_high_rate, self.card.quantiles)

    # -- running -----------------------------------------------------------------------------------------------

    def predict(
        self,
        source: Any,
        *,
        conf: float | None = None,
        iou: float | None = None,
        threshold: float | None = None,
    ) -> list[SessionResult]:
        """Detect in photos.

        Args:
            source: path, folder, glob, video, RGB uint8 array (H, W, 3), tensor (3, H, W) in [0, 1], or a list or
                iterator of these.
            conf, iou: score and overlap thresholds; None is the host's default, as stored in the file.
            threshold: of the router, for this call.

        Returns:
            One result per photo, in order.

        Raises:
            DualResError: If a photo cannot be read or has the wrong shape, or a threshold comes where a rate is held.
        """
        return list(self.stream(source, conf=conf, iou=iou, threshold=threshold))

    __call__ = predict

    def stream(
        self,
        source: Any,
        *,
        conf: float | None = None,
        iou: float | None = None,
        threshold: float | None = None,
    ) -> Iterator[SessionResult]:
        """As `predict`, one photo after another with flat memory: for videos, large folders and cameras.

        Args:
            source, conf, iou, threshold: as of `predict`.

        Yields:
            One result per photo, in order.
        """
        _check_call(conf, iou, threshold)
        for image in iter_source(source):
            frame = make_frame(image.pixels, self.card)
            run = self.run(frame.images, frame.content, threshold)
            yield self._result(image.name, frame, run, conf, iou)

    def predict_batch(
        self,
        source: Any,
        *,
        conf: float | None = None,
        iou: float | None = None,
        threshold: float | None = None,
    ) -> list[SessionResult]:
        """As `predict`, split by route: every photo is scored, then all that go high run, then all that go low.

        An engine that compiles per shape changes its graph once a batch instead of once a photo. Forms with the
        router inside run photo by photo, and so does a session with `hold_rate`.

        Args:
            source, conf, iou, threshold: as of `predict`.

        Returns:
            One result per photo, in order.
        """
        if self.controller is not None:
            return self.predict(source, conf=conf, iou=iou, threshold=threshold)
        _check_call(conf, iou, threshold)
        limit = self._limit(threshold)
        images = list(iter_source(source))
        frames = [make_frame(image.pixels, self.card) for image in images]
        found = self.engine.run_batch([(f.images, f.content) for f in frames], limit)
        return [self._result(i.name, frame, one, conf, iou) for i, frame, one in zip(images, frames, found)]

    def run(
        self, images: np.ndarray, content: Sequence[int] | None = None, threshold: float | None = None
    ) -> tuple[np.ndarray, bool, float]:
        """The graph itself. With `hold_rate` the image counts as one of the stream.

        Args:
            images: (1, 3, H, W) float32, RGB in [0, 1].
            content: (x0, y0, x1, y1) of the photo inside it in pixels; None is all of it.
            threshold: of the router, for this call.

        Returns:
            The raw detections, in the layout that `card.postprocess` tells; whether it went high; the router's score.

        Raises:
            DualResError: If the input has a shape or type that the graph does not take, or a threshold is given where
                a rate is held.
        """
        found, high, score = self.engine.run(images, content, self._limit(threshold))
        if self.controller is not None:
            self.controller.route(score)  # learns from the score; its route is the one taken
        return found, high, score

    def _result(self, name: str, frame: Frame, run: Found, conf: float | None, iou: float | None) -> SessionResult:
        found, high, score = run
        how = self.card.postprocess
        edges = {"content": frame.edges, "frame": (0.0, 0.0, *map(float, frame.images.shape[:1:-1]))}.get(how.clip)
        boxes, scores, labels = select(
            found, how, how.conf if conf is None else conf, how.iou if iou is None else iou, edges
        )
        original = frame.to_original(boxes, how.clip == "photo")
        return SessionResult(original, scores, labels, "high" if high else "low", score, self.card.names, name)


def _check_call(conf: float | None, iou: float | None, threshold: float | None) -> None:
    check_number("conf", conf, 0, 1)
    check_number("iou", iou, 0, 1)
    if threshold is not None:
        calibration.check_threshold(threshold)
