"""The `dualres` command: the commands of this package, put together."""

from __future__ import annotations

import logging
from collections.abc import Callable

import typer

from dualres_plugin.cli import advise, deploy, detect, learn, profile, published, replay, scale, serve, stream
from dualres_plugin.cli.ending import one_ending

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
def options(
    quiet: bool = typer.Option(False, "--quiet", "-q", help="Warnings only."),
    debug: bool = typer.Option(False, "--debug", help="Say more, and show the traceback of an error."),
) -> None:
    """What every command takes."""
    logging.basicConfig(format="%(message)s", level=logging.WARNING, force=True)
    level = logging.DEBUG if debug else logging.WARNING if quiet else logging.INFO
    logging.getLogger("dualres").setLevel(level)


profile.register(app)
learn.register(app)
scale.register(app)
stream.register(app)
advise.register(app)
detect.register(app)
deploy.register(app)
serve.register(app)
replay.register(app)
published.register(app)


def main(command: Callable[[], object] = app) -> None:
    """Run the command line; whatever goes wrong ends in one line and a status (`ending.one_ending`).

    Args:
        command: what runs; tests give another.
    """
    with one_ending():
        command()
