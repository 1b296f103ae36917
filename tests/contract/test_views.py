"""What an adapter tells of its images and its detector: the router's view, sizes, compute, classes."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from dualres_plugin.common.images.photo import router_images_of
from dualres_plugin.common.resize import make_thumbnails
from dualres_plugin.common.types import Decision
from dualres_plugin.hosts.contract import HostAdapter
from dualres_plugin.hosts.routing import run_routed
from dualres_plugin.router.network import ResolutionRouter
from tests.contract.helpers import SCALE, collate
from tests.contract.hosts import SIZES, Host, pictures
from tests.fakes import forced

SHAPES = [(300, 400), (400, 300), (160, 400), (400, 170), (256, 256)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_router_sees_the_photo_and_no_padding(
    shape: tuple[int, int], host: Host, adapter: HostAdapter[Any]
) -> None:
    picture = pictures([shape], seed=7)[0]
    seen = adapter.router_images(adapter.collate([picture], host.size))
    (x0, y0, x1, y1) = seen.content[0]
    assert (x1 - x0) / (y1 - y0) == pytest.approx(shape[1] / shape[0], rel=0.05)
    image = seen.images[0]
    assert image[:, y0:y1, x0:x1].min() > -0.01 and image.max() < 1.01
    expected = make_thumbnails(router_images_of([picture]), 32)
    got = make_thumbnails(seen, 32)
    assert (got - expected).abs().mean() < 0.02
    swapped = (got - expected.flip(1)).abs().mean()
    assert swapped > 2 * (got - expected).abs().mean(), "red stays red"


def test_the_score_does_not_depend_on_the_host(host: Host, adapter: HostAdapter[Any]) -> None:
    torch.manual_seed(0)
    router = ResolutionRouter(backbone="tiny", input_size=32).eval()
    plain, through = [], []
    for i, shape in enumerate(SHAPES * 2):
        picture = pictures([shape], seed=20 + i)[0]
        plain.append(router.score(router_images_of([picture])))
        through.append(router.score(adapter.router_images(adapter.collate([picture], host.size))))
    a, b = torch.cat(plain), torch.cat(through)
    assert (a - b).abs().max() < 0.25 * a.std()


def test_the_decision_gets_one_content_box_per_image(host: Host, adapter: HostAdapter[Any]) -> None:
    told: list[Decision] = []
    batch = collate(adapter, host)
    run_routed(adapter, batch, forced([True, False, True, True]), SCALE, told.append)
    assert told[0].high.tolist() == [True, False, True, True]
    assert len(adapter.router_images(batch).content) == 4


def test_compute_is_positive_and_grows_with_the_size(host: Host, adapter: HostAdapter[Any]) -> None:
    sizes = [host.size // 2, host.size, host.size * 2]
    costs = [adapter.macs(adapter.input_shape(SIZES[0], size)) for size in sizes]
    assert 0 < costs[0] < costs[1] < costs[2]
    shape = adapter.input_shape(SIZES[0], host.size)
    low = adapter.low_shape(shape, SCALE)
    assert adapter.macs(low, low=True) < adapter.macs(shape)
    assert adapter.macs(low, low=True) == pytest.approx(adapter.macs(low), rel=1e-6), "the same network"


def test_the_low_shape_keeps_the_stride(host: Host, adapter: HostAdapter[Any]) -> None:
    for size in SIZES:
        shape = adapter.input_shape(size, host.size)
        low = adapter.low_shape(shape, SCALE)
        assert all(0 < a <= b for a, b in zip(low, shape))
        assert all(side % adapter.stride == 0 for side in low)


def test_classes_are_known(host: Host, adapter: HostAdapter[Any]) -> None:
    assert adapter.class_names or adapter.label_ids
    assert adapter.name == host.package
