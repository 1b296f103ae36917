"""The methods of a routed `YOLO`: `predict` and `val` with the routing inside, and what to do instead of others."""

from __future__ import annotations

from collections.abc import Callable
from types import MethodType
from typing import Any

from dualres_plugin.adapters.ultralytics.results import routed
from dualres_plugin.adapters.ultralytics.routed import NO_BYPASS, NOT_ROUTED, RoutedYolo
from dualres_plugin.common.errors import DualResError
from dualres_plugin.common.types import Detections
from dualres_plugin.router.stream_gate import StreamGate

# Methods that would train, save or change a network with a router inside, or leave the router out without a word.
INSTEAD = {
    "train": "train the plain YOLO, then wrap it",
    "tune": "tune the plain YOLO, then wrap it",
    "load": "load weights into the plain YOLO, then wrap it",
    "reset_weights": "reset the plain YOLO, then wrap it",
    "fuse": "leave it out, predict and val fold the batch norms of their own copy",
    "save": "save the plain YOLO, and the router by `router.save(folder)`",
    "export": "DualResWrapper.export writes detector and router as ONNX; other formats are of the plain YOLO",
    "benchmark": "the command dualres bench times detector and router; or benchmark the plain YOLO",
    "embed": "use the plain YOLO for it",
}


def route_methods(host: Any) -> None:
    """Give a `YOLO` whose `model` is a `RoutedYolo` its methods; the object is the wrapper's own copy.

    Args:
        host: the copy.
    """
    add_result_callbacks(host)
    route_predict_and_val(host)
    for name, instead in INSTEAD.items():
        setattr(host, name, _refusing(name, instead))


def add_result_callbacks(yolo: Any) -> list[tuple[str, Callable[[Any], None]]]:
    """Put the route on every `Results` that a `YOLO` gives from now on, and refuse what would bypass the routing.

    Returns:
        Each event with the function that was added.
    """
    # The tracker replaces the results between these two events, so both are needed.
    marks = ("on_predict_postprocess_end", "on_predict_batch_end")
    added: list[tuple[str, Callable[[Any], None]]] = [("on_predict_start", _prepare)]
    added.append(("on_predict_postprocess_end", _observe))
    added += [(event, _mark_results) for event in marks]
    for event, function in added:
        yolo.add_callback(event, function)
    return added


def route_predict_and_val(yolo: Any) -> None:
    """Put these two in the place of the `YOLO`'s own, on this object alone; `track` and a plain call go through them.

    Args:
        yolo: a wrapper's copy, or one that `attach` has routed; deleting the two attributes undoes it.
    """
    yolo.predict = MethodType(routed_predict, yolo)
    yolo.val = MethodType(routed_val, yolo)


def routed_predict(yolo: Any, source: Any = None, stream: bool = False, predictor: Any = None, **options: Any) -> Any:
    """`YOLO.predict` of a routed `YOLO`, with its own arguments.

    Args:
        yolo: the object.
        source, stream, predictor: of the host's own predict.
        **options: of it, too.

    Returns:
        The host's results, each with its route.

    Raises:
        DualResError: If an option would bypass the routing.
    """
    # The host drops some of these with a warning, and keeps others for later calls, before any callback sees them.
    refuse_bypass({**yolo.overrides, **options})
    return type(yolo).predict(yolo, source, stream, predictor, **options)


def routed_val(yolo: Any, validator: Any = None, **options: Any) -> Any:
    """`YOLO.val` of a routed `YOLO`, with its own arguments.

    Args:
        yolo: the object: a wrapper's copy, or one that `attach` has routed.
        validator: a validator class of the host's; None is that of the task.
        **options: of the host's own val.

    Returns:
        The host's metrics.

    Raises:
        DualResError: If an option would bypass the routing.
    """
    refuse_bypass({**yolo.overrides, **options})
    base = validator or yolo._smart_load("validator")

    def get_model(self: Any, *arguments: Any, **given: Any) -> Any:
        """The host's own, a copy, with the routing inside: validators offer no callback that could change it."""
        network = base.get_model(self, *arguments, **given)
        if not isinstance(network, RoutedYolo):
            network = yolo._dualres.route(network)
        network.high_size = self.args.imgsz
        return network

    return type(yolo).val(yolo, validator=type(base.__name__, (base,), {"get_model": get_model}), **options)


def refuse_bypass(options: dict[str, Any]) -> None:
    """Refuse what would run the network by another way.

    Args:
        options: of a call.

    Raises:
        DualResError: If one of them is asked for.
    """
    if any(options.get(name) for name in NOT_ROUTED):
        raise DualResError(NO_BYPASS)


def _refusing(name: str, instead: str) -> Callable[..., Any]:
    def refused(*_: Any, **__: Any) -> Any:
        raise DualResError(f"{name} is not available on a routed detector: {instead}.")

    refused.__name__, refused.__doc__ = name, f"Refused on a routed detector: {instead}."
    return refused


def _prepare(predictor: Any) -> None:
    """Before the first batch: the size of this call, against which a low size in pixels is set."""
    refuse_bypass(vars(predictor.args))
    network = predictor.model.backend.model
    if isinstance(network, RoutedYolo) and isinstance(network.routing.decide, StreamGate):
        cameras = predictor.dataset.bs if predictor.dataset.mode == "stream" else 1
        network.routing.decide.take([str(number) for number in range(cameras)])
    if isinstance(network, RoutedYolo):  # a tensor comes as it is, at whatever size
        network.high_size = None if predictor.source_type.tensor else max(predictor.imgsz)


def _mark_results(predictor: Any) -> None:
    """Put `.dualres` and `.to_supervision` on each of the batch's `Results`."""
    network = predictor.model.backend.model
    if isinstance(network, RoutedYolo) and network.routing.decision is not None:
        for i, result in enumerate(predictor.results):
            routed(result, network.routing.decision.of(i))


def _observe(predictor: Any) -> None:
    """Remember what was found, before a tracker drops what it does not follow yet."""
    network = predictor.model.backend.model
    if isinstance(network, RoutedYolo):
        boxes = [result.boxes.cpu().numpy() for result in predictor.results if result.boxes is not None]
        network.routing.observe([Detections.from_arrays(b.xyxyn, b.conf, b.cls) for b in boxes])
