"""The callback form, `attach` and `detach`, and the callbacks that put routes on results."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from dualres_plugin.adapters.ultralytics.results import routed
from dualres_plugin.adapters.ultralytics.routed import NO_BYPASS, RoutedYolo
from dualres_plugin.common.errors import DualResError
from dualres_plugin.common.resize import check_scale
from dualres_plugin.hosts.registry import adapt
from dualres_plugin.hosts.routing import Routing
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
        low: the low size, as a ratio of the high one (0.5) or in pixels (320).
        target_high_rate: wanted share of images at high; the threshold is read from the router's calibration.
        threshold: score above which an image goes high; overrides `target_high_rate`.

    Returns:
        The same object.

    Raises:
        DualResError: If it is routed already, is no detector, the router does not load, or a size or rate is
            impossible. The object is then as it was.
    """
    if getattr(yolo, "_dualres", None) is not None:
        raise DualResError("this YOLO is routed already: call detach(yolo) first.")
    adapter = adapt(yolo)
    scale = check_scale(low / adapter.default_size if low > 1 else low)
    net = router if isinstance(router, ResolutionRouter) else ResolutionRouter.from_pretrained(router)
    gate = Gate(net.eval(), net.threshold_for(target_high_rate) if threshold is None else threshold)
    routing = Routing(gate, scale, RouteLog())

    def put_in(predictor: Any) -> None:
        backend = predictor.model.backend
        if not isinstance(backend.model, RoutedYolo):
            backend.model = RoutedYolo(type(adapter), backend.model, routing)

    yolo.add_callback("on_predict_start", put_in)
    yolo._dualres = [("on_predict_start", put_in), *add_result_callbacks(yolo)]
    # An existing predictor copied the callbacks when it was made; the next predict builds a new one.
    yolo.predictor = None
    return yolo


def detach(yolo: Any) -> Any:
    """Restore a YOLO that `attach` routed; does nothing to one that is not routed.

    Returns:
        The same object.
    """
    added = getattr(yolo, "_dualres", None)
    if added is None:
        return yolo
    for event, function in added:
        if function in yolo.callbacks.get(event, []):  # `reset_callbacks` of the host took it away already
            yolo.callbacks[event].remove(function)
    del yolo._dualres
    yolo.predictor = None
    return yolo


def add_result_callbacks(yolo: Any) -> list[tuple[str, Callable[[Any], None]]]:
    """Put the route on every `Results` that a `YOLO` gives from now on, and refuse what would bypass the routing.

    Returns:
        Each event with the function that was added.
    """
    # The tracker replaces the results between these two events, so both are needed.
    marks = ("on_predict_postprocess_end", "on_predict_batch_end")
    added = [("on_predict_start", refuse_bypass), *((event, _mark_results) for event in marks)]
    for event, function in added:
        yolo.add_callback(event, function)
    return added


def refuse_bypass(runner: Any) -> None:
    """A callback of predictors and validators that refuses what would bypass the routing.

    Raises:
        DualResError: If augmentation or features are asked for.
    """
    _refuse(vars(runner.args))


def refusing(predict: Callable[..., Any]) -> Callable[..., Any]:
    """`predict` of a routed `YOLO`: the host drops these options, with a warning, before any callback sees them.

    Args:
        predict: the host's own.
    """

    @wraps(predict)
    def checked(*arguments: Any, **options: Any) -> Any:
        _refuse(options)
        return predict(*arguments, **options)

    return checked


def _refuse(options: dict[str, Any]) -> None:
    if options.get("augment") or options.get("embed"):
        raise DualResError(NO_BYPASS)


def _mark_results(predictor: Any) -> None:
    """Put `.dualres` and `.to_supervision` on each of the batch's `Results`."""
    network = predictor.model.backend.model
    if isinstance(network, RoutedYolo) and network.routing.decision is not None:
        for i, result in enumerate(predictor.results):
            routed(result, network.routing.decision.of(i))
