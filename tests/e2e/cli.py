"""Runs the command line as a user does, in this process or in one of its own."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import subprocess
import sys
from dataclasses import dataclass
from unittest import mock


@dataclass(frozen=True)
class Done:
    """What a command left."""

    status: int
    out: str
    err: str

    @property
    def message(self) -> str:
        """The one error message; fails if there is another, or a traceback."""
        assert self.status == 2, (self.status, self.err[-2000:])
        assert "Traceback" not in self.err + self.out
        found = [line for line in self.err.splitlines() if line.startswith("dualres: ")]
        assert len(found) == 1, self.err
        return found[0].removeprefix("dualres: ")


def dualres(*arguments: object) -> Done:
    """`dualres …` in this process: no second start of torch."""
    from dualres_plugin.cli import app as cli

    out, err = io.StringIO(), io.StringIO()
    handlers = logging.root.handlers[:]
    with (
        mock.patch.object(sys, "argv", ["dualres", *map(str, arguments)]),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            cli.main()
            status = 0
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
        finally:
            logging.root.handlers[:] = handlers
    return Done(status, out.getvalue(), err.getvalue())


def ok(*arguments: object) -> Done:
    """The same, and it has to succeed."""
    done = dualres(*arguments)
    assert done.status == 0, done.out[-1000:] + done.err[-3000:]
    return done


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "dualres_plugin.cli", *map(str, arguments)]


def subprocess_dualres(*arguments: object) -> Done:
    """`dualres …` in a process of its own."""
    done = subprocess.run(command(*arguments), capture_output=True, text=True, env=dict(os.environ), timeout=300)
    return Done(done.returncode, done.stdout, done.stderr)
