"""onnxruntime-web: fetched from npm once, or out of a package that was fetched before."""

from __future__ import annotations

import shutil
import subprocess
import tarfile
from collections.abc import Iterable
from pathlib import Path

from dualres_plugin.common.errors import DualResError

VERSION = "1.30.0"  # of onnxruntime-web; the page was tried with it


def fetch(folder: Path) -> Path:
    """Pack onnxruntime-web from the npm registry.

    Args:
        folder: where the package is written.

    Returns:
        The package, a .tgz.

    Raises:
        DualResError: npm is not installed, or cannot fetch it.
    """
    npm = shutil.which("npm")
    if npm is None:
        raise DualResError(
            f"npm is not installed: install Node.js, or give --runtime, the file of npm pack onnxruntime-web@{VERSION}."
        )
    done = subprocess.run(
        [npm, "pack", f"onnxruntime-web@{VERSION}", "--silent"], cwd=folder, capture_output=True, text=True
    )
    if done.returncode:
        raise DualResError(f"npm cannot fetch onnxruntime-web {VERSION}: {done.stderr.strip()[-300:]}")
    return folder / f"onnxruntime-web-{VERSION}.tgz"


def read_package(package: Path, names: Iterable[str]) -> dict[str, bytes]:
    """Read files of the folder `dist` in a package.

    Args:
        package: a .tgz of `npm pack`.
        names: of the files.

    Returns:
        Name -> content.

    Raises:
        DualResError: the package is not there, is no package, or lacks a file.
    """
    if not package.is_file():
        raise DualResError(f"'{package}' does not exist: make it with npm pack onnxruntime-web@{VERSION}.")
    found = {}
    try:
        with tarfile.open(package) as archive:
            for name in names:
                file = archive.extractfile(f"package/dist/{name}")
                found[name] = file.read() if file else b""
    except (KeyError, tarfile.TarError, OSError, EOFError) as error:
        raise DualResError(
            f"'{package}' is no onnxruntime-web that this page knows ({error}): "
            f"make it with npm pack onnxruntime-web@{VERSION}."
        ) from error
    return found
