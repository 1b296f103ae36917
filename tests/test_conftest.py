"""The end of a run says what was skipped and why, in one process and in several."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.shared import ROOT

TESTS = """
import pytest

@pytest.mark.parametrize("i", range(3))
def test_without_photos(i):
    pytest.skip("needs photos")

@pytest.mark.skipif(True, reason="this processor cannot")
def test_elsewhere():
    pass

def test_runs():
    pass
"""


def run(folder: Path, *options: str) -> list[str]:
    """The lines that pytest prints for the tests of a folder with our conftest."""
    shutil.copy(ROOT / "tests" / "conftest.py", folder)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options, str(folder)]
    done = subprocess.run(command, cwd=folder, env=dict(os.environ), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return [line.strip() for line in done.stdout.splitlines()]


@pytest.mark.parametrize("workers", [(), ("-n", "2")], ids=["alone", "xdist"])
def test_what_was_skipped_is_listed_with_its_reason(tmp_path: Path, workers: tuple[str, ...]) -> None:
    (tmp_path / "test_cases.py").write_text(TESTS)
    (tmp_path / "test_host.py").write_text("import pytest\npytest.importorskip('no_such_host')\n")
    lines = run(tmp_path, *workers)
    start = next(i for i, line in enumerate(lines) if "not proven" in line)
    assert lines[start + 1] == "3 tests: needs photos"
    assert "1 test: this processor cannot" in lines[start + 1 : start + 4]
    assert any(line.startswith("1 file: could not import 'no_such_host'") for line in lines[start + 1 : start + 4])


def test_nothing_is_listed_where_nothing_was_skipped(tmp_path: Path) -> None:
    (tmp_path / "test_cases.py").write_text("def test_runs():\n    pass\n")
    assert not any("not proven" in line for line in run(tmp_path))
