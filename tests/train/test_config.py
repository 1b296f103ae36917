"""Settings: what loads, what is refused, and what the refusal says."""

from __future__ import annotations

from pathlib import Path

import pytest

from dualres_plugin.common.errors import DualResError
from dualres_plugin.train.config import TrainConfig
from tests.shared import ROOT


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
    "epoch: 3\n": r"unknown setting 'epoch' \(did you mean 'epochs'\?\)",
    "zzz: 3\n": r"unknown setting 'zzz' \(known: objective, gain, .*, seed\)",
    "3: 4\n": "unknown setting '3'",
    "epochs: many\n": "epochs='many' must be a valid integer",
    "epochs: 0\n": "epochs=0 must be greater than 0",
    "lr: [1]\n": r"lr=\[1\] must be a valid number",
    "lr: .nan\n": "lr=nan must be a finite number",
    "lr: -1.0\n": "lr=-1.0 must be greater than or equal to 0",
    "momentum: 1\n": "momentum=1 must be less than 1",
    "objective: win\n": "objective='win' must be one of: rank, paper",
    "optimizer: adam\n": "optimizer='adam' must be 'adamw' or 'sgd'",
    "holdout: 1.5\n": "holdout=1.5 must be less than 1",
    "a: [\n": "not valid YAML",
    "- epochs\n": r"c\.yaml' must hold lines",
    "input_size: wide\n": "input_size='wide' must be a valid integer",
    "target_high_rate: 50\n": "target_high_rate=50 must be less than or equal to 1",
    "temperature: 0\n": "temperature=0 must be greater than 0",
    "pool: 3\n": "pool=3 must be a valid list",
    "pool: [1, x]\n": r"pool\.1='x' must be a valid integer",
    "jitter: much\n": "jitter='much' must be a valid number",
    "seed: -1\n": "seed=-1 must be greater than or equal to 0",
    "hidden: -4\n": "hidden=-4 must be greater than or equal to 0",
    "input_size: 8\n": "input_size=8 must be greater than or equal to 16",
    "seed: x\n": "seed='x' must be a valid integer",
    "epochs: 1.5\n": "epochs=1.5 must be a valid integer",
    "flip: 3\n": "flip=3 must be a valid boolean",
    "train_backbone: 1\n": "train_backbone=1 must be a valid boolean",
    "gain: null\n": "gain=None must be a valid string",
    "backbone: 5\n": "backbone=5 must be a valid string",
    "epochs: 0\nlr: x\n": "epochs=0 must be .*; lr='x' must be",
}


@pytest.mark.parametrize("text", CONFIGS)
def test_bad_configs_give_one_clear_error(text: str, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(DualResError, match=CONFIGS[text]) as caught:
        TrainConfig.load(tmp_path / "c.yaml")
    assert str(caught.value).startswith(("config", "cannot")) and "c.yaml'" in str(caught.value)


def test_a_bad_override_is_not_blamed_on_the_file(tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text("epochs: 3\n")
    with pytest.raises(DualResError, match=r"^training settings: epochs=0 must be greater than 0"):
        TrainConfig.load(tmp_path / "c.yaml", epochs=0)


def test_check_turns_values_into_their_types() -> None:
    config = TrainConfig(lr="1e-3", weights=Path("body.pth"), pool=(1, 2))  # type: ignore[arg-type]
    config.check()
    assert (config.lr, config.weights, config.pool) == (1e-3, "body.pth", [1, 2])
    with pytest.raises(DualResError, match="holdout=2 must be less than 1"):
        TrainConfig(holdout=2).check()


def test_a_config_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DualResError, match="does not exist"):
        TrainConfig.load(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    "data", [b"\xff\xfe\x00binary", b"epochs: " + b"[" * 50_000, b"x: 2001-99-99\n", b"#" * 1_100_000]
)
def test_what_is_no_readable_text(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_bytes(data)
    with pytest.raises(DualResError, match=r"c\.yaml"):
        TrainConfig.load(tmp_path / "c.yaml")


def test_a_time_of_day_is_no_number(tmp_path: Path) -> None:
    """YAML 1.1 reads 12:30:45 as 45,045, which would be epochs for a week."""
    (tmp_path / "a.yaml").write_text("epochs: 12:30:45\nlr: 0.5\nbatch: 0x10\n")
    with pytest.raises(DualResError, match="epochs='12:30:45'"):
        TrainConfig.load(tmp_path / "a.yaml")
    (tmp_path / "a.yaml").write_text("lr: 0.5\nbatch: 0x10\n")
    assert (TrainConfig.load(tmp_path / "a.yaml").lr, TrainConfig.load(tmp_path / "a.yaml").batch) == (0.5, 16)
