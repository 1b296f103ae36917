"""What an adapter leaves as it is: weights, modes, batches, gradients."""

from __future__ import annotations

from typing import Any

import torch

from dualres_plugin.hosts.contract import HostAdapter
from dualres_plugin.hosts.registry import adapt
from dualres_plugin.hosts.routing import run_routed
from tests.contract.helpers import SCALE, collate, everything
from tests.contract.hosts import SIZES, Host, batch_tensors, identical, leaves, state
from tests.fakes import forced


def use_fully(adapter: HostAdapter[Any], host: Host) -> tuple[Any, list[torch.Tensor]]:
    batch = collate(adapter, host)
    before = batch_tensors(batch)
    for routes in ([True] * 4, [False] * 4, [True, False, True, False]):
        raw = run_routed(adapter, batch, forced(routes), SCALE)
        adapter.detections(raw, batch)
    small = adapter.resize(batch, everything(4), SCALE)
    for part in (batch, small):
        adapter.losses(part)
        adapter.profile_pass(part, True)
    shape = adapter.input_shape(SIZES[0], host.size)
    adapter.macs(shape)
    adapter.macs(adapter.low_shape(shape, SCALE), low=True)
    adapter.for_inference()
    adapter.wrap(forced([True] * 4), SCALE, lambda decision: None)
    return batch, before


def test_nothing_is_mutated(host: Host, adapter: HostAdapter[Any]) -> None:
    before = state(adapter.detector)
    batch, tensors = use_fully(adapter, host)
    after = state(adapter.detector)
    assert before.keys() == after.keys()
    changed = [k for k in before if not torch.equal(before[k], after[k])]
    assert not changed
    assert all(torch.equal(a, b) for a, b in zip(tensors, batch_tensors(batch), strict=True))


def test_gradients_are_neither_made_nor_left(host: Host, adapter: HostAdapter[Any]) -> None:
    batch = collate(adapter, host)
    raw = run_routed(adapter, batch, forced([True, False, True, False]), SCALE)
    assert not any(t.requires_grad for t in leaves(raw)) and not adapter.losses(batch).requires_grad
    module = adapter.detector.model if hasattr(adapter.detector, "overrides") else adapter.detector
    assert all(p.grad is None for p in module.parameters())


def test_a_detector_in_training_mode_answers_as_in_eval(host: Host) -> None:
    """Hosts hand out fresh detectors in training mode, in which batch norms would drift."""
    fresh = host.build()
    module = fresh.model if hasattr(fresh, "overrides") else fresh
    module.train()
    before = state(fresh)
    other = adapt(fresh)
    batch = collate(other, host)
    routed = run_routed(other, batch, forced([True] * 4), SCALE)
    plain = adapt(host.build())  # of its own: the shared one may have been used by others
    assert identical(routed, run_routed(plain, collate(plain, host), forced([True] * 4), SCALE))
    module.train()
    other.losses(batch)
    module.train()
    other.profile_pass(batch, True)
    after = state(fresh)
    assert all(torch.equal(before[k], after[k]) for k in before)


def test_both_sizes_run_on_the_given_weights(host: Host) -> None:
    """In-place changes of the detector, such as a user's next fine-tuning step, reach both resolutions."""
    detector = host.build()
    adapter = adapt(detector)
    batch = collate(adapter, host)
    small = adapter.resize(batch, everything(4), SCALE)
    before = [leaves(adapter.predict(part)) for part in (batch, small)]
    module = detector.model if hasattr(detector, "overrides") else detector
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(0.9)
    for old, part in zip(before, (batch, small)):
        new = leaves(adapter.predict(part))
        assert [t.shape for t in new] != [t.shape for t in old] or not all(map(torch.equal, new, old))


def test_the_wrapped_host_holds_the_same_tensors(host: Host, adapter: HostAdapter[Any]) -> None:
    wrapped = adapter.wrap(forced([True] * 4), SCALE, lambda decision: None)
    module = adapter.detector.model if hasattr(adapter.detector, "overrides") else adapter.detector
    given = {p.data_ptr() for p in module.parameters()}
    inside = {p.data_ptr() for p in wrapped.parameters()}
    assert inside == given and len(given) > 10
