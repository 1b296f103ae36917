"""The paper's Figures 3 and 4 as data: published detectors, dynamic models, random mixes and your own curves.

Everything is COCO AP in percent against GMACs (multiply-adds); each source's own unit is converted and noted
in the CSV. `published.plot` draws what this module collects.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any

from dualres_plugin.common.errors import DualResError
from dualres_plugin.common.files.csv import Writer
from dualres_plugin.evaluate.published.catalog import Detector, detectors, methods
from dualres_plugin.evaluate.published.points_file import Points, read_points

DYNAMIC = "DynamicDet"  # the family name of the published dynamic detectors
SPLITS = {"val": ("AP_val", "COCO val2017"), "test": ("AP_test", "COCO test-dev2017")}
MIX_STEPS = 11
GMACS_PER_UNIT = {"gmacs": 1.0, "macs": 1e-9, "mmacs": 1e-3, "gflops": 0.5, "flops": 0.5e-9}
GMACS_PER_UNIT |= {"macsg": 1.0, "flopsg": 0.5}  # "MACs (G)", "FLOPs (G)"


@dataclass(frozen=True)
class ParetoPoint:
    """One operating point.

    Attributes:
        gmacs: compute in GMACs.
        ap: AP in percent.
        label: text beside the point; "" for none.
        beta: share of images at high, or None.
        reported: compute as the source prints it, or None for a computed point.
        unit: unit of `reported`: "MAC" or "2xMAC" in G for published points, else the column's name.
    """

    gmacs: float
    ap: float
    label: str = ""
    beta: float | None = None
    reported: float | None = None
    unit: str = ""


@dataclass(frozen=True)
class Series:
    """Points that belong together.

    Attributes:
        kind: "detector" (static models), "dynamic" (published), "mix" (random, of two), "curve" (yours).
        name: text for the legend.
        family: what `--families` selects; "" for mixes and own curves.
        points: in order of compute.
        dataset: dataset and split of AP.
        source: citation or file.
        note: how the unit is known, how the points came about.
        verified: "yes", or why not.
    """

    kind: str
    name: str
    family: str
    points: tuple[ParetoPoint, ...]
    dataset: str
    source: str
    note: str = ""
    verified: str = "yes"


def family_names(split: str = "val") -> list[str]:
    """Families that have points on a split, the dynamic ones last.

    Args:
        split: "val" or "test".

    Returns:
        Names that `published_series` takes.

    Raises:
        DualResError: For another split.
    """
    metric, _ = metric_and_dataset(split)
    return [*dict.fromkeys(d.family for d in detectors() if d.metric_name == metric), DYNAMIC]


def published_series(families: Iterable[str] | None = None, split: str = "val") -> list[Series]:
    """Published detectors, one series per family and source, and dynamic models, one series each.

    Args:
        families: names from `family_names` (any case); None for all.
        split: "val" (COCO val2017) or "test" (test-dev2017); many sources print only the first.

    Returns:
        The series in the order of `family_names`.

    Raises:
        DualResError: Unknown split or family, or a family without points on this split.
    """
    metric, dataset = metric_and_dataset(split)
    known = {name.lower(): name for name in family_names(split)}
    wanted = list(known.values()) if families is None else [_family(name, known, dataset) for name in families]
    series = [_family_series(name, metric, dataset) for name in wanted if name != DYNAMIC]
    if DYNAMIC in wanted:
        series += _dynamic_series(metric)
    return series


def metric_and_dataset(split: str) -> tuple[str, str]:
    """Name of the metric and the dataset of a split, "val" or "test".

    Args:
        split: "val" or "test".

    Returns:
        Name of the metric, and the dataset in words.

    Raises:
        DualResError: For another name.
    """
    if split not in SPLITS:
        raise DualResError(f"unknown split '{split}': choose one of {', '.join(SPLITS)}.")
    return SPLITS[split]


def _family(name: str, known: dict[str, str], dataset: str) -> str:
    if name.strip().lower() not in known:
        raise DualResError(f"no family '{name}' on {dataset}. Families: {', '.join(known.values())}.")
    return known[name.strip().lower()]


def _family_series(family: str, metric: str, dataset: str) -> Series:
    chosen = sorted((d for d in detectors() if d.family == family and d.metric_name == metric), key=lambda d: d.gmacs)
    points = tuple(ParetoPoint(d.gmacs, d.ap, _short(d.name), None, d.reported, d.source.convention) for d in chosen)
    source = chosen[0].source
    verified = next((d.verified for d in chosen if d.verified != "yes"), "yes")
    return Series("detector", family, family, points, dataset, source.name, source.convention_note, verified)


def _short(name: str) -> str:
    """Label of a model: the input size is left out where it is 640, the common one."""
    return name.removesuffix("@640")


def _dynamic_series(metric: str) -> list[Series]:
    found = [m for m in methods() if m.metric_name == metric]
    return [
        Series(
            kind="dynamic",
            name=m.name.removesuffix(" (val2017)"),
            family=DYNAMIC,
            points=tuple(
                ParetoPoint(gmacs, ap, "", beta, reported, m.source.convention)
                for gmacs, ap, beta, reported in zip(m.gmacs, m.metric, m.settings, m.compute)
            ),
            dataset=m.dataset,
            source=m.source.name,
            note=m.source.convention_note,
            verified=m.verified,
        )
        for m in found
    ]


def mix_series(low: str, high: str, split: str = "val") -> Series:
    """The random mix of two published models: compute and AP taken as linear between them.

    AP of a mixture is not exactly linear in its shares; the line is the diagonal of AUC-Policy.

    Args:
        low: name of a published model.
        high: name of another; which of the two is cheaper does not matter.
        split: "val" or "test".

    Returns:
        Points at β = 0, 0.1, …, 1.

    Raises:
        DualResError: If a model is unknown on this split.
    """
    metric, dataset = metric_and_dataset(split)
    a, b = sorted((_model(low, metric, dataset), _model(high, metric, dataset)), key=lambda d: d.gmacs)
    if a.gmacs == b.gmacs:
        raise DualResError(f"'{low}' and '{high}' cost the same: a mix needs a cheap and a dear model.")
    shares = [i / (MIX_STEPS - 1) for i in range(MIX_STEPS)]
    points = tuple(ParetoPoint(a.gmacs + t * (b.gmacs - a.gmacs), a.ap + t * (b.ap - a.ap), beta=t) for t in shares)
    source = f"computed from {a.name} and {b.name}"
    dearer = _short(b.name).removeprefix(f"{a.family}-")
    name = f"random mix {_short(a.name)} / {dearer}"
    return Series("mix", name, "", points, dataset, source, "linear in compute and AP", a.verified)


def _model(name: str, metric: str, dataset: str) -> Detector:
    for detector in detectors():
        if detector.metric_name == metric and name.strip().lower() in _names(detector):
            return detector
    known = ", ".join(_short(d.name) for d in detectors() if d.metric_name == metric)
    raise DualResError(f"no published model '{name}' on {dataset}. Models: {known}.")


def _names(detector: Detector) -> set[str]:
    short = _short(detector.name).lower()
    return {detector.name.lower(), short, short.removeprefix("efficientdet-")}


def read_curve(text: str) -> Series:
    """Read your own curve from PATH or NAME=PATH: a metrics.json, a CSV (beta, gmacs, ap), or their folder.

    GFLOPs are taken as twice GMACs; AP between 0 and 1 is shown in percent.

    Args:
        text: PATH or NAME=PATH.

    Returns:
        The curve, in GMACs and percent.

    Raises:
        DualResError: The file is missing, has no such columns, or its compute is not an operation count.
    """
    name, path = "", Path(text)
    if not path.exists() and "=" in text:
        name, _, rest = text.partition("=")
        path = Path(rest)
    if path.is_dir():
        files = [path / file for file in ("metrics.json", "curve.csv") if (path / file).is_file()]
        if not files:
            raise DualResError(
                f"folder '{path}' has neither metrics.json nor curve.csv (dualres evaluate writes both)."
            )
        path = files[0]
    points = read_points(path)
    factor = GMACS_PER_UNIT.get(_unit(points.compute_name))
    if factor is None:
        raise DualResError(
            f"'{path}': the Pareto figure needs compute in GMACs, found column '{points.compute_name}'. "
            f"Use a column named one of: {', '.join(GMACS_PER_UNIT)}."
        )
    plain = path.stem in ("metrics", "curve") and path.resolve().parent.name
    return Series(
        kind="curve",
        name=name or (path.resolve().parent.name if plain else path.stem),
        family="",
        points=_curve_points(points, factor),
        dataset="your images",
        source=str(path),
        note="" if factor == 1 else f"{points.compute_name} x {factor:g}",
        verified="",
    )


def _unit(column: str) -> str:
    return "".join(letter for letter in column.lower() if letter.isalpha())


def _curve_points(points: Points, factor: float) -> tuple[ParetoPoint, ...]:
    percent = 100.0 if max(points.metric) <= 1 else 1.0
    betas: Sequence[float | None] = points.beta or [None] * len(points.compute)
    made = [
        ParetoPoint(f * factor, m * percent, "", b, f, points.compute_name)
        for f, m, b in zip(points.compute, points.metric, betas)
    ]
    if not all(point.gmacs > 0 and isfinite(point.gmacs) and isfinite(point.ap) for point in made):
        raise DualResError(f"'{points.compute_name}' must be positive and '{points.metric_name}' a finite number.")
    return tuple(sorted(made, key=lambda point: point.gmacs))


def csv_text(series: Iterable[Series]) -> str:
    """All points as CSV: GMACs and GFLOPs (twice GMACs), the value and unit of the source, and citations.

    Args:
        series: what to write.

    Returns:
        A header and a line per point.
    """
    out = io.StringIO()
    writer = Writer(out)
    header = "kind family name model beta gmacs gflops ap dataset reported reported_unit source note verified"
    writer.writerow(header.split())
    for one in series:
        for point in one.points:
            row: list[Any] = [one.kind, one.family, one.name, point.label, point.beta, f"{point.gmacs:.6g}"]
            row += [f"{2 * point.gmacs:.6g}", f"{point.ap:.6g}", one.dataset, point.reported, point.unit]
            writer.writerow([*row, one.source, one.note, one.verified])
    return out.getvalue()
