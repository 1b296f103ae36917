"""A routed detector over any source, host-agnostic, with flat memory: what `dualres predict` runs."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from dualres_plugin.common.errors import DualResError, at_hand, check_number
from dualres_plugin.common.images.photo import SourceImage
from dualres_plugin.common.types import Decision, Detections, ImageDecision, RouterImages
from dualres_plugin.hosts.contract import HostAdapter
from dualres_plugin.hosts.half import half_passes, in_full
from dualres_plugin.hosts.ladder import Ladder
from dualres_plugin.hosts.probe import check_sizes
from dualres_plugin.hosts.routing import as_shares, run_routed
from dualres_plugin.router.gate import Gate
from dualres_plugin.router.stream_gate import StreamGate

logger = logging.getLogger("dualres")


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


class Predictor:
    """Runs a routed detector over images and answers in pixels of the originals.

    Args:
        adapter: of the frozen detector.
        gate: decides each route: a router with thresholds, or with a controller that holds a rate.
        size: high size in pixels.
        sizes: low / high ratio, or several sizes.
        batch: images per pass; images of one shape share a pass.
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
    def expected_shares(self) -> tuple[float, ...] | None:
        """The share at each size that the operating point promises, on images like those of the calibration."""
        return self.gate.expected_shares

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
            self.gate.controller.step(score)

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
        pending: list[SourceImage] = []
        for image in images:
            if pending and (len(pending) == self.batch or not self._same_shape(pending[0], image)):
                yield from self._run(pending, on_skip)
                pending = []
            pending.append(image)
        if pending:
            yield from self._run(pending, on_skip)

    def _same_shape(self, a: SourceImage, b: SourceImage) -> bool:
        shapes = (self.adapter.input_shape(i.pixels.shape[:2], self.size) for i in (a, b))
        return len(set(shapes)) == 1

    def _run(self, images: list[SourceImage], on_skip: Callable[[str], None] | None) -> list[Prediction]:
        try:
            with at_hand(images[0].path or images[0].name):
                return self._predict(images)
        except DualResError:
            raise
        except Exception as error:
            if on_skip is None:
                raise
            if len(images) > 1:  # a single odd image costs only itself
                return [p for image in images for p in self._run([image], on_skip)]
            check_sizes(self.adapter, self.size, self.ladder, again=True)  # is it the image, or a GPU that is lost?
            on_skip(f"'{images[0].name}': the {self.adapter.name} host rejects it ({error})")
            return []

    def _decide(self, images: RouterImages) -> Decision:
        with in_full():
            decision: Decision = self.gate(images)
        return decision

    def _predict(self, images: list[SourceImage]) -> list[Prediction]:
        batch = self.adapter.collate([image.pixels for image in images], self.size)
        decisions: list[Decision] = []
        with half_passes(self.half, self.adapter.detector):
            raw = run_routed(self.adapter, batch, self._decide, self.ladder, decisions.append)
            found = self.adapter.detections(raw, batch)
        if isinstance(self.gate, StreamGate):
            self.gate.observe([as_shares(f, image.pixels.shape[:2]) for f, image in zip(found, images)])
        return [Prediction(image, f, decisions[0].of(i)) for i, (image, f) in enumerate(zip(images, found))]
