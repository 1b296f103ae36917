"""Odd values for the options of every command, by the command's own list of them."""

from __future__ import annotations

from typing import Any, get_args, get_type_hints

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

WHOLE = ("-1", "0", "1", "2", "3", "-2147483649", "1.5", "nan", "x", "", "²")
REAL = ("nan", "inf", "-inf", "-1", "-0.0", "0", "0.5", "1", "1.0000001", "1e400", "x", "", "²")
# All inside the folder of the case: a fuzzer that writes elsewhere is a danger to its user.
TEXT = (
    "", ".", "x.x", "missing", "photos", "coco.json", "data.yaml", "points.csv", "empty", "loop", "a" * 300, "a\nb",
    "$a$b", "<script>", "=1+1", "photos/*.png", "router", "profile", "cond.onnx", "None", "cpu", "cuda:99", "meta",
)  # fmt: skip
# A number that no computer has room for must be refused; one that only takes a day is the user's own wish.
SIDES = ("--high", "--low", "--thumbnail", "--input-size")
HUGE = "1000000000"


def options_of(command: str) -> dict[str, Any]:
    """Name as typed -> Python type, of every option of a command.

    Args:
        command: its name.
    """
    import typer

    from dualres_plugin.cli.app import app

    group: Any = typer.main.get_command(app)
    function = next(c.callback for c in app.registered_commands if c.name == command)
    types = get_type_hints(function)
    options = (p for p in group.commands[command].params if p.opts and p.opts[0].startswith("--"))
    return {p.opts[0]: types.get(p.name, str) for p in options}


def mutated(command: str, valid: list[str]) -> SearchStrategy[list[str]]:
    """A valid command line with one to three odd options behind it, or with a word replaced.

    Args:
        command: its name.
        valid: its arguments, without the name.
    """
    options = sorted(options_of(command).items(), key=lambda item: item[0])
    replaced = st.tuples(st.integers(0, max(0, len(valid) - 1)), st.sampled_from(TEXT)).map(
        lambda pick: [*valid[: pick[0]], pick[1], *valid[pick[0] + 1 :]]
    )
    if not options:
        return replaced
    odd = st.lists(st.sampled_from(options).flatmap(_value), min_size=1, max_size=3)
    more = odd.map(lambda words: [*valid, *words])
    return st.one_of(more, more, replaced) if valid else more


def _value(option: tuple[str, Any]) -> SearchStrategy[str]:
    name, kind = option
    kinds = {kind, *get_args(kind)}
    if bool in kinds:
        return st.just(name)
    values = WHOLE if int in kinds else REAL if float in kinds else TEXT
    if name in SIDES:
        values = (*values, HUGE)
    return st.sampled_from(values).map(lambda value: f"{name}={value}")
