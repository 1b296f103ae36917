"""The routed network inside Ultralytics, and the callback form `attach` / `detach`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from dualres_plugin.common.errors import DualResError
from dualres_plugin.common.types import Decision
from dualres_plugin.hosts.contract import Decide, run_routed


class RoutedYolo(nn.Module):
    """The network that stands in for `YOLO.model`: routes, runs each resolution, merges."""

    def __init__(
        self,
        detector: nn.Module,
        decide: Decide,
        scale: float,
        on_decision: Callable[[Decision], None] | None = None,
        low_detector: nn.Module | None = None,
    ):
        super().__init__()
        self.detector = detector
        self.low_detector = low_detector
        self.decide = decide
        self.scale = scale
        self.on_decision = on_decision
        self.decision: Decision | None = None

    def forward(self, images: Tensor, augment: bool = False, embed: Any = None, **_: Any) -> Any:
        if augment or embed:
            raise DualResError("augment and embed are not available on a routed detector: use the plain YOLO for them.")
        from dualres_plugin.adapters.ultralytics.adapter import UltralyticsAdapter, YoloBatch

        adapter = UltralyticsAdapter(self.detector, self.low_detector)
        batch = YoloBatch(images, (int(images.shape[2]), int(images.shape[3])))
        return run_routed(adapter, batch, self.decide, self.scale, self._remember)

    def _remember(self, decision: Decision) -> None:
        self.decision = decision
        if self.on_decision:
            self.on_decision(decision)

    def fuse(self, verbose: bool = False) -> RoutedYolo:
        """The host folds batch norms of its own copy before it predicts."""
        for net in (self.detector, self.low_detector):
            if net is not None and hasattr(net, "fuse"):
                net.fuse(verbose=verbose)
        return self

    @property
    def end2end(self) -> bool:
        return bool(getattr(self.detector, "end2end", False))

    @end2end.setter
    def end2end(self, value: bool) -> None:
        for net in (self.detector, self.low_detector):
            if net is not None:
                net.end2end = value

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:  # names, stride, yaml, task, args, … are the detector's
            if name == "detector":
                raise
            return getattr(super().__getattr__("detector"), name)


# -- the callback form -------------------------------------------------------------------------------------


def attach(
    yolo: Any,
    router: Any,
    *,
    low: float = 0.5,
    target_high_rate: float = 0.5,
    threshold: float | None = None,
) -> Any:
    """Route `yolo.predict` and `yolo.track` from now on, by callbacks; `detach` undoes it.

    Args:
        yolo: an `ultralytics.YOLO`.
        router: a `ResolutionRouter` or the folder of one.
        low, target_high_rate, threshold: see `DualResWrapper`.

    Returns:
        The same object.
    """
    from dualres_plugin.predict.wrapper import DualResWrapper, Gate

    if getattr(yolo, "_dualres", None) is not None:
        raise DualResError("this YOLO is routed already: call detach(yolo) first.")
    wrapper = DualResWrapper(yolo, router, low=low, target_high_rate=target_high_rate, threshold=threshold)
    gate = Gate(wrapper.router, wrapper.threshold)

    def put_in(predictor: Any) -> None:
        backend = predictor.model.backend
        if not isinstance(backend.model, RoutedYolo):
            backend.model = RoutedYolo(backend.model, gate, wrapper.scale, wrapper.log)

    yolo.add_callback("on_predict_start", put_in)
    yolo._dualres = {"on_predict_start": put_in, **add_result_callbacks(yolo)}
    # An existing predictor copied the callbacks when it was made; the next predict builds a new one.
    yolo.predictor = None
    return yolo


def detach(yolo: Any) -> Any:
    """Restore a YOLO that `attach` routed; does nothing to one that is not routed."""
    added = getattr(yolo, "_dualres", None)
    if added is None:
        return yolo
    for event, function in added.items():
        yolo.callbacks[event].remove(function)
    del yolo._dualres
    yolo.predictor = None
    return yolo


def add_result_callbacks(yolo: Any) -> dict[str, Callable[[Any], None]]:
    # The tracker replaces the results between these two events, so both are needed.
    events = {"on_predict_postprocess_end": _mark_results, "on_predict_batch_end": _mark_results}
    for event, function in events.items():
        yolo.add_callback(event, function)
    return events


def _mark_results(predictor: Any) -> None:
    """Put `.dualres` and `.to_supervision` on each of the batch's `Results`."""
    network = predictor.model.backend.model
    decision = getattr(network, "decision", None)
    if isinstance(network, RoutedYolo) and decision is not None:
        from dualres_plugin.adapters.ultralytics.results import routed

        for i, result in enumerate(predictor.results):
            routed(result, decision.of(i))
