"""One network at two sizes: shared weights, its own anchors."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("effdet")

from dualres_plugin.adapters.effdet.adapter import EffdetAdapter
from tests.adapters.effdet.helpers import make_bench, photos


@pytest.fixture(scope="module")
def adapter() -> EffdetAdapter:
    return EffdetAdapter(make_bench(256))


def test_the_low_network_answers_as_one_built_at_that_size(adapter):
    built = make_bench(128)
    built.model.load_state_dict(adapter.detector.model.state_dict())
    tied = adapter.bench_at((128, 128), low=True)
    x = torch.randn(2, 3, 128, 128)
    with torch.no_grad():
        ours, theirs = tied.model(x), built.model(x)
    for a, b in zip([*ours[0], *ours[1]], [*theirs[0], *theirs[1]]):
        assert torch.equal(a, b)
    assert torch.equal(tied.anchors.boxes, built.anchors.boxes)


def test_two_sizes_take_the_memory_of_one_and_the_low_anchors(adapter):
    high, low = adapter.detector, adapter.bench_at((128, 128), low=True)

    def storage(*benches):
        tensors = [t for b in benches for t in [*b.parameters(), *b.buffers()]]
        return sum({t.data_ptr(): t.numel() * t.element_size() for t in tensors}.values())

    anchors = low.anchors.boxes
    assert storage(high, low) - storage(high) == anchors.numel() * anchors.element_size()
    shared = dict(high.model.named_parameters())
    assert all(p is shared[name] for name, p in low.model.named_parameters())
    assert {n for n, _ in high.model.named_buffers()} == {n for n, _ in low.model.named_buffers()}


def test_new_weights_and_dtypes_reach_both_sizes():
    adapter = EffdetAdapter(make_bench(256))
    low = adapter.bench_at((128, 128), low=True)
    with torch.no_grad():
        adapter.detector.model.box_net.predict.conv_pw.bias.fill_(0.25)
    adapter.detector.double()
    assert low.model.box_net.predict.conv_pw.bias.dtype == torch.float64
    assert (low.model.box_net.predict.conv_pw.bias == 0.25).all()
    buffers = dict(low.model.named_buffers())
    assert all(buffers[name].dtype == b.dtype for name, b in adapter.detector.model.named_buffers())


def test_a_bench_with_fewer_candidates_than_the_host_sorts():
    """One class at 128 pixels gives 3069 candidates; effdet itself asks for the best 5000 and fails."""
    bench = make_bench(128, num_classes=1)
    adapter = EffdetAdapter(bench)
    batch = adapter.collate(photos((100, 128)), 128)
    with pytest.raises(RuntimeError):
        bench(batch.images)
    assert adapter.predict(batch).shape == (1, 100, 6) and bench.max_detection_points == 5000
