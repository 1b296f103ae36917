"""`dualres serve` as an operator runs it: a real detector, a process without torch, signals, wrong options."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest

pytest.importorskip("fastapi", reason="needs the extra `serve`")
pytest.importorskip("prometheus_client", reason="needs the extra `serve`")

from dualres_plugin.runtime.session import DualResSession
from tests.e2e.cli import command, dualres, ok, subprocess_dualres
from tests.fakes import lively_router
from tests.serve.client import Client, base64_of, eventually, same, together
from tests.shared import require_shared

pytestmark = pytest.mark.localhost
# A server's image needs neither: an import of them fails in this process.
NO_TORCH = "import sys; sys.modules.update(torch=None, torchvision=None)\n"
MAIN = NO_TORCH + "from dualres_plugin.cli.app import main\nmain()"


@contextmanager
def server(*options: object) -> Iterator[tuple[Client, subprocess.Popen[str]]]:
    """`dualres serve` in a process of its own."""
    words = [sys.executable, "-c", MAIN, "serve", *map(str, options), "--port", "0"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout and process.stderr
        line = process.stdout.readline()
        assert line, process.stderr.read()
        name, address = line.split(" on http://")
        yield Client(int(address.rpartition(":")[2]), name), process
    finally:
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def photos() -> list[Path]:
    pytest.importorskip("ultralytics")
    from tests.adapters.ultralytics.helpers import val_photos

    return val_photos(8)


@pytest.fixture(scope="module")
def model(photos: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """YOLO11n with a router that sends half of the photos high."""
    pytest.importorskip("onnxruntime")
    folder = tmp_path_factory.mktemp("served")
    lively_router(photos).save(folder / "router")
    words = ("--router", folder / "router", "--high", 320, "--photos", 0, "--out", folder / "yolo11n.onnx")
    ok("export", require_shared("weights", "yolo11n.pt"), *words)
    return folder / "yolo11n.onnx"


def resident(process: subprocess.Popen[str]) -> float:
    """Memory in MB."""
    found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{process.pid}/status").read_text())
    assert found
    return int(found[1]) / 1024


@pytest.mark.shared
def test_a_detector_is_served_without_torch_and_as_its_session_runs_it(model: Path, photos: list[Path]) -> None:
    expected = DualResSession(model).predict(photos)
    assert {r.route for r in expected} == {"high", "low"} and any(map(len, expected))
    files = [photo.read_bytes() for photo in photos]
    with server(model) as (client, _):
        assert client.name == "yolo11n"
        answers = together([partial(client.predict, files[i % 8]) for i in range(96)], 16)
        assert all(same(answer, expected[i % 8]) for i, answer in enumerate(answers))
        outputs = {o["name"]: o["data"] for o in client.infer(**base64_of(files[0])).json["outputs"]}
        assert outputs["labels"] == expected[0].labels.tolist() and outputs["route"] == [expected[0].route]
        assert client.outcomes("answered") == 96 and client.outcomes("answered", "infer") == 1


@pytest.mark.shared
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
def test_memory_is_flat_whatever_clients_do(model: Path, photos: list[Path]) -> None:
    files = [photo.read_bytes() for photo in photos]
    with server(model, "--queue", 4) as (client, process):
        together([partial(client.predict, files[i % 8]) for i in range(32)], 8)
        before = resident(process)
        head = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(files[0])
        for i in range(40):
            client.raw(head + files[0][: len(files[0]) // (1 + i % 2)]).close()  # killed clients
            assert client.predict(files[0][:2000]).status == 422
        for _ in range(3):
            assert client.predict(bytes(30_000_000)).status == 413
        statuses = {a.status for a in together([partial(client.predict, files[i % 8]) for i in range(96)], 16)}
        assert statuses <= {200, 503} and 200 in statuses
        assert resident(process) < before + 48
        eventually(lambda: client.metric("dualres_queue_length") == 0)
        assert client.predict(files[0]).status == 200


@pytest.mark.shared
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_after_what_is_inside(model: Path, photos: list[Path], number: int) -> None:
    data = photos[0].read_bytes()
    head = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(data)
    with server(model, "--workers", 1) as (client, process):
        open_ones = [client.raw(head + data) for _ in range(6)]
        eventually(lambda: client.metric("dualres_queue_length") > 0 or client.outcomes("answered") == 6)
        process.send_signal(number)
        for connection in open_ones:
            with connection:
                assert connection.recv(4096).startswith(b"HTTP/1.1 200")
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0 and not out and not err, err


@pytest.mark.shared
def test_a_rate_is_held_from_the_command_line(model: Path, photos: list[Path]) -> None:
    with server(model, "--target-high-rate", 0.25, "--hold", "--name", "street") as (client, _):
        files = [photo.read_bytes() for photo in photos]
        answers = [client.predict(files[i % 8]) for i in range(80)]
        assert sum(a.json["route"] == "high" for a in answers) / 80 == pytest.approx(0.25, abs=0.05)
        assert client.metric("dualres_share_high_target") == 0.25 and client.metric("dualres_drift") in (0, 1)
        assert client.ask("/v2/models/street").status == 200


def test_wrong_options_are_one_message(models: dict[str, Path], tmp_path: Path) -> None:
    file = models["cond"]
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert "in use" in dualres("serve", file, "--port", port).message
    assert "--target-high-rate or --shares, not" in dualres("serve", file, "--hold", "--threshold", 0.1).message
    assert "--name 'a/b'" in dualres("serve", file, "--port", 0, "--name", "a/b").message
    assert "--shares 'a'" in dualres("serve", file, "--port", 0, "--shares", "a").message
    assert "calibrat" in dualres("serve", file, "--port", 0, "--target-high-rate", 0.3).message
    assert "does not exist" in dualres("serve", tmp_path / "nothing.onnx", "--port", 0).message
    assert "cannot listen" in dualres("serve", file, "--host", "no.such.host.invalid").message
    assert "give one of them" in dualres("serve", file, "--port", 0, "--hold", "--p95-ms", 40).message
    assert "cannot be kept" in dualres("serve", file, "--port", 0, "--p95-ms", 0.001).message
    for option, value in (("--max-mb", 0), ("--workers", 0), ("--timeout", "nan"), ("--port", 70_000), ("--conf", 2)):
        assert option in dualres("serve", file, option, value).message
    (tmp_path / "text.onnx").write_text("hello")
    assert "cannot be loaded" in subprocess_dualres("serve", tmp_path / "text.onnx", "--port", 0).message


def test_a_missing_extra_is_named(models: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys; sys.modules['uvicorn'] = None\n")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        command("serve", models["cond"], "--port", 0), capture_output=True, text=True, env=environment, timeout=120
    )
    assert done.returncode == 2 and 'uvicorn. Install it with: pip install "dualres-plugin[serve]"' in done.stderr


def test_it_does_not_listen_before_the_model_is_loaded(models: dict[str, Path]) -> None:
    with server(models["pair"]) as (client, process):
        assert client.name == "pair" and client.ask("/v2/health/ready").json == {"ready": True}
        process.send_signal(signal.SIGTERM)
        until = time.monotonic() + 30
        while process.poll() is None and time.monotonic() < until:
            time.sleep(0.05)
        assert process.returncode == 0
