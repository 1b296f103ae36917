"""AP of any mix of high and low, held equal to pycocotools on the really mixed, or really duplicated, set."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from dualres_plugin.common.errors import DualResError
from dualres_plugin.common.types import Detections
from dualres_plugin.profile.coco_ap import AREAS, MixedAP, per_image_ap
from dualres_plugin.profile.table import Profile
from tests.fakes import make_profile, truth
from tests.profile.coco_reference import evaluate_coco
from tests.profile.random_images import CATEGORIES, Image, Object, profile_of, random_images


def reference(images: Sequence[tuple[Image, bool]], area: str = "all") -> float:
    """pycocotools on the set in which each image has the detections of its route; written independently."""
    annotations: list[dict[str, Any]] = []
    results: list[dict[str, Any]] = []
    for number, (image, high) in enumerate(images, 1):
        for o, size in zip(image.objects, image.areas):
            x0, y0, x1, y1 = np.float32(o[:4]).tolist()
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": o[4],
                    "bbox": [x0, y0, x1 - x0, y1 - y0],
                    "area": float(np.float32(size)),
                    "iscrowd": int(o[5]),
                }
            )
        found = image.high if high else image.low
        for box, score, label in zip(found.boxes.tolist(), found.scores.tolist(), found.labels.tolist()):
            box = [box[0], box[1], box[2] - box[0], box[3] - box[1]]
            results.append({"image_id": number, "category_id": label, "bbox": box, "score": score})
    coco = COCO()
    coco.dataset = {
        "images": [{"id": n} for n in range(1, len(images) + 1)],
        "annotations": annotations,
        "categories": [{"id": i} for i in CATEGORIES],
    }
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(results) if results else COCO(), "bbox")
        evaluation.params.areaRng = [list(AREAS[area])]
        evaluation.params.areaRngLbl = [area]
        evaluation.evaluate()
        evaluation.accumulate()
    precision = evaluation.eval["precision"][:, :, :, 0, -1]
    return float(precision[precision > -1].mean()) if (precision > -1).any() else float("nan")


def has_objects(images: Sequence[Image], area: str = "all") -> bool:
    low, high = AREAS[area]
    return any(not o[5] and low <= np.float32(a) <= high for i in images for o, a in zip(i.objects, i.areas))


seeds = st.integers(0, 10_000)


@settings(max_examples=80)
@given(seeds, st.integers(1, 7), st.booleans(), st.integers(0, 127))
@example(0, 1, True, 1)
def test_any_route_equals_pycocotools_on_the_mixed_set(seed: int, count: int, ties: bool, bits: int) -> None:
    images = random_images(seed, count, ties)
    route = np.array([bool(bits >> i & 1) for i in range(count)])
    if has_objects(images):
        mixed = MixedAP(profile_of(FOLDER, images))
        assert mixed.ap(route) == pytest.approx(reference(list(zip(images, route))), abs=1e-9)


@settings(max_examples=40)
@given(seeds, st.sampled_from(["small", "medium", "large"]), st.integers(0, 63))
def test_every_area_equals_pycocotools(seed: int, area: str, bits: int) -> None:
    images = random_images(seed, 6, True)
    route = np.array([bool(bits >> i & 1) for i in range(6)])
    if has_objects(images, area):
        mixed = MixedAP(profile_of(FOLDER, images), area=area)
        assert mixed.ap(route) == pytest.approx(reference(list(zip(images, route)), area), abs=1e-9)


@settings(max_examples=40)
@given(seeds, st.lists(st.integers(0, 3), min_size=5, max_size=5), st.integers(0, 31))
def test_weights_equal_a_really_duplicated_set(seed: int, weights: list[int], bits: int) -> None:
    images = random_images(seed, 5, ties=False)
    route = np.array([bool(bits >> i & 1) for i in range(5)])
    repeated = [(image, high) for image, high, w in zip(images, route, weights) for _ in range(w)]
    if has_objects([image for image, _ in repeated]):
        mixed = MixedAP(profile_of(FOLDER, images))
        assert mixed.ap(route, np.array(weights, float)) == pytest.approx(reference(repeated), abs=1e-9)


@settings(max_examples=20)
@given(seeds, st.sampled_from([0.25, 0.5, 2.0, 3.0, 7.0]))
def test_a_common_factor_of_the_weights_changes_nothing(seed: int, factor: float) -> None:
    images = random_images(seed, 4, ties=True)
    if has_objects(images):
        mixed = MixedAP(profile_of(FOLDER, images))
        route = np.array([True, False, True, False])
        assert mixed.ap(route, np.full(4, factor)) == pytest.approx(mixed.ap(route), abs=1e-9)


def test_the_ends_are_the_plain_evaluations(tmp_path: Path) -> None:
    images = random_images(3, 12, ties=False)
    profile = profile_of(tmp_path, images)
    low, high = MixedAP(profile).ends()
    for name, value in (("low", low), ("high", high)):
        evaluation = evaluate_coco(profile, profile.originals, name)
        with contextlib.redirect_stdout(io.StringIO()):
            evaluation.accumulate()
            evaluation.summarize()
        assert value == pytest.approx(evaluation.stats[0], abs=1e-9)
        assert value == pytest.approx(reference([(i, name == "high") for i in images]), abs=1e-9)
    assert low != high


def test_augmented_views_do_not_count(tmp_path: Path) -> None:
    images = random_images(5, 4, ties=False)
    rows = [
        {"image_id": n, "view": v, "truth": truth(i.objects, i.areas), "high": i.high, "low": i.low}
        for n, i in enumerate(images)
        for v in range(3)
    ]
    profile = make_profile(tmp_path / "views", rows, categories=CATEGORIES)
    plain = MixedAP(profile_of(tmp_path / "plain", images))
    assert MixedAP(profile).n == 4 and MixedAP(profile).ends() == plain.ends()


def test_matches_are_kept_with_the_profile_and_not_with_a_copy(tmp_path: Path) -> None:
    profile = profile_of(tmp_path, random_images(5, 4, ties=False))
    MixedAP(profile)
    kept = dict(profile.matched)
    per_image_ap(profile, profile.originals, "low")
    assert len(kept) == 2 and all(profile.matched[key] is kept[key] for key in kept)
    assert profile.matched.keys() == kept.keys()
    assert Profile(profile.meta, profile.table, profile.path).matched == {}


def test_perfect_and_useless_detections(tmp_path: Path) -> None:
    objects: list[Object] = [(10, 10, 60, 60, 2, False), (100, 100, 180, 150, 5, False)]
    perfect = Detections.from_arrays([o[:4] for o in objects], [0.9, 0.8], [2, 5])
    image = Image(objects, [2500, 4000], perfect, Detections.empty())
    mixed = MixedAP(profile_of(tmp_path, [image, image]))
    assert mixed.ends() == (0.0, 1.0)
    assert 0.4 < mixed.ap(np.array([True, False])) < 0.6


def test_images_without_objects_still_hold_false_positives(tmp_path: Path) -> None:
    objects: list[Object] = [(10, 10, 60, 60, 2, False)]
    perfect = Detections.from_arrays([objects[0][:4]], [0.5], [2])
    wrong = Detections.from_arrays([[5, 5, 50, 50]], [0.9], [2])
    images = [Image(objects, [2500], perfect, perfect), Image([], [], wrong, Detections.empty())]
    low, high = MixedAP(profile_of(tmp_path, images)).ends()
    assert low == 1.0 and high == pytest.approx(0.5)


def test_no_labels_or_no_objects(tmp_path: Path) -> None:
    with pytest.raises(DualResError, match="has no labels"):
        MixedAP(make_profile(tmp_path / "a", [{}], labelled=False))
    with pytest.raises(DualResError, match="no labelled objects"):
        MixedAP(make_profile(tmp_path / "b", [{}, {}]))
    crowd = truth([(1, 1, 50, 50, 1, True)])
    with pytest.raises(DualResError, match="no labelled objects"):
        MixedAP(make_profile(tmp_path / "c", [{"truth": crowd}]))


@settings(max_examples=30)
@given(seeds)
def test_ap_of_one_image_equals_pycocotools_on_that_image(seed: int) -> None:
    images = random_images(seed, 3, ties=True)
    profile = profile_of(FOLDER, images)
    for name in ("high", "low"):
        values = per_image_ap(profile, profile.originals, name)
        for value, image in zip(values, images):
            if has_objects([image]):
                assert value == pytest.approx(reference([(image, name == "high")]), abs=1e-9)
            else:
                assert np.isnan(value)


@pytest.fixture(scope="module", autouse=True)
def _folder(tmp_path_factory: pytest.TempPathFactory) -> None:
    global FOLDER
    FOLDER = tmp_path_factory.mktemp("profiles") / "profile"  # hypothesis writes it anew for each example
