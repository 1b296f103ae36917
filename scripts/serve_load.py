"""What `dualres serve` holds: as fast as its session, the same results, and whole after everything clients do to it.

python scripts/serve_load.py yolo11n_dualres.onnx photos/ --requests 2000 --clients 16
"""

from __future__ import annotations

import argparse
import http.client
import json
import queue
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from dualres_plugin.common.errors import one_message
from dualres_plugin.common.images.sources import list_images
from dualres_plugin.runtime.session import DualResSession, SessionResult

MOST_GROWTH = 64.0  # MB that a server may take above what it had when warm
PHOTOS = 100


class Server:
    """`dualres serve` in a process of its own, on a free port."""

    def __init__(self, model: str, options: list[str]):
        command = [sys.executable, "-m", "dualres_plugin.cli", "serve", model, "--port", "0", *options]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout
        line = self.process.stdout.readline()
        if not line:
            sys.exit("the server did not start.")
        self.name, address = line.split(" on ")
        self.port = int(address.rpartition(":")[2])

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)

    def raw(self, data: bytes) -> socket.socket:
        """A connection on which some bytes were sent, and perhaps no more will be."""
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=120)
        connection.sendall(data)
        return connection

    def ask(self, path: str, body: bytes | None = None) -> tuple[int, bytes]:
        connection = self.connect()
        try:
            connection.request("GET" if body is None else "POST", path, body)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def memory(self) -> float:
        """Resident, in MB."""
        status = Path(f"/proc/{self.process.pid}/status")
        found = re.search(r"VmRSS:\s+(\d+)", status.read_text()) if status.exists() else None
        return int(found[1]) / 1024 if found else float("nan")

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(120)


def same(body: bytes, result: SessionResult) -> bool:
    """Is an answer of `/predict` the session's result, bit for bit?"""
    found = json.loads(body)
    boxes = np.array(found["boxes"], np.float32).reshape(-1, 4)
    scores = np.array(found["scores"], np.float32)
    rest = (found["labels"], found["route"], found["score"])
    equal = np.array_equal(boxes, result.boxes) and np.array_equal(scores, result.scores)
    return equal and rest == (result.labels.tolist(), result.route, result.score)


def bare(session: DualResSession, files: list[Path], count: int) -> float:
    """Photos a second of the session alone, from file to boxes."""
    started = time.perf_counter()
    for i in range(count):
        session.predict(files[i % len(files)])
    return count / (time.perf_counter() - started)


def load(
    server: Server, photos: list[bytes], expected: list[SessionResult], count: int, clients: int
) -> tuple[float, list[float], int]:
    """Many clients, each with one connection that it keeps.

    Returns:
        Photos a second, the seconds of each request, and how many answers were not the session's.
    """
    todo: queue.SimpleQueue[int] = queue.SimpleQueue()
    for i in range(count):
        todo.put(i)
    seconds: list[float] = []
    wrong: list[int] = []

    def client() -> None:
        connection = server.connect()
        while True:
            try:
                i = todo.get_nowait()
            except queue.Empty:
                return connection.close()
            began = time.perf_counter()
            connection.request("POST", "/predict", photos[i % len(photos)])
            answer = connection.getresponse()
            body = answer.read()
            seconds.append(time.perf_counter() - began)
            if answer.status != 200 or not same(body, expected[i % len(photos)]):
                wrong.append(i)

    started = time.perf_counter()
    threads = [threading.Thread(target=client) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return count / (time.perf_counter() - started), seconds, len(wrong)


# -- what clients do to a server -----------------------------------------------------------------------------


def head(length: int) -> bytes:
    return b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % length


def bomb() -> bytes:
    """A PNG of a few bytes that promises 3.6 thousand million pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    size = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + chunk(b"IDAT", zlib.compress(bytes(1_000_000)))


def slow_client(server: Server, photo: bytes) -> int:
    """A byte now and then, until the server has enough of it."""
    with server.raw(head(1_000_000)) as connection:
        connection.settimeout(0.2)
        for _ in range(300):
            try:
                return int(connection.recv(4096).split()[1])
            except TimeoutError:
                connection.sendall(b"x")
    return 0


def killed_clients(server: Server, photo: bytes) -> int:
    """Fifty that leave with a reset: half of them in their body, half while their photo waits."""
    for i in range(50):
        connection = server.raw(head(len(photo)) + (photo if i % 2 else photo[: len(photo) // 2]))
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()
    return server.ask("/v2/health/ready")[0]


HOSTILE: dict[str, tuple[int, Callable[[Server, bytes], int]]] = {
    "a slow client": (408, slow_client),
    "a body of 200 MB": (413, lambda server, photo: server.ask("/predict", bytes(200_000_000))[0]),
    "a decompression bomb": (413, lambda server, photo: server.ask("/predict", bomb())[0]),
    "a broken JPEG": (422, lambda server, photo: server.ask("/predict", photo[: len(photo) // 2])[0]),
    "no photo": (415, lambda server, photo: server.ask("/predict", b"hello")[0]),
    "50 killed clients, then health": (200, killed_clients),
}


def stopped_in_mid_request(server: Server, photo: bytes) -> tuple[int, int]:
    """SIGTERM while four photos are inside: how many were answered, and the status of the process."""
    open_ones = [server.raw(head(len(photo)) + photo) for _ in range(4)]
    time.sleep(0.05)
    status = server.stop()
    answered = 0
    for connection in open_ones:
        with connection:
            answered += connection.recv(64).startswith(b"HTTP/1.1 200")
    return answered, status


def run(arguments: argparse.Namespace) -> list[str]:
    """The whole of it; returns what was not as it should be."""
    files = list_images(arguments.photos)[:PHOTOS]
    photos = [file.read_bytes() for file in files]
    session = DualResSession(arguments.model, threads=arguments.threads)
    expected = [session.predict(file)[0] for file in files]
    options = ["--timeout", "15"] + ([] if arguments.threads is None else ["--threads", str(arguments.threads)])
    server = Server(arguments.model, options)
    try:
        load(server, photos, expected, 4 * len(photos), arguments.clients)  # warm: pools, caches, connections
        memory = [server.memory()]
        part = max(1, arguments.requests // 8)
        before = bare(session, files, part)
        rate, seconds, wrong = load(server, photos, expected, arguments.requests, arguments.clients)
        show(arguments, rate, (before + bare(session, files, part)) / 2, seconds, wrong)
        memory.append(server.memory())
        problems = attack(server, photos[0])
        wrong += load(server, photos, expected, len(photos), arguments.clients)[2]
        memory.append(server.memory())
        print("MB resident, warm / after the load / after all: " + " / ".join(f"{m:.0f}" for m in memory))
        answered, status = stopped_in_mid_request(server, photos[0])
        print(f"SIGTERM with 4 requests inside: {answered} answered, status {status}")
        problems += [f"{wrong} answers differ"] if wrong else []
        problems += ["memory grew"] if max(memory) > memory[0] + MOST_GROWTH else []
        return problems + ([] if (answered, status) == (4, 0) else ["the end was not graceful"])
    finally:
        server.process.kill()


def show(arguments: argparse.Namespace, rate: float, alone: float, seconds: list[float], wrong: int) -> None:
    """What the load gave."""
    middle, most = np.quantile(seconds, (0.5, 0.99))
    print(f"{arguments.requests} requests, {arguments.clients} clients: {wrong} answers differ from the session's")
    print(f"session alone {alone:.1f} photos/s, server {rate:.1f} photos/s: {rate / alone:.3f}")
    print(f"a request takes {1000 * middle:.0f} ms (median), {1000 * most:.0f} ms (99 %)")


def attack(server: Server, photo: bytes) -> list[str]:
    """All of `HOSTILE`; returns what was not answered as it should be."""
    problems = []
    for name, (status, act) in HOSTILE.items():
        found = act(server, photo)
        print(f"{name}: {found}")
        problems += [f"{name}: {found}, not {status}"] if found != status else []
    return problems


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="the .onnx file, or the folder of a pair")
    parser.add_argument("photos", help="a folder; its first 100 are used")
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--threads", type=int, help="of onnxruntime, in the server and in the bare session")
    problems = run(parser.parse_args())
    if problems:
        sys.exit("\n".join(problems))


if __name__ == "__main__":
    with one_message():
        main()
