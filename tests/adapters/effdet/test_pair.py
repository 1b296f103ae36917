"""Two networks as one detector, in hand and by name."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("effdet")

from safetensors.torch import save_file

from dualres_plugin import DualResWrapper
from dualres_plugin.adapters.effdet.adapter import EffdetAdapter
from dualres_plugin.common.errors import DualResError
from dualres_plugin.common.flops import gmacs
from dualres_plugin.common.resize import resize_images
from dualres_plugin.hosts.registry import load_detector
from dualres_plugin.hosts.routing import run_routed
from tests.adapters.effdet.helpers import make_bench, photos, targets
from tests.fakes import forced

NAME = "tf_efficientdet_lite0"


def test_a_pair_runs_each_network_at_its_own_size():
    high, low = make_bench(384), make_bench(256, name="tf_efficientdet_d0")
    model = DualResWrapper(high, low_detector=low)
    adapter = model.adapter
    assert model.scale == pytest.approx(256 / 384)
    assert adapter.low_shape((384, 384), model.scale) == (256, 256)
    batch = adapter.collate(photos((300, 384)), 384)
    small = adapter.resize(batch, torch.tensor([0]), model.scale)
    with torch.no_grad():
        plain = low(small.images, {"img_scale": batch.img_scale * 1.5, "img_size": batch.img_size})
    routed = run_routed(adapter, batch, forced([False]), model.scale)
    assert torch.allclose(routed, plain, atol=1e-4)
    assert adapter.macs((256, 256), low=True) == gmacs(low.model, small.images)
    assert adapter.losses(
        adapter.resize(
            adapter.collate(photos((90, 90)), 384, [targets(photos((9, 9)))[0]]), torch.tensor([0]), model.scale
        )
    ).shape == (1,)


def test_a_pair_with_other_normalisation_sees_the_same_photo():
    adapter = EffdetAdapter(make_bench(256), make_bench(128, name="tf_efficientdet_d0"))
    batch = adapter.collate(photos((256, 256)), 256)
    low = adapter.resize(batch, torch.tensor([0]), adapter.default_scale)
    expected = resize_images(adapter.router_images(batch).images, (128, 128))
    assert torch.allclose(adapter.router_images(low).images, expected, atol=1e-5)


def test_a_low_size_that_is_no_multiple_of_128_is_kept_when_the_network_was_built_so():
    adapter = EffdetAdapter(make_bench(384), make_bench(320))
    assert adapter.low_shape((384, 384), adapter.default_scale) == (320, 320)
    assert adapter.low_shape((384, 384), 0.5) == (256, 256)


def test_a_pair_must_know_the_same_classes():
    with pytest.raises(DualResError, match="2 classes, the low one 3"):
        EffdetAdapter(make_bench(256), make_bench(128, num_classes=3))


def test_a_pair_by_name(tmp_path):
    weights = tmp_path / "lite0.safetensors"
    save_file(make_bench(128).model.state_dict(), weights)
    d0 = make_bench(256, name="tf_efficientdet_d0")
    save_file(d0.model.state_dict(), tmp_path / "d0.safetensors")
    adapter = load_detector(
        f"effdet-pair:tf_efficientdet_d0,{NAME},high_checkpoint={tmp_path / 'd0.safetensors'},"
        f"low_checkpoint={weights},high_image_size=256,low_image_size=128,num_classes=2"
    )
    assert adapter.default_size == 256 and adapter.low_shape((256, 256), adapter.default_scale) == (128, 128)
    assert adapter.macs((128, 128), low=True) < adapter.macs((256, 256)) / 4
    assert adapter.low_detector.config.name == NAME


@pytest.mark.parametrize("names", [NAME, f"{NAME},{NAME},{NAME}"])
def test_a_pair_is_two(names):
    with pytest.raises(DualResError, match="effdet-pair:HIGH,LOW"):
        load_detector(f"effdet-pair:{names}")
