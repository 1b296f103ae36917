"""The gate for what comes from a file: types, ranges, finiteness and size, and one error for all of them."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from difflib import get_close_matches
from itertools import pairwise
from pathlib import Path
from reprlib import Repr
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, ConfigDict, Field, Strict, TypeAdapter, ValidationError

from dualres_plugin.common.errors import DualResError
from dualres_plugin.common.files.atomic import read_json

Kind = TypeVar("Kind")

# For `pydantic.with_config`: no key that is not asked for, no NaN, no infinity.
GATE = ConfigDict(extra="forbid", allow_inf_nan=False)
DESCRIPTION_MB = 1.0  # router.json, a manifest, a card: a real one has some kilobytes
NESTING = 16  # of lists and dicts in a description's free parts

Int = Annotated[int, Strict()]  # JSON has types: "96" and true are no numbers there
Number = Annotated[float, Strict()]


def _ascending(values: list[float]) -> list[float]:
    if any(a > b for a, b in pairwise(values)):
        raise ValueError("must be in ascending order")
    if len(values) == 1:
        raise ValueError("must be empty, or at least two")
    return values


Quantiles = Annotated[list[Number], Field(max_length=10_001), AfterValidator(_ascending)]


def _plain(value: Any) -> Any:
    """JSON's own types, not nested without end."""
    pending = [(value, 1)]
    while pending:
        item, depth = pending.pop()
        if depth > NESTING:
            raise ValueError(f"must not be nested more than {NESTING} deep")
        if isinstance(item, dict):
            pending += [(part, depth + 1) for part in item.values()]
        elif isinstance(item, (list, tuple)):
            pending += [(part, depth + 1) for part in item]
    return value


PlainDict = Annotated[dict[str, Any], AfterValidator(_plain)]


def checked(kind: type[Kind], values: Any, where: str) -> Kind:
    """Values as one of our dataclasses, or one error that names everything wrong with them.

    Args:
        kind: a dataclass with `pydantic.with_config(GATE)`, or a pydantic model; fields typed by what they may hold.
        values: of its fields by name.
        where: opens the message, such as "config 'a.yaml'".

    Returns:
        An object of `kind`.

    Raises:
        DualResError: If a key is unknown or missing, or a value is of the wrong type, out of range or not finite.
    """
    try:
        made = TypeAdapter(kind).validate_python(values)
    except ValidationError as error:
        problems = [_explain(problem, kind) for problem in error.errors(include_url=False)]
        more = f"; and {len(problems) - 4} more" if len(problems) > 4 else ""
        raise DualResError(f"{where}: {'; '.join(problems[:4])}{more}.") from None
    return made


def _explain(error: Any, kind: Any) -> str:
    """One of pydantic's errors: which setting, its value, and what is allowed."""
    name = ".".join(map(str, error["loc"]))[:80]
    if error["type"] in ("missing", "missing_argument"):
        return f"'{name}' is missing"
    if error["type"] == "unexpected_keyword_argument":
        known = [f.name for f in fields(kind)] if is_dataclass(kind) and len(error["loc"]) == 1 else []
        close = get_close_matches(name, known, n=1)
        hint = f" (did you mean '{close[0]}'?)" if close else f" (known: {', '.join(known)})" if known else ""
        return f"unknown setting '{name}'{hint}"
    said = str(error["msg"]).removeprefix("Value error, ").replace("Input should be", "must be")
    return f"{name}={shown(error['input'])} {said}"


def shown(value: Any) -> str:
    """A value for a message, cut where it is long or deep: YAML's aliases make few bytes into very many."""
    short = Repr()
    short.maxlevel, short.maxstring, short.maxother, short.maxlong = 2, 80, 80, 40
    return short.repr(value)


def read_object(path: Path | str, what: str, most_mb: float = DESCRIPTION_MB) -> Any:
    """JSON of a bounded size.

    Args:
        path: of the file.
        what: names it in messages.
        most_mb: a larger file is refused unread, in MB.

    Raises:
        DualResError: If the file is missing, too large, or not JSON that can be read.
    """
    check_size(path, what, most_mb)
    try:
        return read_json(path, what)
    except DualResError:
        raise
    except (RecursionError, ValueError) as error:  # nested without end; a number of thousands of digits
        raise DualResError(f"{what} '{path}' cannot be read ({type(error).__name__}): it is damaged.") from None


def check_size(path: Path | str, what: str, most_mb: float) -> None:
    """Refuse a file that is larger than one of its kind can be; a missing one is left to its reader.

    Args:
        path: of the file.
        what: names it in messages.
        most_mb: the limit in MB.

    Raises:
        DualResError: If it is larger.
    """
    path = Path(path)
    size = path.stat().st_size / 1e6 if path.is_file() else 0.0
    if size > most_mb:
        raise DualResError(f"{what} '{path}' has {size:.0f} MB, more than the {most_mb:g} MB that one may have.")
