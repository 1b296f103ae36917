"""What every adapter promises of routing: the plain host at high, the low size at low, order, the original frame."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from dualres_plugin.common.card import SKIP
from dualres_plugin.common.images.decode import read_image
from dualres_plugin.common.images.sources import iter_source
from dualres_plugin.common.types import Decision, Detections
from dualres_plugin.hosts.contract import HostAdapter
from dualres_plugin.hosts.routing import as_shares, run_routed
from dualres_plugin.predict.predictor import Prediction, Predictor
from dualres_plugin.profile.gains import iou_matrix
from dualres_plugin.router.gate import Gate
from tests.contract.helpers import SCALE, collate, everything, labels_of, same
from tests.contract.hosts import HOSTS, SIZES, Host, identical, pictures, require
from tests.fakes import forced, lively_router
from tests.shared import require_shared

# -- routing ----------------------------------------------------------------------------------------------


def test_all_high_is_the_plain_host_bit_for_bit(host: Host, adapter: HostAdapter[Any]) -> None:
    batch = collate(adapter, host)
    routed = run_routed(adapter, batch, forced([True] * 4), SCALE)
    assert identical(routed, host.plain(adapter.detector, batch))


def test_all_low_is_the_host_at_the_low_size(host: Host, adapter: HostAdapter[Any]) -> None:
    batch = collate(adapter, host)
    small = adapter.resize(batch, everything(4), SCALE)
    routed = adapter.detections(run_routed(adapter, batch, forced([False] * 4), SCALE), batch)
    direct = adapter.detections(adapter.predict(small), small)
    for a, b in zip(routed, direct):
        assert len(a) and same(a, b)


@pytest.mark.parametrize("routes", [[True, False, False, True], [False, True, False, False]])
def test_mixed_routes_keep_the_order(routes: list[bool], host: Host, adapter: HostAdapter[Any]) -> None:
    batch = collate(adapter, host)
    mixed = adapter.detections(run_routed(adapter, batch, forced(routes), SCALE), batch)
    assert len(mixed) == 4
    for i, high in enumerate(routes):
        part = adapter.select(batch, torch.tensor([i]))
        part = part if high else adapter.resize(part, torch.tensor([0]), SCALE)
        (alone,) = adapter.detections(adapter.predict(part), part)
        assert len(mixed[i]) and same(mixed[i], alone), f"image {i}"


def test_each_image_in_its_place_twice(host: Host, adapter: HostAdapter[Any]) -> None:
    """The same photo at both resolutions in one batch, in either order."""
    images = pictures([SIZES[0]]) * 2
    batch = collate(adapter, host, images)
    a, b = (
        adapter.detections(run_routed(adapter, batch, forced(r), SCALE), batch) for r in ([True, False], [False, True])
    )
    assert same(a[0], b[1]) and same(a[1], b[0])
    assert not same(a[0], a[1])


def test_an_empty_sub_batch(host: Host, adapter: HostAdapter[Any]) -> None:
    batch = collate(adapter, host)
    none = adapter.select(batch, torch.zeros(0, dtype=torch.long))
    small = adapter.resize(batch, torch.zeros(0, dtype=torch.long), SCALE)
    for part in (none, small):
        assert adapter.detections(adapter.predict(part), part) == []
        assert adapter.losses(part).shape == (0,)
    assert len(adapter.router_images(none).content) == 0


# -- batches of one route -------------------------------------------------------------------------------------


def test_joined_images_are_the_batch(host: Host, adapter: HostAdapter[Any]) -> None:
    """Cut into single images and put together again: the host's answers are those of the batch, bit for bit."""
    batch = collate(adapter, host, pictures([SIZES[0]] * 3), labels=False)
    alone = [adapter.select(batch, torch.tensor([i])) for i in range(3)]
    joined = adapter.join(alone)
    assert joined is not None and identical(adapter.predict(joined), adapter.predict(batch))
    for a, b in zip(*(adapter.detections(adapter.predict(part), part) for part in (joined, batch)), strict=True):
        assert np.array_equal(a.boxes, b.boxes) and np.array_equal(a.scores, b.scores)


def test_images_that_waited_for_their_route_are_detected_as_alone(host: Host, adapter: HostAdapter[Any]) -> None:
    """Photos of two shapes and two routes in batches of four, in their order."""
    photos = pictures([SIZES[0], SIZES[0], SIZES[1]] * 5)
    router = lively_router(photos)

    def predictions(threshold: float, batch: int) -> list[Prediction]:
        return list(Predictor(adapter, Gate(router, threshold), host.size, SCALE, batch).stream(iter_source(photos)))

    scores = sorted(p.route.score for p in predictions(0.0, 1))
    gap = int(np.argmax(np.diff(scores[3:12]))) + 3  # batches move the last bits of a score, not across a wide gap
    threshold = (scores[gap] + scores[gap + 1]) / 2
    alone, waited = predictions(threshold, 1), predictions(threshold, 4)
    assert {p.route.route for p in alone} == {"high", "low"}
    for image, a, b in zip(photos, alone, waited, strict=True):
        assert np.array_equal(b.image.pixels, image) and b.route.route == a.route.route
        assert b.route.score == pytest.approx(a.route.score, rel=1e-3) and same(a.found, b.found)


# -- the original frame ------------------------------------------------------------------------------------


@pytest.mark.parametrize("high", [True, False])
def test_detections_are_sorted_finite_and_inside_the_original_image(
    high: bool, host: Host, adapter: HostAdapter[Any]
) -> None:
    images = pictures()
    batch = collate(adapter, host, images)
    found = adapter.detections(run_routed(adapter, batch, forced([high] * 4), SCALE), batch)
    known = {0, *labels_of(adapter)}  # 0: an untrained sigmoid head of torchvision may name the background
    for image, f in zip(images, found):
        h, w = image.shape[:2]
        assert len(f) > 3 and f.boxes.dtype == np.float32 and f.labels.dtype == np.int64
        assert np.isfinite(f.boxes).all() and (np.diff(f.scores) <= 0).all()
        assert (f.scores > 0).all() and (f.scores <= 1).all() and set(f.labels.tolist()) <= known
        # YOLOX of mmdet does not clip to the picture, nor to its padding.
        tolerance = 0.5 * max(h, w) if host.package == "mmdet" else 1.0
        assert f.boxes[:, [0, 1]].min() >= -tolerance
        assert f.boxes[:, 2].max() <= w + tolerance and f.boxes[:, 3].max() <= h + tolerance
        # Boxes all over the picture: a forgotten scale would leave them in one corner.
        assert (f.boxes[:, 2:].max(axis=0) > 0.6 * np.array([w, h])).all()
        assert (f.boxes[:, :2].min(axis=0) < 0.4 * np.array([w, h])).all()


@pytest.fixture(scope="module")
def street() -> list[np.ndarray]:
    folder = require_shared("data", "coco_mini", "images", "val2017")
    return [read_image(path) for path in sorted(folder.iterdir())[:12]]


@pytest.mark.parametrize("host", [h for h in HOSTS if h.real], ids=lambda h: h.name)
def test_low_finds_big_objects_where_high_does(host: Host, street: list[np.ndarray]) -> None:
    require(host)
    assert host.real
    adapter, size = host.real()
    overlaps = []
    for image in street:
        batch = adapter.collate([image], size)
        high, low = (
            adapter.detections(run_routed(adapter, batch, forced([r]), SCALE), batch)[0] for r in (True, False)
        )
        area = (high.boxes[:, 2] - high.boxes[:, 0]) * (high.boxes[:, 3] - high.boxes[:, 1])
        big = (area > 0.05 * image.shape[0] * image.shape[1]) & (high.scores > 0.6)
        if big.any():
            overlap = iou_matrix(high.boxes[big], low.boxes) * (high.labels[big][:, None] == low.labels[None])
            overlaps += overlap.max(axis=1).tolist()
    assert len(overlaps) >= 6
    assert np.median(overlaps) > 0.85 and np.mean(np.array(overlaps) > 0.8) > 0.75


# -- the router's view ----------------------------------------------------------------------------------------


def test_a_skipped_frame_gives_again_what_was_found(host: Host, adapter: HostAdapter[Any]) -> None:
    """The boxes of one image, as shares, come out of the host's own post-processing as they went in."""
    batch = collate(adapter, host)
    sizes = adapter.photo_sizes(batch)
    assert sizes is not None and sizes == SIZES
    found = adapter.detections(adapter.predict(batch), batch)
    wanted = [spread_out(found[i], sizes[i]) for i in range(4)]
    kept = tuple(as_shares(d, size) for d, size in zip(wanted, sizes))
    routes = torch.tensor([0, SKIP, 1, SKIP])
    decision = Decision(torch.zeros(4), routes, (0.0,), recalled=(None, kept[1], None, kept[3]))
    mixed = adapter.detections(run_routed(adapter, batch, lambda images: decision, SCALE), batch)
    assert same(mixed[0], found[0])
    every = Decision(torch.zeros(4), torch.full((4,), SKIP), (0.0,), recalled=kept)
    skipped = adapter.detections(run_routed(adapter, batch, lambda images: every, SCALE), batch)
    for i, (again, which) in enumerate(((skipped[0], 0), (mixed[1], 1), (skipped[2], 2), (mixed[3], 3))):
        assert len(wanted[which]) and len(again) == len(wanted[which]), i
        assert np.array_equal(again.labels, wanted[which].labels)
        assert np.allclose(again.scores, wanted[which].scores, atol=1e-6)
        assert np.abs(again.boxes - wanted[which].boxes).max() < 1.0, "less than a pixel: letterboxes round"


def spread_out(found: Detections, size: tuple[int, int]) -> Detections:
    """Some detections of different scores that do not overlap: what NMS leaves."""
    h, w = size
    boxes = [[0.1, 0.1, 0.3, 0.4], [0.5, 0.2, 0.7, 0.9], [0.75, 0.1, 0.95, 0.3]]
    labels = found.labels[:1].repeat(3)
    return Detections.from_arrays(np.array(boxes) * [w, h, w, h], [0.9, 0.7, 0.4], labels)
