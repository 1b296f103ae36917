"""Reading (compute, metric) points from the files that people have: CSV of any dialect, or a metrics.json."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dualres_plugin.common.errors import DualResError
from dualres_plugin.common.files.atomic import read_json

# Words that name a column, best first. A column is recognised by one of its words: "FLOPs (G)", "latency_ms".
COMPUTE_WORDS = (
    *("compute", "gmacs", "macs", "mmacs", "gmac", "mac", "gflops", "flops", "mflops", "tflops", "bflops"),
    *("gflop", "flop", "latency", "ms", "milliseconds", "time", "seconds", "cost"),
)
METRIC_WORDS = (
    "metric",
    "map",
    "ap",
    "top1",
    "accuracy",
    "acc",
    "top",
    "miou",
    "iou",
    "f1",
    "score",
    "quality",
)
EXAMPLES = {
    "compute": ("compute", "gmacs", "gflops", "flops", "latency", "ms"),
    "metric": ("metric", "ap", "map", "top1", "accuracy"),
}
BETA_WORDS = ("beta", "β")
HUGE = 1e15  # of any unit: more is a slip of the finger
LARGEST = 64 * 2**20  # bytes; a curve has some kilobytes
MOST_DECIMALS = 30  # "1e-999999" is a number, but nobody rounds to so many
NAME_WORDS = ("method", "model", "name", "curve", "series", "detector")


@dataclass(frozen=True)
class Points:
    """Operating points of one curve, in the order of the file.

    Attributes:
        compute: cost of each point, (N,), in the unit of its column.
        metric: quality of each point, (N,).
        beta: share at high of each point, (N,), or None if the file does not say.
        compute_name: name of the column that compute came from.
        metric_name: name of the column that metric came from.
        metric_decimals: decimals the metrics are written with.
        compute_decimals: decimals the compute values are written with.
    """

    compute: tuple[float, ...]
    metric: tuple[float, ...]
    beta: tuple[float, ...] | None
    compute_name: str
    metric_name: str
    metric_decimals: int
    compute_decimals: int


def read_points(path: Path | str, compute: str | None = None, metric: str | None = None) -> Points:
    """Read one curve.

    Args:
        path: a CSV (comma, semicolon or tab, one header line), a JSON list of objects, or a `metrics.json`
            with the entry `points`.
        compute: name of the compute column; found by its name if None.
        metric: name of the metric column; found by its name if None.

    Returns:
        The curve's points, in the order of the file.

    Raises:
        DualResError: The file is missing, empty or malformed, or a column is not there: the message lists
            the columns found.
    """
    return next(iter(read_groups(path, None, compute, metric).values()))


def read_groups(
    path: Path | str, by: str | None, compute: str | None = None, metric: str | None = None
) -> dict[str, Points]:
    """Read one curve per value of a column.

    Args:
        path: as in `read_points`.
        by: the column; None for the whole file as one curve.
        compute: name of the compute column; found by its name if None.
        metric: name of the metric column; found by its name if None.

    Returns:
        The curves by value of `by`, or by "".

    Raises:
        DualResError: As `read_points`.
    """
    path = Path(path)
    rows = _json_rows(path) if path.suffix.lower() == ".json" else _csv_rows(path)
    if not rows:
        raise DualResError(f"'{path}' holds no points.")
    columns = list(rows[0])
    f = _column(columns, compute, COMPUTE_WORDS, "compute", path)
    m = _column(columns, metric, METRIC_WORDS, "metric", path, taken=f)
    b = _find(columns, BETA_WORDS)
    if by is None:
        return {"": _points(rows, f, m, b, path)}
    by = _exact(columns, by, path)
    groups: dict[str, list[dict[str, str]]] = {}
    for number, row in enumerate(rows, start=1):
        if by not in row:
            raise DualResError(f"'{path}', point {number}: nothing in column '{by}'.")
        groups.setdefault(row[by], []).append(row)
    return {name: _points(members, f, m, b, path) for name, members in groups.items()}


def name_column(path: Path | str) -> str | None:
    """The column of a CSV that names different methods, if it has one with more than one value.

    Args:
        path: of a CSV or JSON file.

    Returns:
        The column's name, or None.
    """
    path = Path(path)
    if path.suffix.lower() == ".json":
        return None
    rows = _csv_rows(path)
    found = _find(list(rows[0]), NAME_WORDS) if rows else None
    return found if found and len({row[found] for row in rows}) > 1 else None


def _csv_rows(path: Path) -> list[dict[str, str]]:
    try:
        if path.is_file() and path.stat().st_size > LARGEST:
            raise DualResError(f"'{path}' has more than {LARGEST >> 20} MB: is that a table of points?")
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise DualResError(f"'{path}' does not exist.") from None
    except (OSError, UnicodeDecodeError) as error:  # binary, a folder, a name that cannot be
        raise DualResError(f"cannot read '{path}' as a text table ({error}).") from None
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    if not lines:
        raise DualResError(f"'{path}' is empty: give a header line and one line per operating point.")
    delimiter = max(",;\t", key=lines[0].count)
    try:
        table = [[cell.strip() for cell in row] for row in csv.reader(lines, delimiter=delimiter)]
    except csv.Error as error:
        raise DualResError(f"cannot read '{path}' as a text table ({error}).") from None
    header = table[0]
    twice = [name for name in header if header.count(name) > 1]
    if twice:
        raise DualResError(f"'{path}' has two columns '{twice[0]}': which of them counts? Rename one.")
    for number, row in enumerate(table[1:], start=1):
        if len(row) != len(header):
            raise DualResError(f"'{path}', point {number}: {len(row)} cells under {len(header)} columns.")
    return [dict(zip(header, row)) for row in table[1:]]


def _json_rows(path: Path) -> list[dict[str, str]]:
    data = read_json(path)
    if isinstance(data, Mapping):
        data = data.get("points")
    if not isinstance(data, Sequence) or isinstance(data, str):
        raise DualResError(f"'{path}' has no list of points (`points` of a metrics.json, or a list of objects).")
    rows = []
    for item in data:
        if isinstance(item, Sequence) and not isinstance(item, str) and len(item) == 3:
            item = dict(zip(("beta", "gmacs", "ap"), item))  # the order of a metrics.json
        if not isinstance(item, Mapping):
            raise DualResError(f"'{path}': a point must be an object or [beta, gmacs, ap], got {item!r}.")
        rows.append({str(key): _text(value) for key, value in item.items()})
    return rows


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _words(column: str) -> list[str]:
    return [re.sub(r"^(map|ap)[\d_]*$", r"\1", word) for word in re.split(r"[^0-9a-zβ]+", column.lower())]


def _find(columns: Iterable[str], words: Sequence[str]) -> str | None:
    ranked = [
        (words.index(word), len(_words(column)), position, column)
        for position, column in enumerate(columns)
        for word in _words(column)
        if word in words
    ]
    return min(ranked)[-1] if ranked else None


def _exact(columns: Sequence[str], wanted: str, path: Path) -> str:
    for column in columns:
        if column.strip().lower() == wanted.strip().lower():
            return column
    raise DualResError(f"'{path}' has no column '{wanted}'. Columns found: {', '.join(columns)}.")


def _column(
    columns: Sequence[str], wanted: str | None, words: Sequence[str], what: str, path: Path, taken: str = ""
) -> str:
    if wanted is not None:
        return _exact(columns, wanted, path)
    found = _find([column for column in columns if column != taken], words)
    if found is None:
        raise DualResError(
            f"'{path}': no {what} column recognised. Columns found: {', '.join(columns)}. "
            f"Call it one of: {', '.join(EXAMPLES[what])}; `dualres auc` also takes --{what} COLUMN."
        )
    return found


def _points(rows: Sequence[Mapping[str, str]], f: str, m: str, b: str | None, path: Path) -> Points:
    def numbers(column: str) -> tuple[float, ...]:
        values = []
        for number, row in enumerate(rows, start=1):
            try:
                values.append(float(row[column].rstrip("%")))
                if not abs(values[-1]) <= HUGE:
                    raise ValueError("not finite, or beyond what can be drawn")
            except (KeyError, ValueError):
                cell = row.get(column, "nothing")
                raise DualResError(
                    f"'{path}', point {number}: '{cell}' in column '{column}' is no number, or none within ±{HUGE:g}."
                ) from None
        return tuple(values)

    blank = b is None or all(not row.get(b, "").strip() for row in rows)
    return Points(
        compute=numbers(f),
        metric=numbers(m),
        beta=None if blank or b is None else numbers(b),
        compute_name=f,
        metric_name=m,
        metric_decimals=max(written_decimals(row[m].rstrip("%")) for row in rows),
        compute_decimals=max(written_decimals(row[f].rstrip("%")) for row in rows),
    )


def written_decimals(number: str) -> int:
    """How many decimals a number is written with: 2 for "53.30", 0 for "12"; 3 for "1.2e-2".

    Args:
        number: as it was written.

    Returns:
        0 to `MOST_DECIMALS`.
    """
    mantissa, _, exponent = number.lower().partition("e")
    decimals = len(mantissa.partition(".")[2])
    return min(MOST_DECIMALS, max(0, decimals - int(exponent or 0)))
