"""What answers say of a photo, and what a request may be made of."""

from __future__ import annotations

import json
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("fastapi", reason="needs the extra `serve`")

from dualres_plugin.runtime.result import SessionResult
from dualres_plugin.serve import protocol
from dualres_plugin.serve.answers import found
from dualres_plugin.serve.settings import OUTCOMES, Refused

EMPTY = SessionResult(
    np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64), "low", 0.1, {0: "a"}, "", 1, 320
)


def test_a_photo_without_objects_is_an_answer() -> None:
    answer = found(EMPTY, 1.0)
    assert (answer.boxes, answer.scores, answer.labels, answer.names, answer.size) == ([], [], [], [], 320)
    shapes = {o.name: o.shape for o in protocol.answer(EMPTY, "m", request()).outputs}
    assert shapes == {"boxes": [0, 4], "scores": [0], "labels": [0], "route": [1], "score": [1]}


def test_numbers_read_back_to_the_same_bits_and_unknown_labels_have_a_name() -> None:
    rng = np.random.default_rng(0)
    boxes, scores = rng.random((50, 4), np.float32) * 1000, rng.random(50, np.float32)
    result = replace(EMPTY, boxes=boxes, scores=scores, labels=np.array([0, 7] * 25))
    read = json.loads(found(result, 1.0).model_dump_json())
    assert np.array_equal(np.array(read["boxes"], np.float32), boxes)
    assert np.array_equal(np.array(read["scores"], np.float32), scores)
    assert read["names"][:2] == ["a", "7"]


def test_what_is_no_number_is_no_answer() -> None:
    with pytest.raises(ValueError, match="finite"):
        found(replace(EMPTY, score=float("nan")), 1.0)


def request(**more: object) -> protocol.InferRequest:
    tensor = {"name": "image", "datatype": "BYTES", "shape": [1], "data": ["x"]}
    return protocol.read_request(json.dumps({"inputs": [tensor], **more}).encode())


def test_outputs_are_those_asked_for_in_their_order() -> None:
    wanted = request(outputs=[{"name": "score"}, {"name": "route", "parameters": {}}], id="a", parameters={"x": 1})
    answer = protocol.answer(EMPTY, "m", wanted).model_dump()
    assert [o["name"] for o in answer["outputs"]] == ["score", "route"] and answer["id"] == "a"


@pytest.mark.parametrize("item", [b"[],", b"{},", b"[[]],", b"[{}],"])
def test_lists_of_nothing_are_refused_before_they_take_memory(item: bytes) -> None:
    body = b'{"inputs": [' + item * 500_000 + b"1]}"
    tracemalloc.start()
    with pytest.raises(Refused, match="next to nothing"):
        protocol.read_request(body)
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()


def test_the_smallest_nested_pixels_are_not() -> None:
    tensor = {"name": "image", "datatype": "UINT8", "shape": [1000, 1, 3], "data": [[[0, 0, 0]]] * 1000}
    body = json.dumps({"inputs": [tensor]}, separators=(",", ":")).encode()
    assert protocol.photo_of(protocol.read_request(body), 1.0).shape == (1000, 1, 3)


@pytest.mark.parametrize(("status", "outcome"), [(400, "refused"), (413, "refused"), (503, "busy"), (499, "gone")])
def test_a_refusal_has_an_outcome(status: int, outcome: str) -> None:
    assert Refused(status, "").outcome == outcome and outcome in OUTCOMES
