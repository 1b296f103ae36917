"""Several cameras through one detector: one frame of each, batched by size, and one memory each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

import numpy as np

from dualres_plugin.common.errors import DualResError
from dualres_plugin.common.images.photo import SourceImage, check_photo
from dualres_plugin.common.images.sources import iter_source
from dualres_plugin.common.types import Decision
from dualres_plugin.hosts.contract import HostAdapter
from dualres_plugin.hosts.ladder import Ladder
from dualres_plugin.hosts.routing import as_shares, run_routed
from dualres_plugin.predict.predictor import Prediction
from dualres_plugin.router.stream_gate import StreamGate


class Cameras:
    """Streams that share a detector, a router and a budget.

    The frames of a moment run together: those of one input shape are scored in one pass, and each size in use runs
    once for all of them. What a camera remembers is its own; a controller holds the mean of all.

    Args:
        adapter: of the frozen detector.
        gate: decides, and remembers each stream.
        size: high size in pixels.
        sizes: low / high ratio, or several sizes.

    Raises:
        DualResError: If the gate remembers nothing.

    Examples:
        >>> cameras = Cameras.of(DualResWrapper(YOLO("yolo11n.pt"), "runs/router", memory=True))  # doctest: +SKIP
        >>> for found in cameras.stream({"door": "door.mp4", "yard": "yard.mp4"}):  # doctest: +SKIP
        ...     print({name: (p.route.route, len(p.found)) for name, p in found.items()})
    """

    def __init__(self, adapter: HostAdapter[Any], gate: Any, size: int, sizes: float | Ladder):
        if not isinstance(gate, StreamGate):
            raise DualResError("cameras remember what they saw: make the wrapper with memory=True, or with skip.")
        self.adapter = adapter.for_inference()
        self.gate: StreamGate = gate
        self.size = size
        self.ladder = Ladder.of(sizes)

    @classmethod
    def of(cls, wrapper: Any) -> Cameras:
        """With all that a `DualResWrapper` was made with.

        Args:
            wrapper: with `memory` or `skip`.
        """
        return cls(wrapper.adapter, wrapper.gate, wrapper.high, wrapper.ladder)

    def step(self, frames: Mapping[str, np.ndarray]) -> dict[str, Prediction]:
        """The next frame of some cameras.

        Args:
            frames: (H, W, 3) RGB uint8 by the camera's name; not every camera has to have one.

        Returns:
            By the same names, boxes in pixels of the frames.

        Raises:
            DualResError: If a frame is no photo.
        """
        images = {name: SourceImage(name, check_photo(pixels)) for name, pixels in frames.items()}
        shapes = {n: self.adapter.input_shape(i.pixels.shape[:2], self.size) for n, i in images.items()}
        found: dict[str, Prediction] = {}
        for _, names in groupby(sorted(images, key=lambda n: shapes[n]), key=lambda n: shapes[n]):
            found.update(self._together([images[name] for name in names]))
        return {name: found[name] for name in frames}

    def _together(self, images: Sequence[SourceImage]) -> dict[str, Prediction]:
        batch = self.adapter.collate([image.pixels for image in images], self.size)
        self.gate.take([image.name for image in images])
        decisions: list[Decision] = []
        raw = run_routed(self.adapter, batch, self.gate, self.ladder, decisions.append)
        found = self.adapter.detections(raw, batch)
        self.gate.observe([as_shares(f, image.pixels.shape[:2]) for f, image in zip(found, images)])
        routes = (decisions[0].of(i) for i in range(len(images)))
        return {image.name: Prediction(image, f, route) for image, f, route in zip(images, found, routes)}

    def stream(self, sources: Mapping[str, Any]) -> Iterator[dict[str, Prediction]]:
        """All sources, a frame of each at a time; one that ends is left out from then on.

        Args:
            sources: by the camera's name, whatever `predict` takes: a video, or an iterator of frames.

        Yields:
            The predictions of a moment, by name.
        """
        open_ones = {name: iter_source(source) for name, source in sources.items()}
        while open_ones:
            frames = {}
            for name, images in list(open_ones.items()):
                image = next(images, None)
                if image is None:
                    del open_ones[name]
                else:
                    frames[name] = image.pixels
            if frames:
                yield self.step(frames)
