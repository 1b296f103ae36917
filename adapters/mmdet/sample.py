"""`DetDataSample` that knows its route."""

from __future__ import annotations

from typing import Any

from mmdet.structures import DetDataSample

from dualres_plugin.common.supervision import supervision, with_names, with_route
from dualres_plugin.common.types import ImageDecision


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
