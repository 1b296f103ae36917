"""Profiling by the workers of a local Ray cluster; kills of a worker and of the driver.

One cluster serves all tests of this file. That a run without one starts and stops its own:
tests/e2e/test_cli_scale.py.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from pytest_socket import enable_socket

from dualres_plugin.common.errors import DualResError
from dualres_plugin.profile.build import Plan
from dualres_plugin.profile.data.dataset import load_dataset
from dualres_plugin.profile.parts.cluster import Cluster, build_on_ray
from dualres_plugin.profile.table import META, PARTS, ROWS
from tests.fakes import FakeAdapter, FakeBatch
from tests.profile.helpers import SETTINGS, adapter, build
from tests.shared import ROOT

ray = pytest.importorskip("ray", reason="needs pip install ray[data]")
pytestmark = [pytest.mark.timeout(300), pytest.mark.localhost]
VIEWS = replace(SETTINGS, views=3)
TWO = Cluster(concurrency=2)


@pytest.fixture(scope="module", autouse=True)
def address() -> Iterator[str]:
    """Of the cluster. Its workers find the tests; it has a core for each of two workers and for Ray's own tasks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT))
        patch.setenv("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
        enable_socket()  # before the first test is set up
        ray.init("local", num_cpus=3, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
        yield ray.get_runtime_context().gcs_address
        ray.shutdown()


def test_two_workers_make_the_profile_of_one_process(data: tuple[Path, Path], tmp_path: Path) -> None:
    whole = build(data, tmp_path / "whole", settings=VIEWS)
    made = build_on_ray(adapter, load_dataset(*data), tmp_path / "p", VIEWS, TWO, progress=False)
    assert made.table.equals(whole.table) and made.meta == whole.meta
    assert (tmp_path / "p" / ROWS).read_bytes() == (tmp_path / "whole" / ROWS).read_bytes()
    assert sorted(p.name for p in (tmp_path / "p").iterdir()) == [META, ROWS]
    assert ray.is_initialized()  # the cluster was there before, and stays


def killing_adapter(flag: Path, driver: int) -> FakeAdapter:
    """The first of all workers to run its fifth pass kills itself."""
    host = adapter()
    passes = 0

    def on_pass(_: FakeBatch) -> None:
        nonlocal passes
        passes += 1
        if passes == 5 and os.getpid() != driver:
            try:
                flag.touch(exist_ok=False)
            except FileExistsError:
                return
            os.kill(os.getpid(), signal.SIGKILL)

    host.on_pass = on_pass
    return host


def test_a_killed_worker_costs_its_batch_only(data: tuple[Path, Path], tmp_path: Path) -> None:
    whole = build(data, tmp_path / "whole", settings=VIEWS)
    make = partial(killing_adapter, tmp_path / "killed", os.getpid())
    made = build_on_ray(make, load_dataset(*data), tmp_path / "p", VIEWS, TWO, progress=False)
    assert (tmp_path / "killed").is_file()
    assert made.table.equals(whole.table) and made.meta == whole.meta


def slow_adapter() -> FakeAdapter:
    host = adapter()
    host.on_pass = lambda _: time.sleep(0.2)
    return host


@pytest.fixture
def driver(data: tuple[Path, Path], tmp_path: Path, address: str) -> Iterator[subprocess.Popen[bytes]]:
    script = """
import sys
from pathlib import Path
from tests.profile.parts.test_cluster import VIEWS, slow_adapter
from dualres_plugin.profile.data.dataset import load_dataset
from dualres_plugin.profile.parts.cluster import Cluster, build_on_ray
two = Cluster(sys.argv[4], concurrency=2)
build_on_ray(slow_adapter, load_dataset(sys.argv[1], sys.argv[2]), Path(sys.argv[3]), VIEWS, two, progress=False)
"""
    command = [sys.executable, "-c", script, *map(str, data), str(tmp_path / "p"), address]
    process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)})
    yield process
    process.kill()
    process.wait()


def test_a_killed_driver_resumes(data: tuple[Path, Path], tmp_path: Path, driver: subprocess.Popen[bytes]) -> None:
    whole = build(data, tmp_path / "whole", settings=VIEWS)
    parts = tmp_path / "p" / PARTS
    until = time.monotonic() + 120
    while len(list(parts.glob("batch-*.parquet"))) < 2 and time.monotonic() < until:
        time.sleep(0.05)
    driver.kill()
    driver.wait()
    time.sleep(3)  # its workers notice
    done = len(list(parts.glob("batch-*.parquet")))
    assert 2 <= done < len(Plan(adapter(), load_dataset(*data), VIEWS).batches)
    host = adapter()
    made = build(data, tmp_path / "p", host, VIEWS)  # one process goes on where the cluster stopped
    assert made.table.equals(whole.table) and made.meta == whole.meta
    assert host.images_seen < 2 * 30


def failing_adapter(driver: int) -> FakeAdapter:
    if os.getpid() != driver:
        raise RuntimeError("no such weights on this machine")
    return adapter()


def test_a_worker_that_cannot_start_is_one_error(data: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(DualResError, match="a Ray worker failed"):
        make = partial(failing_adapter, os.getpid())
        build_on_ray(make, load_dataset(*data), tmp_path / "p", VIEWS, TWO, progress=False)
