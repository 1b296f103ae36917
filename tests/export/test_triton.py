"""A repository for Triton: what is in it, and what a real Triton answers with it."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx", reason="needs the extra `export`")
pytest.importorskip("onnxruntime", reason="needs the extra `export`")

from dualres_plugin.common.errors import DualResError
from dualres_plugin.export.triton import check_name, write_repository
from dualres_plugin.runtime.graphs import OrtGraph
from dualres_plugin.runtime.session import DualResSession
from dualres_plugin.runtime.triton import TritonPythonModel, tensors_of
from tests.small_models import pictures

ROOT = Path(__file__).parents[2]
# A wheel that holds Triton, with its Python backend alone; that reads arrays of numpy 2 as if they were empty.
WHEELS = ("nvidia-pytriton==0.7.0", "numpy==1.26.4")

IDLE = """import numpy
class TritonPythonModel: pass
"""
CONFIG = """name: "idle"
backend: "python"
input [ { name: "a" data_type: TYPE_FP32 dims: [ 1 ] } ]
output [ { name: "b" data_type: TYPE_FP32 dims: [ 1 ] } ]
"""

# Stands in for Triton's onnxruntime backend, which that wheel does not have.
RUNS_ONNX = """
import os
import numpy as np
import onnxruntime as ort
import triton_python_backend_utils as pb


class TritonPythonModel:
    def initialize(self, args):
        file = os.path.join(args["model_repository"], args["model_version"], "model.onnx")
        self.session = ort.InferenceSession(file, providers=["CPUExecutionProvider"])

    def execute(self, requests):
        names = [value.name for value in self.session.get_outputs()]
        answers = []
        for request in requests:
            feeds = {t.name(): t.as_numpy() for t in request.inputs()}
            found = self.session.run(names, feeds)
            answers.append(pb.InferenceResponse([pb.Tensor(n, np.asarray(v)) for n, v in zip(names, found)]))
        return answers
"""


@pytest.fixture(params=["inside", "outside", "ladder"])
def pair(
    request: pytest.FixtureRequest,
    models: dict[str, Path],
    outside_models: dict[str, Path],
    ladder_models: dict[str, Path],
) -> Path:
    """A small pair: two sizes with the thumbnail inside or outside, or three sizes."""
    return {"inside": models, "outside": outside_models, "ladder": ladder_models}[request.param]["pair"]


def limits(session: DualResSession) -> list[float]:
    """Thresholds with which some pictures go to each size."""
    scores = [r.score for r in session.predict(pictures(10))]
    return [float(np.quantile(scores, 1 - (i + 1) / len(session.sizes))) for i in range(len(session.sizes) - 1)]


def test_its_models_have_what_triton_reads(pair: Path, tmp_path: Path) -> None:
    card = DualResSession(pair).card
    (tmp_path / "other").mkdir()
    write_repository(pair, tmp_path / "blobs")
    assert {p.name for p in tmp_path.iterdir()} == {
        "other",
        "blobs",
        "blobs_router",
        *(f"blobs_{r}" for r in card.routes),
    }
    router = (tmp_path / "blobs_router" / "config.pbtxt").read_text()
    assert re.search(r'output \[\s*{ name: "score" data_type: TYPE_FP32 dims: \[ 1 \] }\s*\]', router)
    assert ('"thumbnail"' in router) == bool(card.thumbnail) and "threshold" not in router
    for name in ("router", *card.routes):
        file = tmp_path / f"blobs_{name}" / "1" / "model.onnx"
        shutil.move(file, tmp_path / "alone.onnx")  # nothing beside it is needed
        graph = OrtGraph(tmp_path / "alone.onnx").session
        assert not graph.get_overridable_initializers()
        config = (tmp_path / f"blobs_{name}" / "config.pbtxt").read_text()
        assert re.findall(r'name: "(\w+)" data', config) == [
            v.name for v in (*graph.get_inputs(), *graph.get_outputs())
        ]


def test_a_place_that_is_taken_or_a_bad_name_is_refused(models: dict[str, Path], tmp_path: Path) -> None:
    write_repository(models["pair"], tmp_path / "blobs")
    with pytest.raises(DualResError, match="already holds blobs, blobs_router"):
        check_name(tmp_path / "blobs")
    check_name(tmp_path / "blob")
    for name in ("a b", "é", "a.b", "-a"):
        with pytest.raises(DualResError, match="letters, digits"):
            check_name(tmp_path / name)


def in_process(repository: Path, session: DualResSession, monkeypatch: pytest.MonkeyPatch, **parameters: str) -> Any:
    """The model of the Python backend, on a stand-in for Triton."""

    class Request:
        def __init__(
            self, model_name: str, requested_output_names: list[str], inputs: list[Any], preferred_memory: Any
        ):
            self.file = repository / model_name / "1" / "model.onnx"
            self.names, self.feeds = requested_output_names, {t.name: t.value for t in inputs}

        def exec(self) -> Any:
            found = dict(zip(self.names, OrtGraph(self.file)(self.feeds, self.names)))
            return SimpleNamespace(has_error=lambda: False, found=found)

    def tensor(name: str, value: np.ndarray) -> Any:
        return SimpleNamespace(name=name, value=value, as_numpy=lambda: value)

    backend = SimpleNamespace(
        InferenceRequest=Request, Tensor=tensor, PreferredMemory=lambda kind: None, TRITONSERVER_MEMORY_CPU=0,
        get_output_tensor_by_name=lambda response, name: tensor(name, response.found[name]),
        get_input_tensor_by_name=lambda request, name: request.given[name],
        InferenceResponse=lambda tensors=(), error=None: SimpleNamespace(tensors=tensors, error=error),
        TritonError=lambda text: text,
    )  # fmt: skip
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", backend)  # type: ignore[arg-type]
    config = json.dumps({"parameters": {key: {"string_value": text} for key, text in parameters.items()}})
    model = TritonPythonModel()
    folder = str(repository / "blobs")
    model.initialize({"model_name": "blobs", "model_repository": folder, "model_version": "1", "model_config": config})

    def ask(photo: np.ndarray, names: list[str] | None = None) -> Any:
        request = SimpleNamespace(given={"image": tensor("image", photo)}, requested_output_names=lambda: names or [])
        (answer,) = model.execute([request])
        return answer

    return ask


def test_its_answers_are_the_sessions(pair: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session = DualResSession(pair)
    at = limits(session)
    session = DualResSession(pair, thresholds=at)
    write_repository(pair, tmp_path / "blobs")
    key = "threshold" if len(at) == 1 else "thresholds"
    ask = in_process(tmp_path, session, monkeypatch, **{key: ",".join(map(repr, at))})
    routes = set()
    for photo in pictures(10):
        (result,) = session.predict(photo)
        routes.add(result.route)
        answer = {t.name: t.value for t in ask(photo).tensors}
        for name, value in tensors_of(result).items():
            np.testing.assert_array_equal(answer[name], value)
    assert len(routes) == len(session.sizes)
    assert [t.name for t in ask(pictures(1)[0], ["route"]).tensors] == ["route"]
    assert "uint8" in ask(np.zeros((8, 8, 3), dtype=np.float32)).error


def test_parameters_that_are_no_numbers_are_told(
    models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_repository(models["pair"], tmp_path / "blobs")
    with pytest.raises(DualResError, match="must be numbers"):
        in_process(tmp_path, DualResSession(models["pair"]), monkeypatch, threshold="low")


# -- a real Triton -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def triton(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a Triton, out of a wheel."""
    if sys.platform != "linux":
        pytest.skip("Triton runs on Linux")
    folder = tmp_path_factory.mktemp("triton")
    words = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(folder), *WHEELS]
    if subprocess.run(words, capture_output=True, timeout=300).returncode:
        pytest.skip(f"pip cannot install {' and '.join(WHEELS)}")
    found = folder / "pytriton" / "tritonserver"
    stub = (
        found / "python_backend_stubs" / f"{sys.version_info[0]}.{sys.version_info[1]}" / "triton_python_backend_stub"
    )
    if not stub.exists():
        pytest.skip(f"{WHEELS[0]} has no Python backend for this Python")
    shutil.copy(stub, found / "backends" / "python")
    for binary in (found / "bin" / "tritonserver", found / "backends" / "python" / stub.name):
        binary.chmod(0o755)
    model = folder / "repository" / "idle"
    (model / "1").mkdir(parents=True)
    (model / "config.pbtxt").write_text(CONFIG)
    (model / "1" / "model.py").write_text(paths(found) + IDLE)
    with server(found, model.parent, folder / "log", port := free_port()) as process:
        if not ready(process, port):
            pytest.skip("Triton's Python backend does not run on this machine: " + (folder / "log").read_text()[-300:])
    return found


@contextmanager
def server(triton: Path, repository: Path, log: Path, port: int) -> Iterator[subprocess.Popen[str]]:
    """Triton on a repository."""
    libraries = [str(next(triton.parents[1].glob("*.libs"))), os.environ.get("LD_LIBRARY_PATH", "")]
    environment = {**os.environ, "LD_LIBRARY_PATH": ":".join(libraries)}
    options = {
        "model-repository": repository, "backend-directory": triton / "backends", "http-port": port,
        "http-address": "127.0.0.1", "allow-grpc": 0, "allow-metrics": 0,
    }  # fmt: skip
    words = [str(triton / "bin" / "tritonserver"), *(f"--{name}={value}" for name, value in options.items())]
    with log.open("w") as out:
        process = subprocess.Popen(words, env=environment, stdout=out, stderr=subprocess.STDOUT, text=True)
        try:
            yield process
        finally:
            process.kill()
            process.wait()


def answers(port: int, photo: np.ndarray) -> dict[str, Any]:
    """What the server says of a photo, which is sent as bytes, as Triton's clients do."""
    extent = {"binary_data_size": photo.nbytes}
    tensor = {"name": "image", "datatype": "UINT8", "shape": photo.shape, "parameters": extent}
    head = json.dumps({"inputs": [tensor]}).encode()
    length = {"Inference-Header-Content-Length": str(len(head)), "Content-Type": "application/octet-stream"}
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v2/models/blobs/infer", head + photo.tobytes(), headers=length
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return {value["name"]: value for value in json.load(response)["outputs"]}
    except urllib.error.HTTPError as error:
        raise AssertionError(error.read().decode()) from None


def paths(triton: Path) -> str:
    """Triton's Python asks no variable where packages are."""
    places = [triton.parents[1], ROOT, *(place for place in sys.path if place.endswith("-packages"))]
    return f"import sys; sys.path[:0] = {list(map(str, places))!r}\n"


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


def ready(process: subprocess.Popen[str], port: int) -> bool:
    until = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < until:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/v2/health/ready", timeout=5).close()
            return True
        except OSError:
            time.sleep(0.2)
    return False


@pytest.mark.localhost
def test_a_real_triton_branches_and_answers_as_the_session(triton: Path, pair: Path, tmp_path: Path) -> None:
    session = DualResSession(pair)
    session = DualResSession(pair, thresholds=limits(session))
    write_repository(pair, tmp_path / "blobs")
    for file in tmp_path.glob("*/1/model.onnx"):
        (file.parent / "model.py").write_text(paths(triton) + RUNS_ONNX)
        config = file.parents[1] / "config.pbtxt"
        config.write_text(config.read_text().replace('"onnxruntime"', '"python"'))
    own = tmp_path / "blobs" / "1" / "model.py"
    own.write_text(paths(triton) + own.read_text())
    key = "threshold" if len(session.thresholds) == 1 else "thresholds"
    text = ",".join(map(repr, session.thresholds))
    with (tmp_path / "blobs" / "config.pbtxt").open("a") as file:
        file.write(f'parameters {{ key: "{key}" value: {{ string_value: "{text}" }} }}\n')
    log = tmp_path.with_name("triton.log")
    with server(triton, tmp_path, log, port := free_port()) as process:
        assert ready(process, port), log.read_text()[-3000:]
        routes = set()
        for photo in pictures(6):
            (result,) = session.predict(photo)
            found = answers(port, photo)
            routes.add(found["route"]["data"][0])
            assert found["route"]["data"] == [result.route]
            for name in ("boxes", "scores", "labels", "score"):
                expected = tensors_of(result)[name]
                assert found[name]["shape"] == list(expected.shape)
                np.testing.assert_allclose(np.array(found[name]["data"]).reshape(expected.shape), expected, rtol=1e-6)
        assert len(routes) > 1


@pytest.mark.localhost
def test_a_real_triton_reads_the_configurations_of_the_graphs(
    triton: Path, models: dict[str, Path], tmp_path: Path
) -> None:
    """All that this Triton lacks is the backend: it says so of each graph, and has no other complaint."""
    write_repository(models["pair"], tmp_path / "blobs")
    log = tmp_path.with_name("triton.log")
    with server(triton, tmp_path, log, free_port()) as process:
        process.wait(120)
    said = log.read_text()
    for name in ("router", "high", "low"):
        assert re.search(rf"blobs_{name}.*unable to find backend library for backend 'onnxruntime'", said), said[-3000:]
