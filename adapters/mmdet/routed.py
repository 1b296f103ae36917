"""`RoutedDetector`: a built detector with routing inside, as mmdet's own kind of model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import Any

from mmdet.models.detectors import BaseDetector
from mmdet.structures import DetDataSample
from torch import Tensor

from dualres_plugin.adapters.mmdet.batch import MMDetBatch, blank_sample, predictions
from dualres_plugin.adapters.mmdet.patches import turn_into
from dualres_plugin.common.errors import DualResError
from dualres_plugin.common.supervision import supervision, with_names, with_route
from dualres_plugin.common.types import ImageDecision
from dualres_plugin.hosts.contract import HostAdapter
from dualres_plugin.hosts.routing import Routing, detector_attribute


class RoutedDetector(BaseDetector):
    """A built detector with routing inside. Weights are shared with it, and it always runs in eval.

    Args:
        adapter: of the detector.
        routing: how to route.
    """

    def __init__(self, adapter: HostAdapter[MMDetBatch], routing: Routing):
        super().__init__(data_preprocessor=adapter.detector.data_preprocessor)
        self.adapter = adapter
        self.detector = adapter.detector
        self.routing = routing

    @property
    def scale(self) -> float:
        """The ratio of the smallest size to the largest."""
        return self.routing.scale

    def predict(self, batch_inputs: Tensor, batch_data_samples: Sequence[Any], rescale: bool = True) -> Any:
        """The host's predictions, written into the given samples; each also carries `route`, `score` and `dualres`.

        Args:
            batch_inputs: (B, 3, H, W) from the data preprocessor.
            batch_data_samples: B `DetDataSample`.
            rescale: boxes in original pixels, or in pixels of `batch_inputs`.

        Returns:
            The given samples.
        """
        batch = MMDetBatch(batch_inputs, list(batch_data_samples), rescale)
        results, decision = self.routing.run(self.adapter, batch)
        for i, (sample, result) in enumerate(zip(batch_data_samples, results)):
            self._write(sample, result, decision.of(i))
        return batch_data_samples

    def stream(self, images: Iterable[MMDetBatch], size: int) -> Iterator[Any]:
        """As `predict`, of batches of a single image: in passes of one route and shape, `size` images each."""
        for result, batch, route in self.routing.stream(self.adapter, ((one, one.shape) for one in images), size):
            yield self._write(batch.samples[0], result, route)

    def _write(self, sample: Any, result: Any, route: ImageDecision) -> Any:
        for name, value in predictions(result).items():
            setattr(sample, name, value)
        mark_sample(sample, route, self.adapter.class_names)
        return sample

    def _forward(self, batch_inputs: Tensor, batch_data_samples: Sequence[Any] | None = None) -> Any:
        """Raw outputs of the network, one entry per resolution used: what compute counters trace."""
        adapter = self.adapter
        shape = (int(batch_inputs.shape[2]), int(batch_inputs.shape[3]))
        samples = list(batch_data_samples or [blank_sample(shape) for _ in batch_inputs])
        batch = MMDetBatch(batch_inputs, samples)
        _decision, parts = self.routing.route(adapter, batch)
        outputs = [adapter.detector_at(part.step > 0)._forward(part.batch.inputs, part.batch.samples) for part in parts]
        return outputs[0] if len(outputs) == 1 else tuple(outputs)

    def loss(self, batch_inputs: Tensor, batch_data_samples: Sequence[Any]) -> Any:
        """Refused: this detector only predicts.

        Raises:
            DualResError: Always.
        """
        raise DualResError("this routed detector was made for prediction; train one built from a config.")

    def extract_feat(self, batch_inputs: Tensor) -> Any:
        """The detector's features of (B, 3, H, W), at the high resolution."""
        return self.detector.extract_feat(batch_inputs)

    def train(self, mode: bool = True) -> RoutedDetector:
        """The detector is frozen and stays as it is."""
        self.training = mode
        return self

    def __getattr__(self, name: str) -> Any:  # bbox_head, dataset_meta, cfg, … are the detector's
        return detector_attribute(self, name, super().__getattr__)


class RoutedSample(DetDataSample):
    """The host's sample with `route`, `score`, `threshold`, `step` and `size` in its metainfo.

    They are plain values: `--out` pickles them.
    """

    @property
    def dualres(self) -> ImageDecision:
        """The routing of the image."""
        return ImageDecision(self.route, self.score, self.threshold, self.step, self.size)

    def to_supervision(self) -> Any:
        """`supervision.Detections`, with the route of the image in `data`.

        Raises:
            DualResError: If supervision is not installed.
        """
        found = supervision().Detections.from_mmdetection(self)
        return with_route(with_names(found, self.metainfo.get("class_names")), self.dualres)


def mark_sample(sample: Any, route: ImageDecision, names: dict[int, str] | None) -> None:
    """Note the route on a sample, in place.

    Args:
        sample: a `DetDataSample`.
        route: of its image.
        names: label -> class name, where the adapter knows them.
    """
    sample.set_metainfo({**asdict(route), "class_names": names})
    if type(sample) is DetDataSample:
        turn_into(sample, RoutedSample)
