"""A routed detector over any source, host-agnostic, with flat memory: what `dualres predict` runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import torch

from dualres_plugin.budget.controller import BudgetController
from dualres_plugin.common.card import SKIP
from dualres_plugin.common.errors import DualResError, at_hand, check_number
from dualres_plugin.common.images.photo import SourceImage
from dualres_plugin.common.types import Detections, ImageDecision
from dualres_plugin.hosts.contract import HostAdapter, Shape
from dualres_plugin.hosts.half import half_passes
from dualres_plugin.hosts.ladder import Ladder
from dualres_plugin.hosts.lanes import Lanes
from dualres_plugin.hosts.probe import check_sizes
from dualres_plugin.hosts.routing import as_shares, decided, in_pixels, run_at
from dualres_plugin.router.gate import Gate
from dualres_plugin.router.stream_gate import StreamGate

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Prediction:
    """One image, what was found, and the route it took.

    Attributes:
        image: with its name.
        found: in pixels of the image.
        route: "high" or "low", or the size of several, with the router's score and the threshold that it met.
    """

    image: SourceImage
    found: Detections
    route: ImageDecision


@dataclass(frozen=True)
class _Routed:
    """An image that waits for others of its route and shape, preprocessed alone at the high size.

    Attributes:
        recalled: what it reuses, boxes as shares of the photo, where it is skipped.
    """

    image: SourceImage
    batch: Any
    route: ImageDecision
    shape: Shape
    recalled: Detections | None = None


class Predictor:
    """Runs a routed detector over images and answers in pixels of the originals.

    Args:
        adapter: of the frozen detector.
        gate: decides each route: a router with thresholds, or with a controller that holds a rate.
        size: high size in pixels.
        sizes: low / high ratio, or several sizes.
        batch: images per pass. Images of one shape and route share it and wait for each other, up to four batches of
            them; 1 lets none wait.
        half: "fp16" or "bf16", what the detector's passes compute in; None as it is. The router stays in 32 bits.

    Raises:
        DualResError: If the device does not compute in `half`.
    """

    def __init__(
        self,
        adapter: HostAdapter[Any],
        gate: Gate,
        size: int,
        sizes: float | Ladder,
        batch: int = 1,
        half: str | None = None,
    ):
        self.adapter = adapter.for_inference()
        self.gate = gate
        self.size = size
        self.ladder = Ladder.of(sizes)
        self.batch = batch
        self.half = half
        half_passes(half, self.adapter.detector)  # is refused before the first image
        check_number("batch", batch, 1)
        if batch > 1 and isinstance(gate, StreamGate):
            raise DualResError(f"batch={batch}: what the last frame saw is known one frame at a time. Use batch=1.")

    def settings(self) -> dict[str, Any]:
        """What the predictions depend on, as plain values."""
        gate = self.gate
        point = {"thresholds": gate.thresholds} if gate.controller is None else {"held": gate.controller.shares}
        half = {"half": self.half} if self.half else {}
        return {"host": self.adapter.name, "high": self.size, "lower": self.ladder.ratios(), **point, **half}

    @property
    def sizes(self) -> list[float]:
        """In pixels, largest first."""
        return [self.size, *(ratio * self.size for ratio in self.ladder.ratios(self.size))]

    @property
    def expected_shares(self) -> tuple[float, ...] | None:
        """The share at each size that the operating point promises, on images like those of the calibration."""
        return self.gate.expected_shares

    @property
    def controller(self) -> BudgetController | None:
        """What holds a budget, where one is held."""
        return self.gate.controller

    @property
    def held(self) -> bool:
        """A controller moves the threshold to keep that share."""
        return self.gate.controller is not None

    def replay(self, score: float) -> None:
        """Let an image that an earlier, unfinished run has done count towards the rate that is held.

        Args:
            score: the router's.
        """
        if self.gate.controller is not None:
            self.gate.controller.replay(score)

    def stream(
        self, images: Iterator[SourceImage], on_skip: Callable[[str], None] | None = None
    ) -> Iterator[Prediction]:
        """Predictions in the order of the images; memory does not grow with their number.

        Args:
            images: read as they are used.
            on_skip: told of each image that the host rejects, which is then left out; without it the error is raised.

        Raises:
            DualResError: If the detector does not run at these sizes, whatever the image.
        """
        with half_passes(self.half, self.adapter.detector):
            check_sizes(self.adapter, self.size, self.ladder)
        lanes: Lanes[_Routed, Prediction] = Lanes(partial(self._run, on_skip=on_skip), self.batch)
        for block in self._blocks(images):
            for routed in self._route(block, on_skip):
                yield from lanes.put((routed.route.step, routed.shape), routed)
        yield from lanes.flush()

    def _blocks(self, images: Iterator[SourceImage]) -> Iterator[list[SourceImage]]:
        """Neighbours of one input shape, a batch at most: the router sees them together, in the images' order."""
        block: list[SourceImage] = []
        for image in images:
            if block and self._shape(block[0]) != self._shape(image):
                yield block
                block = []
            block.append(image)
            if len(block) == self.batch:  # at once: a live stream must not wait for its next frame
                yield block
                block = []
        if block:
            yield block

    def _shape(self, image: SourceImage) -> Shape:
        height, width = image.pixels.shape[:2]
        return self.adapter.input_shape((height, width), self.size)

    def _route(self, block: list[SourceImage], on_skip: Callable[[str], None] | None) -> list[_Routed]:
        """Preprocess a block and decide on it; what the host rejects is left out."""
        routed = self._guarded(self._decide, block, block, on_skip)
        return [r for r in routed if r is not None]

    def _decide(self, images: list[SourceImage]) -> list[_Routed]:
        batch = self.adapter.collate([image.pixels for image in images], self.size)
        decision = decided(self.adapter, batch, self.gate, self.ladder)
        one = len(images) == 1
        shape = self._shape(images[0])
        return [
            _Routed(
                image,
                batch if one else self.adapter.select(batch, torch.tensor([i])),
                decision.of(i),
                shape,
                decision.recalled[i] if decision.recalled else None,
            )
            for i, image in enumerate(images)
        ]

    def _run(self, routed: list[_Routed], on_skip: Callable[[str], None] | None) -> Sequence[Prediction | None]:
        return self._guarded(self._detect, routed, [r.image for r in routed], on_skip)

    def _detect(self, routed: list[_Routed]) -> list[Prediction]:
        """One pass over images of one route and one shape; none over frames of a stream that are skipped."""
        if routed[0].route.step == SKIP:
            again = [r.recalled or Detections.empty() for r in routed]
            return [Prediction(r.image, in_pixels(f, r.image.pixels.shape[:2]), r.route) for r, f in zip(routed, again)]
        batch = routed[0].batch if len(routed) == 1 else self.adapter.join([r.batch for r in routed])
        if batch is None:
            batch = self.adapter.collate([r.image.pixels for r in routed], self.size)
        with half_passes(self.half, self.adapter.detector):
            raw = run_at(self.adapter, batch, len(routed), routed[0].route.step, self.ladder)
            found = self.adapter.detections(raw, batch)
        if isinstance(self.gate, StreamGate):
            self.gate.observe([as_shares(f, r.image.pixels.shape[:2]) for r, f in zip(routed, found)])
        return [Prediction(r.image, f, r.route) for r, f in zip(routed, found)]

    def _guarded(
        self,
        work: Callable[[list[Item]], list[Result]],
        items: list[Item],
        images: list[SourceImage],
        on_skip: Callable[[str], None] | None,
    ) -> Sequence[Result | None]:
        """Work on items, each of an image; None for those that the host rejects, as `stream` says."""
        try:
            with at_hand(images[0].path or images[0].name):
                return work(items)
        except DualResError:
            raise
        except Exception as error:
            if on_skip is None:
                raise
            if len(items) > 1:  # a single odd image costs only itself
                pairs = zip(items, images)
                return [r for item, image in pairs for r in self._guarded(work, [item], [image], on_skip)]
            check_sizes(self.adapter, self.size, self.ladder, again=True)  # is it the image, or a GPU that is lost?
            on_skip(f"'{images[0].name}': the {self.adapter.name} host rejects it ({error})")
            return [None]
