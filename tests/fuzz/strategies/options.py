"""Odd values for the options of every command, by the command's own list of them."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

WHOLE = ("-1", "0", "1", "2", "3", "-2147483649", "1.5", "nan", "x", "", "²")
REAL = ("nan", "inf", "-inf", "-1", "-0.0", "0", "0.5", "1", "1.0000001", "1e400", "x", "", "²")
# All inside the folder of the case: a fuzzer that writes elsewhere is a danger to its user.
TEXT = (
    "", ".", "..x", "missing", "photos", "coco.json", "data.yaml", "points.csv", "empty", "loop", "a" * 300, "a\nb",
    "$a$b", "<script>", "=1+1", "photos/*.png", "router", "profile", "cond.onnx", "None", "cpu", "cuda:99", "meta",
)  # fmt: skip
# A number that no computer has room for must be refused; one that only takes a day is the user's own wish.
SIDES = ("--high", "--low", "--thumbnail", "--input-size")
HUGE = "1000000000"


def commands() -> dict[str, Any]:
    """Name -> click command of the whole command line."""
    import typer

    from dualres_plugin.cli.app import app

    return dict(typer.main.get_command(app).commands)  # type: ignore[attr-defined]


def mutated(command: str, valid: list[str]) -> SearchStrategy[list[str]]:
    """A valid command line with one to three odd options behind it, or with a word replaced.

    Args:
        command: its name.
        valid: its arguments, without the name.
    """
    known = [p for p in commands()[command].params if getattr(p, "opts", [""])[0].startswith("--")]
    odd = st.sampled_from(known).flatmap(_value)
    more = st.lists(odd, min_size=1, max_size=3).map(lambda found: [*valid, *(w for words in found for w in words)])
    replaced = st.tuples(st.integers(0, len(valid) - 1), st.sampled_from(TEXT)).map(
        lambda pick: [*valid[: pick[0]], pick[1], *valid[pick[0] + 1 :]]
    )
    return st.one_of(more, more, replaced) if valid else more


def _value(option: Any) -> SearchStrategy[list[str]]:
    name = option.opts[0]
    if option.is_flag:
        return st.just([name])
    kind = option.type.name
    values = {"integer": WHOLE, "float": REAL, "integer range": WHOLE, "float range": REAL}.get(kind, TEXT)
    if name in SIDES:
        values = (*values, HUGE)
    return st.sampled_from(values).map(lambda value: [f"{name}={value}"])
