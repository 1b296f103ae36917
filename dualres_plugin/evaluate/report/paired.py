"""The table of the operating point against its alternatives, with intervals."""

from __future__ import annotations

import math
from html import escape
from typing import Any

TEXT = (
    "AP of the routed detector minus that of each alternative, with 95 % intervals: {resamples} random halves of "
    "{drawn}, the same for both sides."
)


def paired_section(metrics: dict[str, Any]) -> str:
    """The section of the page.

    Args:
        metrics: what metrics.json holds.

    Returns:
        HTML; nothing where no differences were measured.
    """
    paired = metrics.get("paired")
    if not paired:
        return ""
    drawn = "the photos" if paired["groups"] is None else f"{paired['groups']} groups of photos"
    areas = list(dict.fromkeys(area for c in paired["against"].values() for area in c["difference"]))
    head = "".join(f'<th scope="col">{escape(area)}</th>' for area in areas)
    rows = "".join(_row(name, c, areas) for name, c in paired["against"].items())
    return (
        '<section class="wide panel" id="paired"><h2>Against the alternatives</h2>'
        f'<p class="soft">{TEXT.format(resamples=paired["resamples"], drawn=drawn)} Objects: {", ".join(areas)}.</p>'
        f'<div class="across"><table class="against"><thead><tr><th scope="col">minus</th>{head}</tr></thead>'
        f'<tbody>{rows}</tbody></table></div><p class="says">{escape(_sentence(paired["verdict"]))}</p></section>'
    )


def difference(found: dict[str, float], digits: int = 1) -> str:
    """A difference with its interval below it, in the colour of what it shows.

    Args:
        found: "mean", "low" and "high", in points of 100.
        digits: after the point.

    Returns:
        HTML.
    """
    low, high = found["low"], found["high"]
    kind = "up" if low > 0 else "down" if high < 0 else "even"
    ends = f"{signed(low, digits)} to {signed(high, digits)}" if math.isfinite(low) else "no interval"
    return f'<b class="{kind}">{signed(found["mean"], digits)}</b><small>{ends}</small>'


def signed(value: float, digits: int = 1) -> str:
    """A number with its sign, a real minus.

    Args:
        value: any number.
        digits: after the point.
    """
    text = f"{abs(value):.{digits}f}"
    return f"±{text}" if not float(text) else f"{'−' if value < 0 else '+'}{text}"


def _row(name: str, comparison: dict[str, Any], areas: list[str]) -> str:
    cells = (comparison["difference"].get(area) for area in areas)
    shown = "".join(f"<td>{difference(cell) if cell else '–'}</td>" for cell in cells)
    what = f"{comparison['what']}; {comparison['gmacs']:.2f} GMACs"
    return f'<tr><th scope="row">{escape(name)}<small>{escape(what)}</small></th>{shown}</tr>'


def _sentence(verdict: str) -> str:
    """The verdict as a sentence."""
    claim, _, found = verdict.rpartition(": ")
    return f"{claim[:1].upper()}{claim[1:]}: {found}."
