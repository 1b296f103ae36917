"""Options of numbers: finite and in range, or one message, before anything is loaded or written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dualres_plugin.cli.options import stamp
from dualres_plugin.common.errors import DualResError
from dualres_plugin.export.bench.run import BenchSettings
from dualres_plugin.profile.build import ProfileSettings
from dualres_plugin.router.gate import Gate
from tests.e2e.cli import dualres
from tests.predicting_case import make_router, predictor

NAN = float("nan")
COMMANDS: dict[str, tuple[str, ...]] = {
    "profile": ("profile", "net"),
    "train": ("train", "p"),
    "evaluate": ("evaluate", "p", "r"),
    "predict": ("predict", "net", "photos"),
    "swap": ("swap", "r", "--detector", "net", "--images", "photos"),
    "export": ("export", "net", "--router", "r"),
    "bench": ("bench", "net", "--router", "r"),
    "demo": ("demo",),
}
WRONG: dict[str, dict[str, tuple[object, ...]]] = {
    "profile": dict.fromkeys(("--high", "--low", "--views", "--batch", "--workers", "--thumbnail"), (0, -1))
    | {"--seed": (-1, 2**40)},
    "train": dict.fromkeys(("--input-size", "--epochs", "--batch"), (0, -1)) | {"--seed": (-1,)},
    "evaluate": {
        "--target-high-rate": (NAN, -0.1, 1.1),
        "--bootstrap": (-1,),
        "--permutations": (0, -1),
        "--seed": (-1,),
    },
    "predict": {
        "--target-high-rate": (NAN, -0.1, "inf"),
        "--threshold": (NAN, "inf"),
        "--gmacs": (NAN, 0, -1, "inf"),
        "--ms": (NAN, 0, -1, "inf"),
        "--conf": (NAN, -0.1, 1.1),
        "--high": (0, -1, 10**9),
        "--low": (0, -1),
        "--batch": (0, -1),
    },
    "swap": {"--high": (0, -1), "--low": (0, -1)},
    "export": {"--photos": (-1,), "--threshold": (NAN,), "--target-high-rate": (NAN, 2), "--high": (0,)},
    "bench": dict.fromkeys(("--count", "--threads", "--rounds", "--high"), (0, -1)) | {"--check": (-1,)},
    "demo": {"--images": (0, -5), "--seed": (-1,)},
}
CASES = [(c, o, v) for c, options in WRONG.items() for o, values in options.items() for v in values]


@pytest.mark.parametrize(("name", "option", "value"), CASES)
def test_a_number_out_of_range(name: str, option: str, value: object, tmp_path: Path) -> None:
    message = dualres(*COMMANDS[name], option, value, "--out", tmp_path / "out").message
    assert message.startswith(f"{option}=") and " must " in message
    assert list(tmp_path.iterdir()) == []


def test_settings_of_the_python_api() -> None:
    wrong: dict[str, Any]
    for wrong in ({"high": 0}, {"views": NAN}, {"batch": -1}, {"thumbnail_size": 0}, {"seed": -1}):
        with pytest.raises(DualResError, match=f"{next(iter(wrong))}="):
            ProfileSettings(**{"high": 64, "scale": 0.5, **wrong})
    for wrong in ({"threads": 0}, {"rounds": 0}, {"count": -1}, {"check": -1}):
        with pytest.raises(DualResError, match=f"{next(iter(wrong))}="):
            BenchSettings(64, 0.5, **wrong)
    with pytest.raises(DualResError, match="not a number"):
        Gate(make_router(), NAN)
    with pytest.raises(DualResError, match="batch=0"):
        predictor(make_router(), batch=0)


def test_a_stamp_changes_with_the_files(tmp_path: Path) -> None:
    file, router = tmp_path / "net.pt", tmp_path / "router"
    router.mkdir()
    for path in (file, router / "router.json"):
        path.write_text("1")
    for text in (str(file), f"ultralytics:{file}", f"torchvision:fcos,weights={file}", str(router)):
        before = stamp(text)
        assert before is not None and before.startswith(f"{text} ") and stamp(text) == before
        for path in (file, router / "router.json"):
            path.write_text(path.read_text() + "1")
        assert stamp(text) != before
    assert stamp(None) is None and stamp("default") == "default"
