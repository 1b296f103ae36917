"""A gate that reads the last result of each stream, beside the thumbnail of the new frame."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dualres_plugin.budget import ladder
from dualres_plugin.budget.controller import BudgetController, refuse_threshold
from dualres_plugin.budget.cost import Budget
from dualres_plugin.budget.pace import PacedController
from dualres_plugin.budget.stream import cuts
from dualres_plugin.budget.stream.head import StreamHead
from dualres_plugin.budget.stream.memory import StreamMemory
from dualres_plugin.budget.stream.stream import WATCH, Stream, StreamOptions
from dualres_plugin.common.card import SKIP
from dualres_plugin.common.errors import DualResError
from dualres_plugin.common.files.shipped import DEFAULT
from dualres_plugin.common.types import Decision, Detections, RouterImages
from dualres_plugin.router.gate import Gate
from dualres_plugin.router.network import ResolutionRouter

ONE = "0"  # the name of a stream that has none


class Streams:
    """What every stream remembers. Hosts deep-copy their models; the copies go on with the same streams.

    Attributes:
        by_name: the streams so far.
        batch: names of the streams that the images of the next batch belong to, in order.
        waiting: those of the last batch, each with its step and scores, until `StreamGate.observe` has told what was
            found.
    """

    def __init__(self, options: StreamOptions, quantiles: Sequence[float]):
        self.options = options
        self.quantiles = quantiles
        self.by_name: dict[str, Stream] = {}
        self.batch: tuple[str, ...] = (ONE,)
        self.waiting: list[tuple[Stream, int, float, float]] = []

    def __deepcopy__(self, memo: dict[int, Any]) -> Streams:
        return self

    def of(self, name: str) -> Stream:
        """The stream of a name, begun where it is new."""
        if name not in self.by_name:
            self.by_name[name] = Stream(self.options, self.quantiles)
        return self.by_name[name]


class StreamGate(Gate):
    """A router and what its streams remember, at an operating point.

    An image of a batch is the next frame of a stream. After the batch, `observe` has to be told what was found.

    Args:
        router: scores the thumbnails.
        options: how a stream is decided.
        threshold: as of `Gate`, for the scores of the head if there is one.
        controller: as of `Gate`; one for all streams together.
        skip_cost: of a skipped frame, on the controller's scale.

    Raises:
        DualResError: As `Gate`.
    """

    def __init__(
        self,
        router: ResolutionRouter,
        options: StreamOptions,
        threshold: float | Sequence[float] | None = None,
        controller: BudgetController | None = None,
        skip_cost: float = 0.0,
    ):
        super().__init__(router, threshold, controller)
        self.streams = Streams(options, quantiles_of(router, options))
        self.skip_cost = skip_cost

    @property
    def quantiles(self) -> list[float]:
        """The calibration of the scores that decide: of the head, where there is one."""
        return list(self.streams.quantiles)

    def take(self, names: Sequence[str]) -> None:
        """Say whose frames the next batches hold.

        Args:
            names: of its streams, in order.

        Raises:
            DualResError: If one comes twice: its second frame would have to wait for what was found in the first.
        """
        if len(set(names)) != len(names):
            raise DualResError("a batch holds at most one frame of each stream: the second waits for the first.")
        self.streams.batch = tuple(names)

    def forward(self, images: RouterImages) -> Decision:
        """Route the next frames of the streams.

        Args:
            images: B images of a host, one of each stream that `take` has named; one stream without it.

        Raises:
            DualResError: If the batch holds more or fewer.
        """
        count = len(images.content)
        if count != len(self.streams.batch):
            raise DualResError(
                f"a batch of {count} images for {len(self.streams.batch)} streams: what the last frame saw is not "
                "known yet where frames of one stream share a batch. Use batch=1, or one frame of each camera; a list "
                "is one batch in Ultralytics, so give it a video, a folder, or frame by frame."
            )
        if self.controller is not None:
            self.controller.arrive(count)
        streams = [self.streams.of(name) for name in self.streams.batch]
        for stream, image, box in zip(streams, images.images, images.content):
            stream.arrive(_photo(image, box))
        runs = [i for i, stream in enumerate(streams) if not stream.may_skip]
        scores = self._thumbnail_scores(images, runs)
        thresholds = self.thresholds
        steps, recalled, decided = [], [], []
        for i, stream in enumerate(streams):
            score = stream.score(scores[i]) if i in scores else stream.memory.score
            step, found = SKIP, None
            if i in scores:
                step = stream.decide(score, self.thresholds, self.controller)
            else:
                kept = stream.skip(self.skip_cost, self.controller)
                found = Detections(kept.boxes, kept.scores, kept.labels)
            steps.append(step)
            recalled.append(found)
            decided.append(score)
        thumbnails = [scores.get(i, 0.0) for i in range(count)]
        self.streams.waiting = list(zip(streams, steps, decided, thumbnails))
        device = self.router.mean.device
        numbers = torch.tensor(decided, device=device), torch.tensor(steps, device=device)
        return Decision(*numbers, thresholds, recalled=tuple(recalled))

    def _thumbnail_scores(self, images: RouterImages, chosen: Sequence[int]) -> dict[int, float]:
        """The router's scores of some images, by number."""
        if not chosen:
            return {}
        part = RouterImages([images.images[i] for i in chosen], [images.content[i] for i in chosen])
        return dict(zip(chosen, map(float, self.router.score(part))))

    def observe(self, found: Sequence[Detections]) -> None:
        """What was found in the frames of the last batch; once for each batch.

        Args:
            found: of each image, boxes as shares of the photo, 0 to 1.
        """
        for (stream, step, score, thumbnail), seen in zip(self.streams.waiting, found):
            if step != SKIP:
                stream.memory.saw(step, seen.boxes, seen.scores, seen.labels, score, thumbnail)
        self.streams.waiting = []

    # -- kept ------------------------------------------------------------------------------------------------------

    def saved(self) -> dict[str, Any]:
        """All that a restarted process needs to go on, as plain values for JSON; see `resume`."""
        return {
            "streams": {name: stream.memory.to_dict() for name, stream in self.streams.by_name.items()},
            "controller": None if self.controller is None else self.controller.saved(),
        }

    def resume(self, saved: Mapping[str, Any]) -> None:
        """Go on where another gate of the same settings stopped.

        Args:
            saved: what its `saved` gave.

        Raises:
            DualResError: If it is not that, or of another window or number of sizes.
        """
        streams, held = saved.get("streams"), saved.get("controller")
        if not isinstance(streams, Mapping) or (held is None) != (self.controller is None):
            raise DualResError("this is no saved state of these streams: start without it.")
        memories = {name: StreamMemory.from_dict(memory) for name, memory in streams.items()}
        if self.controller is not None and held is not None:
            self.controller.resume(held)
        for name, memory in memories.items():
            self.streams.of(name).memory = memory


def quantiles_of(router: ResolutionRouter, options: StreamOptions) -> list[float]:
    """The calibration of the scores that decide."""
    return router.quantiles if options.head is None else list(options.head.score_quantiles)


def stream_options(memory: bool | StreamHead | Path | str, skip: int, router: object) -> StreamOptions | None:
    """What a user of the Python API asks for.

    Args:
        memory: True reads the head beside the router; or a head, or the file or folder of one; False none.
        skip: the most frames in a row that reuse the last boxes.
        router: what was given for it: a folder is looked into.

    Returns:
        None where nothing of a stream is asked for.

    Raises:
        DualResError: If there is no head, or `skip` is no number of frames.
    """
    if memory is False:
        return StreamOptions(skip=skip) if skip else None
    if isinstance(memory, StreamHead):
        return StreamOptions(memory, skip)
    where = router if memory is True else memory
    if where is not None and not isinstance(where, (str, Path)):
        raise DualResError("memory=True looks beside the router's files: give its folder, or memory=FOLDER.")
    return StreamOptions(StreamHead.load(DEFAULT if where is None else where), skip)


def make_stream_gate(
    router: ResolutionRouter,
    options: StreamOptions,
    point: Budget,
    count: int = 2,
    hold_rate: bool = False,
    costs: Callable[[], Sequence[float]] | None = None,
) -> StreamGate:
    """`gate.make_gate` for streams.

    Args:
        router, point, count, hold_rate, costs: as there; shares are read off the head's calibration if there is one,
            and thresholds are of its scores.
        options: how a stream is decided.

    Raises:
        DualResError: As `make_gate`.
    """
    quantiles = quantiles_of(router, options)
    if point.fps is not None:
        return StreamGate(router, options, controller=PacedController(point.fps, quantiles, count))
    thresholds = point.fixed_thresholds(count)
    if not hold_rate:
        shares = None if thresholds is not None else point.wanted_shares(count)
        return StreamGate(router, options, ladder.thresholds_for(shares, quantiles) if shares else thresholds)
    refuse_threshold(thresholds)
    known = costs() if costs is not None and (count > 2 or options.skip) else None
    controller = BudgetController(point.wanted_shares(count), quantiles, costs=known, watch=WATCH)
    skip_cost = -known[-1] / (known[0] - known[-1]) if known and options.skip else 0.0
    return StreamGate(router, options, controller=controller, skip_cost=skip_cost)


def _photo(image: torch.Tensor, box: tuple[int, int, int, int]) -> np.ndarray:
    """(3, H, W) with its content box -> (h, w, 3) float32, the pixels of the photo that a sketch looks at."""
    x0, y0, x1, y1 = box
    step = cuts.stride(y1 - y0, x1 - x0)
    # Thinned out before it leaves a GPU.
    return np.asarray(image[:, y0:y1:step, x0:x1:step].permute(1, 2, 0).detach().float().cpu())
