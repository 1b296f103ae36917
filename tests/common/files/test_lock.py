"""Locks: one process at a time, none left behind by a killed one."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from dualres_plugin.common.errors import DualResError
from dualres_plugin.common.files.atomic import TEMPORARY, atomic_write
from dualres_plugin.common.files.lock import locked

HOLD = """
import sys, time
from dualres_plugin.common.files.atomic import atomic_write
from dualres_plugin.common.files.lock import locked
with locked(sys.argv[1], sys.argv[1].endswith("onnx")) as out, atomic_write(sys.argv[2]):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("name", ["folder", "model.onnx"])
def test_a_killed_process_blocks_nobody_and_its_leftovers_go(tmp_path: Path, name: str) -> None:
    out = tmp_path / "runs" / name
    result = out / "a.csv" if name == "folder" else out
    other = subprocess.Popen([sys.executable, "-c", HOLD, str(out), str(result)], stdout=subprocess.PIPE, text=True)
    assert other.stdout is not None and other.stdout.readline() == "held\n"
    try:
        with (
            pytest.raises(DualResError, match=f"another dualres process writes to '{out}'"),
            locked(out, name != "folder"),
        ):
            pass
        with locked(tmp_path / "runs" / "beside.onnx", True):  # does not take the other's temporary file
            assert list(result.parent.glob(f"{TEMPORARY}*{result.suffix}"))
    finally:
        other.send_signal(signal.SIGKILL)
        other.wait()
    assert list(result.parent.glob(f"{TEMPORARY}*{result.suffix}")), "a killed process cannot clean up"
    with locked(out, name != "folder") as held:
        assert held == out
    assert [p.name for p in result.parent.glob(".*")] == []
    with locked(out, name != "folder"):
        pass


def test_the_same_process_is_refused_too(tmp_path: Path) -> None:
    with locked(tmp_path), pytest.raises(DualResError, match="another dualres process"), locked(tmp_path):
        pass
    with locked(tmp_path), atomic_write(tmp_path / "a.txt") as temporary:
        temporary.write_text("x")
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]
