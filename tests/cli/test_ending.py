"""How the command line ends, whatever goes wrong in it."""

from __future__ import annotations

import errno
import logging
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dualres_plugin.cli.app import main
from dualres_plugin.common.errors import DualResError, at_hand
from tests.shared import ROOT


@pytest.fixture(autouse=True)
def level() -> Iterator[None]:
    logger = logging.getLogger("dualres")
    before = logger.level
    logger.setLevel(logging.INFO)
    yield
    logger.setLevel(before)


def raising(error: BaseException) -> Callable[[], None]:
    def command() -> None:
        with at_hand(Path("photo.jpg")):
            raise error

    return command


def ending(command: Callable[[], object], capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    with pytest.raises(SystemExit) as end:
        main(command)
    assert isinstance(end.value.code, int)
    return end.value.code, capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (DualResError("bad"), 2, "dualres: bad\n"),
        (OSError(errno.ENOSPC, "No space left on device"), 2, "no space left to write 'photo.jpg'"),
        (OSError(errno.ENAMETOOLONG, "File name too long", "a" * 300), 2, "(300 characters)': File name too long."),
        (IsADirectoryError(errno.EISDIR, "Is a directory", "out"), 2, "dualres: 'out': Is a directory."),
        (KeyError("x"), 70, "dualres: KeyError: 'x' (at 'photo.jpg'). This was not foreseen"),
        (RecursionError("a\nb"), 70, "RecursionError: a\\nb (at"),
        (KeyboardInterrupt(), 130, "dualres: stopped; the same command goes on"),
    ],
)
def test_one_line_and_a_status(
    error: BaseException, status: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, text = ending(raising(error), capsys)
    assert code == status and said in text and text.count("\n") == 1


def test_a_traceback_only_when_it_is_wanted(capsys: pytest.CaptureFixture[str]) -> None:
    assert "Traceback" not in ending(raising(KeyError("x")), capsys)[1]
    logging.getLogger("dualres").setLevel(logging.DEBUG)
    text = ending(raising(KeyError("x")), capsys)[1]
    assert "Traceback" in text and text.splitlines()[-1].startswith("dualres: KeyError")


SIGNALLED = """
import os, signal, sys, typer
from dualres_plugin.cli.app import main
app, number, cleared = typer.Typer(), int(sys.argv[1]), []

@app.command()
def command() -> None:
    try:
        os.kill(os.getpid(), number)
    finally:
        cleared.append(True)

before = signal.getsignal(number)
try:
    main(lambda: app(args=[]))
finally:
    print(cleared, signal.getsignal(number) is before)
"""


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_inside_a_command_of_typer(number: signal.Signals, status: int) -> None:
    """In a process of its own: Python takes signals in the main thread alone, and tests may run in another."""
    done = subprocess.run(
        [sys.executable, "-c", SIGNALLED, str(int(number))], capture_output=True, text=True, cwd=ROOT, timeout=60
    )
    assert done.returncode == status and "dualres: stopped" in done.stderr
    assert done.stdout.strip() == "[True] True"
