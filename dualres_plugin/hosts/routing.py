"""Route, split, run each resolution once, merge; and what every routed host object keeps of it."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dualres_plugin.common.card import SKIP
from dualres_plugin.common.errors import DualResError
from dualres_plugin.common.resize import LowSize
from dualres_plugin.common.types import Decision, Detections, ImageDecision, as_index
from dualres_plugin.hosts.contract import Batch, Decide, HostAdapter
from dualres_plugin.hosts.ladder import Ladder
from dualres_plugin.hosts.lanes import Lanes

Sizes = float | LowSize | Ladder  # low / high ratio, or sizes as they were asked for


@dataclass(frozen=True)
class Part:
    """The images of a batch that run at one size.

    Attributes:
        index: (K,) int64, which images.
        step: 0 for the largest size, 1 for the next smaller one, …
        batch: these images at that size, in the adapter's own form.
    """

    index: Tensor
    step: int
    batch: Any


def run_routed(
    adapter: HostAdapter[Batch],
    batch: Batch,
    decide: Decide,
    sizes: Sizes,
    on_decision: Callable[[Decision], None] | None = None,
) -> Any:
    """Route, split, run each resolution once, merge. All-high is exactly the plain host's call.

    Args:
        adapter: of the detector to run.
        batch: the host's batch at the high size.
        decide: gives the route of each image.
        sizes: low / high ratio, or a `Ladder`; sizes in pixels are set against the batch's own high size.
        on_decision: told of the decision, for results and statistics.

    Returns:
        The host's raw output, in the batch's order and in high-resolution coordinates.

    Raises:
        DualResError: If a size in pixels is not smaller than the batch's high size, or the decision is for another
            number of sizes.
    """
    ladder = Ladder.of(sizes)
    decision = decided(adapter, batch, decide, ladder)
    if on_decision:
        on_decision(decision)
    if bool(decision.high.all()):
        return adapter.predict(batch)
    parts = split(adapter, batch, decision, ladder)
    outputs = [(part.index, adapter.predict(part.batch), part.batch) for part in parts]
    return adapter.merge([*outputs, *_recalled(adapter, batch, decision)], batch)


def _recalled(adapter: HostAdapter[Batch], batch: Batch, decision: Decision) -> list[tuple[Tensor, Any, Batch]]:
    """The part of a batch that is skipped, with what it reuses; none where every image runs."""
    index = as_index(decision.steps == SKIP)
    if not len(index):
        return []
    kept = [decision.recalled[i] or Detections.empty() for i in index.tolist()]
    return [(index, adapter.recall(batch, index, kept), adapter.select(batch, index))]


def split(adapter: HostAdapter[Batch], batch: Batch, decision: Decision, ladder: Ladder) -> list[Part]:
    """A high batch, cut by size.

    Args:
        adapter: of the detector.
        batch: at the high size.
        decision: the route of each of its images.
        ladder: the sizes.

    Returns:
        The sizes that are in use, largest first.
    """
    ratios = ladder.ratios(adapter.high_size(batch))
    parts = []
    for step in range(len(ladder)):
        index = as_index(decision.steps == step)
        if len(index):
            small = adapter.resize(batch, index, ratios[step - 1]) if step else adapter.select(batch, index)
            parts.append(Part(index, step, small))
    return parts


def decided(adapter: HostAdapter[Batch], batch: Batch, decide: Decide, ladder: Ladder) -> Decision:
    """The decision on a batch, without running the detector.

    Args:
        adapter, batch, decide: as of `run_routed`.
        ladder: the sizes.

    Returns:
        The decision, with the sizes in pixels noted on it.

    Raises:
        DualResError: As `run_routed`.
    """
    sizes = ladder.pixels(adapter.high_size(batch))
    decision = decide(adapter.router_images(batch))
    if len(decision.thresholds) + 1 != len(ladder):
        raise DualResError(
            f"{len(ladder)} sizes need {len(ladder) - 1} thresholds between them, not {len(decision.thresholds)}."
        )
    return replace(decision, sizes=sizes)


def run_at(adapter: HostAdapter[Batch], batch: Batch, count: int, step: int, ladder: Ladder) -> Any:
    """What `run_routed` gives for a batch whose images all take one route.

    Args:
        adapter: of the detector to run.
        batch: at the high size.
        count: how many images it has, at least one.
        step: of the route, 0 for the largest size.
        ladder: the sizes.

    Returns:
        The host's raw output, in high-resolution coordinates.
    """
    if step == 0:
        return adapter.predict(batch)
    everything = torch.arange(count)
    small = adapter.resize(batch, everything, ladder.ratios(adapter.high_size(batch))[step - 1])
    return adapter.merge([(everything, adapter.predict(small), small)], batch)


class Routing(nn.Module):
    """How a host object with routing inside routes, and what it decided last.

    A module, because hosts move, halve and deep-copy their models: the router inside `decide` has to go along.

    Args:
        decide: gives the route of each image.
        sizes: low / high ratio, inside (0, 1), or a `Ladder`.
        on_decision: told of each decision.

    Attributes:
        ladder: the sizes as they were asked for.
        scale: the ratio of the smallest size to the largest, at the detector's own high size.
        decision: of the last batch; None before the first.

    Raises:
        DualResError: If the ratio is none.
    """

    def __init__(self, decide: Decide, sizes: Sizes, on_decision: Callable[[Decision], None] | None = None):
        super().__init__()
        self.decide = decide
        self.ladder = Ladder.of(sizes)
        self.scale = self.ladder.lower[-1].ratio
        self.on_decision = on_decision
        self.decision: Decision | None = None

    def route(self, adapter: HostAdapter[Batch], batch: Batch) -> tuple[Decision, list[Part]]:
        """Decide on the images of a high batch, without running the detector; remembered and told.

        Returns:
            The decision, and the images of each size that is in use, largest first.
        """
        decision = decided(adapter, batch, self.decide, self.ladder)
        if bool((decision.steps == SKIP).any()):
            raise DualResError("this way of running the detector cannot skip frames: leave skip at 0.")
        self._remember(decision)
        return decision, split(adapter, batch, decision, self.ladder)

    def run(self, adapter: HostAdapter[Batch], batch: Batch) -> tuple[Any, Decision]:
        """`run_routed` on a high batch: the host's raw output, and the decision behind it."""
        made: list[Decision] = []  # of this call: another thread's would overwrite `self.decision`
        raw = run_routed(adapter, batch, self.decide, self.ladder, made.append)
        self._remember(made[0])
        sizes = adapter.photo_sizes(batch) if hasattr(self.decide, "observe") else None
        if sizes is not None:
            self.observe([as_shares(d, size) for d, size in zip(adapter.detections(raw, batch), sizes)])
        return raw, made[0]

    def observe(self, found: Sequence[Detections]) -> None:
        """Tell what decides, if it remembers, what was found in the images of the last batch.

        Args:
            found: boxes as shares of the photos.
        """
        told = getattr(self.decide, "observe", None)
        if told is not None:
            told(found)

    def stream(
        self, adapter: HostAdapter[Batch], images: Iterable[tuple[Batch, Hashable]], size: int
    ) -> Iterator[tuple[Any, Batch, ImageDecision]]:
        """Route images one by one, and run those of one route and shape together; see `Lanes` for how many wait.

        Args:
            adapter: one that joins batches, and whose raw output is one entry an image.
            images: high batches of a single image, each with its input shape: (height, width) or what else says it.
            size: images per pass.

        Yields:
            Each image's entry of the raw output, its batch and its route, in the order of `images`.

        Raises:
            DualResError: If what decides remembers a stream: it has to see each frame's result before the next frame.
        """
        if hasattr(self.decide, "observe"):
            raise DualResError(f"batch={size}: what the last frame saw is known one frame at a time. Use batch=1.")

        def run(waited: list[tuple[Batch, ImageDecision]]) -> list[tuple[Any, Batch, ImageDecision]]:
            batch = adapter.join([alone for alone, _ in waited])
            assert batch is not None, f"the {adapter.name} adapter does not join batches"
            raw = run_at(adapter, batch, len(waited), waited[0][1].step, self.ladder)
            return [(entry, alone, route) for entry, (alone, route) in zip(raw, waited)]

        lanes: Lanes[tuple[Batch, ImageDecision], tuple[Any, Batch, ImageDecision]] = Lanes(run, size)
        for alone, shape in images:
            decision = decided(adapter, alone, self.decide, self.ladder)
            self._remember(decision)
            route = decision.of(0)
            yield from lanes.put((route.step, shape), (alone, route))
        yield from lanes.flush()

    def _remember(self, decision: Decision) -> None:
        self.decision = decision
        if self.on_decision:
            self.on_decision(decision)


def as_shares(found: Detections, size: tuple[int, int]) -> Detections:
    """Detections with their boxes as shares of a photo of (height, width) pixels."""
    height, width = size
    return replace(found, boxes=found.boxes / np.array([width, height] * 2, dtype=np.float32))


def in_pixels(found: Detections, size: tuple[int, int]) -> Detections:
    """The reverse of `as_shares`."""
    height, width = size
    return replace(found, boxes=found.boxes * np.array([width, height] * 2, dtype=np.float32))


def detector_attribute(module: nn.Module, name: str, own: Callable[[str], Any]) -> Any:
    """The body of a routed module's `__getattr__`: what it has not itself is its `detector`'s.

    Args:
        module: with a child named `detector`, once it is built.
        name: of the attribute.
        own: the module's inherited `__getattr__`, which knows its parameters, buffers and children.

    Raises:
        AttributeError: If neither has it.
    """
    try:
        return own(name)
    except AttributeError:
        children = module.__dict__.get("_modules", {})
        if name == "detector" or "detector" not in children:  # copying and unpickling ask before `__init__` has run
            raise
        return getattr(children["detector"], name)
