"""Pair mode, two networks instead of one at two sizes, is a feature of the wrapper for every host."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from torchvision.models.detection import fasterrcnn_mobilenet_v3_large_320_fpn

from dualres_plugin import DualResWrapper, ResolutionRouter
from dualres_plugin.adapters.torchvision.sizes import at_size
from dualres_plugin.common.errors import DualResError
from dualres_plugin.common.resize import resize_images
from dualres_plugin.hosts.contract import HostAdapter
from dualres_plugin.hosts.registry import adapt
from dualres_plugin.hosts.routing import run_routed
from tests.contract import test_losses as losses
from tests.contract import test_routing as routing
from tests.contract import test_unchanged as unchanged
from tests.contract import test_views as views
from tests.contract.helpers import collate, same
from tests.contract.hosts import HOSTS, Host, torchvision_model
from tests.contract.hosts import yolo as contract_yolo
from tests.fakes import forced


def photo(h: int = 120, w: int = 160) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (h, w, 3), dtype=np.uint8)


def router() -> ResolutionRouter:
    torch.manual_seed(0)
    return ResolutionRouter(backbone="tiny", input_size=32)


def frcnn(seed: int, **options):
    torch.manual_seed(seed)
    net = fasterrcnn_mobilenet_v3_large_320_fpn(
        weights=None, weights_backbone=None, num_classes=3, box_score_thresh=0.0, **options
    )
    return net.eval()


def yolo(seed: int, name: str = "yolov8n.yaml"):
    ultralytics = pytest.importorskip("ultralytics")
    torch.manual_seed(seed)
    return ultralytics.YOLO(name, task="detect")


def test_torchvision_runs_each_network_at_its_own_size():
    high, low = frcnn(0), frcnn(1, min_size=160)
    image = torch.from_numpy(photo()).permute(2, 0, 1).float() / 255
    with torch.no_grad():
        expected = {float("inf"): low([image])[0], float("-inf"): high([image])[0]}
    for threshold, plain in expected.items():
        model = DualResWrapper(high, router(), low_detector=low, threshold=threshold)
        assert model.scale == 0.5
        assert torch.allclose(model.predict(image)[0]["boxes"], plain["boxes"], atol=1e-3)


def test_a_low_size_in_pixels_of_the_high_one_wins_over_the_networks_own():
    high, low = frcnn(0), frcnn(1)
    image = torch.from_numpy(photo()).permute(2, 0, 1).float() / 255
    model = DualResWrapper(high, router(), low=0.75, low_detector=low, threshold=float("inf"))
    with torch.no_grad():
        plain = at_size(low, 240, 1.0)([image])[0]
    assert torch.allclose(model.predict(image)[0]["boxes"], plain["boxes"], atol=1e-3)


def test_ultralytics_runs_the_second_network_at_the_low_size():
    high, low = yolo(0), yolo(1)
    routed = DualResWrapper(high, router(), high=64, low=32, low_detector=low, threshold=float("inf"))
    x = torch.rand(2, 3, 64, 64)
    raw = routed.host.model.eval()(x)
    with torch.no_grad():
        plain = low.model.eval()(resize_images(x, (32, 32)))[0]
    anchors = plain.shape[2]
    assert torch.allclose(raw[:, :4, :anchors], plain[:, :4] * 2, atol=1e-3)
    assert torch.allclose(raw[:, 4:, :anchors], plain[:, 4:], atol=1e-5)
    assert not raw[:, :, anchors:].any()


# -- the contract of all adapters, with two networks -------------------------------------------------------------


def effdet_pair() -> tuple[Host, HostAdapter]:
    pytest.importorskip("effdet")
    from tests.adapters.effdet.helpers import make_bench

    low = make_bench(128, name="tf_efficientdet_d0", num_classes=3)  # normalises its input in another way, too
    host = next(h for h in HOSTS if h.name == "effdet-lite0")
    return host, adapt(host.build(), low)


def yolo_pair() -> tuple[Host, HostAdapter]:
    pytest.importorskip("ultralytics")
    host = next(h for h in HOSTS if h.name == "ultralytics-yolov8n")
    return host, adapt(host.build(), contract_yolo("yolo11n.yaml"))


def torchvision_pair() -> tuple[Host, HostAdapter]:
    host = next(h for h in HOSTS if h.name == "torchvision-fasterrcnn")
    return host, adapt(host.build(), torchvision_model("retinanet_resnet50_fpn", score_thresh=0.0, min_size=160))


PAIRS = {"effdet": effdet_pair, "ultralytics": yolo_pair, "torchvision": torchvision_pair}


@pytest.fixture(scope="module", params=PAIRS)
def pair(request) -> tuple[Host, HostAdapter]:
    return PAIRS[request.param]()


@pytest.mark.parametrize(
    "case",
    [
        routing.test_all_high_is_the_plain_host_bit_for_bit,
        routing.test_all_low_is_the_host_at_the_low_size,
        partial(routing.test_mixed_routes_keep_the_order, [True, False, False, True]),
        routing.test_each_image_in_its_place_twice,
        routing.test_an_empty_sub_batch,
        partial(routing.test_detections_are_sorted_finite_and_inside_the_original_image, False),
        unchanged.test_nothing_is_mutated,
        unchanged.test_gradients_are_neither_made_nor_left,
        partial(losses.test_losses_of_a_batch_equal_those_one_by_one, True),
        partial(losses.test_a_profile_pass_is_predict_and_losses, True),
        views.test_the_score_does_not_depend_on_the_host,
    ],
    ids=lambda case: getattr(case, "func", case).__name__.removeprefix("test_"),
)
def test_pairs_keep_the_contract(case, pair):
    case(*pair)


@pytest.mark.parametrize("host", PAIRS)
def test_the_low_route_is_the_second_networks(host):
    """What it finds and costs changes with the low network's weights, the high route's does not."""
    host, adapter = PAIRS[host]()
    batch = collate(adapter, host)

    def found(high):
        return adapter.detections(run_routed(adapter, batch, forced([high] * 4), 0.5), batch)

    before = found(True), found(False)
    low = adapter.low_detector.model if hasattr(adapter.low_detector, "overrides") else adapter.low_detector
    with torch.no_grad():
        for parameter in low.parameters():
            parameter.mul_(0.9)
    assert all(same(a, b) for a, b in zip(before[0], found(True)))
    assert not any(same(a, b) for a, b in zip(before[1], found(False)))
    shape = adapter.low_shape(adapter.input_shape((96, 128), host.size), 0.5)
    assert adapter.macs(shape, low=True) != adapter.macs(shape)


def test_names_and_adapters_can_be_paired():
    high, low = frcnn(0), frcnn(1, min_size=160)
    adapter = adapt(adapt(high), adapt(low))
    assert adapter.detector is high and adapter.low_detector is low and adapter.default_scale == 0.5


def test_what_does_not_go_together_is_refused():
    with pytest.raises(DualResError, match="one host: high is torchvision, low is ultralytics"):
        DualResWrapper(frcnn(0), low_detector=yolo(0))
    other = fasterrcnn_mobilenet_v3_large_320_fpn(weights=None, weights_backbone=None, num_classes=5).eval()
    with pytest.raises(DualResError, match="same classes"):
        DualResWrapper(frcnn(0), low_detector=other)
    free = yolo(0, "yolov10n.yaml")
    free.model.end2end = True
    with pytest.raises(DualResError, match="end-to-end"):
        DualResWrapper(yolo(0), low_detector=free)
