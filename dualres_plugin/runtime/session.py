"""`DualResSession`: runs an exported file on photos. Imports neither torch nor the detector's host."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from dualres_plugin.budget import calibration, ladder
from dualres_plugin.budget.controller import BudgetController, refuse_threshold
from dualres_plugin.budget.cost import Budget
from dualres_plugin.budget.pace import PacedController
from dualres_plugin.budget.stream.head import StreamHead
from dualres_plugin.budget.stream.stream import WATCH, StreamOptions
from dualres_plugin.common.card import Card
from dualres_plugin.common.errors import DualResError, check_number
from dualres_plugin.common.images.photo import SourceImage
from dualres_plugin.common.images.sources import iter_source
from dualres_plugin.runtime.boxes import select
from dualres_plugin.runtime.engines import Engine, Found, check_input, load_engine
from dualres_plugin.runtime.photo import Frame, make_frame
from dualres_plugin.runtime.providers import Provider
from dualres_plugin.runtime.result import SessionResult
from dualres_plugin.runtime.streaming import SessionStream
from dualres_plugin.runtime.thumbnail import content_bytes, make_thumbnail

logger = logging.getLogger("dualres")
Limit = float | Sequence[float]  # a threshold, or those between several sizes, descending


class DualResSession:
    """An exported detector with its router.

    One session may be shared by threads: nothing in it changes after it was made. With `hold_rate` it belongs to one
    stream.

    Args:
        path: the `.onnx` file, or the folder or manifest of a pair; or an engine (`engines.Engine`).
        threshold: score above which a photo goes high; None is the file's own.
        target_high_rate: wanted share at high instead, read off the calibration in the file.
        shares: of a file with several sizes, the wanted share of photos at each, largest first.
        thresholds: of several sizes, the scores between them, descending.
        hold_rate: keep the share at high on target when the content drifts, by moving the threshold from photo to
            photo (`controller.BudgetController`; its state is `session.controller.state`); of more than two sizes the
            mean cost of `shares`, all alike by default. A threshold beside it, here or in a call, is refused.
        threads: of the runtime for one run; None is its default.
        engine: "onnxruntime", or "openvino" for a pair, or a file with its thumbnail outside.
        providers: onnxruntime's execution providers, by name or as (name, options); `runtime.providers` has what CUDA
            and TensorRT are given.
        engine_cache: folder where TensorRT keeps the engines that it builds.
        warm_up: run every size once now, so that the first photo is as fast as the others.
        memory: of frames of one video or camera: also read what was found in the last frame; the folder of a router
            after `dualres train-stream`, or its head. Thresholds are then those of the head's scores.
        skip: the most frames in a row that may reuse the last boxes while nothing stirs.
        fps: instead of a rate: mean frames per second of one video or camera, held by what frames take while they run
            (`pace.PacedController`; `session.controller.pace` tells).

    Attributes:
        card: what the file says about itself.
        thresholds: between the sizes, descending; one, of high and low.
        controller: what holds the rate, with `hold_rate` or `fps`.
        memory: of the stream, with `memory` or `skip`.

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
        path: Path | str | Engine,
        *,
        threshold: float | None = None,
        target_high_rate: float | None = None,
        shares: Sequence[float] | None = None,
        thresholds: Sequence[float] | None = None,
        hold_rate: bool = False,
        threads: int | None = None,
        engine: str = "onnxruntime",
        providers: Sequence[Provider] | None = None,
        engine_cache: Path | str | None = None,
        warm_up: bool = True,
        memory: StreamHead | Path | str | None = None,
        skip: int = 0,
        fps: float | None = None,
    ):
        if hold_rate:
            refuse_threshold(threshold if thresholds is None else thresholds)
        check_number("threads", threads, 1)
        point = _asked(target_high_rate, threshold, shares, thresholds, fps)
        self.engine: Engine = (
            load_engine(Path(path), engine, threads, providers, engine_cache) if isinstance(path, (str, Path)) else path
        )
        self.card: Card = self.engine.card
        head = memory if isinstance(memory, StreamHead) or memory is None else StreamHead.load(memory)
        self._head = head
        self.thresholds = self._thresholds(point)
        remembers = head is not None or skip != 0
        held = hold_rate or fps is not None
        self.controller = self._controller(point, WATCH if remembers else None) if held else None
        self.memory = (
            SessionStream(self.card, StreamOptions(head, skip), self._quantiles, self.controller) if remembers else None
        )
        if warm_up:
            blank = make_frame(np.zeros((self.card.high, self.card.high, 3), dtype=np.uint8), self.card)
            for step in range(len(self.sizes)):
                self.engine.run(blank.images, blank.content, self.card.only(step), blank.thumbnail)

    def _thresholds(self, point: Budget) -> tuple[float, ...]:
        count = len(self.sizes)
        if point == Budget() and self._head is not None:  # the file's thresholds are not of the head's scores
            shares = ladder.shares_of(self.card.thresholds, self.card.quantiles) if self.card.quantiles else None
            return ladder.thresholds_for(shares or ladder.even_shares(count), self._quantiles)
        fixed = self.card.thresholds if point == Budget() else point.fixed_thresholds(count)
        return ladder.thresholds_for(point.wanted_shares(count), self._quantiles) if fixed is None else fixed

    @property
    def _quantiles(self) -> list[float]:
        """The calibration of the scores that decide."""
        return list(self.card.quantiles if self._head is None else self._head.score_quantiles)

    def _controller(self, point: Budget, watch: int | None) -> BudgetController:
        count = len(self.sizes)
        if point.fps is not None:
            return PacedController(point.fps, self._quantiles, count)
        if count == 2 and point == Budget():
            raise DualResError("hold_rate keeps a rate: give target_high_rate.")
        return BudgetController(point.wanted_shares(count), self._quantiles, costs=self.card.costs, watch=watch)

    @property
    def sizes(self) -> tuple[int, ...]:
        """What photos run at, in pixels and in the host's own meaning of size, largest first."""
        return self.card.sizes

    @property
    def threshold(self) -> float:
        """The score above which a photo goes to the largest size, see `thresholds`."""
        return self.thresholds[0]

    @threshold.setter
    def threshold(self, value: float) -> None:
        self.thresholds = ladder.check_thresholds(value, len(self.sizes))

    @property
    def expected_shares(self) -> tuple[float, ...] | None:
        """The share at each size on photos like those of the calibration; None where the file has none."""
        if self.controller is not None:
            return self.controller.promised_shares
        return ladder.shares_of(self.thresholds, self._quantiles) if self._quantiles else None

    @property
    def expected_rate(self) -> float | None:
        """Of these the share at the largest size."""
        return None if self.expected_shares is None else self.expected_shares[0]

    def __repr__(self) -> str:
        card = self.card
        sizes = ", ".join(f"{name} {size} px" for name, size in zip(("high", "low"), self.sizes))
        if len(self.sizes) > 2:
            sizes = f"{', '.join(card.routes)} px"
        return f"DualResSession(form {card.form}, {sizes}, {len(card.names)} classes)\n  {self._point()}"

    def _point(self) -> str:
        """The operating point in words."""
        if isinstance(self.controller, PacedController):
            return f"{self.controller.fps:g} frames a second held"
        found = ", ".join(f"{t:+.4f}" for t in self.next_thresholds)
        shares = self.expected_shares
        if shares is None:
            return f"threshold {found}"
        if len(shares) == 2:
            return f"threshold {found}, {shares[0]:.0%} at high expected"
        return f"thresholds {found}, {' / '.join(f'{share:.0%}' for share in shares)} at the sizes expected"

    @property
    def next_threshold(self) -> float:
        """The first of `next_thresholds`: the score above which the next photo goes to the largest size."""
        return self.next_thresholds[0]

    @property
    def next_thresholds(self) -> tuple[float, ...]:
        """The thresholds that the next photo of a stream meets."""
        return self._limits(None)

    def _limits(self, threshold: Limit | None) -> tuple[float, ...]:
        if self.controller is not None:
            refuse_threshold(threshold)
            return self.controller.thresholds
        return self.thresholds if threshold is None else ladder.check_thresholds(threshold, len(self.sizes))

    def threshold_for(self, target_high_rate: float) -> float:
        """The threshold that sends a share of the calibration images high.

        Args:
            target_high_rate: the share, 0 to 1; both ends are exact.

        Raises:
            DualResError: If the rate is outside [0, 1], or the router was exported without calibration.
        """
        return calibration.threshold_for(target_high_rate, self._quantiles)

    # -- running -----------------------------------------------------------------------------------------------

    def predict(
        self,
        source: Any,
        *,
        conf: float | None = None,
        iou: float | None = None,
        threshold: Limit | None = None,
    ) -> list[SessionResult]:
        """Detect in photos.

        Args:
            source: path, folder, glob, video, RGB uint8 array (H, W, 3), tensor (3, H, W) in [0, 1], or a list or
                iterator of these.
            conf, iou: score and overlap thresholds; None is the host's default, as stored in the file.
            threshold: of the router, for this call; of more than two sizes all of them, descending.

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
        threshold: Limit | None = None,
    ) -> Iterator[SessionResult]:
        """As `predict`, one photo after another with flat memory: for videos, large folders and cameras.

        Args:
            source, conf, iou, threshold: as of `predict`.

        Yields:
            One result per photo, in order.
        """
        self._check_call(conf, iou, threshold)
        for image in iter_source(source):
            if self.controller is not None:
                self.controller.arrive(1)
            if self.memory is not None:
                yield self._next_frame(self.memory, image, conf, iou, threshold)
                continue
            frame = make_frame(image.pixels, self.card)
            run = self._run(frame.images, frame.content, threshold, frame.thumbnail)
            yield self._result(image.name, frame, run, conf, iou)

    def _next_frame(
        self, memory: SessionStream, image: SourceImage, conf: float | None, iou: float | None, threshold: Limit | None
    ) -> SessionResult:
        """One frame of a stream that is remembered."""
        height, width = image.pixels.shape[:2]
        if memory.arrive(image.pixels):
            return memory.again(image.name, (height, width))
        frame = make_frame(image.pixels, self.card)
        limits = memory.limits(self._limits(threshold))
        found = self.engine.run(frame.images, frame.content, limits, frame.thumbnail)
        result = self._result(image.name, frame, found, conf, iou)
        return replace(result, score=memory.saw(result, found, (height, width)))

    def predict_batch(
        self,
        source: Any,
        *,
        conf: float | None = None,
        iou: float | None = None,
        threshold: Limit | None = None,
    ) -> list[SessionResult]:
        """As `predict`, split by route: every photo is scored, then those of each size run, the largest size first.

        An engine that compiles per shape changes its graph once a batch instead of once a photo. Forms with the
        router inside run photo by photo, and so does a session with `hold_rate`, `memory` or `skip`.

        Args:
            source, conf, iou, threshold: as of `predict`.

        Returns:
            One result per photo, in order.
        """
        if self.controller is not None or self.memory is not None:
            return self.predict(source, conf=conf, iou=iou, threshold=threshold)
        self._check_call(conf, iou, threshold)
        limits = self._limits(threshold)
        images = list(iter_source(source))
        frames = [make_frame(image.pixels, self.card) for image in images]
        found = self.engine.run_batch([(f.images, f.content, f.thumbnail) for f in frames], limits)
        return [self._result(i.name, frame, one, conf, iou) for i, frame, one in zip(images, frames, found)]

    def run(
        self,
        images: np.ndarray,
        content: Sequence[int] | None = None,
        threshold: Limit | None = None,
        thumbnail: np.ndarray | None = None,
    ) -> tuple[np.ndarray, int, float]:
        """The graph itself. With `hold_rate` the image counts as one of the stream.

        Args:
            images: (1, 3, H, W) float32, RGB in [0, 1].
            content: (x0, y0, x1, y1) of the photo inside it in pixels; None is all of it.
            threshold: of the router, for this call; of more than two sizes all of them, descending.
            thumbnail: (1, 3, S, S) float32, RGB in [0, 1], of a file that was exported with it outside; None makes it
                from `images`.

        Returns:
            The raw detections, in the layout that `card.postprocess` tells; where the image went, as the graph says it:
            True at high, False at low, or of more than two sizes the number of the size, 0 being the largest; the
            router's score.

        Raises:
            DualResError: If the input has a shape or type that the graph does not take, or a threshold is given where
                a rate is held; or of a session with `memory`, whose thresholds are not the graph's.
        """
        if self.memory is not None:
            raise DualResError("this session remembers its stream: use stream(), or a session without memory and skip.")
        if thumbnail is None and self.card.thumbnail:
            check_input(images, self.card)
            thumbnail = make_thumbnail(content_bytes(images, content), self.card.thumbnail)
        if self.controller is not None:
            self.controller.arrive(1)
        found, step, score = self._run(images, content, threshold, thumbnail)
        return found, (step == 0 if len(self.sizes) == 2 else step), score

    def _run(
        self,
        images: np.ndarray,
        content: Sequence[int] | None,
        threshold: Limit | None,
        thumbnail: np.ndarray | None,
    ) -> Found:
        found = self.engine.run(images, content, self._limits(threshold), thumbnail)
        if self.controller is not None:
            self.controller.step(found[2])  # learns from the score; its route is the one taken
        return found

    def _check_call(self, conf: float | None, iou: float | None, threshold: Limit | None) -> None:
        check_number("conf", conf, 0, 1)
        check_number("iou", iou, 0, 1)
        if threshold is not None:
            ladder.check_thresholds(threshold, len(self.sizes))

    def _result(self, name: str, frame: Frame, run: Found, conf: float | None, iou: float | None) -> SessionResult:
        found, step, score = run
        how, card = self.card.postprocess, self.card
        edges = {"content": frame.edges, "frame": (0.0, 0.0, *map(float, frame.images.shape[:1:-1]))}.get(how.clip)
        boxes, scores, labels = select(
            found, how, how.conf if conf is None else conf, how.iou if iou is None else iou, edges
        )
        original = frame.to_original(boxes, how.clip == "photo")
        route, size = card.routes[step], card.sizes[step]
        return SessionResult(original, scores, labels, route, score, card.names, name, step, size)


def _asked(
    rate: float | None,
    threshold: float | None,
    shares: Sequence[float] | None,
    thresholds: Sequence[float] | None,
    fps: float | None,
) -> Budget:
    """The operating point that a user gives; an empty one is the file's own."""
    if sum(value is not None for value in (rate, threshold, shares, thresholds, fps)) > 1:
        raise DualResError("give either threshold or target_high_rate, or fps; of several sizes, shares or thresholds.")
    several = [None if values is None else tuple(values) for values in (shares, thresholds)]
    return Budget(rate, threshold, shares=several[0], thresholds=several[1], fps=fps)
