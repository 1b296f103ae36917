"""`Results` that know their route."""

from __future__ import annotations

from typing import Any

from ultralytics.engine.results import Results

from dualres_plugin.adapters.ultralytics.patches import turn_into
from dualres_plugin.common.supervision import supervision, with_route
from dualres_plugin.common.types import ImageDecision


class RoutedResults(Results):
    """The host's `Results` with the route of the image beside it.

    Attributes:
        dualres: route, score and threshold; copies such as `result.cpu()` or `result[0]` keep it.
    """

    dualres: ImageDecision

    def new(self) -> RoutedResults:
        """An empty copy, from which the host makes all others."""
        return routed(super().new(), self.dualres)

    def to_supervision(self) -> Any:
        """`supervision.Detections`, with the route of the image in `data`.

        Raises:
            DualResError: If supervision is not installed.
        """
        return with_route(supervision().Detections.from_ultralytics(self), self.dualres)


def routed(result: Results, route: ImageDecision) -> RoutedResults:
    """The given `Results` itself, from now on with its route."""
    marked = turn_into(result, RoutedResults)
    marked.dualres = route
    return marked
