"""Runs one damaged case and says what is wrong with how it ended."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import shutil
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest import mock

from tests.e2e.cli import Done, command, dualres
from tests.fakes import FakeAdapter
from tests.shared import ROOT

CORPUS = ROOT / "tests" / "fuzz" / "corpus"
OUTPUTS = ("--out", "--plot", "--csv", "--tensorboard")
SECONDS = 60  # no small case takes a tenth of it


class Hang(BaseException):
    """A case took too long; nothing may catch it."""


@dataclass(frozen=True)
class Case:
    """One damaged input.

    Attributes:
        name: of the format, or of the command whose options are odd.
        arguments: the command line, run in a copy of the world.
        file: path in the world that `data` replaces; None for odd options.
        data: the damaged file.
    """

    name: str
    arguments: tuple[str, ...]
    file: str | None = None
    data: bytes = b""

    def to_json(self) -> str:
        """For the corpus."""
        text = {"name": self.name, "arguments": self.arguments, "file": self.file}
        return json.dumps({**text, "data": base64.b64encode(self.data).decode()}, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Case:
        """What `to_json` wrote."""
        values: dict[str, Any] = json.loads(text)
        return cls(values["name"], tuple(values["arguments"]), values["file"], base64.b64decode(values["data"]))


class Failure(AssertionError):
    """A case that ended as none may.

    Attributes:
        signature: the same for all cases that end in the same place.
    """

    def __init__(self, case: Case, why: str, signature: str):
        shown = case.data[:300]
        super().__init__(f"{why}\n  dualres {' '.join(map(repr, case.arguments))}\n  {case.file}: {shown!r}")
        self.case = case
        self.signature = signature

    @property
    def name(self) -> str:
        """Of its file in the corpus."""
        return f"{self.case.name}-{hashlib.sha256(self.signature.encode()).hexdigest()[:10]}"

    def keep(self) -> Path:
        """Write the case into the corpus, over a larger one with the same signature."""
        CORPUS.mkdir(exist_ok=True)
        path = CORPUS / f"{self.name}.json"
        path.write_text(self.case.to_json())
        return path


def check(world: Path, case: Case, separate: bool = False) -> int:
    """Run a case in a copy of the world.

    Args:
        world: of `build_world`; it stays as it is.
        case: to run.
        separate: in a process of its own.

    Returns:
        The exit status.

    Raises:
        Failure: If it ends in a traceback, a hang or a wrong status, or leaves what it should not.
    """
    with tempfile.TemporaryDirectory(prefix="dualres-fuzz-") as folder:
        place = Path(folder, "world")
        shutil.copytree(world, place)
        (place / "loop").symlink_to("loop")
        (place / "tmp").mkdir()
        if case.file:
            (place / case.file).write_bytes(case.data)
        before = snapshot(place)
        done = _separate(place, case) if separate else _here(place, case)
        if done.status not in (0, 2):
            raise Failure(case, f"status {done.status}: {done.err[-1500:]}", f"status {done.status} {_last(done.err)}")
        if "Traceback" in done.err + done.out:
            raise Failure(case, f"a traceback: {done.err[-1500:]}", f"traceback {_last(done.err)}")
        _check_files(case, place, before)
        return done.status


def _last(text: str) -> str:
    return (text.strip().splitlines() or [""])[-1][:80]


def _here(place: Path, case: Case) -> Done:
    try:
        with (
            contextlib.chdir(place) if sys.version_info >= (3, 11) else _chdir(place),
            _limit(),
            _fake_host(),
            _temp(place),
        ):
            return dualres(*case.arguments)
    except Hang:
        raise Failure(case, f"it hangs: over {SECONDS} s", "hang " + case.name) from None
    except Exception as error:
        frames = [
            f
            for f in traceback.extract_tb(error.__traceback__)
            if "dualres_plugin" in f.filename or "adapters" in f.filename
        ]
        where = f"{Path(frames[-1].filename).name}:{frames[-1].name}" if frames else "?"
        raise Failure(
            case, "".join(traceback.format_exception(error)[-12:]), f"{type(error).__name__} {where}"
        ) from None


def _separate(place: Path, case: Case) -> Done:
    try:
        done = subprocess.run(
            command(*case.arguments), cwd=place, capture_output=True, timeout=2 * SECONDS, errors="replace"
        )
    except subprocess.TimeoutExpired:
        raise Failure(case, f"it hangs: over {2 * SECONDS} s", "hang " + case.name) from None
    return Done(done.returncode, str(done.stdout), str(done.stderr))


@contextlib.contextmanager
def _limit() -> Iterator[None]:
    def stop(*_: object) -> None:
        raise Hang

    # The processor's time, so that a busy machine is no defect; and the clock's, for what waits for ever.
    timers = ((signal.ITIMER_PROF, signal.SIGPROF, SECONDS), (signal.ITIMER_REAL, signal.SIGALRM, 5 * SECONDS))
    old = [signal.signal(number, stop) for _, number, _ in timers]
    for timer, _, seconds in timers:
        signal.setitimer(timer, seconds)
    try:
        yield
    finally:
        for (timer, number, _), handler in zip(timers, old):
            signal.setitimer(timer, 0)
            signal.signal(number, handler)


@contextlib.contextmanager
def _chdir(place: Path) -> Iterator[None]:
    import os

    old = Path.cwd()
    os.chdir(place)
    try:
        yield
    finally:
        os.chdir(old)


@contextlib.contextmanager
def _temp(place: Path) -> Iterator[None]:
    """Temporary files of the case are its own, so that one that is left is seen."""
    with mock.patch.object(tempfile, "tempdir", str(place / "tmp")):
        yield


@contextlib.contextmanager
def _fake_host() -> Iterator[None]:
    """`fake:` is the tests' own detector: no weights, no time."""
    from dualres_plugin.hosts import registry

    real = registry.load_detector
    with mock.patch.object(registry, "load_detector", lambda s: FakeAdapter() if s == "fake:" else real(s)):
        yield


def snapshot(place: Path) -> dict[str, str]:
    """Path -> digest of every file that is not an output."""
    files = (p for p in place.rglob("*") if p.is_file() and not p.is_symlink())
    return {str(p.relative_to(place)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def outputs_of(arguments: tuple[str, ...]) -> list[str]:
    """What a command line says it writes to, as typed: the values of `OUTPUTS`.

    Args:
        arguments: in either spelling, `--out x` or `--out=x`.
    """
    words = [word for argument in arguments for word in argument.split("=", 1)]
    return [value for name, value in pairwise(words) if name in OUTPUTS and value]


def _check_files(case: Case, place: Path, before: dict[str, str]) -> None:
    after = snapshot(place)
    outputs = outputs_of(case.arguments)
    changed = sorted(
        name
        for name, digest in before.items()
        if after.get(name) != digest and not any(Path(name).is_relative_to(out) for out in outputs)
    )
    if changed:
        raise Failure(case, f"inputs changed: {changed}", f"changed {changed[0]}")
    new = {name for name in after.keys() - before.keys() if name not in outputs}
    left = sorted(n for n in new if n.startswith("tmp/") or any(part.startswith(".") for part in Path(n).parts))
    if left:
        raise Failure(case, f"temporary files are left: {left}", f"left in {Path(left[0]).parent}")
