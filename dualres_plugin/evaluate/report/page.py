"""report.html: one file with everything in it, which asks nothing of the network."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from html import escape
from importlib.resources import files
from string import Template
from typing import Any

import numpy as np

SCRIPTS = ("dom.js", "curve.js", "panels.js", "gallery.js", "main.js")
LONG = 12  # list items that the table of settings prints; longer lists are only counted


def render(data: dict[str, Any], metrics: dict[str, Any], facts: dict[str, str], remarks: Sequence[str] = ()) -> str:
    """The whole page.

    Args:
        data: what the script draws from; plain JSON types.
        metrics: what metrics.json holds: the headline and the tables are written from it.
        facts: "title", "subtitle" and "verdict", plain text.
        remarks: said beside the notes of the metrics.

    Returns:
        HTML.
    """
    script = "\n".join(_part(name) for name in SCRIPTS)
    return Template(_part("report.html")).substitute(
        title=escape(facts["title"]),
        subtitle=escape(facts["subtitle"]),
        warnings=_warnings(metrics.get("warnings", [])),
        lead=_lead(metrics),
        tiles=_tiles(metrics, facts["verdict"]),
        points=_points(metrics),
        notes=_notes([*metrics["notes"], *remarks]),
        run=_run(metrics["run"]),
        css=_part("report.css"),
        data=embed(data),
        script=f'(() => {{\n"use strict";\n{script}\n}})();',
    )


def embed(data: dict[str, Any]) -> str:
    """JSON that is safe inside a script element, whatever names people give to files and classes.

    Args:
        data: plain JSON types; NaN and infinities become null.

    Returns:
        JSON without `<`.
    """
    text = json.dumps(_plain(data), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _plain(value: Any) -> Any:
    """NaN and infinities as null: JSON has neither."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


def _part(name: str) -> str:
    return (files("dualres_plugin.evaluate.report") / "assets" / name).read_text(encoding="utf-8")


# -- numbers, as the script formats them too -----------------------------------------------------------------


def percent(value: float, digits: int = 0) -> str:
    """A share in percent, a dash where there is none.

    Args:
        value: 0 to 1, or not finite.
        digits: after the point.

    Returns:
        The text with its unit.
    """
    return "–" if not math.isfinite(value) else f"{round(100 * value, digits) + 0.0:.{digits}f} %"


def ap(value: float) -> str:
    """AP in percent, a dash where there is none.

    Args:
        value: 0 to 1, or not finite.

    Returns:
        The text, one digit after the point.
    """
    return "–" if not math.isfinite(value) else f"{100 * value:.1f}"


def amount(value: float) -> str:
    """Compute or time, to about three digits.

    Args:
        value: at least 0, or not finite.

    Returns:
        The text; a dash where there is none.
    """
    if not math.isfinite(value):
        return "–"
    digits = 0 if value >= 100 else 1 if value >= 10 else 2 if value >= 1 else 3
    return f"{value:.{digits}f}"


def gain_kept(metrics: dict[str, Any]) -> float:
    """Which share of the step from low to high the routed detector keeps; NaN where there is no step.

    Args:
        metrics: what metrics.json holds.

    Returns:
        1 for all of it.
    """
    span = metrics["ap_high"] - metrics["ap_low"]
    return float((metrics["ap_routed"] - metrics["ap_low"]) / span) if span > 0 else math.nan


def saved(metrics: dict[str, Any]) -> float:
    """Which share of the compute of running everything at high is saved.

    Args:
        metrics: what metrics.json holds.

    Returns:
        At most 1; below 0 where routing costs more.
    """
    return float(1 - metrics["routed"]["gmacs"] / metrics["high_gmacs"])


def random_ap(metrics: dict[str, Any]) -> float:
    """AP of a random mix that costs what the routed detector costs.

    Args:
        metrics: what metrics.json holds.

    Returns:
        AP in [0, 1].
    """
    points = metrics["random"]["points"]
    gmacs, aps = ([p[key] for p in points] for key in ("gmacs", "ap"))
    return float(np.interp(metrics["routed"]["gmacs"], gmacs, aps))


# -- parts ---------------------------------------------------------------------------------------------------


def _warnings(warnings: Sequence[str]) -> str:
    return "".join(f'<p class="alarm" role="alert"><b>Warning:</b> {escape(text)}</p>' for text in warnings)


def _lead(m: dict[str, Any]) -> str:
    routed = m["routed"]
    aim = routed.get("target_high_rate")
    aimed = f" (its threshold aims at {percent(aim)})" if aim is not None else ""
    step = gain_kept(m)
    keeps = "" if math.isnan(step) else f"keeps <b>{percent(step)}</b> of what high gains over low and "
    text = (
        f"With <b>{percent(routed['beta'])}</b> of the images at high{aimed}, the routed detector {keeps}"
        f"needs <b>{percent(1 - saved(m))}</b> of the compute of running everything at high."
    )
    return text.replace(" %", "&nbsp;%")  # a number and its unit stay on one line


def _tiles(m: dict[str, Any], verdict: str) -> str:
    routed = m["routed"]
    lower, upper = m["auc_policy_ci95"]
    interval = f"95 % interval {lower:.3f} to {upper:.3f}" if math.isfinite(lower) else "no interval computed"
    tiles = [
        (
            "AP, routed",
            ap(m["ap_routed"]),
            f"{percent(gain_kept(m))} of the gain kept · a random mix with the same compute has {ap(random_ap(m))}",
            '<div class="strip" id="tile-ap"></div>',
        ),
        (
            "Compute per image",
            f"{amount(routed['gmacs'])} <small>GMACs</small>",
            f"{percent(saved(m))} saved · {amount(2 * routed['gmacs'])} GFLOPs · the router's own "
            f"{amount(m['router_gmacs'])} GMACs included",
            '<div class="strip" id="tile-gmacs"></div>',
        ),
        (
            "AUC-Policy",
            f"{m['auc_policy']:.3f}",
            f"{interval} · random {m['random']['auc_policy']:.3f} ± {m['random']['sd']:.3f} · "
            f"oracle {m['oracle']['auc_policy']:.3f} · n = {m['n_images']}",
            f'<div class="strip" id="tile-auc"></div><p class="verdict">{escape(verdict)}</p>',
        ),
    ]
    return "\n".join(
        f'<div class="tile"><h3>{name}</h3><p class="figure">{value}</p>{extra}<p class="detail">{detail}</p></div>'
        for name, value, detail, extra in tiles
    )


def _points(m: dict[str, Any]) -> str:
    times = m.get("timings_ms")
    head = "<th>β</th><th>AP</th><th>GMACs</th><th>GFLOPs</th>" + ("<th>ms</th>" if times else "")
    rows = []
    for p in m["points"]:
        cells = [percent(p["beta"]), ap(p["ap"]), amount(p["gmacs"]), amount(2 * p["gmacs"])]
        if times:
            cells.append(amount(times["t_router"] + times["t_low"] + p["beta"] * (times["t_high"] - times["t_low"])))
        rows.append("<tr>" + "".join(f"<td>{c}</td>" for c in cells) + "</tr>")
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def _notes(notes: list[str]) -> str:
    return "".join(f"<li>{escape(note)}</li>" for note in notes)


def _run(run: dict[str, Any]) -> str:
    rows = []
    for key, value in _flat(run):
        kind = ' class="command"' if key == "command" else ""
        rows.append(f"<div><dt>{escape(key.replace('_', ' '))}</dt><dd{kind}>{escape(value)}</dd></div>")
    return "".join(rows)


def _flat(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, dict) and value:
        for name, item in value.items():
            yield from _flat(item, f"{key} · {name}" if key else str(name))
    elif isinstance(value, (list, tuple)):
        long = len(value) > LONG or any(isinstance(item, (dict, list, tuple)) for item in value)
        yield key, f"{len(value)} values" if long else ", ".join(map(str, value)) or "none"
    else:
        yield key, "–" if value is None or value == {} else str(value)
