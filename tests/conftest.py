"""Every test runs offline and in the same environment, whatever the machine has set."""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

# Before any host is imported: Ultralytics reads these once, and subprocesses inherit them.
_HOME = Path(tempfile.mkdtemp(prefix="dualres-tests-"))
atexit.register(shutil.rmtree, _HOME, ignore_errors=True)
os.environ.update(YOLO_CONFIG_DIR=str(_HOME), YOLO_OFFLINE="1", YOLO_AUTOINSTALL="0", YOLO_VERBOSE="0")
os.environ.update(HF_HUB_OFFLINE="1", MPLBACKEND="Agg", TQDM_MININTERVAL="1")
os.environ.setdefault("OMP_NUM_THREADS", "2")

import matplotlib  # noqa: E402
import pytest  # noqa: E402
from hypothesis import settings  # noqa: E402
from pytest_socket import disable_socket, enable_socket  # noqa: E402

# Ultralytics downloads this font when it is missing; any TrueType font will do.
_font = Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf")
(_HOME / "Ultralytics").mkdir()
shutil.copy(_font, _HOME / "Ultralytics" / "Arial.ttf")

# The same examples on every run, and no time limit on machines that are busy.
settings.register_profile("dualres", deadline=None, derandomize=True, database=None)
settings.load_profile("dualres")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "localhost: talks to itself over the network; all others may not")


@pytest.hookimpl(trylast=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("localhost"):
        enable_socket()
    else:
        disable_socket(allow_unix_socket=True)


def pytest_runtest_teardown() -> None:
    enable_socket()


@pytest.fixture(autouse=True)
def no_visualizer_is_left() -> Iterator[None]:
    """mmengine keeps visualizers by name for the process, and gives the next test one whose folder is gone."""
    yield
    if module := sys.modules.get("mmengine.visualization.visualizer"):
        for kind in (module.Visualizer, *module.Visualizer.__subclasses__()):
            kind._instance_dict.clear()
