"""How a command ends: its status, and one line that says why."""

from __future__ import annotations

import logging
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from dualres_plugin.common.errors import DualResError, bad_path, file_at_hand, full_disk, is_full_disk, one_line

BAD_INPUT, INTERNAL, SIGNALLED = 2, 70, 128  # 70 is EX_SOFTWARE of sysexits.h; a signal's number is added to 128
STOPPED = "stopped; the same command goes on with a profile or a predict where it was."


class Stopped(BaseException):
    """Ctrl-C or SIGTERM. No KeyboardInterrupt: Typer ends the program on one, without a word.

    Args:
        number: of the signal.
    """

    def __init__(self, number: int):
        super().__init__(number)
        self.number = number


@contextmanager
def one_ending() -> Iterator[None]:
    """Around the command line: whatever goes wrong in it becomes one line on stderr and a status.

    The status is 2 for bad input and a full disk, 130 for Ctrl-C, 143 for SIGTERM, 70 for anything else. Only with
    `--debug` a traceback stands above the line.
    """
    try:
        with _signals_raise():
            yield
    except (Stopped, KeyboardInterrupt) as stop:
        number = stop.number if isinstance(stop, Stopped) else signal.SIGINT
        _end(stop, STOPPED, SIGNALLED + number)
    except Exception as error:
        _end(error, *_explained(error))


def _explained(error: Exception) -> tuple[str, int]:
    """The message and the status."""
    if isinstance(error, DualResError):
        return str(error), BAD_INPUT
    if is_full_disk(error):
        return str(full_disk(file_at_hand(error) or "the results")), BAD_INPUT
    if refused := bad_path(error):
        return str(refused), BAD_INPUT
    file = file_at_hand(error)
    what = f"{type(error).__name__}: {one_line(error)}" + (f" (at '{file}')" if file else "")
    return f"{what}. This was not foreseen: `dualres --debug …` shows where; please report it.", INTERNAL


def _end(error: BaseException, message: str, status: int) -> None:
    if logging.getLogger("dualres").isEnabledFor(logging.DEBUG):
        traceback.print_exception(type(error), error, error.__traceback__)
    print("dualres: " + "\n".join(map(one_line, message.split("\n"))), file=sys.stderr)
    sys.exit(status)


@contextmanager
def _signals_raise() -> Iterator[None]:
    """Ctrl-C and SIGTERM raise `Stopped`, so that every `finally` on the way out runs; a second one stops at once."""
    if threading.current_thread() is not threading.main_thread():  # Python takes signals in the main one alone
        yield
        return
    before: dict[int, Any] = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def stop(number: int, frame: object) -> None:
        restore()
        raise Stopped(number)

    for number in before:
        signal.signal(number, stop)
    try:
        yield
    finally:
        restore()
