"""What a server answers is what its session finds, whoever asks at once."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("fastapi", reason="needs the extra `serve`")
pytest.importorskip("prometheus_client", reason="needs the extra `serve`")

from dualres_plugin.budget.deadline import Deadline
from dualres_plugin.runtime.session import DualResSession
from dualres_plugin.serve.metrics import Metrics
from dualres_plugin.serve.settings import ServeSettings
from dualres_plugin.serve.worker import Worker
from tests.serve.client import Client, base64_of, encoded, same, serving, together
from tests.small_models import pictures

pytestmark = pytest.mark.localhost


@pytest.fixture
def session(models: dict[str, Path]) -> DualResSession:
    """Half of its pictures go high."""
    made = DualResSession(models["cond"], threads=1)
    made.threshold = float(np.median([r.score for r in made.predict(pictures(10))]))
    return made


def odd_photos() -> dict[str, bytes]:
    """Files as people have them."""
    pixels = pictures(1)[0]
    image = Image.fromarray(pixels)
    turned = Image.Exif()
    turned[0x0112] = 6
    clear = image.copy()
    clear.putalpha(Image.fromarray(pixels[..., 0]))
    deep = Image.fromarray(pixels[..., 0].astype(np.uint16) * 257)
    return {
        "plain.png": encoded(image),
        "plain.jpg": encoded(image, "JPEG"),
        "progressive.jpg": encoded(image, "JPEG", progressive=True),
        "turned.jpg": encoded(image, "JPEG", exif=turned),
        "grey.jpg": encoded(image.convert("L"), "JPEG"),
        "cmyk.jpg": encoded(image.convert("CMYK"), "JPEG"),
        "alpha.png": encoded(clear),
        "palette.png": encoded(image.convert("P")),
        "deep.png": encoded(deep),
    }


def test_every_kind_of_photo_is_answered_as_the_session_answers_its_file(
    session: DualResSession, tmp_path: Path
) -> None:
    with serving(session) as client:
        for name, data in odd_photos().items():
            (tmp_path / name).write_bytes(data)
            (result,) = session.predict(tmp_path / name)
            assert len(result) and same(client.predict(data), result), name
            form = b'--x\r\nContent-Disposition: form-data; name="f"; filename="a"\r\n\r\n' + data + b"\r\n--x--\r\n"
            answer = client.ask("/predict", form, content_type="multipart/form-data; boundary=x")
            assert same(answer, result), name


def test_an_answer_says_what_and_where(session: DualResSession) -> None:
    photo = pictures(1)[0]
    with serving(session) as client:
        for threshold, route, size in ((float("-inf"), "high", 160), (float("inf"), "low", 80)):
            session.threshold = threshold
            found = client.predict(encoded(photo)).json
            assert (found["route"], found["size"]) == (route, size)
            assert found["names"] == ["ab"[label] for label in found["labels"]]
            assert found["ms"] > 0 and len(found["boxes"]) == len(found["scores"]) == len(found["labels"]) > 0


def test_a_file_of_three_sizes_is_served(ladder_models: dict[str, Path]) -> None:
    photos = pictures(12)
    session = DualResSession(ladder_models["cond"], threads=1)
    scores = [r.score for r in session.predict(photos)]
    session.thresholds = tuple(float(t) for t in np.quantile(scores, (0.7, 0.3)))
    serial = session.predict(photos)
    assert {r.route for r in serial} == {"160", "128", "64"}
    with serving(session) as client:
        answers = together([partial(client.predict, encoded(photo)) for photo in photos], 4)
        assert all(same(answer, result) for answer, result in zip(answers, serial))
        assert [answer.json["size"] for answer in answers] == [int(r.route) for r in serial]
        assert client.metric("dualres_share_high") == pytest.approx(np.mean([r.step == 0 for r in serial]))


def test_a_score_limit_holds(session: DualResSession) -> None:
    photo = pictures(1)[0]
    limit = float(np.median(session.predict(photo)[0].scores))
    (result,) = session.predict(photo, conf=limit)
    with serving(session, conf=limit) as client:
        assert same(client.predict(encoded(photo)), result)


def test_the_protocol_answers_the_same(session: DualResSession) -> None:
    photo = pictures(2)[1]
    (result,) = session.predict(photo)
    height, width = photo.shape[:2]
    flat, nested = photo.ravel().tolist(), photo.tolist()
    with serving(session) as client:
        for answer in (
            client.infer(**base64_of(encoded(photo))),
            client.infer(datatype="UINT8", shape=[height, width, 3], data=flat),
            client.infer(datatype="UINT8", shape=[1, height, width, 3], data=[nested]),
        ):
            assert answer.status == 200 and (answer.json["model_name"], answer.json["id"]) == ("model", "7")
            found = {o["name"]: np.array(o["data"]).reshape(o["shape"]) for o in answer.json["outputs"]}
            assert list(found) == ["boxes", "scores", "labels", "route", "score"]
            assert np.array_equal(found["boxes"].astype(np.float32), result.boxes)
            assert np.array_equal(found["scores"].astype(np.float32), result.scores)
            assert np.array_equal(found["labels"], result.labels) and found["labels"].dtype.kind == "i"
            assert (found["route"][0], found["score"][0]) == (result.route, result.score)


def test_a_server_says_what_it_is(session: DualResSession) -> None:
    with serving(session) as client:
        assert client.ask("/v2").json.keys() == {"name", "version", "extensions"}
        assert client.ask("/v2/health/live").json == {"live": True}
        assert client.ask("/v2/health/ready").json == {"ready": True}
        assert client.ask("/v2/models/model/ready").json == {"name": "model", "ready": True}
        model = client.ask("/v2/models/model").json
        assert model["inputs"] == [{"name": "image", "datatype": "BYTES", "shape": [1]}]
        assert [o["name"] for o in model["outputs"]] == ["boxes", "scores", "labels", "route", "score"]
        paths = client.ask("/openapi.json").json["paths"]
        assert {"/predict", "/v2/models/{model}/infer", "/metrics"} < paths.keys()
        for path in ("/v2/models/other", "/v2/models/other/ready", "/v2/models/other/infer"):
            answer = client.ask(path, b"{}" if path.endswith("infer") else None)
            assert answer.status == 404 and "no model 'other', only 'model'" in answer.error
        assert client.ask("/nothing").status == 404 and client.ask("/nothing").error
        assert client.ask("/predict").status == 405 and client.ask("/predict").error


@pytest.mark.parametrize("form", ["cond", "pair"])
def test_many_clients_get_the_results_of_serial_runs(models: dict[str, Path], form: str) -> None:
    photos = pictures(10)
    session = DualResSession(models[form], threads=1)
    session.threshold = float(np.median([r.score for r in session.predict(photos)]))
    serial = session.predict(photos)
    assert {r.route for r in serial} == {"high", "low"}
    files = [encoded(photo) for photo in photos]
    with serving(session) as client:
        answers = together([partial(client.predict, files[i % 10]) for i in range(320)], 16)
        assert all(same(answer, serial[i % 10]) for i, answer in enumerate(answers))
        assert client.outcomes("answered") == 320 and client.metric("dualres_queue_length") == 0
        high = sum(answer.json["route"] == "high" for answer in answers)
        assert client.metric('dualres_photos_total{route="high"}') == high
        assert 0 < client.metric("dualres_share_high") < 1
        assert client.metric('dualres_request_seconds_count{endpoint="predict"}') == 320


def held(model: Path, folder: Path, shift: float) -> DualResSession:
    """A session that holds 30 %, with a calibration of photos whose scores lie elsewhere."""
    from dualres_plugin.export.files import write_card

    copy = folder / "m.onnx"
    copy.write_bytes(model.read_bytes())
    plain = DualResSession(copy)
    scores = np.sort([r.score for r in plain.predict(pictures(40))])
    write_card(copy, replace(plain.card, quantiles=(np.quantile(scores, np.linspace(0, 1, 101)) + shift).tolist()))
    return DualResSession(copy, target_high_rate=0.3, hold_rate=True, threads=1)


@pytest.mark.parametrize(("shift", "drift"), [(0.0, 0.0), (5.0, 1.0)])
def test_a_rate_is_held_whoever_asks_at_once_and_drift_is_told(
    models: dict[str, Path], tmp_path: Path, shift: float, drift: float
) -> None:
    session = held(models["cond"], tmp_path, shift)
    files = [encoded(photo) for photo in pictures(40)]
    with serving(session, workers=4) as client:
        answers = together([partial(client.predict, files[i % 40]) for i in range(160)], 16)
        high = sum(answer.json["route"] == "high" for answer in answers)
        assert session.controller is not None
        state = session.controller.state
        assert (state.images, state.high) == (160, high)  # the routes taken are those that it learned from
        assert high / 160 == pytest.approx(0.3, abs=0.04)
        assert client.metric("dualres_drift") == drift
        assert client.metric("dualres_share_high_target") == pytest.approx(0.3)
        assert client.metric("dualres_threshold") == pytest.approx(state.threshold)


def test_what_needs_no_controller_shows_none(session: DualResSession) -> None:
    with serving(session) as client:
        assert isinstance(client, Client)
        assert b"dualres_drift" not in client.ask("/metrics").body


def promised(session: DualResSession, high_ms: float, **limits: Any) -> Worker:
    """A worker whose promise is one second, and whose high size takes what the test says."""
    settings = ServeSettings("model", p95_ms=1000.0, **limits)
    return Worker(session, settings, Metrics(lambda: 0, None, False, True), Deadline(1000.0, (high_ms, 1.0)))


@pytest.mark.parametrize(("high_ms", "capped"), [(1.0, 0), (1e6, 5)])
def test_a_promise_runs_photos_smaller_only_where_it_must(session: DualResSession, high_ms: float, capped: int) -> None:
    worker = promised(session, high_ms)
    assert worker.deadline is not None
    photos = pictures(10)
    plain = session.predict(photos)
    small = session.predict(photos, threshold=float("inf"))
    for photo, own, low in zip(photos, plain, small):
        body = bytearray(encoded(photo))
        answer = json.loads(worker.predict(body, "image/png", worker.deadline.arrive()))
        expected = low if capped else own
        assert (answer["route"], answer["boxes"]) == (expected.route, expected.boxes.tolist())
    assert f"dualres_capped_total {float(capped)}" in worker.metrics.text().decode()
    assert "dualres_late_total 0.0" in worker.metrics.text().decode()


def test_a_promise_over_http(session: DualResSession) -> None:
    files = [encoded(photo) for photo in pictures(10)]
    with serving(session, p95_ms=60_000.0) as client:
        answers = together([partial(client.predict, files[i % 10]) for i in range(40)], 8)
        for number, answer in enumerate(answers):
            assert same(answer, session.predict(pictures(10)[number % 10])[0])
        assert client.metric("dualres_capped_total") == client.metric("dualres_late_total") == 0
