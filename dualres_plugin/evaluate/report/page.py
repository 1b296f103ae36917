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

from dualres_plugin.evaluate.evaluation import LEAST_STEP
from dualres_plugin.evaluate.report.paired import paired_section

SCRIPTS = ("dom.js", "curve.js", "panels.js", "timeline.js", "gallery.js", "main.js")
EQUAL = 1.05  # sizes come in steps of the stride: compute that is at most so much more counts as the same
LONG = 12  # list items that the table of settings prints; longer lists are only counted


def render(
    data: dict[str, Any], metrics: dict[str, Any], facts: dict[str, str], remarks: Sequence[str] = (), clips: str = ""
) -> str:
    """The whole page.

    Args:
        data: what the script draws from; plain JSON types.
        metrics: what metrics.json holds: the headline and the tables are written from it.
        facts: "title", "subtitle" and "verdict", plain text.
        remarks: said beside the notes of the metrics.
        clips: HTML of `clips.clips_section`.

    Returns:
        HTML.
    """
    body = Template(asset("report.html")).substitute(
        warnings=_warnings(metrics.get("warnings", [])),
        lead=_lead(metrics, facts["verdict"]),
        tiles=_tiles(metrics, facts["verdict"]),
        points=_points(metrics),
        paired=paired_section(metrics),
        clips=clips,
        notes=_notes([*metrics["notes"], *remarks]),
        run=_run(metrics["run"]),
    )
    return framed(body, facts["title"], facts["subtitle"], "metrics.json", data, SCRIPTS)


def framed(body: str, title: str, subtitle: str, numbers: str, data: dict[str, Any], scripts: Sequence[str]) -> str:
    """A page around what it shows: head, styles, theme, data and scripts, in one file.

    Args:
        body: HTML from within `main` to before the scripts.
        title, subtitle: plain text.
        numbers: name of the file beside it that holds them, for browsers that run no script.
        data: what the scripts draw from; plain JSON types.
        scripts: names of assets, in order.

    Returns:
        HTML.
    """
    script = "\n".join(asset(name) for name in scripts)
    return Template(asset("frame.html")).substitute(
        title=escape(title),
        subtitle=escape(subtitle),
        numbers=numbers,
        body=body,
        css=asset("report.css"),
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


def asset(name: str) -> str:
    """A file of the page.

    Args:
        name: in the folder `assets`.
    """
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
    """Which share of the step from low to high the routed detector keeps; NaN where the step is too small.

    Args:
        metrics: what metrics.json holds.

    Returns:
        1 for all of it; above 1 where AP is above that of all high.
    """
    span = metrics["ap_high"] - metrics["ap_low"]
    return float((metrics["ap_routed"] - metrics["ap_low"]) / span) if span >= LEAST_STEP else math.nan


def proven(metrics: dict[str, Any]) -> bool:
    """Whether these images show that the router's choice is better than chance.

    Args:
        metrics: what metrics.json holds.

    Returns:
        True if high is clearly better than low and AUC-Policy lies above random: the whole interval of their paired
        difference where it was measured, else that of AUC-Policy alone.
    """
    above = metrics.get("auc_policy_above_random")
    gap = above["ci95"][0] if above else metrics["auc_policy_ci95"][0] - metrics["random"]["auc_policy"]
    return bool(not math.isnan(gain_kept(metrics)) and gap > 0)


def saved(metrics: dict[str, Any]) -> float:
    """Which share of the compute of running everything at high is saved.

    Args:
        metrics: what metrics.json holds.

    Returns:
        At most 1; below 0 where routing costs more.
    """
    return float(1 - metrics["routed"]["gmacs"] / metrics["high_gmacs"])


def saving(share: float) -> str:
    """A saving in words: what is negative is not called saved.

    Args:
        share: of the compute of running everything at high; below 0 where routing costs more.

    Returns:
        "37 % less compute", or "3 % more compute".
    """
    return f"{percent(abs(share))} {'more' if round(share, 2) < 0 else 'less'} compute"


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


def _lead(m: dict[str, Any], verdict: str) -> str:
    """The result in one sentence, and what keeps it from being one. A number and its unit stay on one line."""
    routed = m["routed"]
    aim = routed.get("target_high_rate")
    aimed = f" (its threshold aims at {percent(aim)})" if aim is not None else ""
    kept = f"keeps <b>{_kept(gain_kept(m))}</b> of what high gains over low" if proven(m) else _reached(m)
    text = (
        f"With <b>{percent(routed['beta'])}</b> of the images at high{aimed}, the routed detector {kept}, "
        f"with <b>{saving(saved(m))}</b> than running everything at high."
    )
    text = f'<p class="lead">{text}</p>'
    doubts = _doubts(m, verdict)
    if doubts:
        text += f'<p class="caveat"><b>Take care:</b> {escape(" ".join(doubts))}</p>'
    return text.replace(" %", "&nbsp;%")


def _kept(share: float) -> str:
    """More than all of the gain is luck of the sample, not a result."""
    return "all" if share > 1 else percent(share)


def _reached(m: dict[str, Any]) -> str:
    return f"has AP <b>{ap(m['ap_routed'])}</b> (low {ap(m['ap_low'])}, high {ap(m['ap_high'])})"


def _doubts(m: dict[str, Any], verdict: str) -> list[str]:
    """What forbids to quote the headline alone."""
    doubts = []
    span = m["ap_high"] - m["ap_low"]
    if span < LEAST_STEP:
        step = f"{100 * span:.1f} AP above" if span >= 0 else f"{-100 * span:.1f} AP below"
        doubts.append(f"High is {step} low on these {m['n_images']} images: too little to judge a router by.")
    elif not proven(m):
        doubts.append(verdict)
    fixed = m["baselines"].get("fixed size", {"points": []})["points"]
    best = max((p for p in fixed if p["gmacs"] <= EQUAL * m["routed"]["gmacs"]), key=lambda p: p["ap"], default=None)
    if best and best["ap"] > m["ap_routed"]:
        doubts.append(
            f"One fixed size, without a router, has AP {ap(best['ap'])} for {amount(best['gmacs'])} GMACs (our own "
            "scaling of the frame at high, not the host's imgsz)."
        )
    return doubts


def _tiles(m: dict[str, Any], verdict: str) -> str:
    routed = m["routed"]
    lower, upper = m["auc_policy_ci95"]
    interval = f"95 % interval {_three(lower)} to {_three(upper)}" if math.isfinite(lower) else "no interval computed"
    kept = f"{_kept(gain_kept(m))} of the gain kept · " if proven(m) else ""
    tiles = [
        (
            "AP, routed",
            ap(m["ap_routed"]),
            f"{kept}a random mix with the same compute has {ap(random_ap(m))}",
            '<div class="strip" id="tile-ap"></div>',
        ),
        (
            "Compute per image",
            f"{amount(routed['gmacs'])} <small>GMACs</small>",
            f"{saving(saved(m))} than all at high · {amount(2 * routed['gmacs'])} GFLOPs · the router's own "
            f"{amount(m['router_gmacs'])} GMACs included",
            '<div class="strip" id="tile-gmacs"></div>',
        ),
        (
            "AUC-Policy",
            _three(m["auc_policy"]),
            f"{interval} · random {_three(m['random']['auc_policy'])} ± {_three(m['random']['sd'])} · "
            f"oracle {_three(m['oracle']['auc_policy'])} · n = {m['n_images']}",
            f'<div class="strip" id="tile-auc"></div><p class="verdict">{escape(verdict)}</p>',
        ),
    ]
    return "\n".join(
        f'<div class="tile"><h3>{name}</h3><p class="figure">{value}</p>{extra}<p class="detail">{detail}</p></div>'
        for name, value, detail, extra in tiles
    )


def _three(value: float) -> str:
    """AUC-Policy: three digits, with a real minus sign."""
    return f"{value:.3f}".replace("-", "−")


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
