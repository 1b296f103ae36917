"""Training on a ready profile: it learns what is planted, the same way every time, and reports what it did."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from dualres_plugin.common.errors import DualResError
from dualres_plugin.evaluate.scoring import score_profile
from dualres_plugin.profile.table import Profile
from dualres_plugin.router.network import ResolutionRouter
from dualres_plugin.train.config import TrainConfig
from dualres_plugin.train.ranks import ranked, spearman
from dualres_plugin.train.train import pairwise_loss, train_router
from dualres_plugin.train.training_set import training_set
from tests.fakes import brightness, make_profile, planted_profile
from tests.shared import ROOT

QUICK = TrainConfig(input_size=16, epochs=4, batch=32, backbone="tiny@3", lr=1e-2, jitter=0.0)


@pytest.fixture(scope="module")
def profile(tmp_path_factory: pytest.TempPathFactory) -> Profile:
    return planted_profile(tmp_path_factory.mktemp("train") / "p", 120)


@pytest.fixture(scope="module")
def unseen(tmp_path_factory: pytest.TempPathFactory) -> Profile:
    return planted_profile(tmp_path_factory.mktemp("test") / "p", 60, seed=1)


def train(profiles: Profile | Sequence[Profile], config: TrainConfig = QUICK, **options: Any) -> ResolutionRouter:
    return train_router(profiles, config, progress=False, **options)


def order(router: ResolutionRouter, profile: Profile) -> float:
    return spearman(score_profile(router, profile), brightness(profile))


# -- ranking ------------------------------------------------------------------------------------------------


def test_it_learns_the_planted_order_and_carries_it_to_new_images(profile: Profile, unseen: Profile) -> None:
    torch.manual_seed(QUICK.seed)
    fresh = ResolutionRouter(backbone="tiny@3", input_size=16).eval()
    router = train(profile)
    assert order(router, unseen) > 0.95 > abs(order(fresh, unseen)) - 1
    assert router.info["metrics"]["holdout_spearman"] > 0.9


def test_a_frozen_backbone_learns_it_too_and_stays(profile: Profile, unseen: Profile) -> None:
    config = replace(QUICK, train_backbone=False, epochs=30)
    torch.manual_seed(config.seed)
    before = ResolutionRouter(backbone="tiny@3", input_size=16).backbone.state_dict()
    router = train(profile, config)
    assert order(router, unseen) > 0.9
    assert all(torch.equal(v, before[k]) for k, v in router.backbone.state_dict().items())


def test_noise_is_not_learned(tmp_path: Path, profile: Profile) -> None:
    """With thumbnails that say nothing, the held-out correlation has to stay low: no leak from the labels."""
    rng = np.random.default_rng(0)
    table = profile.table
    noise = [rng.integers(0, 255, (3, 16, 16), dtype=np.uint8).tobytes() for _ in range(len(profile))]
    i = table.schema.get_field_index("thumbnail")
    blind = Profile(profile.meta, table.set_column(i, "thumbnail", [noise]), profile.path)
    assert abs(spearman(score_profile(train(blind), blind)[:60], brightness(profile)[:60])) < 0.6
    assert train(blind).info["metrics"]["holdout_spearman"] < 0.75


def test_the_same_seed_gives_the_same_router_another_does_not(profile: Profile) -> None:
    a, b = train(profile).state_dict(), train(profile).state_dict()
    assert all(torch.equal(a[k], b[k]) for k in a)
    c = train(profile, replace(QUICK, seed=1)).state_dict()
    assert not all(torch.equal(a[k], c[k]) for k in a)


def test_it_is_calibrated_on_held_out_images(profile: Profile, unseen: Profile) -> None:
    router = train(profile)
    assert router.info["calibrated_on"] == "24 held-out images"
    scores = score_profile(router, unseen)
    for rate in (0.25, 0.5, 0.75):
        assert abs(float((scores > router.threshold_for(rate)).mean()) - rate) < 0.2
    everything = train(profile, replace(QUICK, holdout=0.0))
    assert everything.info["calibrated_on"] == "the training images"


def test_the_best_epoch_is_kept(profile: Profile) -> None:
    seen: list[dict[str, float]] = []
    router = train(profile, log=seen.append)
    assert [n["epoch"] for n in seen] == [0, 1, 2, 3]
    best = max(seen, key=lambda n: n["spearman"])
    assert router.info["metrics"] == {"holdout_spearman": best["spearman"], "best_epoch": best["epoch"]}
    assert seen[-1]["loss"] < seen[0]["loss"]


def test_views_of_an_image_stay_on_one_side_of_the_split(tmp_path: Path) -> None:
    from dualres_plugin.train.train import _split

    profile = planted_profile(tmp_path / "p", 30, views=4)
    data = training_set([profile], QUICK, 16)
    fit, held = _split(data, QUICK)
    assert len(held) == 6 * 4 and len(fit) == 24 * 4
    assert not set(data.group[fit]) & set(data.group[held])


def test_what_it_was_trained_on_is_written_down(profile: Profile) -> None:
    info = train(profile).info
    assert info["gain"] == "ap_objects" and info["rows"] == 120 and info["images"] == 120
    assert info["trained_on"][0]["detector"] == "fake" and info["trained_on"][0]["high"] == 640
    assert info["config"]["epochs"] == 4


def test_a_given_router_is_trained_on(profile: Profile, unseen: Profile) -> None:
    torch.manual_seed(0)
    mine = ResolutionRouter(backbone=nn.Conv2d(3, 4, 3, 2), input_size=16)
    router = train(profile, replace(QUICK, epochs=30), router=mine)
    assert router is mine and order(router, unseen) > 0.9


def test_several_profiles_are_averaged_after_ranking(profile: Profile) -> None:
    shuffled = profile.table
    order = np.random.default_rng(0).permutation(len(profile))
    for name in ("low_boxes", "low_scores", "low_categories"):
        i = shuffled.schema.get_field_index(name)
        shuffled = shuffled.set_column(i, name, profile.table.column(name).take(order))
    other = Profile(profile.meta, shuffled, profile.path)

    def gain(*profiles: Profile) -> np.ndarray:
        return training_set(profiles, QUICK, 16).gain.numpy()

    assert np.allclose(gain(profile, profile), gain(profile), atol=1e-5)
    both = gain(profile, other)
    assert np.allclose(both, gain(other, profile))
    assert abs(spearman(gain(profile), gain(other))) < 0.3
    assert all(0.5 < spearman(both, gain(one)) < 0.9 for one in (profile, other))


def test_only_common_images_count(tmp_path: Path, profile: Profile) -> None:
    part = Profile(profile.meta, profile.table.slice(0, 50), profile.path)
    assert len(training_set([profile, part], QUICK, 16)) == 50
    other = profile.table.set_column(0, "image_id", [list(range(1000, 1120))])
    with pytest.raises(DualResError, match="no image and view in common"):
        training_set([profile, Profile(profile.meta, other, profile.path)], QUICK, 16)


def test_without_labels_it_learns_agreement(tmp_path: Path, profile: Profile, unseen: Profile) -> None:
    blind = Profile({**profile.meta, "labelled": False}, profile.table, profile.path)
    router = train(blind)
    assert router.info["gain"] == "agreement" and order(router, unseen) > 0.9


# -- the paper's objective ---------------------------------------------------------------------------------------


def rate(router: ResolutionRouter, profile: Profile) -> float:
    """Mean probability of going high, which Eq. 5 moves toward θ."""
    return float(torch.sigmoid(torch.from_numpy(score_profile(router, profile))).mean())


def test_the_penalty_moves_the_rate_toward_its_target(profile: Profile) -> None:
    config = replace(QUICK, objective="paper", gamma=30.0, epochs=12)
    rates = [rate(train(profile, replace(config, target_high_rate=theta)), profile) for theta in (0.15, 0.5, 0.85)]
    assert rates[0] < rates[1] < rates[2]
    assert all(abs(got - theta) < 0.15 for got, theta in zip(rates, (0.15, 0.5, 0.85)))


def test_without_a_penalty_each_image_goes_where_its_loss_is_lower(profile: Profile, unseen: Profile) -> None:
    router = train(profile, replace(QUICK, objective="paper", gamma=0.0, epochs=15))
    scores, bright = score_profile(router, unseen), brightness(unseen) / 255
    clear = np.abs(bright - 0.5) > 0.2  # loss_low - loss_high = 2 · brightness - 1
    assert ((scores > 0) == (bright > 0.5))[clear].mean() > 0.9


def test_the_papers_objective_needs_losses(profile: Profile) -> None:
    blind = Profile({**profile.meta, "labelled": False}, profile.table, profile.path)
    with pytest.raises(DualResError, match="paper's objective needs losses"):
        train(blind, replace(QUICK, objective="paper"))


# -- small parts -----------------------------------------------------------------------------------------------


@given(st.lists(st.one_of(st.integers(-5, 5).map(float), st.just(float("nan"))), max_size=40))
def test_ranked_keeps_order_ties_and_gaps(values: list[float]) -> None:
    given_values = np.array(values, float)
    made = ranked(given_values)
    assert np.array_equal(np.isnan(made), np.isnan(given_values))
    known = ~np.isnan(given_values)
    a, b = given_values[known], made[known]
    assert np.array_equal(np.sign(a[:, None] - a[None]), np.sign(np.round(b[:, None] - b[None], 9)))
    if known.any():
        assert np.isfinite(b).all()


def test_spearman_equals_scipy_where_it_is_there() -> None:
    stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(0)
    for _ in range(20):
        a, b = rng.integers(0, 6, 30).astype(float), rng.integers(0, 6, 30).astype(float)
        assert spearman(a, b) == pytest.approx(stats.spearmanr(a, b).statistic)
    assert spearman(np.ones(5), np.arange(5.0)) == 0


def test_pairwise_loss_by_hand() -> None:
    scores, target = torch.tensor([0.0, 1.0, 5.0]), torch.tensor([0.0, 2.0, 0.0])
    expected = 2 * torch.log1p(torch.exp(torch.tensor(-1.0))) + 2 * torch.log1p(torch.exp(torch.tensor(4.0)))
    assert float(pairwise_loss(scores, target)) == pytest.approx(float(expected) / 4)
    assert float(pairwise_loss(torch.zeros(3), torch.ones(3))) == 0, "ties teach nothing"
    assert float(pairwise_loss(torch.zeros(1), torch.ones(1))) == 0


@pytest.mark.parametrize("count", [2, 3, 6, 12])
def test_few_images_still_train(count: int, tmp_path: Path) -> None:
    router = train(planted_profile(tmp_path / "p", count))
    assert len(router.quantiles) == 101
    correlation = router.info["metrics"]["holdout_spearman"]
    assert correlation is None or np.isnan(correlation) or -1 <= correlation <= 1


# -- settings ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["default", "paper"])
def test_the_shipped_configs_load(name: str) -> None:
    config = TrainConfig.load(ROOT / "configs" / f"{name}.yaml")
    assert config.objective == ("paper" if name == "paper" else "rank")
    if name == "default":
        assert config == TrainConfig()
    else:
        assert (config.epochs, config.lr, config.momentum, config.weight_decay) == (40, 3.2e-4, 0.8, 3.6e-4)
        assert config.optimizer == "sgd" and config.backbone == "mobilenet_v3_large"


def test_overrides_win(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("epochs: 3\nlr: 1e-3\n")  # YAML reads 1e-3 as a text
    config = TrainConfig.load(tmp_path / "c.yaml", epochs=5, gain=None)
    assert config.epochs == 5 and config.lr == 1e-3 and config.gain == "auto"
    (tmp_path / "empty.yaml").write_text("")
    assert TrainConfig.load(tmp_path / "empty.yaml") == TrainConfig()


CONFIGS = {
    "epoch: 3\n": r"unknown training setting\(s\) \['epoch'\]",
    "epochs: many\n": "epochs='many' is not a whole number",
    "epochs: 0\n": "at least 1",
    "lr: [1]\n": "lr=",
    "objective: win\n": "objective 'win' is unknown",
    "optimizer: adam\n": "optimizer 'adam' is unknown",
    "holdout: 1.5\n": "holdout=1.5",
    "a: [\n": "not valid YAML",
    "- epochs\n": r"c\.yaml' must hold lines",
    "input_size: wide\n": "input_size='wide' is not a whole number",
    "target_high_rate: 50\n": "target_high_rate=50 must lie",
    "temperature: 0\n": "temperature",
    "pool: 3\n": "pool=3 is not a list of whole numbers",
    "jitter: much\n": "jitter='much' is not a number",
    "seed: x\n": "seed='x' is not a whole number",
    "epochs: 1.5\n": "epochs=1.5 is not a whole number",
    "flip: 3\n": "flip=3 is not of type bool",
    "gain: null\n": "gain=None is not of type str",
    "backbone: 5\n": "backbone=5 is not of type str",
}


@pytest.mark.parametrize("text", CONFIGS)
def test_bad_configs_give_one_clear_error(text: str, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(DualResError, match=CONFIGS[text]):
        TrainConfig.load(tmp_path / "c.yaml")


def test_a_config_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DualResError, match="does not exist"):
        TrainConfig.load(tmp_path / "none.yaml")


def test_thumbnails_that_are_too_small(profile: Profile) -> None:
    with pytest.raises(DualResError, match="input_size 64 is larger than the profile's 16 px"):
        train(profile, replace(QUICK, input_size=64))


def test_an_unknown_gain(profile: Profile) -> None:
    with pytest.raises(DualResError, match="unknown gain 'luck'"):
        train(profile, replace(QUICK, gain="luck"))


def test_a_profile_without_any_object_teaches_nothing(tmp_path: Path) -> None:
    with pytest.raises(DualResError, match="no image of the profile has a gain"):
        train(make_profile(tmp_path / "p", [{} for _ in range(8)]))
