"""The numbers of a training in TensorBoard's files."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dualres_plugin.common.errors import DualResError
from dualres_plugin.train.config import TrainConfig
from dualres_plugin.train.log import tensorboard_log
from dualres_plugin.train.train import train_router
from tests.fakes import make_profile

pytest.importorskip("tensorboard")
TINY: dict[str, Any] = {"backbone": "tiny@2", "input_size": 16, "batch": 8}


@pytest.fixture
def profile(tmp_path: Path) -> Any:
    rng = np.random.default_rng(0)
    rows = [
        {
            "losses": (float(rng.uniform(2, 3)), float(rng.uniform(1, 2))),
            "thumbnail": rng.integers(0, 255, (3, 16, 16), dtype=np.uint8),
        }
        for _ in range(30)
    ]
    return make_profile(tmp_path / "profile", rows)


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """What TensorBoard itself reads from the folder."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder)).Reload()
    return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def train(profile: Any, folder: Path, config: TrainConfig) -> list[dict[str, float]]:
    """The numbers of each epoch as they were logged."""
    seen: list[dict[str, float]] = []
    with tensorboard_log(folder, config) as log:

        def both(numbers: dict[str, float]) -> None:
            seen.append(numbers)
            log(numbers)

        train_router(profile, config, progress=False, log=both)
    return seen


def test_each_epoch_of_the_papers_recipe(profile: Any, tmp_path: Path) -> None:
    config = TrainConfig(objective="paper", epochs=3, gamma=2.0, temperature=2.0, temperature_end=0.5, **TINY)
    seen = train(profile, tmp_path / "tb", config)
    got = scalars(tmp_path / "tb")
    names = {"loss", "lr", "high_rate", "gamma_term", "temperature"}
    assert names <= {tag.removeprefix("train/") for tag in got}
    for name in names:
        assert [step for step, _ in got[f"train/{name}"]] == [0, 1, 2]
        assert [value for _, value in got[f"train/{name}"]] == pytest.approx([numbers[name] for numbers in seen])
    rates = np.array([numbers["high_rate"] for numbers in seen])
    assert (rates >= 0).all() and (rates <= 1).all()
    assert [n["gamma_term"] for n in seen] == pytest.approx((2.0 * (rates - 0.5) ** 2).tolist())
    assert seen[0]["temperature"] > seen[-1]["temperature"] == pytest.approx(0.5)
    assert seen[0]["lr"] > seen[-1]["lr"] > 0, "the rate that the epoch ran with, not that of the next"


def test_ranking_has_no_gate(profile: Any, tmp_path: Path) -> None:
    train(profile, tmp_path / "tb", TrainConfig(gain="loss", epochs=2, **TINY))
    assert set(scalars(tmp_path / "tb")) == {"train/loss", "train/spearman", "train/lr"}


def test_a_closed_form_head_logs_what_it_tried(profile: Any, tmp_path: Path) -> None:
    config = TrainConfig(gain="loss", train_backbone=False, **TINY)
    torch.manual_seed(0)
    seen = train(profile, tmp_path / "tb", config)
    got = scalars(tmp_path / "tb")
    assert set(got) == {"ridge/spearman", "ridge/log10_ridge_strength"}
    strengths = [value for _, value in got["ridge/log10_ridge_strength"]]
    assert strengths == sorted(strengths) and len(strengths) == len(seen) == 8
    router = train_router(profile, config, progress=False)
    assert max(value for _, value in got["ridge/spearman"]) == pytest.approx(
        router.info["metrics"]["holdout_spearman"], abs=1e-6
    )


def test_the_settings_are_shown(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    with tensorboard_log(tmp_path, TrainConfig(gamma=3.5)):
        pass
    events = EventAccumulator(str(tmp_path)).Reload()
    (event,) = events.Tensors("settings/text_summary")
    assert b"gamma: 3.5" in event.tensor_proto.string_val[0]


def test_without_tensorboard_the_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(DualResError, match=r"pip install .dualres-plugin\[tensorboard\]"), tensorboard_log(tmp_path):
        pass


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(DualResError, match="cannot write to"), tensorboard_log(tmp_path / "file" / "tb"):
        pass
