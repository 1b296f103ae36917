"""A folder with a web page that runs an exported model: no server, no request to anybody, offline (docs/browser.md)."""

from __future__ import annotations

import base64
import gzip
import json
import shutil
import tempfile
from collections.abc import Iterator
from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING

from dualres_plugin.common.errors import DualResError
from dualres_plugin.common.files.atomic import atomic_write, make_dir
from dualres_plugin.export.graph import require_onnx
from dualres_plugin.export.web.npm import fetch, read_package
from dualres_plugin.runtime.session import DualResSession

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto

PAGE = ("index.html", "page.css", "engine.js", "page.js", "detect.js")
ENGINES = {  # script, glue and binary of onnxruntime-web; the one with WebGPU is slower to start
    "wasm": ("ort.wasm.min.js", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm"),
    "webgpu": (
        "ort.webgpu.min.js",
        "ort-wasm-simd-threaded.asyncify.mjs",
        "ort-wasm-simd-threaded.asyncify.wasm",
    ),
}


def write_page(model: Path, out: Path, *, title: str | None = None, package: Path | None = None) -> Path:
    """Write the page, the model and its runtimes.

    Args:
        model: an exported .onnx file of the form cond, resize or branches.
        out: folder to write to; made where it is missing.
        title: over the page; the file's name by default.
        package: onnxruntime-web as `npm pack` gives it; fetched from npm if not given.

    Returns:
        The page, `index.html`; it opens from its file.

    Raises:
        DualResError: `model` is no exported file or a pair; npm is not there or fails; `package` is another one.
    """
    card, loaded = _read(model)
    with tempfile.TemporaryDirectory() as folder:
        dist = read_package(package or fetch(Path(folder)), [name for engine in ENGINES.values() for name in engine])
    make_dir(out)
    for engine, (script, glue, binary) in ENGINES.items():
        parts = {"glue": _packed(dist[glue]), "wasm": _packed(dist[binary])}
        text = f"{dist[script].decode('utf-8')}\nDUALRES.runtime = {_script_json(parts)};\n"
        _write(out / f"runtime-{engine}.js", text)
    content = {
        "title": title or model.name,
        "card": card,
        "onnx": _packed(loaded.SerializeToString()),
        "onCPU": sorted(_antialiased(loaded.graph)),
    }
    _write(out / "model.js", f"const DUALRES = {_script_json(content)};\n")
    _copy(PAGE, out)
    return out / "index.html"


def write_node(model: Path, out: Path) -> Path:
    """Write what runs a model in Node: `model.onnx`, `card.json`, `detect.js` and `run.js`.

    Args:
        model: an exported .onnx file of the form cond, resize or branches.
        out: folder to write to; made where it is missing.

    Returns:
        The script, `run.js`.

    Raises:
        DualResError: `model` is no exported file or a pair.
    """
    card, loaded = _read(model)
    make_dir(out)
    with atomic_write(out / "model.onnx") as temporary:
        temporary.write_bytes(loaded.SerializeToString())
    _write(out / "card.json", json.dumps(card))
    _copy(("detect.js", "run.js"), out)
    return out / "run.js"


def _read(model: Path) -> tuple[dict[str, object], ModelProto]:
    """The card of a model, and the model with plain inputs."""
    if model.is_dir() or model.suffix == ".json":
        raise DualResError(f"'{model}' is a pair: a browser runs one file, --form cond, resize or branches.")
    card: dict[str, object] = json.loads(DualResSession(model, warm_up=False).card.to_json())
    return card, _with_plain_inputs(model)


def _with_plain_inputs(model: Path) -> ModelProto:
    """The model without the defaults of its inputs: onnxruntime-web refuses these, onnxruntime-node ignores them."""
    loaded: ModelProto = require_onnx().load(model)
    inputs = {value.name for value in loaded.graph.input}
    for default in [value for value in loaded.graph.initializer if value.name in inputs]:
        loaded.graph.initializer.remove(default)
    return loaded


def _antialiased(graph: GraphProto) -> Iterator[str]:
    """Names of the Resize nodes with antialias, branches included: WebGPU takes them and fails when it runs."""
    for node in graph.node:
        if any(attribute.name == "antialias" and attribute.i for attribute in node.attribute):
            yield node.name
        for attribute in node.attribute:
            yield from _antialiased(attribute.g)


def _packed(content: bytes) -> str:
    """Bytes as the base64 of their gzip: half the size of the page; every browser unpacks it."""
    return base64.b64encode(gzip.compress(content, 6, mtime=0)).decode("ascii")


def _script_json(values: object) -> str:
    """JSON that may stand in a script: no name of a class can end it."""
    return json.dumps(values, ensure_ascii=True).replace("</", "<\\/").replace("<!--", "<\\!--")


def _copy(names: tuple[str, ...], out: Path) -> None:
    with as_file(files("dualres_plugin.export.web") / "assets") as assets:
        for name in names:
            shutil.copyfile(assets / name, out / name)


def _write(path: Path, text: str) -> None:
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
