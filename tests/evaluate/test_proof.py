"""Paired differences at the operating point, and the verdict against all high."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from dualres_plugin.common.errors import DualResError
from dualres_plugin.evaluate.baselines import as_ladder
from dualres_plugin.evaluate.evaluation import evaluate, summary
from dualres_plugin.evaluate.ladder.difference import Difference, interval
from dualres_plugin.evaluate.ladder.groups import read_groups
from dualres_plugin.evaluate.proof import Proof, prove
from dualres_plugin.profile.coco_ap import MixedAP
from dualres_plugin.profile.table import Profile
from tests.evaluate.helpers import bright_router
from tests.fakes import brightness, planted_ladder, planted_profile

ROUTER_GMACS = 0.1


def proof_of(
    profile: Profile, high: np.ndarray, margin: float = 0.5, groups: np.ndarray | None = None, resamples: int = 200
) -> Proof:
    scores, areas = brightness(profile), (0.7, 0.5)
    return prove(profile, scores, high, ROUTER_GMACS, areas, margin=margin, resamples=resamples, groups=groups)


@pytest.fixture(scope="module")
def ladder(tmp_path_factory: pytest.TempPathFactory) -> Profile:
    return planted_ladder(tmp_path_factory.mktemp("ladder") / "p", 120)


def test_the_differences_are_those_of_the_whole_set(ladder: Profile) -> None:
    bright = brightness(ladder)
    high = bright > np.median(bright)
    proof = proof_of(ladder, high)
    by = {c.against: c for c in proof.comparisons}
    assert list(by) == ["all high", "fixed size", "random mix", "cascade"]
    mixed = MixedAP(ladder)
    assert by["all high"].difference["all"].mean == pytest.approx(100 * (mixed.ap(high) - mixed.ends()[1]))
    # 2.6 GMACs are those of 512 px: half of 4 and 1, and the router
    assert by["fixed size"].gmacs == pytest.approx(2.6) and by["cascade"].gmacs == pytest.approx(2.6, abs=0.03)
    assert "512 px" in by["fixed size"].what
    fixed = MixedAP(ladder, passes=("s512",)).ap(np.zeros(120))
    assert by["fixed size"].difference["all"].mean == pytest.approx(100 * (mixed.ap(high) - fixed), abs=0.2)


def test_a_router_that_knows_is_shown_to_beat_chance_and_one_that_does_not_is_not(ladder: Profile) -> None:
    bright, n = brightness(ladder), 120
    wise, blind = bright > np.median(bright), np.arange(n) % 2 == 0
    gaps = [{c.against: c for c in proof_of(ladder, high).comparisons}["random mix"] for high in (wise, blind)]
    assert gaps[0].difference["all"].low > 0
    assert gaps[1].difference["all"].low < 0 < gaps[1].difference["all"].high


def test_all_high_against_itself_is_no_difference_and_half_at_low_is_worse(ladder: Profile) -> None:
    same = proof_of(ladder, np.ones(120, dtype=bool), margin=0.5)
    assert same.comparisons[0].difference["all"] == Difference(0, 0, 0)
    assert same.verdict == "not worse than all high by more than 0.5 AP: shown"
    worse = proof_of(ladder, np.zeros(120, dtype=bool))
    assert worse.verdict.endswith("shown to be worse")
    assert proof_of(ladder, np.zeros(120, dtype=bool), margin=99).verdict.endswith(": shown")


def test_a_verdict_needs_the_interval() -> None:
    assert Difference(-0.2, -0.6, 0.2).not_worse(0.5) == "not shown"
    assert Difference(-0.2, -0.4, 0.2).not_worse(0.5) == "shown"
    assert Difference(-2.0, -3.0, -0.6).not_worse(0.5) == "shown to be worse"
    assert Difference(0.1, float("nan"), float("nan")).not_worse(0.5) == "not shown"


def test_an_interval_is_the_spread_around_the_exact_difference() -> None:
    drawn = np.array([0.00, 0.01, 0.02, np.nan])
    found = interval(0.05, drawn)
    assert found.mean == 5 and found.low == pytest.approx(4.05) and found.high == pytest.approx(5.95)


def test_two_sizes_have_their_line_for_a_fixed_size(tmp_path: Path) -> None:
    profile = planted_profile(tmp_path / "p", 40)
    proof = proof_of(profile, brightness(profile) > 100)
    assert [c.against for c in proof.comparisons] == ["all high", "low-high line", "random mix", "cascade"]


def test_profiles_at_other_sizes_become_one_ladder(ladder: Profile) -> None:
    own = ("low", "high", "gt", "loss", "gmacs_low", "gmacs_high", "thumbnail", "image_id", "view", "path")
    columns = [c for c in ladder.table.column_names if c.startswith(own) or c in ("height", "width")]
    two = {key: value for key, value in ladder.meta.items() if key not in ("between", "host_sizes")}
    pair = Profile(two, ladder.table.select(columns), ladder.path)
    table = pair.table
    for column in ("gmacs_low", "low_boxes", "low_scores", "low_categories"):
        at = table.schema.get_field_index(column)
        table = table.set_column(at, column, ladder.table.column(column.replace("low", "s512")))
    joined = as_ladder(pair, [Profile({**two, "scale": 512 / 640}, table, pair.path)])
    assert [p.size for p in joined.passes] == [640, 512, pair.passes[-1].size]
    both = [MixedAP(p, passes=("s512",)).ap(np.zeros(120)) for p in (joined, ladder)]
    assert both[0] == both[1] and as_ladder(pair, []) is pair


def test_evaluate_says_it_and_stores_it(ladder: Profile) -> None:
    result = evaluate(ladder, bright_router(), bootstrap=60, permutations=2, margin=2)
    assert result.proof is not None
    assert "to all high" in summary(result) and "by more than 2 AP" in summary(result)
    stored = json.loads(json.dumps(result.metrics()))
    assert set(stored["paired"]["against"]) == {"all high", "fixed size", "random mix", "cascade"}
    assert stored["paired"]["resamples"] == 60 and stored["paired"]["margin"] == 2
    above = stored["auc_policy_above_random"]
    assert above["mean"] == pytest.approx(stored["auc_policy"] - stored["random"]["auc_policy"])
    assert above["ci95"][0] < above["mean"] < above["ci95"][1] and above["ci95"][0] > 0
    assert evaluate(ladder, bright_router(), bootstrap=0, permutations=2).proof is None


# -- groups ---------------------------------------------------------------------------------------------------


def test_frames_of_a_video_widen_the_interval(tmp_path: Path) -> None:
    """Ten videos of twelve equal frames say as much as ten photos."""
    profile = planted_ladder(tmp_path / "p", 10)
    twelve = Profile(profile.meta, profile.table.take(np.repeat(np.arange(10), 12)), profile.path)
    high = np.zeros(120, dtype=bool)
    alone, grouped = (proof_of(twelve, high, groups=g) for g in (None, np.repeat(np.arange(10), 12)))
    width = [p.comparisons[0].difference["all"].high - p.comparisons[0].difference["all"].low for p in (alone, grouped)]
    assert width[1] > 2.5 * width[0] and grouped.groups == 10 and alone.groups is None
    assert grouped.comparisons[0].difference["all"].mean == alone.comparisons[0].difference["all"].mean


def test_groups_are_read_from_a_table_or_the_folders(tmp_path: Path) -> None:
    profile = planted_ladder(tmp_path / "p", 4)
    names = [profile.image_path(int(row)).name for row in profile.originals]
    file = tmp_path / "groups.csv"
    file.write_text("file_name,group\n" + "".join(f"{name},{'ab'[i % 2]}\n" for i, name in enumerate(names)))
    assert read_groups(str(file), profile).tolist() == [0, 1, 0, 1]
    with pytest.raises(DualResError, match="one group"):
        read_groups("folder", profile)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file_name,group\n", "no line for"),
        ("name,clip\na,b\n", "line 2: each needs a file_name and a group"),
        ("file_name,group\na.jpg,x\na.jpg,y\n", "in two groups"),
        (None, "cannot be read"),
    ],
)
def test_a_table_of_groups_that_is_none(text: str | None, message: str, tmp_path: Path) -> None:
    profile = planted_ladder(tmp_path / "p", 4)
    if text is not None:
        (tmp_path / "groups.csv").write_text(text)
    with pytest.raises(DualResError, match=message):
        read_groups(str(tmp_path / "groups.csv"), profile)
