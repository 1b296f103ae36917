"""Which adapter drives a detector: found by entry points of the group `dualres_plugin.adapters`."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from torch import nn

from dualres_plugin.common.errors import DualResError
from dualres_plugin.hosts.contract import HostAdapter

logger = logging.getLogger("dualres")
ENTRY_POINT_GROUP = "dualres_plugin.adapters"
INSTALL = 'pip install "dualres-plugin[{extra}]"'


Points = Mapping[str, EntryPoint]


@cache
def installed_adapters() -> Points:
    """Name -> entry point of every adapter, ours and third parties'."""
    return {point.name: point for point in entry_points(group=ENTRY_POINT_GROUP)}


def adapter_class(name: str, points: Points | None = None) -> type[HostAdapter[Any]]:
    """The adapter class of a host.

    Args:
        name: of the adapter, such as "ultralytics".
        points: where to look; None is `installed_adapters`.

    Raises:
        DualResError: If no such adapter is installed, or the host it drives is missing.
    """
    points = installed_adapters() if points is None else points
    if name not in points:
        raise DualResError(f"unknown host '{name}'. Installed adapters: {', '.join(sorted(points)) or 'none'}.")
    try:
        loaded: type[HostAdapter[Any]] = points[name].load()
    except ImportError as error:
        raise _not_installed(name, error) from None
    return loaded


def _not_installed(name: str, error: ImportError) -> DualResError:
    return DualResError(
        f"the {name} adapter needs a package that is not installed ({error}). "
        f"Install it with: {INSTALL.format(extra=name)}"
    )


def _candidates(detector: Any, points: Points) -> Iterator[type[HostAdapter[Any]]]:
    # An adapter named like the package that the detector comes from is asked first: no other host is imported then.
    packages = {cls.__module__.partition(".")[0] for cls in type(detector).__mro__}
    for name in sorted(points, key=lambda n: (n not in packages, n)):
        try:
            yield adapter_class(name, points)
        except DualResError:  # that host is not installed, so the detector cannot be one of its own
            continue


def unwrapped(detector: Any) -> Any:
    """The module inside `torch.compile` or `DataParallel`; anything else as it is.

    Compiled code is made for the shapes it has seen: it is compiled anew for each size, until it gives up, and its
    wrapper hides what a detector is. Routing runs the module itself.

    Args:
        detector: any object.
    """
    inside = detector
    while isinstance(inside, nn.Module):
        if "_orig_mod" in inside._modules:  # OptimizedModule, which is not public
            inside = inside._modules["_orig_mod"]
        elif isinstance(inside, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
            inside = inside.module
        else:
            break
    if inside is not detector:
        logger.warning("a detector is routed without its %s, one device at a time.", type(detector).__name__)
    return inside


def adapt(detector: Any, low_detector: Any | None = None, *, points: Points | None = None) -> HostAdapter[Any]:
    """Find the adapter that drives a detector.

    Args:
        detector: a `YOLO`, a torchvision detection model, an mmdet detector, an effdet bench, or an adapter already.
        low_detector: a second detector for the low size, of the same host and with the same classes.
        points: the adapters that are asked; None is `installed_adapters`.

    Raises:
        DualResError: If no installed adapter accepts it, or the two do not go together.
    """
    if low_detector is not None:
        return _pair(adapt(low_detector, points=points), adapt(detector, points=points))
    if isinstance(detector, HostAdapter):
        return detector
    detector = unwrapped(detector)
    points = installed_adapters() if points is None else points
    for candidate in _candidates(detector, points):
        if candidate.accepts(detector):
            return candidate(detector)
    raise DualResError(
        f"no adapter for {type(detector).__module__}.{type(detector).__name__}. "
        f"Installed adapters: {', '.join(sorted(points))}. docs/adding-a-host.md shows how to write one."
    )


def _pair(low: HostAdapter[Any], high: HostAdapter[Any]) -> HostAdapter[Any]:
    if type(high) is not type(low):
        raise DualResError(f"a pair must come from one host: high is {high.name}, low is {low.name}.")
    if (high.class_names, high.label_ids) != (low.class_names, low.label_ids):
        raise DualResError("the two detectors of a pair must know the same classes, in the same order.")
    return type(high)(high.detector, low.detector)


def load_detector(spec: str, find: Callable[[str], type[HostAdapter[Any]]] = adapter_class) -> HostAdapter[Any]:
    """Build a detector from the command line's words for it.

    Args:
        spec: `HOST:NAME[,key=value,…]`; a bare `.pt` is Ultralytics.
        find: gives the adapter class of a host.

    Raises:
        DualResError: If the host is unknown, or the detector cannot be built.
    """
    host, rest = _host_of(spec)
    first, *pairs = rest.split(",")
    extra = [pair for pair in pairs if "=" not in pair]
    options = {key.strip(): value.strip() for key, equals, value in (p.partition("=") for p in pairs) if equals}
    adapter = find(host)
    try:
        return adapter.from_spec(",".join([first, *extra]), **options)
    except ModuleNotFoundError as error:  # adapters import their host when they first need it
        raise _not_installed(host, error) from None


def _host_of(spec: str) -> tuple[str, str]:
    """Name of the host, and what is left of the words for its adapter."""
    host, colon, rest = spec.partition(":")
    if not colon or re.fullmatch(r"[A-Za-z]", host):  # no host, or the drive letter of a Windows path
        if spec.split(",")[0].endswith(".pt"):
            return "ultralytics", spec
        if spec.endswith(".onnx"):
            raise DualResError(
                f"'{spec}' is an exported model, which `dualres predict` runs as it is; here give the detector that it "
                "was exported from."
            )
        raise DualResError(
            f"cannot tell what detector '{spec}' is. Write HOST:NAME, such as 'ultralytics:yolo11n.pt' or "
            "'torchvision:fasterrcnn_resnet50_fpn,weights=path.pth'."
        )
    return host, rest
