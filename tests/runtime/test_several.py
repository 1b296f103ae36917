"""Sessions with three sizes: operating points, names, batches, engines, and what is refused."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dualres_plugin.budget.controller import BudgetController
from dualres_plugin.common.card import Several
from dualres_plugin.common.errors import DualResError
from dualres_plugin.export.files import write_card
from dualres_plugin.runtime.session import DualResSession
from tests.small_models import pictures, same

FORMS = ["cond", "resize", "branches", "pair"]


@pytest.fixture(scope="module")
def calibrated(ladder_models: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `cond` file, calibrated on the 30 pictures of `pictures`."""
    copy = tmp_path_factory.mktemp("calibrated") / "m.onnx"
    copy.write_bytes(ladder_models["cond"].read_bytes())
    session = DualResSession(copy)
    scores = [r.score for r in session.predict(pictures(30))]
    quantiles = [float(q) for q in np.quantile(scores, np.linspace(0, 1, 101))]
    write_card(copy, replace(session.card, quantiles=quantiles))
    return copy


@pytest.mark.parametrize("form", FORMS)
def test_results_say_where_a_photo_went_one_by_one_and_in_a_batch(ladder_models: dict[str, Path], form: str) -> None:
    photos = pictures(9)
    session = DualResSession(ladder_models[form])
    assert session.sizes == (160, 128, 64) and session.thresholds == (0.5, -0.5)
    upper, lower = (float(np.quantile([r.score for r in session.predict(photos)], q)) for q in (2 / 3, 1 / 3))
    results = session.predict(photos, threshold=(upper, lower))
    assert {(r.route, r.step, r.size) for r in results} == {("160", 0, 160), ("128", 1, 128), ("64", 2, 64)}
    assert [r.step for r in results] == [int(r.score <= upper) + int(r.score <= lower) for r in results]
    together = session.predict_batch(photos, threshold=(upper, lower))
    assert all(same(a, b) and a.step == b.step for a, b in zip(results, together)) and len(together) == 9


def test_two_sizes_have_steps_and_sizes_too(models: dict[str, Path]) -> None:
    session = DualResSession(models["cond"], threshold=float("inf"))
    assert session.sizes == (160, 80) and session.thresholds == (float("inf"),)
    (result,) = session.predict(pictures(1))
    assert (result.route, result.step, result.size) == ("low", 1, 80)
    (result,) = session.predict(pictures(1), threshold=[float("-inf")])
    assert (result.route, result.step, result.size) == ("high", 0, 160)


def test_shares_are_read_off_the_calibration(calibrated: Path) -> None:
    photos = pictures(30)
    for shares in ((0.3, 0.3, 0.4), (0.0, 1.0, 0.0), (0.5, 0.0, 0.5)):
        session = DualResSession(calibrated, shares=shares)
        counts = np.bincount([r.step for r in session.predict(photos)], minlength=3)
        assert counts / 30 == pytest.approx(shares, abs=0.04)
        assert session.expected_shares == pytest.approx(shares, abs=0.02)
    session = DualResSession(calibrated, thresholds=session.thresholds)
    assert session.expected_shares == pytest.approx((0.5, 0.0, 0.5), abs=0.02)
    assert repr(session).startswith("DualResSession(form cond, 160, 128, 64 px, 2 classes)\n  thresholds ")
    assert repr(session).endswith("50% / 0% / 50% at the sizes expected")


def test_the_mean_cost_is_held_as_the_controller_alone_holds_it(calibrated: Path, tmp_path: Path) -> None:
    photos = pictures(30) * 4
    copy = tmp_path / "m.onnx"
    copy.write_bytes(calibrated.read_bytes())
    card = DualResSession(copy).card
    shifted = [q + 1.0 for q in card.quantiles]  # of photos with higher scores
    write_card(copy, replace(card, quantiles=shifted))
    shares = (0.4, 0.3, 0.3)
    session = DualResSession(copy, shares=shares, hold_rate=True)
    steps = [r.step for r in session.predict(photos)]
    alone = BudgetController(shares, shifted, costs=(4.0, 2.5, 0.5))
    assert steps == [alone.step(r.score) for r in DualResSession(copy).predict(photos)]
    assert session.controller is not None and session.controller.state == alone.state
    mean = np.mean([(4.0, 2.5, 0.5)[step] for step in steps])
    assert mean == pytest.approx(0.4 * 4 + 0.3 * 2.5 + 0.3 * 0.5, rel=0.03)
    even = DualResSession(copy, hold_rate=True)
    assert even.expected_shares == pytest.approx((1 / 3,) * 3)
    with pytest.raises(DualResError, match=r"threshold=0\.1, 0 cannot"):
        even.predict(photos[0], threshold=(0.1, 0.0))


def test_without_gmacs_an_image_costs_its_pixels(calibrated: Path, tmp_path: Path) -> None:
    copy = tmp_path / "m.onnx"
    copy.write_bytes(calibrated.read_bytes())
    card = DualResSession(copy).card
    assert card.several is not None
    write_card(copy, replace(card, several=replace(card.several, gmacs=())))
    session = DualResSession(copy, shares=(0.2, 0.3, 0.5), hold_rate=True)
    assert session.controller is not None
    assert session.controller.costs == pytest.approx((1.0, (128**2 - 64**2) / (160**2 - 64**2), 0.0))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threshold": 0.0}, "3 sizes need 2 thresholds"),
        ({"thresholds": (0.0,)}, "3 sizes need 2 thresholds"),
        ({"thresholds": (0.0, 1.0)}, "must descend"),
        ({"thresholds": (0.0, float("nan"))}, "not a number"),
        ({"target_high_rate": 0.5}, "is for two sizes"),
        ({"shares": (0.5, 0.5)}, "3 sizes need 3 shares"),
        ({"shares": (0.5, 0.5, 0.5)}, "1 in all"),
        ({"shares": (0.4, 0.3, 0.3)}, "no calibration"),
        ({"shares": (0.4, 0.3, 0.3), "thresholds": (0.1, 0.0)}, "shares or thresholds"),
        ({"thresholds": (0.1, 0.0), "hold_rate": True}, "threshold=0.1, 0 cannot"),
    ],
)
def test_points_that_cannot_be_are_refused(
    ladder_models: dict[str, Path], options: dict[str, float], message: str
) -> None:
    with pytest.raises(DualResError, match=message):
        DualResSession(ladder_models["cond"], warm_up=False, **options)  # type: ignore[arg-type]


def test_a_single_threshold_is_refused_in_a_call_too(ladder_models: dict[str, Path]) -> None:
    session = DualResSession(ladder_models["cond"], warm_up=False)
    for call in (session.predict, session.predict_batch):
        with pytest.raises(DualResError, match="3 sizes need 2 thresholds"):
            call(pictures(1), threshold=0.0)
    with pytest.raises(DualResError, match="3 sizes need 2 thresholds"):
        session.threshold = 0.0


def test_openvino_runs_a_pair_of_three_as_onnxruntime_does(
    ladder_models: dict[str, Path], caplog: pytest.LogCaptureFixture
) -> None:
    """The smallest size is averaged down, which OpenVINO takes for sampling: boxes were off by up to their own size."""
    pytest.importorskip("openvino")
    photos = pictures(6)
    limits = tuple(np.quantile([r.score for r in DualResSession(ladder_models["pair"]).predict(photos)], (0.7, 0.3)))
    expected = DualResSession(ladder_models["pair"], thresholds=limits).predict(photos)
    found = DualResSession(ladder_models["pair"], thresholds=limits, engine="openvino", threads=1).predict(photos)
    assert {r.step for r in found} == {0, 1, 2}
    for a, b in zip(found, expected):
        assert (a.route, a.score, len(a)) == (b.route, b.score, len(b))
        np.testing.assert_allclose(a.boxes, b.boxes, atol=0.05)
    told = [record.message for record in caplog.records if "OpenVINO" in record.message]
    assert len(told) == 1 and "'64.onnx'" in told[0]


def test_a_pair_without_one_of_its_sizes_says_which(ladder_models: dict[str, Path], tmp_path: Path) -> None:
    folder = tmp_path / "pair"
    shutil.copytree(ladder_models["pair"], folder)
    (folder / "128.onnx").unlink()
    with pytest.raises(DualResError, match="lacks its 128 graph"):
        DualResSession(folder)


def test_a_card_that_is_not_the_graphs_is_one_clear_error(
    models: dict[str, Path], ladder_models: dict[str, Path], tmp_path: Path
) -> None:
    """Three sizes promised where the graph has two, and the other way round."""
    several = DualResSession(ladder_models["cond"]).card.several
    for source, said in ((models["cond"], several), (ladder_models["cond"], None)):
        copy = tmp_path / source.parent.name
        copy.write_bytes(source.read_bytes())
        write_card(copy, replace(DualResSession(source).card, several=said))
        with pytest.raises(DualResError, match="failed on an input"):
            DualResSession(copy).predict(pictures(1))
    assert isinstance(several, Several)
    more = Several((160, 128, 96, 64), (0.8, 0.6, 0.4), (1.0, 0.0, -1.0))
    write_card(copy, replace(DualResSession(ladder_models["cond"]).card, several=more))
    with pytest.raises(DualResError, match="failed on an input"):
        DualResSession(copy)
