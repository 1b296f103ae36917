"""The `dualres` command: the commands of this package, put together."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable

import typer

from dualres_plugin.cli import deploy, detect, learn, published
from dualres_plugin.common.errors import one_message

app = typer.Typer(
    name="dualres",
    help="Dynamic-resolution object detection: a tiny router decides, per image, whether your detector runs at high or "
    "low resolution.\n\nThe usual order: profile, train, evaluate, predict. `dualres demo` shows all of it in minutes.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def options(quiet: bool = typer.Option(False, "--quiet", "-q", help="Warnings only.")) -> None:
    """What every command takes."""
    logging.basicConfig(format="%(message)s", level=logging.WARNING, force=True)
    logging.getLogger("dualres").setLevel(logging.WARNING if quiet else logging.INFO)


learn.register(app)
detect.register(app)
deploy.register(app)
published.register(app)


def main(command: Callable[[], object] = app) -> None:
    """Run the command line; bad input prints one message and exits with status 2.

    Args:
        command: what runs; tests give another.
    """
    try:
        with one_message("dualres"):
            command()
    except KeyboardInterrupt:
        print("dualres: stopped; run the same command again to resume a profile.", file=sys.stderr)
        sys.exit(130)
