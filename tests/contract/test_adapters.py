"""What every adapter promises. One suite over all hosts, so that a new one has to keep the same promises."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from dualres_plugin.common.images import read_image, router_images_of
from dualres_plugin.common.resize import make_thumbnails
from dualres_plugin.common.types import Decision, Detections, Targets
from dualres_plugin.hosts.contract import HostAdapter
from dualres_plugin.hosts.registry import adapt
from dualres_plugin.hosts.routing import run_routed
from dualres_plugin.profile.gains import iou_matrix
from dualres_plugin.router.network import ResolutionRouter
from tests.contract.hosts import (
    HOSTS,
    SIZES,
    Host,
    batch_tensors,
    identical,
    leaves,
    pictures,
    require,
    shared_adapter,
    state,
)
from tests.fakes import forced
from tests.shared import require_shared

SCALE = 0.5


@pytest.fixture
def adapter(host: Host) -> HostAdapter[Any]:
    return shared_adapter(host.name)


def labels_of(adapter: HostAdapter[Any]) -> list[int]:
    return sorted(adapter.class_names) if adapter.class_names else list(adapter.label_ids or [])


def targets_for(adapter: HostAdapter[Any], images: list[np.ndarray]) -> list[Targets]:
    known = labels_of(adapter)
    made = []
    for i, image in enumerate(images):
        h, w = image.shape[:2]
        boxes = np.array([[w * 0.1, h * 0.2, w * 0.6, h * 0.9], [w * 0.5, h * 0.1, w * 0.95, h * 0.6]], np.float32)
        made.append(Targets(boxes[: 1 + i % 2], np.array([known[i % len(known)], known[0]])[: 1 + i % 2]))
    return made


def collate(adapter: HostAdapter[Any], host: Host, images: list[np.ndarray] | None = None, labels: bool = True) -> Any:
    images = pictures() if images is None else images
    return adapter.collate(images, host.size, targets_for(adapter, images) if labels else None)


def everything(count: int) -> torch.Tensor:
    return torch.arange(count)


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


def same(a: Detections, b: Detections, tolerance: float = 2e-3) -> bool:
    """Equal up to rounding; detections of nearly equal score may swap places."""
    if len(a) != len(b) or not np.allclose(a.scores, b.scores, atol=1e-4):
        return False
    overlap = iou_matrix(a.boxes, b.boxes) * (a.labels[:, None] == b.labels[None])
    close = np.abs(a.boxes[:, None] - b.boxes[None]).max(axis=2) < tolerance * max(1.0, float(np.abs(a.boxes).max()))
    return bool(((overlap > 0.99) | close).any(axis=1).mean() > 0.98)


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


# -- nothing is changed ------------------------------------------------------------------------------------


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


def test_a_detector_in_training_mode_answers_as_in_eval(host: Host, adapter: HostAdapter[Any]) -> None:
    """Hosts hand out fresh detectors in training mode, in which batch norms would drift."""
    fresh = host.build()
    module = fresh.model if hasattr(fresh, "overrides") else fresh
    module.train()
    before = state(fresh)
    other = adapt(fresh)
    batch = collate(other, host)
    routed = run_routed(other, batch, forced([True] * 4), SCALE)
    assert identical(routed, run_routed(adapter, collate(adapter, host), forced([True] * 4), SCALE))
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


# -- losses ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("low", [False, True])
def test_losses_of_a_batch_equal_those_one_by_one(low: bool, host: Host, adapter: HostAdapter[Any]) -> None:
    batch = collate(adapter, host)
    batch = adapter.resize(batch, everything(4), SCALE) if low else batch
    together = adapter.losses(batch)
    alone = torch.cat([adapter.losses(adapter.select(batch, torch.tensor([i]))) for i in range(4)])
    assert together.shape == (4,) and together.dtype == torch.float32 and torch.isfinite(together).all()
    assert torch.allclose(together, alone, rtol=2e-3, atol=1e-4)
    assert together.std() > 0, "different images lose differently"
    assert torch.allclose(adapter.losses(batch), together, rtol=1e-5), "the same image always loses the same"


def test_losses_follow_the_labels(host: Host, adapter: HostAdapter[Any]) -> None:
    images = pictures([SIZES[0]]) * 3
    known = labels_of(adapter)
    h, w = SIZES[0]
    box = np.array([[w * 0.1, h * 0.1, w * 0.7, h * 0.8]], np.float32)
    moved = np.array([[w * 0.4, h * 0.3, w * 0.9, h * 0.9]], np.float32)
    none = Targets(np.zeros((0, 4), np.float32), np.zeros(0, np.int64))
    targets = [Targets(box, np.array(known[:1])), Targets(moved, np.array(known[-1:])), none]
    losses = adapter.losses(adapter.collate(images, host.size, targets))
    assert torch.isfinite(losses).all()
    assert len({round(float(v), 5) for v in losses}) == 3


def test_crowds_and_unknown_classes_do_not_enter_the_loss(host: Host, adapter: HostAdapter[Any]) -> None:
    image = pictures([SIZES[0]])
    (target,) = targets_for(adapter, image)
    extra = Targets(
        np.concatenate([target.boxes, [[5, 5, 60, 60], [20, 20, 70, 70]]]).astype(np.float32),
        np.concatenate([target.labels, [labels_of(adapter)[0], -1]]),
        np.array([False] * len(target) + [True, False]),
    )
    a, b = (adapter.losses(adapter.collate(image, host.size, [t])) for t in (target, extra))
    assert torch.allclose(a, b)


@pytest.mark.parametrize("low", [False, True])
def test_a_profile_pass_is_predict_and_losses(low: bool, host: Host, adapter: HostAdapter[Any]) -> None:
    batch = collate(adapter, host)
    batch = adapter.resize(batch, everything(4), SCALE) if low else batch
    found, losses = adapter.profile_pass(batch, True)
    assert losses is not None and torch.allclose(losses, adapter.losses(batch), rtol=5e-3, atol=1e-3)
    for a, b in zip(found, adapter.detections(adapter.predict(batch), batch), strict=True):
        assert same(a, b)
    unlabelled, nothing = adapter.profile_pass(collate(adapter, host, labels=False), False)
    assert nothing is None and len(unlabelled) == 4


# -- the router's view ----------------------------------------------------------------------------------------

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


# -- sizes and compute ----------------------------------------------------------------------------------------


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
