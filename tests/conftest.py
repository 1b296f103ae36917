"""Every test runs offline and in the same environment, whatever the machine has set."""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

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
def same_threads() -> Iterator[None]:
    """Ultralytics sets torch's threads when it trains; sums of another number of threads are other bits."""
    torch: Any = sys.modules.get("torch")
    before = torch.get_num_threads() if torch else None
    yield
    if before is not None:
        torch.set_num_threads(before)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What the run did not prove, and why. Under xdist the workers hand their reports to this process."""
    skipped = terminalreporter.stats.get("skipped", [])
    if not skipped:
        return
    # A file that skips as a whole is one report, however many tests it holds.
    counted = Counter(
        (_why(report), "file" if isinstance(report, pytest.CollectReport) else "test") for report in skipped
    )
    terminalreporter.section("not proven: what was skipped, and why", sep="-")
    for (why, what), count in sorted(counted.items(), key=lambda item: (-item[1], item[0])):
        terminalreporter.line(f"{count:4d} {what}{'s' if count > 1 else ''}: {why}")


def _why(report: Any) -> str:
    """The reason of a skipped report, whose longrepr is (file, line, "Skipped: reason")."""
    return str(report.longrepr[2]).removeprefix("Skipped: ")


@pytest.fixture(scope="session")
def parts() -> dict[str, Any]:
    """The small router and detector of `tests/small_models.py`, eager and traced."""
    from tests.small_models import make_parts

    return make_parts()


@pytest.fixture(scope="session")
def models(parts: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Every exported form of them."""
    from tests.small_models import write_models

    return write_models(parts, tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="session")
def outside_models(parts: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same with the thumbnail as an input."""
    from tests.small_models import write_models

    return write_models(parts, tmp_path_factory.mktemp("outside"), outside=True)


@pytest.fixture(scope="session")
def ladder_models(parts: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The same with three sizes."""
    from tests.small_models import write_ladder

    return write_ladder(parts, tmp_path_factory.mktemp("ladder"))


@pytest.fixture(autouse=True)
def no_visualizer_is_left() -> Iterator[None]:
    """mmengine keeps visualizers by name for the process, and gives the next test one whose folder is gone."""
    yield
    if module := sys.modules.get("mmengine.visualization.visualizer"):
        for kind in (module.Visualizer, *module.Visualizer.__subclasses__()):
            kind._instance_dict.clear()
