"""`RoutedDetector`: a built detector with routing inside, as mmdet's own kind of model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from mmdet.models.detectors import BaseDetector
from mmdet.structures import DetDataSample
from torch import Tensor

from dualres_plugin.adapters.mmdet.batch import MMDetBatch, blank_sample, predictions
from dualres_plugin.common.errors import DualResError
from dualres_plugin.common.resize import check_scale
from dualres_plugin.common.supervision import supervision, with_names, with_route
from dualres_plugin.common.types import Decision, ImageDecision, as_index
from dualres_plugin.hosts.contract import Decide, HostAdapter
from dualres_plugin.hosts.routing import run_routed


class RoutedDetector(BaseDetector):  # type: ignore[misc]
    """A built detector with routing inside. Weights are shared with it, and it always runs in eval.

    Args:
        adapter: of the detector.
        decide: gives the route of each image.
        scale: low / high ratio.
        on_decision: told of each decision.
    """

    def __init__(
        self,
        adapter: HostAdapter[MMDetBatch],
        decide: Decide,
        scale: float,
        on_decision: Callable[[Decision], None] | None = None,
    ):
        super().__init__(data_preprocessor=adapter.detector.data_preprocessor)
        self.adapter = adapter
        self.detector = adapter.detector
        self.decide = decide
        self.scale = check_scale(scale)
        self.on_decision = on_decision
        self.decision: Decision | None = None

    def predict(self, batch_inputs: Tensor, batch_data_samples: Sequence[Any], rescale: bool = True) -> Any:
        """The host's predictions, written into the given samples; each also carries `route`, `score` and `dualres`.

        Args:
            batch_inputs: (B, 3, H, W) from the data preprocessor.
            batch_data_samples: B `DetDataSample`.
            rescale: boxes in original pixels, or in pixels of `batch_inputs`.
        """
        batch = MMDetBatch(batch_inputs, list(batch_data_samples), rescale)
        results = run_routed(self.adapter, batch, self.decide, self.scale, self._remember)
        for i, (sample, result) in enumerate(zip(batch_data_samples, results)):
            for name, value in predictions(result).items():
                setattr(sample, name, value)
            assert self.decision is not None
            mark_sample(sample, self.decision.of(i), self.adapter.class_names)
        return batch_data_samples

    def _forward(self, batch_inputs: Tensor, batch_data_samples: Sequence[Any] | None = None) -> Any:
        """Raw outputs of the network, one entry per resolution used: what compute counters trace."""
        adapter = self.adapter
        shape = (int(batch_inputs.shape[2]), int(batch_inputs.shape[3]))
        samples = list(batch_data_samples or [blank_sample(shape) for _ in batch_inputs])
        batch = MMDetBatch(batch_inputs, samples)
        decision = self.decide(adapter.router_images(batch))
        self._remember(decision)
        outputs = []
        for index, low in ((as_index(decision.high), False), (as_index(~decision.high), True)):
            if len(index):
                part = adapter.resize(batch, index, self.scale) if low else batch.take(index)
                outputs.append(adapter.net(low)._forward(part.inputs, part.samples))
        return outputs[0] if len(outputs) == 1 else tuple(outputs)

    def loss(self, batch_inputs: Tensor, batch_data_samples: Sequence[Any]) -> Any:
        raise DualResError("this routed detector was made for prediction; train one built from a config.")

    def extract_feat(self, batch_inputs: Tensor) -> Any:
        """Features at the high resolution."""
        return self.detector.extract_feat(batch_inputs)

    def train(self, mode: bool = True) -> RoutedDetector:
        """The detector is frozen and stays as it is."""
        self.training = mode
        return self

    def _remember(self, decision: Decision) -> None:
        self.decision = decision
        if self.on_decision:
            self.on_decision(decision)

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:  # bbox_head, dataset_meta, cfg, … are the detector's
            if name == "detector" or "detector" not in self.__dict__.get("_modules", {}):
                raise
            return getattr(super().__getattr__("detector"), name)


class RoutedSample(DetDataSample):  # type: ignore[misc]
    """The host's sample with `route`, `score` and `dualres` in its metainfo."""

    def to_supervision(self) -> Any:
        """`supervision.Detections`, with the route of the image in `data`."""
        found = supervision().Detections.from_mmdetection(self)
        return with_route(with_names(found, self.metainfo.get("class_names")), self.dualres)


def mark_sample(sample: Any, route: ImageDecision, names: dict[int, str] | None) -> None:
    """Note the route on a sample. It is changed in place: the host's loops keep the samples that they gave."""
    sample.set_metainfo({"route": route.route, "score": route.score, "dualres": route, "class_names": names})
    if type(sample) is DetDataSample:
        object.__setattr__(sample, "__class__", RoutedSample)  # its own setattr would make this a data field
