"""The gate for files: one message for whatever is wrong, and no file is read without a bound."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from pydantic import with_config

from dualres_plugin.common.errors import DualResError
from dualres_plugin.common.files.schema import GATE, Int, Number, PlainDict, Quantiles, checked, read_object, shown


@with_config(GATE)
@dataclass
class Form:
    side: Int
    share: Number = 0.5
    scores: Quantiles = field(default_factory=list)
    free: PlainDict = field(default_factory=dict)


def test_good_values() -> None:
    assert checked(Form, {"side": 3, "share": 1, "scores": [0, 0.5]}, "x") == Form(3, 1.0, [0.0, 0.5])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "x: 'side' is missing."),
        ({"side": "3"}, "side='3' must be a valid integer"),
        ({"side": True}, "side=True must be a valid integer"),
        ({"side": 3, "share": float("nan")}, "share=nan must be a finite number"),
        ({"side": 3, "shares": 1}, r"unknown setting 'shares' \(did you mean 'share'\?\)"),
        ({"side": 3, "scores": [2, 1]}, "ascending"),
        ({"side": 3, "free": [1]}, "must be a valid dictionary"),
        ([], r"x: =\[\] must be"),
    ],
)
def test_one_message(values: Any, message: str) -> None:
    with pytest.raises(DualResError, match=message):
        checked(Form, values, "x")


def test_free_parts_are_not_nested_without_end() -> None:
    deep: Any = 1
    for _ in range(5000):
        deep = [deep]
    with pytest.raises(DualResError, match="nested"):
        checked(Form, {"side": 3, "free": {"a": deep}}, "x")


def test_values_are_shown_short() -> None:
    bomb: Any = ["x"]
    for _ in range(40):
        bomb = [bomb] * 9
    assert len(shown(bomb)) < 400 and len(shown("x" * 10**6)) < 100


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 100_000, "damaged|valid JSON"),
        ("9" * 5000, "damaged|valid JSON"),
        ('"' + "x" * 1_100_000 + '"', "more than the 1 MB"),
        ("{", "not valid JSON"),
    ],
)
def test_json_that_is_not_read(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(DualResError, match=message):
        read_object(tmp_path / "a.json", "description")
