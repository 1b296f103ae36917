"""What a user may do to a detector's network before it is routed: another memory format, and `compile()`."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from dualres_plugin.hosts.memory_format import channels_last
from dualres_plugin.hosts.registry import adapt
from dualres_plugin.hosts.routing import run_routed
from tests.contract.helpers import SCALE, collate, same
from tests.contract.hosts import Host, identical
from tests.fakes import forced

MIXED = [True, False, True, False]


def convolutions(detector: Any) -> list[nn.Conv2d]:
    module = detector.model if hasattr(detector, "overrides") else detector
    return [m for m in module.modules() if isinstance(m, nn.Conv2d)]


def body(detector: Any) -> nn.Module:
    """The part of a detector that its host calls as a module at every size, with convolutions inside."""
    network = getattr(detector, "model", detector)
    found = getattr(network, "backbone", network)
    assert isinstance(found, nn.Module)
    return found


@pytest.mark.parametrize("inference", [False, True])
def test_channels_last_answers_the_same(host: Host, inference: bool) -> None:
    """The batch is converted where it enters, and stays so from one convolution to the next."""
    plain, made = adapt(host.build()), channels_last(adapt(host.build()))
    if inference:
        plain, made = plain.for_inference(), made.for_inference()
    seen = []
    for convolution in convolutions(made.detector)[1:]:
        if convolution.in_channels > 1 and convolution.groups == 1:
            convolution.register_forward_pre_hook(lambda _, given: seen.append(given[0].stride(1) == 1))
    batch = collate(made, host)
    answers = [adapter.detections(run_routed(adapter, batch, forced(MIXED), SCALE), batch) for adapter in (plain, made)]
    assert all(same(a, b) for a, b in zip(*answers, strict=True))
    assert seen and sum(seen) > 0.9 * len(seen)


def test_a_network_compiled_in_place_is_routed_as_compiled(host: Host) -> None:
    """`module.compile()` leaves the detector what it is; two sizes are two graphs."""
    torch.compiler.reset()  # it counts how often the code of a class is compiled, and gives up
    plain, detector = adapt(host.build()), host.build()
    shapes = set()

    def backend(graph: torch.fx.GraphModule, inputs: list[Any]) -> Any:
        def run(*given: Any) -> Any:
            shapes.update(tuple(t.shape) for t in given if isinstance(t, torch.Tensor) and t.ndim == 4)
            return graph(*given)

        return run

    body(detector).compile(backend=backend, dynamic=False)
    made = adapt(detector)
    batch = collate(plain, host)
    raw, expected = (run_routed(adapter, batch, forced(MIXED), SCALE) for adapter in (made, plain))
    assert identical(raw, expected)
    assert len({shape[-2:] for shape in shapes if shape[1] == 3 and shape[-1] > 3}) == 2  # images, not kernels
