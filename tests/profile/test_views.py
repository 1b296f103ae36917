"""Augmented views: fixed by the seed, boxes where their objects are."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dualres_plugin.common.images.decode import read_image
from dualres_plugin.profile.data.dataset import load_dataset
from dualres_plugin.profile.data.records import Dataset
from dualres_plugin.profile.views import DROP_VISIBLE, KEEP_VISIBLE, make_view, plan_view
from tests.fakes import coco_dict, write_coco, write_photos

SIZES = [(48, 64), (64, 48), (1, 40), (33, 90), (200, 31)]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    data, images = write_coco(tmp_path_factory.mktemp("views"), 2, [(48, 64), (64, 48)], boxes_each=3)
    return load_dataset(data, images)


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("many")
    paths = write_photos(folder / "images", 10, SIZES)
    coco = coco_dict(folder / "images", [p for i, p in enumerate(paths) if SIZES[i % 5][0] > 16], boxes_each=3)
    for i, path in enumerate(paths):
        if SIZES[i % 5][0] == 1:
            coco["images"].append({"id": 90 + i, "file_name": path.name, "height": 1, "width": 40})
            box = {"bbox": [3, 0, 20, 1], "area": 20, "category_id": 1, "image_id": 90 + i, "id": 900 + i}
            coco["annotations"].append(box)
    (folder / "a.json").write_text(json.dumps(coco))
    return load_dataset(folder / "a.json", folder / "images")


def test_view_0_is_the_image_itself(many: Dataset) -> None:
    for i, record in enumerate(many.records):
        view = make_view(many.records, plan_view(many.records, i, 0, seed=7))
        assert np.array_equal(view.pixels, read_image(record.path))
        assert np.array_equal(view.boxes, record.boxes) and np.array_equal(view.area, record.area)


@settings(max_examples=60)
@given(index=st.integers(0, 9), view=st.integers(0, 30), seed=st.integers(0, 5))
def test_views_are_what_was_planned_with_boxes_inside(index: int, view: int, seed: int) -> None:
    records = MANY.records
    plan = plan_view(records, index, view, seed)
    made = make_view(records, plan)
    h, w = plan.size
    assert made.pixels.shape == (h, w, 3) and made.pixels.dtype == np.uint8
    assert h >= 1 and w >= 1
    boxes = made.boxes
    assert boxes.dtype == np.float32 and made.area.dtype == np.float32
    assert len(boxes) == len(made.categories) == len(made.ignore) == len(made.area)
    assert (boxes >= -1e-3).all() and (boxes[:, [0, 2]] <= w + 1e-3).all() and (boxes[:, [1, 3]] <= h + 1e-3).all()
    assert (boxes[:, 2:] > boxes[:, :2]).all()
    assert (made.area > 0).all()


@settings(max_examples=30)
@given(index=st.integers(0, 9), view=st.integers(0, 9), seed=st.integers(0, 99))
def test_the_same_seed_gives_the_same_view(index: int, view: int, seed: int) -> None:
    a, b = (make_view(MANY.records, plan_view(MANY.records, index, view, seed)) for _ in range(2))
    for name in ("pixels", "boxes", "categories", "ignore", "area"):
        assert np.array_equal(getattr(a, name), getattr(b, name))


def test_seeds_views_and_images_differ(many: Dataset) -> None:
    plans = {plan_view(many.records, i, v, s) for i in (0, 5) for v in (1, 2, 3) for s in (0, 1)}
    assert len(plans) == 12


def find(dataset: Dataset, flip: bool) -> tuple[int, int]:
    """(index, view) of a crop that is, or is not, mirrored."""
    for view in range(1, 200):
        plan = plan_view(dataset.records, 0, view, 0)
        if len(plan.sources) == 1 and plan.flip == flip:
            return 0, view
    raise AssertionError("no such view")


def test_a_mirrored_view_mirrors_pixels_and_boxes(dataset: Dataset) -> None:
    plan = plan_view(dataset.records, *find(dataset, True), 0)
    mirrored, straight = make_view(dataset.records, plan), make_view(dataset.records, replace(plan, flip=False))
    assert np.array_equal(mirrored.pixels, straight.pixels[:, ::-1])
    w = plan.size[1]
    assert len(straight.boxes)
    assert np.allclose(mirrored.boxes[:, [0, 2]], w - straight.boxes[:, [2, 0]])
    assert np.array_equal(mirrored.boxes[:, [1, 3]], straight.boxes[:, [1, 3]])


def test_a_crop_moves_ignores_and_forgets_boxes_by_what_is_visible(dataset: Dataset) -> None:
    record = dataset.records[0]
    h = record.size[0]
    boxes = np.array([[0, 0, 20, 10], [16, 20, 36, 30], [30, 5, 40, 15], [26, 30, 31, 40]], np.float32)
    area = np.array([100, 150, 80, 50], np.float32)  # of the objects, not of their boxes
    record = replace(
        record, boxes=boxes, area=area, categories=np.array([1, 2, 1, 2]), ignore=np.array([False, False, False, True])
    )
    plan = replace(plan_view([record], 0, 0, 0), crop=(0, 0, 28, h), size=(h, 28))
    view = make_view([record], plan)
    # Shown: all; 12/20 = KEEP_VISIBLE; nothing; 2/5 of a crowd.
    assert KEEP_VISIBLE == 0.6 and DROP_VISIBLE == 0.2
    assert view.boxes.tolist() == [[0, 0, 20, 10], [16, 20, 28, 30], [26, 30, 28, 40]]
    assert view.ignore.tolist() == [False, False, True]
    assert view.categories.tolist() == [1, 2, 2]
    assert np.allclose(view.area, [100, 150 * 0.6, 50 * 0.4])


def test_a_mosaic_shows_four_images_in_quarters(many: Dataset) -> None:
    plan = next(
        p
        for p in (plan_view(many.records, 0, v, 0) for v in range(1, 200))
        if len(p.sources) == 4 and not p.flip and all(many.records[i].size[0] > 1 for i in p.sources)
    )
    view = make_view(many.records, plan)
    h, w = plan.size
    sources = [many.records[i] for i in plan.sources]
    assert len(view.boxes) == sum(len(r.boxes) for r in sources)
    quarters = [view.pixels[y : y + h // 2, x : x + w // 2] for y in (0, h // 2) for x in (0, w // 2)]
    for record, quarter in zip(sources, quarters):
        assert np.abs(quarter.mean((0, 1)) - read_image(record.path).mean((0, 1))).max() < 6
    first = view.boxes[: len(sources[0].boxes)]
    assert np.allclose(first, sources[0].boxes / 2, atol=1e-4)
    assert np.allclose(view.area[: len(first)], sources[0].area / 4)


def test_boxes_that_leave_their_image_stay_in_their_quarter(many: Dataset) -> None:
    plan = next(
        p for p in (plan_view(many.records, 0, v, 0) for v in range(1, 200)) if len(p.sources) == 4 and not p.flip
    )
    records = [replace(r, boxes=r.boxes + np.array([0, 0, 500, 500], np.float32)) for r in many.records]
    view = make_view(records, plan)
    h, w = plan.size
    first = view.boxes[: len(records[0].boxes)]
    assert len(first)
    assert (first[:, 2] <= w // 2).all() and (first[:, 3] <= h // 2).all()
    gone = [replace(r, boxes=r.boxes + 1000) for r in many.records]
    assert not len(make_view(gone, plan).boxes)


@pytest.fixture(scope="module", autouse=True)
def _shared(many: Dataset) -> None:
    global MANY
    MANY = many  # hypothesis calls its tests many times: the set is written once
