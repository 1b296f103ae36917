"""Operating points of published methods, with their sources.

Facts only, as printed by each source and in the source's own unit of compute; `gmacs` converts. Four tables:

- `sources.csv`: what "FLOPs" means in each source (`MAC`: multiply-adds; `2xMAC`: twice that) and why.
- `methods.csv`: methods with a trade-off curve, the AUC-Policy that the DualRes paper prints for them, and
  whether their points were compared with the source (`verified`; anything but `yes` says why not).
- `points.csv`: their operating points; `setting` is what the method turns (for some, the share at high).
- `detectors.csv`: one point per published detector, for the Pareto figures.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files

from dualres_plugin.evaluate.auc_policy import AUCPolicyResult, evaluate_points
from dualres_plugin.evaluate.published.points_file import written_decimals
from dualres_plugin.evaluate.published.rounding import rounding_band

MACS_PER_UNIT = {"MAC": 1.0, "2xMAC": 0.5}


@dataclass(frozen=True)
class Source:
    """Where numbers come from.

    Attributes:
        name: citation.
        convention: "MAC" or "2xMAC": what the source calls a FLOP; "" for a source without compute.
        convention_note: how the convention is known.
    """

    name: str
    convention: str
    convention_note: str

    def gmacs(self, compute: float) -> float:
        """Convert a compute value of this source, in G, to GMACs.

        Args:
            compute: as the source prints it, in G.

        Returns:
            GMACs.
        """
        return compute * MACS_PER_UNIT[self.convention]


@dataclass(frozen=True)
class Method:
    """A published method with a trade-off curve.

    Attributes:
        id: short key.
        table: "1" or "2" (of the DualRes paper), "paper" (its own method), "more" (not in its tables).
        name: the method's name.
        dataset: dataset and split of the metric.
        metric_name: "top1", "AP_val" or "AP_test"; "" without points.
        setting_name: what `settings` are: "beta" (share at high), "exit threshold", ...
        source: where the points come from.
        paper: AUC-Policy printed by the DualRes paper, or None.
        verified: "yes" if the points were compared with the source; else why not.
        note: what to know when comparing.
        settings: setting of each point, (N,), None where the source gives none.
        compute: compute of each point, (N,), in the source's unit (G).
        metric: metric of each point, (N,), in percent.
        compute_decimals: decimals compute is printed with.
        metric_decimals: decimals the metric is printed with.
    """

    id: str
    table: str
    name: str
    dataset: str
    metric_name: str
    setting_name: str
    source: Source
    paper: float | None
    verified: str
    note: str
    settings: tuple[float | None, ...]
    compute: tuple[float, ...]
    metric: tuple[float, ...]
    compute_decimals: int
    metric_decimals: int

    @property
    def has_points(self) -> bool:
        """Whether operating points are public."""
        return bool(self.compute)

    @property
    def gmacs(self) -> tuple[float, ...]:
        """Compute of each point, (N,), in GMACs."""
        return tuple(self.source.gmacs(value) for value in self.compute)

    def result(self) -> AUCPolicyResult:
        """AUC-Policy of the points.

        Returns:
            The value, with notes on how far to trust it.

        Raises:
            DualResError: If there are no points.
        """
        return evaluate_points(self.compute, self.metric, self.settings if self.setting_name == "beta" else None)

    def band(self) -> tuple[float, float]:
        """The AUC-Policy values that the points, rounded as printed, can stand for.

        Returns:
            Lowest and highest value.

        Raises:
            DualResError: If there are no points.
        """
        return rounding_band(self.compute, self.metric, self.metric_decimals, self.compute_decimals)


@dataclass(frozen=True)
class Detector:
    """One published detector at one input size.

    Attributes:
        family: "EfficientDet", "YOLOv8", ...
        name: model with its input size, such as "YOLOv8n@640".
        gmacs: compute in GMACs, converted.
        reported: compute as the source prints it, in G.
        ap: COCO AP in percent.
        metric_name: "AP_val" or "AP_test".
        dataset: dataset and split.
        source: where the numbers come from.
        verified: "yes", or why not.
    """

    family: str
    name: str
    gmacs: float
    reported: float
    ap: float
    metric_name: str
    dataset: str
    source: Source
    verified: str


def _rows(name: str) -> list[dict[str, str]]:
    return list(
        csv.DictReader((files("dualres_plugin.evaluate.published") / name).read_text(encoding="utf-8").splitlines())
    )


@lru_cache(maxsize=1)
def sources() -> dict[str, Source]:
    """Every source by its name.

    Returns:
        The same objects on every call.
    """
    return {
        row["source"]: Source(row["source"], row["convention"], row["convention_note"]) for row in _rows("sources.csv")
    }


@lru_cache(maxsize=1)
def methods() -> tuple[Method, ...]:
    """Every method with a trade-off curve, in the order of the paper's tables.

    Returns:
        The same objects on every call.
    """
    points: dict[str, list[dict[str, str]]] = defaultdict(list)
    for row in _rows("points.csv"):
        points[row["id"]].append(row)
    order = {"1": 0, "2": 1, "paper": 2, "more": 3}
    rows = sorted(_rows("methods.csv"), key=lambda row: order[row["table"]])
    return tuple(_method(row, points[row["id"]]) for row in rows)


def _method(row: dict[str, str], points: list[dict[str, str]]) -> Method:
    def decimals(column: str) -> int:
        return max((written_decimals(point[column]) for point in points), default=0)

    return Method(
        id=row["id"],
        table=row["table"],
        name=row["method"],
        dataset=row["dataset"],
        metric_name=row["metric_name"],
        setting_name=row["setting"],
        source=sources()[row["source"]],
        paper=float(row["paper"]) if row["paper"] else None,
        verified=row["verified"],
        note=row["note"],
        settings=tuple(float(point["setting"]) if point["setting"] else None for point in points),
        compute=tuple(float(point["compute"]) for point in points),
        metric=tuple(float(point["metric"]) for point in points),
        compute_decimals=decimals("compute"),
        metric_decimals=decimals("metric"),
    )


@lru_cache(maxsize=1)
def detectors() -> tuple[Detector, ...]:
    """Every published detector point, in GMACs.

    Returns:
        The same objects on every call.
    """
    return tuple(
        Detector(
            family=row["family"],
            name=row["model"],
            gmacs=sources()[row["source"]].gmacs(float(row["compute"])),
            reported=float(row["compute"]),
            ap=float(row["metric"]),
            metric_name=row["metric_name"],
            dataset=row["dataset"],
            source=sources()[row["source"]],
            verified=row["verified"],
        )
        for row in _rows("detectors.csv")
    )
