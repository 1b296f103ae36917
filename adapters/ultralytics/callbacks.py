"""The callback form, `attach` and `detach`, and the callbacks that put routes on results."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dualres_plugin.adapters.ultralytics.results import routed
from dualres_plugin.adapters.ultralytics.routed import RoutedYolo
from dualres_plugin.common.errors import DualResError
from dualres_plugin.common.resize import check_scale
from dualres_plugin.hosts.registry import adapt
from dualres_plugin.router.gate import Gate, RouteLog
from dualres_plugin.router.network import ResolutionRouter


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
    if getattr(yolo, "_dualres", None) is not None:
        raise DualResError("this YOLO is routed already: call detach(yolo) first.")
    adapter = adapt(yolo)
    scale = check_scale(low / adapter.default_size if low > 1 else low)
    net = router if isinstance(router, ResolutionRouter) else ResolutionRouter.from_pretrained(router)
    gate = Gate(net.eval(), net.threshold_for(target_high_rate) if threshold is None else threshold)
    log = RouteLog()

    def put_in(predictor: Any) -> None:
        backend = predictor.model.backend
        if not isinstance(backend.model, RoutedYolo):
            backend.model = RoutedYolo(type(adapter), backend.model, gate, scale, log)

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
        for i, result in enumerate(predictor.results):
            routed(result, decision.of(i))
