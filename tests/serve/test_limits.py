"""What a server refuses, and what it is left with: slow, large, damaged and lost requests."""

from __future__ import annotations

import logging
import struct
import threading
import time
import zlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("fastapi", reason="needs the extra `serve`")
pytest.importorskip("prometheus_client", reason="needs the extra `serve`")

from fastapi import FastAPI

from dualres_plugin.common.errors import DualResError
from dualres_plugin.runtime.session import DualResSession
from dualres_plugin.serve import server
from tests.serve.client import Answer, Client, base64_of, encoded, eventually, same, serving, together
from tests.small_models import pictures

pytestmark = pytest.mark.localhost
PHOTO = encoded(pictures(1)[0])
JPEG = encoded(pictures(1)[0], "JPEG")
HEAD = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n"


@pytest.fixture
def session(models: dict[str, Path]) -> DualResSession:
    return DualResSession(models["cond"], threads=1)


@pytest.fixture
def slow(session: DualResSession, monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    """A session whose photos wait at a gate."""
    gate = Gate(session)
    monkeypatch.setattr(session, "predict", gate)
    yield gate
    gate.open.set()


class Gate:
    """`session.predict` that waits to be let through, and counts."""

    def __init__(self, session: DualResSession):
        self.open = threading.Event()
        self.begun = 0
        self._predict = session.predict

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        self.begun += 1
        assert self.open.wait(60)
        return self._predict(*arguments, **options)


def png_of(width: int, height: int) -> bytes:
    """The head of a PNG that promises much, and almost nothing behind it."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(100_000))) + chunk(b"IEND", b"")


def in_the_background(call: Any) -> tuple[threading.Thread, list[Answer]]:
    answers: list[Answer] = []
    thread = threading.Thread(target=lambda: answers.append(call()))
    thread.start()
    return thread, answers


# -- bad requests ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        (b"", 400, "empty"),
        (b"hello", 415, "neither a JPEG nor a PNG"),
        (b"GIF89a" + bytes(100), 415, "neither a JPEG nor a PNG"),
        (PHOTO[: len(PHOTO) // 2], 422, "damaged or cut short"),
        (JPEG[: len(JPEG) // 2], 422, "damaged or cut short"),
        (JPEG[:20], 422, "damaged or cut short"),
        (JPEG[:2] + b"\xff\xd9" + JPEG[4:], 422, "damaged or cut short"),
        (png_of(60_000, 60_000), 413, "million"),
        (png_of(9_000, 9_000), 413, "9000x9000 pixels, more than the 50 million"),
        (png_of(3_000, 3_000), 422, "damaged or cut short"),
        (JPEG + b"\xff\xda" * 200, 422, "more than 100 scans"),
    ],
    ids=["empty", "text", "gif", "png cut", "jpeg cut", "jpeg head", "jpeg end", "bomb", "large", "short", "scans"],
)
def test_a_bad_photo_gets_one_message_and_the_server_goes_on(
    session: DualResSession, body: bytes, status: int, said: str
) -> None:
    with serving(session) as client:
        for answer in (client.predict(body), client.infer(**base64_of(body))):
            if body:
                assert answer.status == status and said in answer.error
        assert client.predict(body).status == status
        assert client.outcomes("refused") == 2
        assert same(client.predict(PHOTO), session.predict(pictures(1)[0])[0])


def test_damaged_bytes_never_fail_inside(session: DualResSession) -> None:
    rng = np.random.default_rng(0)
    with serving(session) as client:
        for data in (PHOTO, JPEG):
            for _ in range(60):
                broken = bytearray(data)
                for at in rng.integers(3, len(data), 8):
                    broken[at] = rng.integers(256)
                answer = client.predict(bytes(broken))
                assert answer.status in (200, 413, 415, 422) and (answer.status == 200 or answer.error)
        assert client.outcomes("failed") == 0


@pytest.mark.parametrize("boundary", ["x", ""])
def test_a_form_must_be_one_file(session: DualResSession, boundary: str) -> None:
    part = b'--x\r\nContent-Disposition: form-data; name="f"; filename="a"\r\n\r\n' + PHOTO + b"\r\n"
    with serving(session) as client:
        for body in (part + part + b"--x--\r\n", b"--x--\r\n", b"nothing", PHOTO):
            answer = client.ask("/predict", body, content_type=f"multipart/form-data; boundary={boundary}")
            assert answer.status == 400 and answer.error


NUMBERS = {"datatype": "UINT8", "shape": [2, 2, 3]}


@pytest.mark.parametrize(
    ("tensor", "status", "said"),
    [
        ({"datatype": "BYTES", "shape": [1], "data": ["%%%"]}, 400, "base64"),
        ({"datatype": "BYTES", "shape": [1], "data": ["é"]}, 400, "base64"),
        ({"datatype": "BYTES", "shape": [2], "data": ["", ""]}, 400, "shape"),
        ({"datatype": "BYTES", "shape": [1], "data": [3]}, 400, "shape"),
        ({"datatype": "FP32", "shape": [1], "data": [3.0]}, 400, "BYTES"),
        ({"name": "pixels", "datatype": "BYTES", "shape": [1], "data": [""]}, 400, "unknown input 'pixels'"),
        ({"datatype": "BYTES", "shape": ["a"], "data": [""]}, 400, "inputs.0.shape.0"),
        ({"datatype": "BYTES", "shape": [1]}, 400, "inputs.0.data"),
        ({**NUMBERS, "shape": [2, 2], "data": [1] * 4}, 422, "[H, W, 3]"),
        ({**NUMBERS, "shape": [-2, -2, 3], "data": [1] * 12}, 422, "[H, W, 3]"),
        ({**NUMBERS, "shape": [90_000, 90_000, 3], "data": [1]}, 413, "million"),
        ({**NUMBERS, "data": [1] * 11}, 422, "12 whole numbers"),
        ({**NUMBERS, "data": [1.5] * 12}, 422, "12 whole numbers"),
        ({**NUMBERS, "data": [10**30] * 12}, 422, "12 whole numbers"),
        ({**NUMBERS, "data": [True] * 12}, 422, "12 whole numbers"),
        ({**NUMBERS, "data": ["1"] * 12}, 422, "12 whole numbers"),
        ({**NUMBERS, "data": [[1, 2], [3]]}, 422, "12 whole numbers"),
        ({**NUMBERS, "data": [256] * 12}, 422, "between 0 and 255"),
        ({**NUMBERS, "data": [-1] * 12}, 422, "between 0 and 255"),
    ],
)
def test_a_bad_tensor_gets_one_message(session: DualResSession, tensor: dict[str, Any], status: int, said: str) -> None:
    with serving(session) as client:
        answer = client.infer(**tensor)
        assert answer.status == status and said in answer.error


@pytest.mark.parametrize(
    "body",
    [
        *(b"{", b"[]", b"{}", b"\xff\xfe", b"[" * 100_000, b'{"inputs": []}', b'{"inputs": [1, 2]}', PHOTO),
        b'{"inputs": [{"name": "image", "datatype": "BYTES", "shape": [1], "data": [""]}], "outputs": [{"name": "x"}]}',
    ],
)
def test_a_bad_inference_request_gets_one_message(session: DualResSession, body: bytes) -> None:
    with serving(session) as client:
        answer = client.ask("/v2/models/model/infer", body)
        assert answer.status == 400 and answer.error
        assert client.outcomes("refused", "infer") == 1


def test_an_error_of_the_session_stays_in_the_log(
    session: DualResSession, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise DualResError("'/secret/model.onnx' failed")

    monkeypatch.setattr(session, "predict", fails)
    with serving(session) as client, caplog.at_level(logging.ERROR, "dualres"):
        answer = client.predict(PHOTO)
        assert answer.status == 500 and "secret" not in answer.error
        assert client.outcomes("failed") == 1
    assert "/secret/model.onnx" in caplog.text


# -- too much ----------------------------------------------------------------------------------------------


def test_a_body_of_200_mb_is_refused_unread(session: DualResSession) -> None:
    with serving(session) as client:
        head = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 200000000\r\n\r\n"
        with client.raw(head) as connection:  # not one byte of it was sent
            assert b" 413 " in connection.recv(4096)
        answer = client.predict(bytes(40_000_000))
        assert answer.status == 413 and "more than the 20 MB" in answer.error
        stream = (bytes(1_000_000) for _ in range(40))  # in chunks, of no stated length
        answer = client.ask("/predict", stream)
        assert answer.status == 413 and answer.error
        assert client.predict(PHOTO).status == 200


def test_bodies_are_bounded_together(session: DualResSession) -> None:
    """Eleven that stop just before their ends hold more than ten may: one is refused, and all is given back."""
    size = 50_000
    head = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % size
    with serving(session, max_mb=size / 1e6) as client:
        open_ones = [client.raw(head + bytes(size - 1)) for _ in range(11)]
        eventually(lambda: client.outcomes("busy") == 1)
        for connection in open_ones:
            connection.close()
        eventually(lambda: client.outcomes("gone") == 10)
        assert all(a.status == 200 for a in together([partial(client.predict, PHOTO)] * 20, 10))


def test_a_full_queue_says_when_to_come_again(session: DualResSession, slow: Gate) -> None:
    with serving(session, workers=1, queue=2) as client:
        waiting = [in_the_background(partial(client.predict, PHOTO)) for _ in range(3)]
        eventually(lambda: client.metric("dualres_queue_length") == 2)
        answer = client.predict(PHOTO)
        assert answer.status == 503 and "queue is full" in answer.error and answer.headers["retry-after"] == "1"
        assert client.ask("/v2/health/ready").status == 200 and client.outcomes("busy") == 1
        slow.open.set()
        for thread, answers in waiting:
            thread.join(30)
            assert answers[0].status == 200
        assert client.metric("dualres_queue_length") == 0
        assert client.predict(PHOTO).status == 200


# -- too slow, and gone --------------------------------------------------------------------------------------


def test_a_slow_body_is_told_so_and_keeps_nobody_waiting(session: DualResSession) -> None:
    with serving(session, timeout=2.0) as client:
        slow_ones = [client.raw(HEAD + b"x") for _ in range(50)]  # more than the queue holds
        assert client.predict(PHOTO).status == 200
        for connection in slow_ones:
            with connection:
                assert b" 408 " in connection.recv(4096)
        assert client.outcomes("refused") == 50


def test_a_connection_that_asks_for_nothing_is_dropped(
    session: DualResSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "IDLE_SECONDS", 0.3)
    with serving(session) as client:
        for text in (b"", b"POST /predict HT"):
            with client.raw(text) as connection:
                assert received(connection) == b""
        head = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 200000000\r\n\r\n"
        with client.raw(head) as connection:  # refused, but the rest of it keeps coming
            assert b" 413 " in connection.recv(4096)
            with pytest.raises(OSError):  # reset or broken pipe, as the system has it
                for _ in range(200):
                    connection.sendall(b"x")
                    time.sleep(0.02)


def test_a_request_at_work_is_not_dropped(session: DualResSession, slow: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "IDLE_SECONDS", 0.1)
    with serving(session) as client:
        thread, answers = in_the_background(partial(client.predict, PHOTO))
        time.sleep(0.6)
        slow.open.set()
        thread.join(30)
        assert answers[0].status == 200


def received(connection: Any) -> bytes:
    """What comes until the connection ends; a reset is an end."""
    try:
        return bytes(connection.recv(4096))
    except ConnectionResetError:
        return b""


def test_a_photo_that_is_not_reached_in_time_is_never_begun(session: DualResSession, slow: Gate) -> None:
    with serving(session, workers=1, timeout=1.5) as client:
        first = in_the_background(partial(client.predict, PHOTO))
        eventually(lambda: slow.begun == 1)
        answer = client.predict(PHOTO)
        assert answer.status == 503 and "in time" in answer.error
        first[0].join(30)
        assert first[1][0].status == 503
        slow.open.set()
        eventually(lambda: client.predict(PHOTO).status == 200)
        assert slow.begun == 2


def test_the_photo_of_a_client_that_left_is_never_begun(session: DualResSession, slow: Gate) -> None:
    whole = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(PHOTO) + PHOTO
    with serving(session, workers=1) as client:
        at_work, waiting = client.raw(whole), client.raw(whole)
        eventually(lambda: slow.begun == 1 and client.metric("dualres_queue_length") == 1)
        half = client.raw(HEAD + b"x")  # in the middle of its body
        for connection in (at_work, waiting, half):
            connection.close()
        eventually(lambda: client.outcomes("gone") == 3)
        assert client.metric("dualres_queue_length") == 0
        slow.open.set()
        assert client.predict(PHOTO).status == 200 and slow.begun == 2


# -- the end -----------------------------------------------------------------------------------------------


def test_a_server_that_stops_answers_what_it_has(session: DualResSession, slow: Gate) -> None:
    background: list[tuple[threading.Thread, list[Answer]]] = []
    opener = threading.Timer(0.8, slow.open.set)
    with serving(session, workers=1) as client:
        background += [in_the_background(partial(client.predict, PHOTO)) for _ in range(4)]
        eventually(lambda: slow.begun == 1 and client.metric("dualres_queue_length") == 3)
        opener.start()
    for thread, answers in background:  # the block asked it to stop, and waited
        thread.join(30)
        assert answers[0].status == 200
    with pytest.raises(ConnectionRefusedError):
        Client(client.port).ask("/v2/health/live")


def test_an_address_in_use_is_one_error() -> None:
    taken = server.bind("127.0.0.1", 0)
    with taken:
        taken.listen()
        with pytest.raises(DualResError, match=r"cannot listen on 127\.0\.0\.1:.*Give another"):
            server.bind("127.0.0.1", taken.getsockname()[1])
    with server.bind("127.0.0.1", 0) as first:
        second = server.bind("127.0.0.1", first.getsockname()[1])  # nobody listens yet
        first.listen()
        with second, pytest.raises(DualResError, match=r"cannot listen: .*Give another"):
            server.make_server(FastAPI(), 1).run(sockets=[second])
    for host in ("no.such.host.invalid", "a" * 300, "203.0.113.1"):
        with pytest.raises(DualResError, match="cannot listen on"):
            server.bind(host, 8000)
