"""The figures of a bench as a table in the paper's layout, a CSV, and a plot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from dualres_plugin.common.files.atomic import atomic_write, write_json, write_text
from dualres_plugin.common.files.csv import Writer
from dualres_plugin.export.parity import Parity

TWO = ("high", "low")  # what two sizes are called; several are called by their pixels
OUTSIDE = "-outside"  # ends the name of a form whose thumbnail is an input
PAPER_SPEEDUPS = {"100": 1.11, "50": 1.20, "0": 1.30}  # ONNX over eager, Table 5 of the paper


@dataclass(frozen=True)
class Point:
    """Where the photos go: a column of the table.

    Attributes:
        name: ends the names of its cases: `cond_100`, `cond_mix`.
        title: of the column.
        step: the number of the size that all photos run at; None: each at the size of its score.
    """

    name: str
    title: str
    step: int | None


def points_of(names: Sequence[str]) -> tuple[Point, ...]:
    """What is measured: everything at each size, and a mix.

    Args:
        names: of the sizes, largest first.
    """
    if tuple(names) == TWO:
        return Point("100", "100 % high", 0), Point("50", "50 % high", None), Point("0", "0 % high", 1)
    each = (Point(name, f"all at {name} px", step) for step, name in enumerate(names))
    return *each, Point("mix", "mixed", None)


@dataclass
class Timing:
    """Milliseconds of one case on every photo, and which size the router gives each where they are mixed."""

    milliseconds: list[float] = field(default_factory=list)
    steps: list[int] = field(default_factory=list)

    def add(self, milliseconds: float, step: int) -> None:
        """Note one photo.

        Args:
            milliseconds: that it took.
            step: the number of the size that the router gives it, 0 for the largest.
        """
        self.milliseconds.append(milliseconds)
        self.steps.append(step)

    def median(self) -> float:
        """Milliseconds of the middle photo."""
        return float(np.median(self.milliseconds))

    def quartiles(self) -> tuple[float, float]:
        """Milliseconds that a quarter, and three quarters, of the photos stay below."""
        low, high = np.percentile(self.milliseconds, [25, 75])
        return float(low), float(high)

    def mixed(self) -> float:
        """Mean cost of a photo when the routes cost differently: each route's median, by its share.

        A plain median would be that of the commoner route, and a mean would be at the mercy of other processes.
        """
        values, steps = np.array(self.milliseconds), np.array(self.steps)
        parts = [values[steps == step] for step in np.unique(steps)]
        return sum(float(np.median(part)) * len(part) for part in parts) / len(values)


@dataclass
class BenchResult:
    """Everything a bench measured.

    Attributes:
        timings: case -> times; `plain_high`, `plain_low` (the host's own export), `lean_high`, `lean_low` (the same
            with the decoding that the forms have, if that differs), `router`, `router_network` (without its
            thumbnail), `thumbnail` (made outside), `FORM_100`, `FORM_50`, `FORM_0`, and plain, router and points with
            `eager` for a form. Of several sizes `plain_640`, …, `FORM_640`, …, `FORM_mix`.
        shares: of the photos at each size where they are mixed, largest first; of two sizes the point called 50 %.
        sizes: MB on disk.
        memory: resident MB: `base` before the model was loaded, `now`, `peak`.
        scales: each size but the largest, as a ratio of it.
        names: of the sizes, largest first.
        layouts: text, which convolutions got onnxruntime's fast layout.
        parity: form -> what its check against PyTorch found.
    """

    timings: dict[str, Timing]
    shares: tuple[float, ...]
    sizes: dict[str, float]
    memory: dict[str, dict[str, float]]
    forms: list[str]
    images: int
    threads: int
    high: int
    scales: tuple[float, ...]
    names: tuple[str, ...] = TWO
    layouts: str = ""
    parity: dict[str, dict[str, float]] = field(default_factory=dict)

    @property
    def points(self) -> tuple[Point, ...]:
        """The columns."""
        return points_of(self.names)

    @property
    def pixels(self) -> str:
        """The sizes in words."""
        return " / ".join([str(self.high), *(f"{self.high * scale:g}" for scale in self.scales)]) + " px"

    def cost(self, name: str, point: Point) -> float:
        """Milliseconds a photo.

        Args:
            name: a form, or "eager".
            point: where the photos go.
        """
        timing = self.timings[f"{name}_{point.name}"]
        return timing.mixed() if point.step is None else timing.median()

    def router_cost(self, form: str) -> float:
        """Milliseconds of the router with its thumbnail, as a form has them.

        Args:
            form: one of `forms`.
        """
        t = self.timings
        if form.endswith(OUTSIDE):
            return t["thumbnail"].median() + t["router_network"].median()
        return t["router"].median()

    def ideal(self, point: Point, detector: str = "plain") -> float:
        """`p * t_high + (1 - p) * t_low` of the detector alone in ONNX, without any router; the same of several sizes.

        Args:
            point: where the photos go; mixed, the shares are those that the sizes really got.
            detector: "plain", as the host exports it, or "lean", with the decoding that the forms have.

        Returns:
            Milliseconds a photo.
        """
        medians = [self.timings[f"{detector}_{name}"].median() for name in self.names]
        if point.step is not None:
            return medians[point.step]
        return sum(share * ms for share, ms in zip(self.shares, medians))

    @property
    def has_lean(self) -> bool:
        """Is the detector in the forms another graph than the host exports?"""
        return f"lean_{self.names[0]}" in self.timings

    def rows(self) -> list[dict[str, Any]]:
        """One row per form and point."""
        return [self._row(form, point) for form in self.forms for point in self.points]

    def _row(self, form: str, point: Point) -> dict[str, Any]:
        router = self.router_cost(form)
        cost, eager, ideal = self.cost(form, point), self.cost("eager", point), self.ideal(point)
        lean = self.ideal(point, "lean") if self.has_lean else ideal
        two = self.names == TWO
        return {
            "form": form,
            **({"high_percent": int(point.name)} if two else {"point": point.name}),
            "ms": cost,
            "eager_ms": eager,
            "speedup": eager / cost,
            **({"paper_speedup": PAPER_SPEEDUPS[point.name]} if two else {}),
            "ideal_ms": ideal,
            "ratio": cost / ideal,
            "ratio_without_router": (cost - router) / ideal,
            "lean_ideal_ms": lean,
            "lean_ratio": cost / lean,
            "lean_ratio_without_router": (cost - router) / lean,
        }

    # -- output ------------------------------------------------------------------------------------------------

    def table(self) -> str:
        """The paper's Table 5: eager against ONNX at 100, 50 and 0 % high, with the ideal mix beside it.

        Of several sizes: everything at each of them, and a mix.
        """
        points, two = self.points, self.names == TWO
        mix = f"'50 %' is {self.shares[0]:.0%}" if two else f"mixed are {' / '.join(f'{s:.0%}' for s in self.shares)}"
        lines = [
            f"{self.images} photos, {self.pixels}, {self.threads} threads, medians of an interleaved run; {mix} of "
            "these photos",
            "",
            f"{'ms per photo':24s}" + "".join(f"{p.title:>26s}" for p in points),
            f"{'DualRes, eager PyTorch':24s}" + "".join(f"{self.cost('eager', p):26.2f}" for p in points),
        ]
        for form in self.forms:
            cells = [
                f"{self.cost(form, p):9.2f} ({self.cost('eager', p) / self.cost(form, p):.2f}x eager)" for p in points
            ]
            lines.append(f"{'DualRes, ONNX ' + form:24s}" + "".join(f"{cell:>26s}" for cell in cells))
        if two:
            said = "".join(f"{PAPER_SPEEDUPS[p.name]:25.2f}x" for p in points)
            lines.append(f"{'paper, ONNX over eager':24s}{said}")
        lines += self._against_ideal("plain", "plain ONNX", "")
        if self.has_lean:
            lines += self._against_ideal("lean", "fast decoding", "lean_")
        lines += self._parts()
        for form, found in self.parity.items():
            lines.append(f"{f'  {form} against PyTorch':24s} {Parity.from_dict(found)}")
        return "\n".join([*lines, "", *self._space(), *(["", self.layouts] if self.layouts else [])])

    def _parts(self) -> list[str]:
        """What the forms are made of, alone."""
        t = self.timings
        plain = [f"{kind}_{name}" for kind in ("plain", "lean", "eager_plain") for name in self.names]
        at = plain.index(f"eager_plain_{self.names[0]}")
        lines = ["", f"{'case':24s}{'median':>9s}{'quartiles':>20s}"]
        for name in (*plain[:at], "router", "router_network", "thumbnail", *plain[at:], "eager_router"):
            if name in t:
                low, high = t[name].quartiles()
                lines.append(f"{name:24s}{t[name].median():9.2f}{f'{low:.2f} - {high:.2f}':>20s}")
        smallest = t[f"plain_{self.names[-1]}"].median()
        whole, network = (t[name].median() / smallest for name in ("router", "router_network"))
        outside = f", {self.router_cost(OUTSIDE) / smallest:.1%} with it outside" if "thumbnail" in t else ""
        size = "low" if self.names == TWO else f"{self.names[-1]} px"
        shares = f"{whole:.1%} with its thumbnail{outside}, {network:.1%} the network alone"
        return [*lines, f"router / {size} pass: {shares}"]

    def _against_ideal(self, detector: str, title: str, prefix: str) -> list[str]:
        """The ideal mix of one kind of detector, and what every form costs in its terms."""
        lines = [f"{'ideal mix, ' + title:24s}" + "".join(f"{self.ideal(p, detector):26.2f}" for p in self.points)]
        for form in self.forms:
            ratios = [r for r in self.rows() if r["form"] == form]
            cells = [f"{r[f'{prefix}ratio']:.3f} ({r[f'{prefix}ratio_without_router']:.3f} w/o router)" for r in ratios]
            lines.append(f"{f'  {form} / ideal':24s}" + "".join(f"{cell:>26s}" for cell in cells))
        return lines

    def _space(self) -> list[str]:
        largest = f"plain_{self.names[0]}"
        lines = [f"{'':16s}{'file MB':>10s}{'resident MB':>14s}{'peak MB':>10s}{'/ ' + largest.replace('_', ' '):>14s}"]
        plain = self.memory.get(largest)
        for name in dict.fromkeys([*self.sizes, *self.memory]):
            size = f"{self.sizes[name]:10.2f}" if name in self.sizes else " " * 10
            line = f"{name:16s}{size}"
            used = self.memory.get(name)
            if used and plain:
                line += f"{used['now']:14.1f}{used['peak']:10.1f}{used['now'] / plain['now']:14.3f}"
            lines.append(line)
        return lines

    def write(self, folder: Path) -> None:
        """Write `table.txt`, `summary.csv`, `times.csv`, `bench.json` and `bench.png`.

        Args:
            folder: made where it does not exist.
        """
        write_text(folder / "table.txt", self.table() + "\n")
        rows = self.rows()
        with atomic_write(folder / "summary.csv") as path, path.open("w", newline="") as file:
            summary = Writer(file)
            summary.writerows([list(rows[0]), *(row.values() for row in rows)])
        with atomic_write(folder / "times.csv") as path, path.open("w", newline="") as file:
            times = Writer(file)
            two = self.names == TWO
            times.writerow(["case", "photo", "routed_high_at_50" if two else "step_where_mixed", "ms"])
            for name, timing in self.timings.items():
                for i, (ms, step) in enumerate(zip(timing.milliseconds, timing.steps)):
                    times.writerow([name, i, int(step == 0) if two else step, f"{ms:.4f}"])
        write_json(
            folder / "bench.json", {"rows": rows, "sizes": self.sizes, "memory": self.memory, "parity": self.parity}
        )
        self._plot(folder / "bench.png")

    def _plot(self, path: Path) -> None:
        from matplotlib.figure import Figure

        figure = Figure(figsize=(7, 4))
        axes = figure.subplots()
        names, points = ["eager", *self.forms], self.points
        width = 0.8 / len(names)
        for i, name in enumerate(names):
            at = np.arange(len(points)) + (i - (len(names) - 1) / 2) * width
            axes.bar(at, [self.cost(name, p) for p in points], width, label=name)
        ideals = [("plain", "plain ONNX", (0.0, (4.0, 2.0))), ("lean", "fast decoding", (0.0, (1.0, 2.0)))]
        for detector, title, style in ideals if self.has_lean else ideals[:1]:
            for i, point in enumerate(points):
                label = "" if i else f"ideal mix, {title}"
                y = self.ideal(point, detector)
                axes.hlines(y, i - 0.45, i + 0.45, colors="black", linestyles=style, label=label)
        axes.set_xticks(range(len(points)), [p.title for p in points])
        axes.set_ylabel("ms per photo (median)")
        axes.set_title(f"{self.pixels}, {self.threads} threads, router included")
        axes.legend(fontsize=8)
        figure.tight_layout()
        with atomic_write(path) as temporary:
            figure.savefig(temporary, dpi=120)
