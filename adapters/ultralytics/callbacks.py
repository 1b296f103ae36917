"""The callback form, `attach` and `detach`: a `YOLO` of other code is routed in place, and restored."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from dualres_plugin.adapters.ultralytics.methods import add_result_callbacks, route_predict_and_val
from dualres_plugin.adapters.ultralytics.routed import RoutedYolo
from dualres_plugin.budget.stream.head import StreamHead
from dualres_plugin.common.errors import DualResError
from dualres_plugin.hosts.registry import adapt, unwrapped
from dualres_plugin.hosts.routing import Routing
from dualres_plugin.hosts.sizes import ask_sizes, size_costs
from dualres_plugin.router.gate import RouteLog, given_point, make_gate
from dualres_plugin.router.network import ResolutionRouter
from dualres_plugin.router.stream_gate import make_stream_gate, stream_options


@dataclass
class _Attached:
    """How a `YOLO` is routed, and what `detach` has to take back."""

    adapter_class: Any
    routing: Routing
    high: int | None
    own_high: Any  # `imgsz` of the YOLO's own settings, None where it had none
    callbacks: list[tuple[str, Callable[[Any], None]]]

    def route(self, network: nn.Module) -> RoutedYolo:
        """The network of a validator with a routing of its own, since the host moves and halves it."""
        return RoutedYolo(self.adapter_class, unwrapped(network), deepcopy(self.routing))

    def put_in(self, predictor: Any) -> None:
        """A callback of predictors: their network is a copy, which is routed from now on."""
        backend = predictor.model.backend
        if not isinstance(backend.model, RoutedYolo):
            backend.model = RoutedYolo(self.adapter_class, unwrapped(backend.model), self.routing)


def attach(
    yolo: Any,
    router: Any,
    *,
    low: float | None = None,
    high: int | None = None,
    sizes: Sequence[float] | None = None,
    target_high_rate: float | None = None,
    threshold: float | None = None,
    shares: Sequence[float] | None = None,
    thresholds: Sequence[float] | None = None,
    hold_rate: bool = False,
    memory: bool | StreamHead | Path | str = False,
    skip: int = 0,
    fps: float | None = None,
) -> Any:
    """Route `yolo.predict`, `yolo.track` and `yolo.val` from now on; `detach` undoes it.

    Args:
        yolo: an `ultralytics.YOLO`.
        router: a `ResolutionRouter` or the folder of one.
        low: the low size, as a ratio of the high one or in pixels (320); None is half.
        high: the high size in pixels of calls that give no `imgsz`; None is the detector's own.
        sizes: instead of these two, any number of sizes, largest first: (640, 512, 448), or ratios of the first.
        target_high_rate: wanted share of images at high; the threshold is read from the router's calibration.
        threshold: score above which an image goes high; overrides `target_high_rate`.
        shares, thresholds: of `sizes`, as of `DualResWrapper`.
        hold_rate: keep the share at high on target when the content drifts, by moving the threshold. A threshold
            beside it is refused.
        memory, skip, fps: of videos and cameras, as of `DualResWrapper`.

    Returns:
        The same object.

    Raises:
        DualResError: If it is routed already, is no detector, the router does not load, a size or rate is impossible,
            or a threshold is given beside `hold_rate`. The object is then as it was.
    """
    adapter = adapt(yolo)  # refuses one that is routed already
    if not hasattr(yolo, "overrides"):
        raise DualResError("attach needs the YOLO object: this is a bare network.")
    size, ladder = ask_sizes(adapter, low, high, sizes)
    high = size if sizes is not None else high
    point = given_point(target_high_rate, threshold, shares, thresholds, fps)
    net = router if isinstance(router, ResolutionRouter) else ResolutionRouter.from_pretrained(router)
    setup = point, len(ladder), hold_rate, partial(size_costs, adapter, size, ladder)
    stream = stream_options(memory, skip, router)
    gate = make_gate(net.eval(), *setup) if stream is None else make_stream_gate(net.eval(), stream, *setup)
    attached = _Attached(type(adapter), Routing(gate, ladder, RouteLog()), high, yolo.overrides.get("imgsz"), [])
    yolo.add_callback("on_predict_start", attached.put_in)
    attached.callbacks = [("on_predict_start", attached.put_in), *add_result_callbacks(yolo)]
    yolo._dualres = attached
    route_predict_and_val(yolo)
    if high is not None:
        yolo.overrides["imgsz"] = high
    # An existing predictor copied the callbacks when it was made; the next predict builds a new one.
    yolo.predictor = None
    return yolo


def detach(yolo: Any) -> Any:
    """Restore a YOLO that `attach` routed; does nothing to one that is not routed.

    Returns:
        The same object.
    """
    attached: _Attached | None = getattr(yolo, "_dualres", None)
    if attached is None:
        return yolo
    for event, function in attached.callbacks:
        if function in yolo.callbacks.get(event, []):  # `reset_callbacks` of the host took it away already
            yolo.callbacks[event].remove(function)
    if attached.high is not None and yolo.overrides.get("imgsz") == attached.high:  # a training has set its own
        del yolo.overrides["imgsz"]
        if attached.own_high is not None:
            yolo.overrides["imgsz"] = attached.own_high
    del yolo._dualres, yolo.predict, yolo.val
    yolo.predictor = None
    return yolo
