"""The one error type that users see, how programs show it, and the check of a number that stands for all of them."""

from __future__ import annotations

import errno
import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
# A name or a place on disk that the user gave: too long, a folder for a file, no right to it, a loop of links, ...
BAD_PATH = {
    errno.ENAMETOOLONG, errno.EISDIR, errno.ENOTDIR, errno.ELOOP, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT,
    errno.EBUSY, errno.EEXIST, errno.ENOTEMPTY,
}  # fmt: skip
# Libraries written in Rust or C++ (safetensors, arrow) say so in words alone.
NO_SPACE_WORDS = ("No space left on device", "Disk quota exceeded", "File too large", "os error 28")


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
        message = "\n".join(map(one_line, str(error).split("\n")))
        print(f"{program or Path(sys.argv[0]).name}: {message}", file=sys.stderr)
        sys.exit(2)


@contextmanager
def at_hand(file: object) -> Iterator[None]:
    """Note the file that is worked on in whatever exception leaves the block.

    Args:
        file: path or name, or what else says its name; `file_at_hand` gives it back, that of the innermost block.
    """
    try:
        yield
    except BaseException as error:
        error.__dict__.setdefault("dualres_file", str(file))
        raise


def file_at_hand(error: BaseException) -> str | None:
    """The file that was worked on when an exception arose, where that is known.

    Args:
        error: any exception.

    Returns:
        What `at_hand` noted, else the file name of an `OSError`, else None.
    """
    noted = error.__dict__.get("dualres_file") or (error.filename if isinstance(error, OSError) else None)
    return None if noted is None else str(noted)


def bad_path(error: BaseException) -> DualResError | None:
    """The message for a name or place on disk that the system refuses.

    Args:
        error: any exception.

    Returns:
        The error to raise or show in its place; None where the exception is of another kind.
    """
    if not isinstance(error, OSError) or error.errno not in BAD_PATH or error.filename is None:
        return None
    name = one_line(error.filename)
    shown = name if len(name) <= 80 else f"{name[:40]}…{name[-20:]} ({len(name)} characters)"
    return DualResError(f"'{shown}': {error.strerror}. Give another name or place.")


def is_full_disk(error: BaseException | None) -> bool:
    """Did a disk, quota or file limit run out, in this exception or one that led to it?

    Args:
        error: any exception.
    """
    while error is not None:
        if isinstance(error, OSError) and error.errno in NO_SPACE:
            return True
        if isinstance(error, Exception) and any(words in str(error) for words in NO_SPACE_WORDS):
            return True
        error = error.__cause__ or error.__context__
    return False


def full_disk(where: Path | str) -> DualResError:
    """The error of a full disk.

    Args:
        where: the file or folder that was written.
    """
    return DualResError(
        f"no space left to write '{where}': free some, or choose another folder, and run the same again. "
        "What was complete before is untouched."
    )


def one_line(text: object) -> str:
    """Text for one line of a terminal, a table or a picture: control characters are written as escapes.

    Args:
        text: a message or a file name.
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(text))


def check_number(
    name: str, value: float | None, least: float | None = None, most: float | None = None, above: float | None = None
) -> None:
    """Refuse a number that is not finite or out of range.

    Args:
        name: of the option or argument, for the message.
        value: None is no value, and passes.
        least, most: the range, both ends in it.
        above: instead of `least` an end that is not in it.

    Raises:
        DualResError: If it is.
    """
    if value is None:
        return
    low, high = -math.inf if least is None else least, math.inf if most is None else most
    if math.isfinite(value) and low <= value <= high and (above is None or value > above):
        return
    if above is not None:
        allowed = f"be above {above}" + (f" and at most {most}" if most is not None else ", and finite")
    elif least is not None:
        allowed = f"lie between {least} and {most}" if most is not None else f"be at least {least}"
    else:
        allowed = "be a finite number"
    raise DualResError(f"{name}={value} must {allowed}.")
