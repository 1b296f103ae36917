"""The metadata of an exported model."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from dualres_plugin.common.card import Card, Postprocess, Preprocess, Several
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


# As `dualres export` wrote it when a file had two sizes at most, but for the names of 78 classes.
OLD = (
    '{"format_version": 1, "kind": "dualres-model", "form": "cond", "host": "ultralytics", "high": 640, "scale": 0.5, '
    '"stride": 32, "threshold": "0.8251612", "version": "0.1.0", "preprocess": {"kind": "letterbox", "centre": true, '
    '"fill": [0.4470588235294118, 0.4470588235294118, 0.4470588235294118], "multiple": 32, "resample": "cv2", '
    '"rounding": "even", "gain": "axis"}, "postprocess": {"layout": "anchors", "boxes": "xywh", "nms": true, '
    '"conf": 0.25, "iou": 0.7, "max_det": 300, "multi_label": false, "offset": 7680.0, "clip": "photo", '
    '"candidates": 30000, "floor": 0.0, "drop_empty": false}, "static": null, "low": null, "quantiles": [-1.0, 1.0], '
    '"names": {"0": "person", "1": "bicycle"}, "files": {}, "checksums": {}, "parity": {"images": 2.0}}'
)


def test_a_card_of_two_sizes_is_what_it_was() -> None:
    card = Card.from_json(OLD, "x")
    assert card.to_json() == OLD, "not one byte more"
    assert (card.sizes, card.scales, card.thresholds) == ((640, 320), (0.5,), (0.8251612,))
    assert card.routes == ("high", "low") and card.costs == (640.0**2, 320.0**2)


SEVERAL = Several((640, 512, 448), (0.8, 0.7), (float("inf"), -0.25), (3.2, 2.1, 1.6))
LADDER = replace(CARD, scale=0.7, threshold=float("inf"), several=SEVERAL)


def test_several_sizes_survive_json() -> None:
    text = LADDER.to_json()
    json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    card = Card.from_json(text, "x")
    assert card == LADDER and card.sizes == (640, 512, 448) and card.thresholds == (float("inf"), -0.25)
    assert card.routes == ("640", "512", "448") and card.costs == (3.2, 2.1, 1.6)
    inf = float("inf")
    assert [card.only(step) for step in range(3)] == [(-inf, -inf), (inf, -inf), (inf, inf)]


SEVERAL_EDITS = {
    "two sizes": ({"sizes": [640, 512]}, "several.sizes"),
    "sizes that grow": ({"sizes": [640, 448, 512]}, "several.sizes.*become smaller"),
    "a size twice": ({"sizes": [640, 512, 512]}, "several.sizes.*become smaller"),
    "a size of nothing": ({"sizes": [640, 512, 0]}, "several.sizes.2=0"),
    "a size of text": ({"sizes": [640, 512, "../../x"]}, "several.sizes.2"),
    "too many": ({"sizes": list(range(600, 500, -1))}, "several.sizes"),
    "more scales": ({"scales": [0.8, 0.7, 0.6]}, "3 sizes need 2 scales, not 3"),
    "a scale above one": ({"scales": [1.5, 0.7]}, "several.scales.0=1.5"),
    "no thresholds": ({"thresholds": []}, "3 sizes need 2 thresholds, not 0"),
    "NaN": ({"thresholds": ["0.5", "nan"]}, "several.thresholds.1='nan' must be a number"),
    "ascending thresholds": ({"thresholds": ["0.5", "0.6"]}, "several.thresholds.*descend"),
    "costs of two": ({"gmacs": [3.0, 2.0]}, "3 sizes need 3 gmacs, not 2"),
    "a cost of nothing": ({"gmacs": [3.0, 2.0, 0.0]}, "several.gmacs.2=0.0"),
    "an infinite cost": ({"gmacs": [float("inf"), 2.0, 1.0]}, "several.gmacs.0=inf"),
    "a key that is not known": ({"colour": 1}, "colour"),
}


@pytest.mark.parametrize("name", SEVERAL_EDITS)
def test_edited_sizes_are_one_clear_error(name: str) -> None:
    changes, message = SEVERAL_EDITS[name]
    values = json.loads(LADDER.to_json())
    values["several"] |= changes
    with pytest.raises(DualResError, match=message):
        Card.from_json(json.dumps(values), "model.onnx")
