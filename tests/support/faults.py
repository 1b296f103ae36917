"""Faults on purpose: a disk that is full, and processes that are stopped at moments of a seed."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.e2e.cli import command


@contextmanager
def full_disk(path: Path, kilobytes: int = 1024) -> Iterator[Path]:
    """A folder on a file system of its own with so much room; skips the test where nobody may mount one."""
    path.mkdir()
    options = f"size={kilobytes}k"
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(path)], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"cannot mount a small file system here: {done.stderr.strip()}")
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)


def run_in(folder: Path, *arguments: object) -> tuple[float, int, str]:
    """`dualres …` in a process of its own and in a folder: seconds, status, and what it said on stderr."""
    folder.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    done = subprocess.run(
        command(*arguments), cwd=folder, env=dict(os.environ), capture_output=True, text=True, timeout=600
    )
    return time.monotonic() - start, done.returncode, done.stderr


def stop_in(folder: Path, number: signal.Signals, seconds: float, seed: int, *arguments: object) -> int:
    """The same, stopped by a signal at a random moment of the time that it takes; gives its status."""
    folder.mkdir(parents=True, exist_ok=True)
    process = subprocess.Popen(
        command(*arguments), cwd=folder, env=dict(os.environ), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        process.wait(random.Random(seed).uniform(0.2, 1) * seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(number)
    return process.wait(120)


def leftovers(folder: Path) -> list[str]:
    """Hidden and temporary files anywhere below a folder."""
    return sorted(str(p.relative_to(folder)) for p in folder.rglob(".*"))


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
