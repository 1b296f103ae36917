"""The package's own matching, held equal to pycocotools' `evalImgs` entry by entry."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dualres_plugin.profile import coco_match
from dualres_plugin.profile.coco_ap import AREAS
from dualres_plugin.profile.coco_match import from_bits, match
from dualres_plugin.profile.table import Profile
from tests.profile.coco_reference import evaluate_coco
from tests.profile.random_images import profile_of, random_images


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("profile")


def check(profile: Profile, which: str, area: str) -> None:
    """Every record of pycocotools, in its order."""
    rows = profile.originals
    found = match(profile, rows, which, AREAS[area])
    records = [r for r in evaluate_coco(profile, rows, which, AREAS[area]).evalImgs if r is not None]
    assert found.shown_image.tolist() == [r["image_id"] - 1 for r in records]
    assert found.shown_category.tolist() == [r["category_id"] for r in records]
    assert found.shown.tolist() == [int((np.asarray(r["gtIgnore"]) == 0).sum()) for r in records]
    assert found.score.tolist() == [score for r in records for score in r["dtScores"]]
    hit, miss = from_bits(found.hit), from_bits(found.miss)
    start = 0
    for r in records:
        of = slice(start, start + len(r["dtScores"]))
        start = of.stop
        assert set(found.image[of]) <= {r["image_id"] - 1} and set(found.category[of]) <= {r["category_id"]}
        matched, counted = np.asarray(r["dtMatches"]) > 0, ~np.asarray(r["dtIgnore"], dtype=bool)
        if len(r["dtScores"]):
            assert (hit[:, of] == (matched & counted)).all() and (miss[:, of] == (~matched & counted)).all()


@settings(max_examples=60)
@given(st.integers(0, 10_000), st.integers(1, 7), st.booleans(), st.sampled_from(sorted(AREAS)))
def test_matching_equals_pycocotools(folder: Path, seed: int, count: int, ties: bool, area: str) -> None:
    check(profile_of(folder, random_images(seed, count, ties)), "low", area)


def test_neither_parts_nor_chunks_change_a_match(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = random_images(3, 12, True)
    whole = match(profile_of(folder, images), np.arange(12), "high", AREAS["all"])
    monkeypatch.setattr(coco_match, "AT_ONCE", 5)
    monkeypatch.setattr("dualres_plugin.profile.coco_greedy.CHUNK", 2)
    parts = match(profile_of(folder, images), np.arange(12), "high", AREAS["all"])

    def rows(found: coco_match.Matched) -> list[tuple[float, ...]]:
        return sorted(zip(*(column.tolist() for column in found[3:])))

    assert rows(whole) == rows(parts)
