"""The DualRes paper's Tables 1 and 2: its AUC-Policy of published methods beside ours from their points."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from dualres_plugin.common.files.csv import Writer
from dualres_plugin.evaluate.published.catalog import Method, methods

TITLES = {
    "1": "Table 1: dynamic image classifiers, ImageNet",
    "2": "Table 2: dynamic detectors, COCO",
    "paper": "The paper's own method, as quoted from the paper",
    "more": "More public points (not what the paper tabulates; its value is repeated where it has one)",
}
COLUMNS = ("method", "data", "points", "paper", "ours", "difference", "rounding band", "M1-M0", "verified")


@dataclass(frozen=True)
class TableRow:
    """One method of a table.

    Attributes:
        method: the published method.
        ours: AUC-Policy from its points, or None without points.
        band: values compatible with the rounding of its points, or None without points.
        metric_span: M1 - M0 in percent, or None without points.
        notes: why to read the value with care.
    """

    method: Method
    ours: float | None
    band: tuple[float, float] | None
    metric_span: float | None
    notes: tuple[str, ...]

    @property
    def difference(self) -> float | None:
        """Ours minus the paper's, or None where one is missing."""
        if self.ours is None or self.method.paper is None:
            return None
        return self.ours - self.method.paper


def table_rows(everything: bool = False) -> list[TableRow]:
    """Rows of Tables 1 and 2 and the paper's own method; with `everything`, further public points too.

    Args:
        everything: add further public points.

    Returns:
        Rows in the order of the tables.
    """
    return [_row(method) for method in methods() if everything or method.table != "more"]


def _row(method: Method) -> TableRow:
    note = (method.note,) if method.note else ()
    if not method.has_points:
        return TableRow(method, None, None, None, note)
    result = method.result()
    return TableRow(method, result.value, method.band(), result.metric_span, note + result.notes)


def _cells(row: TableRow) -> list[str]:
    method = row.method
    paper = "" if method.paper is None else f"{method.paper:.3f}"
    if row.ours is None or row.band is None:
        return [method.name, method.dataset, "none public", paper, "", "", "", "", ""]
    difference = "" if row.difference is None else f"{row.difference:+.4f}"
    band = f"{row.band[0]:.3f} ... {row.band[1]:.3f}"
    points = str(len(method.compute))
    span = f"{row.metric_span:.2f}"
    return [
        method.name,
        method.dataset,
        points,
        paper,
        f"{row.ours:.4f}",
        difference,
        band,
        span,
        method.verified,
    ]


def format_tables(rows: Iterable[TableRow]) -> str:
    """The rows as text, one block per table, with notes.

    Args:
        rows: of any of the tables.

    Returns:
        Lines of text.
    """
    rows = list(rows)
    cells = [_cells(row) for row in rows]
    widths = [max(map(len, column)) for column in zip(COLUMNS, *cells)]
    lines: list[str] = []
    for table, title in TITLES.items():
        block = [(row, cell) for row, cell in zip(rows, cells) if row.method.table == table]
        if not block:
            continue
        lines += ["", title, _line(COLUMNS, widths), _line(["-" * width for width in widths], widths)]
        lines += [_line(cell, widths) for _, cell in block]
        own = [f"  {row.method.name}: {row.method.note}" for row, _ in block if row.method.note]
        lines += list(dict.fromkeys(own))
    return "\n".join(lines[1:])


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    text_columns = (0, 1, 8)
    padded = [
        cell.ljust(width) if i in text_columns else cell.rjust(width)
        for i, (cell, width) in enumerate(zip(cells, widths))
    ]
    return "  ".join(padded).rstrip()


def csv_text(rows: Iterable[TableRow]) -> str:
    """The rows as CSV, at full precision, with source, unit and notes.

    Args:
        rows: of any of the tables.

    Returns:
        A header and a line per row.
    """
    records = [_record(row) for row in rows]
    out = io.StringIO()
    Writer(out).writerows([list(records[0]) if records else [], *(record.values() for record in records)])
    return out.getvalue()


def _record(row: TableRow) -> dict[str, Any]:
    method, source = row.method, row.method.source
    low, high = row.band or ("", "")
    return {
        "table": method.table,
        "method": method.name,
        "dataset": method.dataset,
        "metric": method.metric_name,
        "paper": method.paper,
        "ours": row.ours,
        "difference": row.difference,
        "band_low": low,
        "band_high": high,
        "n_points": len(method.compute),
        "metric_span": row.metric_span,
        "verified": method.verified,
        "source": source.name,
        "flops_convention": source.convention,
        "convention_note": source.convention_note,
        "notes": "; ".join(row.notes),
    }
