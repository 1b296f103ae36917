"""What the tests of profiles share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from dualres_plugin.profile.build import ProfileSettings, build_profile
from dualres_plugin.profile.data.dataset import load_dataset
from dualres_plugin.profile.table import Profile
from tests.fakes import FakeAdapter, FakeBatch

SETTINGS = ProfileSettings(64, 0.5, batch=3, thumbnail_size=16)


class Killed(BaseException):
    """What a kill looks like from inside: nothing may catch it."""


def adapter() -> FakeAdapter:
    torch.manual_seed(0)
    return FakeAdapter()


def build(
    data: tuple[Path | None, Path],
    out: Path,
    host: FakeAdapter | None = None,
    settings: ProfileSettings = SETTINGS,
    **options: Any,
) -> Profile:
    return build_profile(host or adapter(), load_dataset(*data), out, settings, progress=False, **options)


def kill_after(passes: int) -> Any:
    left = passes

    def on_pass(_: FakeBatch) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise Killed

    return on_pass
