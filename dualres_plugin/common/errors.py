"""The one error type that users see, and how programs show it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class DualResError(ValueError):
    """Bad input: the message says what is wrong, where, and what to do about it.

    The command line prints the message without a traceback and exits with status 2 (`one_message`).
    """


@contextmanager
def one_message(program: str | None = None) -> Iterator[None]:
    """Around a program's main: a `DualResError` becomes its message on stderr, and status 2.

    Args:
        program: name in front of the message; that of the script by default.
    """
    try:
        yield
    except DualResError as error:
        print(f"{program or Path(sys.argv[0]).name}: {error}", file=sys.stderr)
        sys.exit(2)
