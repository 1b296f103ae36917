"""The one error type that users see."""

from __future__ import annotations


class DualResError(ValueError):
    """Bad input: the message says what is wrong, where, and what to do about it.

    The command line prints the message without a traceback and exits with status 2.
    """
