"""A server in a thread of this process, and a client of it that can misbehave."""

from __future__ import annotations

import base64
import http.client
import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image

from dualres_plugin.runtime.session import DualResSession, SessionResult


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        assert self.headers["content-type"] == "application/json", self.headers
        return json.loads(self.body)

    @property
    def error(self) -> str:
        """The one message; fails if anything of the server's inside is in it."""
        assert self.json.keys() == {"error"}
        text = str(self.json["error"])
        assert not re.search(r"Traceback|/|\b0x[0-9a-f]|<_io|\.onnx|\.py", text), text
        return text


@dataclass(frozen=True)
class Client:
    """Talks to one server; every call has a connection of its own."""

    port: int
    name: str = "model"

    def ask(self, path: str, body: Any = None, method: str | None = None, **headers: str) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            named = {key.replace("_", "-"): value for key, value in headers.items()}
            connection.request(method or ("GET" if body is None else "POST"), path, body, named)
            response = connection.getresponse()
            return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
        finally:
            connection.close()

    def predict(self, photo: bytes) -> Answer:
        return self.ask("/predict", photo)

    def infer(self, **tensor: Any) -> Answer:
        request = {"id": "7", "inputs": [{"name": "image", **tensor}]}
        return self.ask(f"/v2/models/{self.name}/infer", json.dumps(request))

    def metric(self, name: str) -> float:
        lines = self.ask("/metrics").body.decode().splitlines()
        (value,) = [line.rpartition(" ")[2] for line in lines if line.rpartition(" ")[0] == name]
        return float(value)

    def outcomes(self, outcome: str, endpoint: str = "predict") -> float:
        return self.metric(f'dualres_requests_total{{endpoint="{endpoint}",outcome="{outcome}"}}')

    def raw(self, text: bytes) -> socket.socket:
        """A connection on which some bytes were sent, and perhaps no more will be."""
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=60)
        connection.sendall(text)
        return connection


@contextmanager
def serving(session: DualResSession, **limits: Any) -> Iterator[Client]:
    """A server on a free port, for as long as the block runs; then it must end by itself."""
    from dualres_plugin.serve.app import make_app
    from dualres_plugin.serve.server import bind, make_server
    from dualres_plugin.serve.settings import ServeSettings

    up = threading.Event()
    address = bind("127.0.0.1", 0)
    server = make_server(make_app(session, ServeSettings(**{"name": "model", **limits})), 10, up.set)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [address]}, daemon=True)
    thread.start()
    assert up.wait(20)
    try:
        yield Client(address.getsockname()[1])
    finally:
        server.should_exit = True
        thread.join(30)
    assert not thread.is_alive()


def together(calls: list[Callable[[], Answer]], clients: int) -> list[Answer]:
    """What the calls return, made by some clients at once."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(clients) as pool:
        return [future.result() for future in [pool.submit(call) for call in calls]]


def eventually(holds: Callable[[], bool], seconds: float = 20) -> None:
    """Wait until something holds; fails if it never does."""
    until = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.02)


def encoded(photo: np.ndarray | Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    """A photo as the bytes of a file; arrays are (H, W, 3) uint8."""
    image = photo if isinstance(photo, Image.Image) else Image.fromarray(photo)
    file = BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def base64_of(data: bytes) -> dict[str, Any]:
    """The tensor that a photo is in the protocol."""
    return {"datatype": "BYTES", "shape": [1], "data": [base64.b64encode(data).decode()]}


def same(answer: Answer, result: SessionResult) -> bool:
    """Is an answer of `/predict` the session's result, bit for bit?"""
    found = answer.json
    boxes = np.array(found["boxes"], np.float32).reshape(-1, 4)
    return (
        answer.status == 200
        and np.array_equal(boxes, result.boxes)
        and np.array_equal(np.array(found["scores"], np.float32), result.scores)
        and found["labels"] == result.labels.tolist()
        and (found["route"], found["score"]) == (result.route, result.score)
    )
