"""A folder with a web page that runs an exported model in the browser: no server, no request to anybody, offline.

    dualres export yolo11n.pt --router runs/router --images photos/ --out yolo11n_dualres.onnx
    python examples/web/build.py yolo11n_dualres.onnx --out page
    # open page/index.html

It takes onnxruntime-web from npm (`npm pack`, so npm has to be there; once), or from --ort, a package that was packed
before. The forms cond, resize and branches are one file and run; a pair is refused. --node makes what a script for
Node needs instead: model.onnx, card.json, detect.js and run.js (examples/node).
"""

from __future__ import annotations

import argparse
import base64
import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from dualres_plugin.common.errors import DualResError
from dualres_plugin.common.files.atomic import atomic_write, make_dir
from dualres_plugin.runtime.session import DualResSession

VERSION = "1.30.0"  # of onnxruntime-web
HERE = Path(__file__).parent
PAGE = ("index.html", "page.css", "page.js", "detect.js")
SCRIPT, GLUE, WASM = "ort.wasm.min.js", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm"


def main(arguments: list[str] | None = None) -> Path:
    """Build the folder; gives its page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="an exported .onnx file")
    parser.add_argument("--out", type=Path, required=True, help="folder of the page")
    parser.add_argument("--title", help="over the page; the file's name by default")
    parser.add_argument("--ort", type=Path, help="onnxruntime-web-VERSION.tgz of `npm pack`; downloaded if not given")
    parser.add_argument("--node", action="store_true", help="for Node instead of a browser")
    given = parser.parse_args(arguments)
    if given.model.is_dir() or given.model.suffix == ".json":
        raise DualResError(f"'{given.model}' is a pair: a browser runs one file, --form cond, resize or branches.")
    card = json.loads(DualResSession(given.model, warm_up=False).card.to_json())
    make_dir(given.out)
    if given.node:
        return for_node(given.model, card, given.out)
    with tempfile.TemporaryDirectory() as folder:
        runtime = unpack(given.ort or pack(Path(folder)), Path(folder))
        shutil.copy(runtime / SCRIPT, given.out)
        content = {
            "title": given.title or given.model.name,
            "card": card,
            "onnx": base64.b64encode(with_plain_inputs(given.model)).decode("ascii"),
            "glue": encoded(runtime / GLUE),
            "wasm": encoded(runtime / WASM),
        }
    with atomic_write(given.out / "model.js") as temporary:
        temporary.write_text(f"const DUALRES = {script_json(content)};\n", encoding="utf-8")
    for name in PAGE:
        shutil.copy(HERE / name, given.out)
    size = sum(file.stat().st_size for file in given.out.iterdir()) / 1e6
    print(f"open {given.out / 'index.html'} ({size:.0f} MB in all)")
    return given.out / "index.html"


def for_node(model: Path, card: dict[str, object], out: Path) -> Path:
    """Write what `run.js` reads beside it; gives that script."""
    (out / "model.onnx").write_bytes(with_plain_inputs(model))
    (out / "card.json").write_text(json.dumps(card), encoding="utf-8")
    for script in (HERE / "detect.js", HERE.parent / "node" / "run.js"):
        shutil.copy(script, out)
    return out / "run.js"


def with_plain_inputs(model: Path) -> bytes:
    """The model without the defaults of its inputs: onnxruntime-web refuses these, onnxruntime-node ignores them."""
    import onnx

    loaded = onnx.load(model)
    inputs = {value.name for value in loaded.graph.input}
    for default in [value for value in loaded.graph.initializer if value.name in inputs]:
        loaded.graph.initializer.remove(default)
    content: bytes = loaded.SerializeToString()
    return content


def pack(folder: Path) -> Path:
    """onnxruntime-web, downloaded from the npm registry."""
    npm = shutil.which("npm")
    if npm is None:
        raise DualResError("npm is not installed: install Node.js, or give --ort, a packed onnxruntime-web.")
    done = subprocess.run(
        [npm, "pack", f"onnxruntime-web@{VERSION}", "--silent"], cwd=folder, capture_output=True, text=True
    )
    if done.returncode:
        raise DualResError(f"npm cannot fetch onnxruntime-web {VERSION}: {done.stderr.strip()[-300:]}")
    return folder / f"onnxruntime-web-{VERSION}.tgz"


def unpack(package: Path, folder: Path) -> Path:
    """The three files of the package that run a model; gives their folder."""
    if not package.is_file():
        raise DualResError(f"'{package}' does not exist: make it with npm pack onnxruntime-web@{VERSION}.")
    with tarfile.open(package) as archive:
        for name in (SCRIPT, GLUE, WASM):
            inside = f"package/dist/{name}"
            file = archive.extractfile(inside) if inside in archive.getnames() else None
            if file is None:
                raise DualResError(f"'{package}' is no onnxruntime-web that this page knows: it lacks dist/{name}.")
            (folder / name).write_bytes(file.read())
    return folder


def encoded(path: Path) -> str:
    """The bytes of a file as base64."""
    return base64.b64encode(path.read_bytes()).decode("ascii")


def script_json(values: object) -> str:
    """JSON that may stand in a script: no name of a class can end it."""
    return json.dumps(values, ensure_ascii=True).replace("</", "<\\/").replace("<!--", "<\\!--")


if __name__ == "__main__":
    try:
        main()
    except DualResError as error:
        sys.exit(f"{error}")
