"""What `dualres evaluate` and `dualres demo` leave behind: numbers, a figure, examples and a page to look at."""

from __future__ import annotations

import importlib.metadata
import platform
from pathlib import Path
from typing import Any

import numpy as np

from dualres_plugin.budget.cost import cost_at
from dualres_plugin.common.errors import DualResError
from dualres_plugin.common.files.atomic import atomic_dir, make_dir, write_json, write_text
from dualres_plugin.common.files.csv import Writer
from dualres_plugin.evaluate.curve import Curve, descending
from dualres_plugin.evaluate.evaluation import LEAST_STEP, Evaluation
from dualres_plugin.evaluate.report.by_size import ap_by_size
from dualres_plugin.evaluate.report.clips import clip_data, clips_section
from dualres_plugin.evaluate.report.examples import write_examples
from dualres_plugin.evaluate.report.figure import save_curve
from dualres_plugin.evaluate.report.gallery import Ranked, build_gallery
from dualres_plugin.evaluate.report.page import render
from dualres_plugin.profile.coco_ap import per_image_ap
from dualres_plugin.profile.table import Profile

TIMINGS = ("t_router", "t_low", "t_high")
PACKAGES = ("dualres-plugin", "torch", "torchvision", "numpy", "pycocotools")


def write_evaluation(
    out: Path,
    evaluation: Evaluation,
    profile: Profile,
    *,
    title: str,
    run: dict[str, Any],
    gallery: int = 24,
    timings: dict[str, float] | None = None,
) -> None:
    """Write `report.html`, `metrics.json`, `curve.csv`, `curve.png` and `examples/`.

    All four files are complete before the first of them takes its name. The same evaluation gives the same
    metrics.json: it holds no dates.

    Args:
        out: the folder; made if it is missing, other files in it stay.
        evaluation: of `profile`'s original images, with scores in their order.
        profile: where the detections, objects and photos are.
        title: heading of the page and the figure.
        run: what was run: command, seed, router …; any nesting of plain values. Versions, detector and data are
            added.
        gallery: how many images the page shows at a time; 0 puts no picture into it and writes no examples.
        timings: mean milliseconds per image, "t_router", "t_low" and "t_high".

    Raises:
        DualResError: If the folder cannot be written, the scores are not those of this profile, or a timing is
            missing.
    """
    out = make_dir(out)
    rows = profile.originals
    if len(evaluation.scores) != len(rows):
        raise DualResError(
            f"the evaluation has {len(evaluation.scores)} scores, profile '{profile.path}' has {len(rows)} images: "
            "evaluate and report on the same profile."
        )
    times = _check_timings(timings)
    metrics = _metrics(evaluation, profile, run, times)
    ranked = _rank(evaluation, profile, rows)
    subtitle = describe(profile)
    data, replaced = _page_data(evaluation, profile, metrics, ranked, gallery)
    with atomic_dir(out) as temporary:
        write_json(temporary / "metrics.json", metrics)
        _write_curves(temporary / "curve.csv", evaluation)
        save_curve(temporary / "curve.png", evaluation, title, subtitle)
        facts = {"title": title, "subtitle": subtitle, "verdict": verdict(evaluation)}
        write_text(
            temporary / "report.html",
            render(data, metrics, facts, _remarks(profile, replaced), clips_section(data["clips"])),
        )
    if gallery:
        write_examples(out / "examples", profile, ranked, round(evaluation.routed["beta"] * evaluation.n))


def describe(profile: Profile) -> str:
    """Detector, sizes and data in one line.

    Args:
        profile: what was evaluated.

    Returns:
        A line of text.
    """
    meta = profile.meta
    high = float(meta["high"])
    return (
        f"{meta['detector']} ({meta['host']}) at {high:g} or {high * profile.scale:g} px · {meta['dataset']} · "
        f"{len(profile.originals)} images"
    )


def verdict(evaluation: Evaluation) -> str:
    """Whether AUC-Policy lies above random, in one sentence.

    Args:
        evaluation: with its interval; where there are paired differences, the one to random orders decides.

    Returns:
        A sentence.
    """
    random = f"random ({evaluation.random_auc:.3f})"
    if evaluation.proof:
        gap, lower, upper = evaluation.proof.above_random
        said = f"AUC-Policy minus that of {random} is {gap:+.3f}, 95 % interval {lower:+.3f} to {upper:+.3f}"
        above = below = between = said
    else:
        lower, upper = (end - evaluation.random_auc for end in evaluation.ci95)
        above, below = (f"The whole interval lies {side} {random}" for side in ("above", "below"))
        between = f"The interval includes {random}"
    if not np.isfinite([lower, upper]).all():
        return f"Without an interval nobody can tell whether this differs from {random}."
    if lower > 0:
        return f"{above}: the order is better than chance."
    if upper < 0:
        return f"{below}: the order is worse than chance."
    return f"{between}: these images do not show that the router beats chance."


def _check_timings(timings: dict[str, float] | None) -> dict[str, float] | None:
    if timings is None:
        return None
    missing = [name for name in TIMINGS if name not in timings]
    if missing:
        raise DualResError(f"timings lack {', '.join(missing)}: give mean milliseconds for {', '.join(TIMINGS)}.")
    return {name: float(timings[name]) for name in TIMINGS}


def _metrics(
    evaluation: Evaluation, profile: Profile, run: dict[str, Any], times: dict[str, float] | None
) -> dict[str, Any]:
    metrics = evaluation.metrics()
    beta = evaluation.routed["beta"]
    metrics["by_size"] = {c.name: c.as_dict(beta) for c in ap_by_size(profile, evaluation.scores)}
    if times is not None:
        metrics["timings_ms"] = {**times, "routed": cost_at(beta, *(times[name] for name in TIMINGS))}
    meta = profile.meta
    known = {
        "detector": {key: meta.get(key) for key in ("detector", "host", "detector_fingerprint", "high", "scale")},
        "data": {
            "dataset": meta.get("dataset"),
            "images": len(profile.originals),
            "dataset_fingerprint": meta.get("dataset_fingerprint"),
            "left_out": len(meta.get("left_out", [])),
        },
        "versions": _versions(),
    }
    metrics["run"] = {**run, **{key: value for key, value in known.items() if key not in run}}
    return metrics


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = "not installed as a package"
    return versions


def _rank(evaluation: Evaluation, profile: Profile, rows: np.ndarray) -> Ranked:
    order = descending(evaluation.scores)
    ap_low, ap_high = (per_image_ap(profile, rows, which) for which in ("low", "high"))
    return Ranked(rows[order], evaluation.scores[order], ap_low[order], ap_high[order])


def _write_curves(path: Path, evaluation: Evaluation) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = Writer(file)
        writer.writerow(["policy", "beta", "gmacs", "gflops", "ap"])
        for curve in (evaluation.router, evaluation.oracle, evaluation.random, *evaluation.others):
            for p in curve.points():
                writer.writerow([curve.name, p["beta"], p["gmacs"], 2 * p["gmacs"], p["ap"]])


def _page_data(
    evaluation: Evaluation, profile: Profile, metrics: dict[str, Any], ranked: Ranked, shown: int
) -> tuple[dict[str, Any], int]:
    """What the page's script draws from, and how many photos are gone. Images are in the router's order throughout."""
    points, counts, start = _slider(evaluation)
    group = max(1, shown // 3)
    images, replaced = build_gallery(profile, ranked, counts, group) if shown else ([], 0)
    spent = evaluation.router_gmacs
    others = (evaluation.random, evaluation.oracle, *evaluation.others)
    data = {
        "n": evaluation.n,
        "counts": counts,
        "start": start,
        "least_step": LEAST_STEP,
        "low": {"gmacs": evaluation.low_gmacs, "ap": evaluation.ap_low},
        "high": {"gmacs": evaluation.high_gmacs, "ap": evaluation.ap_high},
        "routed": evaluation.routed,
        "timings": metrics.get("timings_ms"),
        "auc": {"router": evaluation.router.auc_policy, "ci": list(evaluation.ci95), "sd": evaluation.random_sd},
        "curves": [
            {"name": evaluation.router.name, "auc": evaluation.router.auc_policy, "points": points},
            *({"name": c.name, "auc": _auc(c, evaluation), "points": _points(c)} for c in others),
        ],
        "sizes": [{"name": name, **size} for name, size in metrics["by_size"].items()],
        "scores": _rounded(ranked.scores, 5),
        "gains": _rounded(ranked.gain, 4),
        "group": group,
        "classes": {str(key): name for key, name in profile.categories.items()},
        "images": images,
        "clips": clip_data(profile, ranked, (spent + evaluation.low_gmacs, spent + evaluation.high_gmacs)),
    }
    return data, replaced


def _slider(evaluation: Evaluation) -> tuple[list[tuple[float, ...]], list[int], int]:
    """(β, GMACs, AP) of each step of the slider, how many images go high there, and the step to start at.

    The steps are the points of the curve, and the operating point of the headline, which may lie between two of them.
    """
    points = _points(evaluation.router)
    counts = np.round(evaluation.router.beta * evaluation.n).astype(int).tolist()
    routed = evaluation.routed
    at_high = round(routed["beta"] * evaluation.n)
    start = int(np.searchsorted(counts, at_high))
    if start == len(counts) or counts[start] != at_high:
        points.insert(start, (routed["beta"], routed["gmacs"], routed["ap"]))
        counts.insert(start, at_high)
    return points, counts, start


def _points(curve: Curve) -> list[tuple[float, ...]]:
    return list(zip(*map(_list, (curve.beta, curve.gmacs, curve.ap))))


def _remarks(profile: Profile, replaced: int) -> list[str]:
    remarks = []
    if profile.meta.get("left_out"):
        count = len(profile.meta["left_out"])
        remarks.append(f"Left out while profiling: {count} entries; the profile's profile.json lists them.")
    if replaced:
        remarks.append(f"Not found where they were profiled: {replaced} photos; their thumbnails are shown.")
    return remarks


def _auc(curve: Curve, evaluation: Evaluation) -> float:
    """Random orders have the mean of their AUC-Policies, which the mean curve need not have."""
    return evaluation.random_auc if curve is evaluation.random else curve.auc_policy


def _list(values: np.ndarray) -> list[float]:
    return [float(v) for v in values]


def _rounded(values: np.ndarray, digits: int) -> list[float]:
    return [round(float(v), digits) for v in values]
