"""Settings of a training, and the YAML files that hold them."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    NonNegativeFloat,
    PositiveFloat,
    StrictBool,
    with_config,
)

from dualres_plugin.common.errors import DualResError
from dualres_plugin.common.files.schema import DESCRIPTION_MB, GATE, check_size, checked
from dualres_plugin.router.config import SIDES, WIDEST
from dualres_plugin.train.objectives import OBJECTIVES


def _known_objective(name: str) -> str:
    if name not in OBJECTIVES:
        raise ValueError(f"must be one of: {', '.join(OBJECTIVES)}")
    return name


MOST = 1_000_000  # epochs, and thumbnails per step
Share = Annotated[float, Field(ge=0, le=1)]
FileName = Annotated[str, BeforeValidator(lambda value: os.fspath(value) if isinstance(value, Path) else value)]


@with_config(GATE)
@dataclass
class TrainConfig:
    """Settings of a training; a YAML file with some of these is what `--config` takes.

    Attributes:
        objective: "rank" or "paper" (`objectives.OBJECTIVES`).
        gain: which gain `rank` learns (`gains.GAINS`); "auto" is "ap_objects" with labels, "agreement" without.
        backbone: the router's body, see `RouterConfig`. "default" and "small" are those of the routers that ship,
            "detector:HOST:NAME" that of a detector at thumbnail size.
        weights: a local file with weights of the backbone.
        input_size: side of the thumbnails in pixels; None is what the body was made for, 128 where nothing says.
        pool: stages of the backbone that are pooled, see `RouterConfig`.
        hidden: width of a hidden layer of the head; 0 for a linear head.
        train_backbone: False fits the head alone, by ridge regression on features computed once; None is True for
            random weights and False for a backbone that comes trained (a detector's, or with `weights`).
        view_weight: how much an augmented view counts beside an original when a head is fitted to a frozen backbone.
        epochs: passes over the images.
        batch: images per step.
        lr: learning rate at its highest.
        momentum: of "sgd", 0 to below 1.
        weight_decay: of the optimizer.
        optimizer: "sgd" is Nesterov, "adamw" is AdamW.
        warmup: share of the steps in which the learning rate rises, 0 to 1; it then falls as a cosine.
        gamma: γ of Eq. 5 (objective "paper").
        target_high_rate: θ of Eq. 5, share of images at high, 0 to 1 (objective "paper").
        temperature: τ of Eq. 4 at the first step (objective "paper").
        temperature_end: τ at the last step.
        pairwise: weight of the pairwise ranking term beside the regression of the ranked gain (objective "rank").
        holdout: share of the source images kept for choosing the epoch and for calibration, 0 to below 1.
        flip: mirror thumbnails at random.
        jitter: strength of random brightness and contrast.
        seed: of everything random.
    """

    objective: Annotated[str, AfterValidator(_known_objective)] = "rank"
    gain: str = "auto"
    backbone: str = "default"
    weights: FileName | None = None
    input_size: Annotated[int, Field(ge=SIDES[0], le=SIDES[1])] | None = None
    pool: list[int] = field(default_factory=list)
    hidden: Annotated[int, Field(ge=0, le=WIDEST)] = 0
    train_backbone: StrictBool | None = None
    view_weight: NonNegativeFloat = 0.3
    epochs: Annotated[int, Field(gt=0, le=MOST)] = 12
    batch: Annotated[int, Field(gt=0, le=MOST)] = 64
    lr: NonNegativeFloat = 2e-3
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.8
    weight_decay: NonNegativeFloat = 0.02
    optimizer: Literal["adamw", "sgd"] = "adamw"
    warmup: Share = 0.1
    gamma: NonNegativeFloat = 1.0
    target_high_rate: Share = 0.5
    temperature: PositiveFloat = 1.0
    temperature_end: PositiveFloat = 1.0
    pairwise: NonNegativeFloat = 0.5
    holdout: Annotated[float, Field(ge=0, lt=1)] = 0.2
    flip: StrictBool = True
    jitter: NonNegativeFloat = 0.2
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0

    @classmethod
    def load(cls, path: Path | str | None, **overrides: Any) -> TrainConfig:
        """Read a YAML file; overrides win.

        Args:
            path: the file; None for the defaults.
            overrides: settings by name; those that are None do not count.

        Returns:
            The checked settings.

        Raises:
            DualResError: If the file is missing, a setting is unknown, or a value is of the wrong type or out of range.
        """
        written = {} if path is None else _read(path)
        given = {name: value for name, value in overrides.items() if value is not None}
        _checked(written, f"config '{path}'")  # before they mix, so that the error says where a value stands
        return _checked(written | given, "training settings")

    def check(self) -> None:
        """Turn every value into the type of its field, such as the text "1e-3" into a number.

        Raises:
            DualResError: If a value is of the wrong type or out of range.
        """
        for name, value in asdict(_checked(asdict(self), "training settings")).items():
            setattr(self, name, value)


# YAML 1.1 takes 12:30:45 for 45,045, as seconds of a day; YAML 1.2, and people who write settings, for a text.
_Loader: Any = type("_Loader", (yaml.SafeLoader,), {})


def _no_time(name: str) -> Any:
    construct: Any = getattr(yaml.SafeLoader, f"construct_yaml_{name}")
    return lambda loader, node: node.value if ":" in node.value else construct(loader, node)


for _name in ("int", "float"):
    _Loader.add_constructor(f"tag:yaml.org,2002:{_name}", _no_time(_name))


def _read(path: Path | str) -> dict[str, Any]:
    check_size(path, "config", DESCRIPTION_MB)
    try:
        values = yaml.load(Path(path).read_text(encoding="utf-8"), _Loader) or {}
    except FileNotFoundError:
        raise DualResError(f"config '{path}' does not exist.") from None
    except yaml.YAMLError as error:
        raise DualResError(f"config '{path}' is not valid YAML: {error}") from None
    except OSError as error:
        raise DualResError(f"cannot read config '{path}': {error.strerror}.") from None
    except (ValueError, RecursionError, OverflowError) as error:  # binary; a date or number that cannot be; nesting
        raise DualResError(f"config '{path}' is no readable YAML text ({type(error).__name__}).") from None
    if not isinstance(values, dict):
        raise DualResError(f"config '{path}' must hold lines such as 'epochs: 20'.")
    return {str(name): value for name, value in values.items()}


def _checked(values: dict[str, Any], where: str) -> TrainConfig:
    return checked(TrainConfig, values, where)
