"""The metadata of an exported model."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from dualres_plugin.common.card import Card, Postprocess, Preprocess
from dualres_plugin.common.errors import DualResError

CARD = Card("cond", "ultralytics", 640, 0.5, 32, 0.25, "0.1", Preprocess(multiple=32), Postprocess())


@pytest.mark.parametrize("threshold", [0.5, float("inf"), float("-inf")])
def test_metadata_survives_json(threshold: float) -> None:
    card = replace(CARD, threshold=threshold, names={3: "bär"}, static=(640, 640), quantiles=[0.0, 1.0])
    text = card.to_json()
    json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert Card.from_json(text, "x") == card


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "damaged"),
        ("[]", "does not describe"),
        ('{"kind": "dualres-router"}', "does not describe"),
        (CARD.to_json().replace('"format_version": 1', '"format_version": 9'), "format version 9"),
        (CARD.to_json().replace('"names"', '"nomes"'), "incomplete or edited"),
        (CARD.to_json().replace('"iou"', '"uoi"'), "incomplete or edited"),
    ],
)
def test_bad_metadata_is_one_clear_error(text: str, message: str) -> None:
    with pytest.raises(DualResError, match=message):
        Card.from_json(text, "model.onnx")


EDITS = {
    "stride 0": ({"stride": 0}, "stride=0 must be greater"),
    "no size": ({"high": -640}, "high=-640"),
    "NaN scale": ({"scale": float("nan")}, "scale=nan"),
    "scale of text": ({"scale": "half"}, "scale='half'"),
    "NaN threshold": ({"threshold": "nan"}, "threshold='nan' must be a number"),
    "unknown form": ({"form": "other"}, "form='other'"),
    "a file elsewhere": ({"files": {"high": "../high.onnx"}}, "files.high.*same folder"),
    "an absolute file": ({"files": {"high": "/etc/high.onnx"}}, "files.high.*same folder"),
    "reversed quantiles": ({"quantiles": [1.0, 0.0]}, "ascending"),
    "names of the wrong type": ({"names": ["a"]}, "names"),
    "an unknown word": ({"preprocess": {"resample": "nearest"}}, "preprocess.resample='nearest'"),
    "a key that is not known": ({"colour": 1}, "unknown setting 'colour'"),
    "one side": ({"static": [640]}, "static"),
    "too many bytes": ({"version": "x" * 5_000_000}, "MB"),
}


@pytest.mark.parametrize("name", EDITS)
def test_an_edited_card_is_one_clear_error(name: str) -> None:
    changes, message = EDITS[name]
    with pytest.raises(DualResError, match=message):
        Card.from_json(json.dumps({**json.loads(CARD.to_json()), **changes}), "model.onnx")


def test_cards_of_before_the_checksums_load() -> None:
    values = json.loads(CARD.to_json())
    del values["checksums"]
    assert Card.from_json(json.dumps(values), "x") == CARD
