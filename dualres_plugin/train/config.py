"""Settings of a training, and the YAML files that hold them."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml

from dualres_plugin.common.errors import DualResError


@dataclass
class TrainConfig:
    """Settings of a training; a YAML file with some of these is what `--config` takes.

    Attributes:
        objective: "rank" or "paper".
        gain: which gain `rank` learns (`gains.GAINS`); "auto" is "ap_objects" with labels, "agreement" without.
        backbone, weights, input_size, pool, hidden: the router, see `RouterConfig`; `weights` is a local file.
            "default" is the body of the shipped router, "detector:HOST:NAME" that of a detector at thumbnail size.
            `input_size` null is what the body was made for, 128 where nothing says.
        train_backbone: False fits the head alone, by ridge regression on features computed once; None is True for
            random weights and False for a backbone that comes trained (a detector's, or with `weights`).
        view_weight: how much an augmented view counts beside an original when a head is fitted to a frozen backbone.
        epochs, batch, lr, momentum, weight_decay, optimizer, warmup: as usual; "sgd" is Nesterov, "adamw" is AdamW.
        gamma, target_high_rate: γ and θ of Eq. 5 (objective "paper").
        temperature, temperature_end: the schedule of τ.
        pairwise: weight of the pairwise ranking term beside the regression of the ranked gain.
        holdout: share of the source images kept for choosing the epoch and for calibration.
        flip: mirror thumbnails at random; `jitter`: strength of random brightness and contrast.
        seed: of everything random.
    """

    objective: str = "rank"
    gain: str = "auto"
    backbone: str = "default"
    weights: str | None = None
    input_size: int | None = None
    pool: list[int] = field(default_factory=list)
    hidden: int = 0
    train_backbone: bool | None = None
    view_weight: float = 0.3
    epochs: int = 12
    batch: int = 64
    lr: float = 2e-3
    momentum: float = 0.8
    weight_decay: float = 0.02
    optimizer: str = "adamw"
    warmup: float = 0.1
    gamma: float = 1.0
    target_high_rate: float = 0.5
    temperature: float = 1.0
    temperature_end: float = 1.0
    pairwise: float = 0.5
    holdout: float = 0.2
    flip: bool = True
    jitter: float = 0.2
    seed: int = 0

    @classmethod
    def load(cls, path: Path | str | None, **overrides: Any) -> TrainConfig:
        """Read a YAML file; overrides win.

        Raises:
            DualResError: If the file is missing or has unknown keys or values of the wrong type.
        """
        values: dict[str, Any] = {}
        if path is not None:
            try:
                values = yaml.safe_load(Path(path).read_text()) or {}
            except FileNotFoundError:
                raise DualResError(f"config '{path}' does not exist.") from None
            except yaml.YAMLError as error:
                raise DualResError(f"config '{path}' is not valid YAML: {error}") from None
            except OSError as error:
                raise DualResError(f"cannot read config '{path}': {error.strerror}.") from None
            if not isinstance(values, dict):
                raise DualResError(f"config '{path}' must hold lines such as 'epochs: 20'.")
        values |= {k: v for k, v in overrides.items() if v is not None}
        known = {f.name: f for f in fields(cls)}
        unknown = sorted(set(values) - set(known))
        if unknown:
            raise DualResError(f"unknown training setting(s) {unknown}; known: {sorted(known)}.")
        config = cls(**values)
        config.check()
        return config

    def check(self) -> None:
        """Raise a DualResError for a value that cannot work."""
        for f in fields(self):
            setattr(self, f.name, _typed(f.name, str(f.type), getattr(self, f.name)))
        if self.objective not in ("rank", "paper"):
            raise DualResError(f"objective '{self.objective}' is unknown: use 'rank' or 'paper'.")
        if self.optimizer not in ("adamw", "sgd"):
            raise DualResError(f"optimizer '{self.optimizer}' is unknown: use 'adamw' or 'sgd'.")
        if not 0 <= self.holdout < 1:
            raise DualResError(f"holdout={self.holdout:g} must lie in [0, 1).")
        if not 0 <= self.target_high_rate <= 1:
            raise DualResError(f"target_high_rate={self.target_high_rate:g} must lie in [0, 1].")
        if self.view_weight < 0:
            raise DualResError(f"view_weight={self.view_weight:g} must not be negative.")
        if self.temperature <= 0 or self.temperature_end <= 0:
            raise DualResError("temperature and temperature_end must be above 0.")
        if self.epochs < 1 or self.batch < 1:
            raise DualResError("epochs and batch must be at least 1.")


def _typed(name: str, kind: str, value: Any) -> Any:
    """A setting as the type that its field declares; YAML reads 1e-3 as a text."""
    try:
        if kind == "float":
            return float(value)
        if value is None and kind.endswith("| None"):
            return None
        if kind.startswith("int") and int(value) == float(value):
            return int(value)
        if kind == "list[int]" and not isinstance(value, str):
            return [int(v) for v in value]
        if kind.startswith("bool") and isinstance(value, bool):
            return value
        if kind.startswith("str") and isinstance(value, (str, Path)):
            return str(value)
    except (TypeError, ValueError):
        pass
    wanted = {"float": "a number", "int": "a whole number", "list[int]": "a list of whole numbers"}
    base = kind.removesuffix(" | None")
    raise DualResError(f"training setting {name}={value!r} is not {wanted.get(base, 'of type ' + base)}.")
