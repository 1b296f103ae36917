"""What a user may spend per image, as words; and the times that milliseconds need."""

from __future__ import annotations

import csv
import re
from pathlib import Path
from statistics import median

from dualres_plugin.common.errors import DualResError, check_number
from dualres_plugin.evaluate.ladder.advise import ROUTER

_BUDGET = re.compile(r"\s*([0-9]*\.?[0-9]+(?:e[+-]?[0-9]+)?)\s*(gmacs?|ms)?\s*", re.IGNORECASE)
_BENCHED = re.compile(rf"plain_[0-9]+|{ROUTER}")  # cases of bench


def read_budget(text: str) -> tuple[float, str]:
    """A budget and its unit.

    Args:
        text: such as "1.6", "1.6gmacs" or "40ms".

    Returns:
        The number, and "GMACs" or "ms".

    Raises:
        DualResError: If it is none of these.
    """
    found = _BUDGET.fullmatch(text)
    if not found or not float(found[1]) > 0:
        raise DualResError(f"--budget {text}: give a number above 0, GMACs or milliseconds: 1.6, 1.6gmacs or 40ms.")
    check_number("--budget", float(found[1]))
    return float(found[1]), "ms" if (found[2] or "").lower() == "ms" else "GMACs"


def read_times(path: Path) -> dict[int | str, float]:
    """Milliseconds per image.

    Args:
        path: `times.csv` of `dualres bench --sizes`, whose medians are taken; or a CSV file with the columns `size` and
            `ms`: a row for each size in pixels, and one for `router`.

    Returns:
        By size, and by "router".

    Raises:
        DualResError: If it cannot be read, or a row is no time.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DualResError(f"--times {path}: cannot be read ({error}).") from None
    spent: dict[int | str, list[float]] = {}
    for number, row in enumerate(rows, 2):
        if "case" in row and not _BENCHED.fullmatch(row["case"] or ""):
            continue  # what bench measured besides
        name = (row.get("case") or row.get("size") or "").strip().removeprefix("plain_")
        try:
            key = ROUTER if name.lower() == ROUTER else int(name)
            spent.setdefault(key, []).append(float((row.get("ms") or "").strip()))
        except ValueError:
            raise DualResError(
                f"--times {path}, line {number}: each line needs a size in pixels, or router, and ms."
            ) from None
        check_number(f"--times {path}, line {number}: ms", spent[key][-1], 0)
    return {key: median(values) for key, values in spent.items()}
