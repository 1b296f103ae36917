"""The figures of a bench as a table in the paper's layout, a CSV, and a plot."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from dualres_plugin.common.files.atomic import atomic_write, write_json, write_text
from dualres_plugin.common.files.csv import Writer
from dualres_plugin.export.parity import Parity

PAPER_SPEEDUPS = {100: 1.11, 50: 1.20, 0: 1.30}  # ONNX over eager, Table 5 of the paper
PERCENT = (100, 50, 0)
CASES = (
    "plain_high", "plain_low", "lean_high", "lean_low", "router", "router_network",
    "eager_plain_high", "eager_plain_low", "eager_router",
)  # fmt: skip


@dataclass
class Timing:
    """Milliseconds of one case on every photo, and which photos the router sends high."""

    milliseconds: list[float] = field(default_factory=list)
    high: list[bool] = field(default_factory=list)

    def add(self, milliseconds: float, high: bool) -> None:
        """Note one photo.

        Args:
            milliseconds: that it took.
            high: does the router send it high?
        """
        self.milliseconds.append(milliseconds)
        self.high.append(high)

    def median(self) -> float:
        """Milliseconds of the middle photo."""
        return float(np.median(self.milliseconds))

    def quartiles(self) -> tuple[float, float]:
        """Milliseconds that a quarter, and three quarters, of the photos stay below."""
        low, high = np.percentile(self.milliseconds, [25, 75])
        return float(low), float(high)

    def mixed(self) -> float:
        """Mean cost of a photo when the two routes cost differently: each route's median, by its share.

        A plain median would be that of the commoner route, and a mean would be at the mercy of other processes.
        """
        values, high = np.array(self.milliseconds), np.array(self.high)
        parts = [(float(np.median(values[m])), int(m.sum())) for m in (high, ~high) if m.any()]
        return sum(value * count for value, count in parts) / len(values)


@dataclass
class BenchResult:
    """Everything a bench measured.

    Attributes:
        timings: case -> times; `plain_high`, `plain_low` (the host's own export), `lean_high`, `lean_low` (the same
            with the decoding that the forms have, if that differs), `router`, `router_network` (without its
            thumbnail), `FORM_100`, `FORM_50`, `FORM_0`, and plain, router and points with `eager` for a form.
        share: photos that the router sends high at the point called 50 %.
        sizes: MB on disk.
        memory: resident MB: `base` before the model was loaded, `now`, `peak`.
        layouts: text, which convolutions got onnxruntime's fast layout.
        parity: form -> what its check against PyTorch found.
    """

    timings: dict[str, Timing]
    share: float
    sizes: dict[str, float]
    memory: dict[str, dict[str, float]]
    forms: list[str]
    images: int
    threads: int
    high: int
    scale: float
    layouts: str = ""
    parity: dict[str, dict[str, float]] = field(default_factory=dict)

    def cost(self, name: str, percent: int) -> float:
        """Milliseconds a photo at a share of photos at high.

        Args:
            name: a form, or "eager".
            percent: 100, 50 or 0.
        """
        timing = self.timings[f"{name}_{percent}"]
        return timing.mixed() if percent == 50 else timing.median()

    def ideal(self, percent: int, detector: str = "plain") -> float:
        """`p * t_high + (1 - p) * t_low` of the detector alone in ONNX, without any router.

        Args:
            percent: 100, 50 or 0 at high; 50 stands for the share that really went high.
            detector: "plain", as the host exports it, or "lean", with the decoding that the forms have.

        Returns:
            Milliseconds a photo.
        """
        p = self.share if percent == 50 else percent / 100
        return p * self.timings[f"{detector}_high"].median() + (1 - p) * self.timings[f"{detector}_low"].median()

    @property
    def has_lean(self) -> bool:
        """Is the detector in the forms another graph than the host exports?"""
        return "lean_high" in self.timings

    def rows(self) -> list[dict[str, Any]]:
        """One row per form and share."""
        router = self.timings["router"].median()
        rows = []
        for form in self.forms:
            for percent in PERCENT:
                cost, ideal = self.cost(form, percent), self.ideal(percent)
                lean = self.ideal(percent, "lean") if self.has_lean else ideal
                rows.append(
                    {
                        "form": form,
                        "high_percent": percent,
                        "ms": cost,
                        "eager_ms": self.cost("eager", percent),
                        "speedup": self.cost("eager", percent) / cost,
                        "paper_speedup": PAPER_SPEEDUPS[percent],
                        "ideal_ms": ideal,
                        "ratio": cost / ideal,
                        "ratio_without_router": (cost - router) / ideal,
                        "lean_ideal_ms": lean,
                        "lean_ratio": cost / lean,
                        "lean_ratio_without_router": (cost - router) / lean,
                    }
                )
        return rows

    # -- output ------------------------------------------------------------------------------------------------

    def table(self) -> str:
        """The paper's Table 5: eager against ONNX at 100, 50 and 0 % high, with the ideal mix beside it."""
        t = self.timings
        head = f"{'ms per photo':24s}" + "".join(f"{f'{p} % high':>26s}" for p in PERCENT)
        lines = [
            f"{self.images} photos, {self.high} / {self.high * self.scale:g} px, {self.threads} threads, medians of an "
            f"interleaved run; '50 %' is {self.share:.0%} of these photos",
            "",
            head,
            f"{'DualRes, eager PyTorch':24s}" + "".join(f"{self.cost('eager', p):26.2f}" for p in PERCENT),
        ]
        for form in self.forms:
            cells = [
                f"{self.cost(form, p):9.2f} ({self.cost('eager', p) / self.cost(form, p):.2f}x eager)" for p in PERCENT
            ]
            lines.append(f"{'DualRes, ONNX ' + form:24s}" + "".join(f"{cell:>26s}" for cell in cells))
        lines.append(f"{'paper, ONNX over eager':24s}" + "".join(f"{PAPER_SPEEDUPS[p]:25.2f}x" for p in PERCENT))
        lines += self._against_ideal("plain", "plain ONNX", "")
        if self.has_lean:
            lines += self._against_ideal("lean", "fast decoding", "lean_")
        lines += ["", f"{'case':24s}{'median':>9s}{'quartiles':>20s}"]
        for name in (name for name in CASES if name in t):
            low, high = t[name].quartiles()
            lines.append(f"{name:24s}{t[name].median():9.2f}{f'{low:.2f} - {high:.2f}':>20s}")
        whole, network = (t[name].median() / t["plain_low"].median() for name in ("router", "router_network"))
        lines.append(f"router / low pass: {whole:.1%} with its thumbnail, {network:.1%} the network alone")
        for form, found in self.parity.items():
            lines.append(f"{f'  {form} against PyTorch':24s} {Parity.from_dict(found)}")
        return "\n".join([*lines, "", *self._space(), *(["", self.layouts] if self.layouts else [])])

    def _against_ideal(self, detector: str, title: str, prefix: str) -> list[str]:
        """The ideal mix of one kind of detector, and what every form costs in its terms."""
        lines = [f"{'ideal mix, ' + title:24s}" + "".join(f"{self.ideal(p, detector):26.2f}" for p in PERCENT)]
        for form in self.forms:
            ratios = [r for r in self.rows() if r["form"] == form]
            cells = [f"{r[f'{prefix}ratio']:.3f} ({r[f'{prefix}ratio_without_router']:.3f} w/o router)" for r in ratios]
            lines.append(f"{f'  {form} / ideal':24s}" + "".join(f"{cell:>26s}" for cell in cells))
        return lines

    def _space(self) -> list[str]:
        lines = [f"{'':16s}{'file MB':>10s}{'resident MB':>14s}{'peak MB':>10s}{'/ plain high':>14s}"]
        plain = self.memory.get("plain_high")
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
            times.writerow(["case", "photo", "routed_high_at_50", "ms"])
            for name, timing in self.timings.items():
                for i, (ms, high) in enumerate(zip(timing.milliseconds, timing.high)):
                    times.writerow([name, i, int(high), f"{ms:.4f}"])
        write_json(
            folder / "bench.json", {"rows": rows, "sizes": self.sizes, "memory": self.memory, "parity": self.parity}
        )
        self._plot(folder / "bench.png")

    def _plot(self, path: Path) -> None:
        from matplotlib.figure import Figure

        figure = Figure(figsize=(7, 4))
        axes = figure.subplots()
        names = ["eager", *self.forms]
        width = 0.8 / len(names)
        for i, name in enumerate(names):
            at = np.arange(len(PERCENT)) + (i - (len(names) - 1) / 2) * width
            axes.bar(at, [self.cost(name, p) for p in PERCENT], width, label=name)
        ideals = [("plain", "plain ONNX", (0.0, (4.0, 2.0))), ("lean", "fast decoding", (0.0, (1.0, 2.0)))]
        for detector, title, style in ideals if self.has_lean else ideals[:1]:
            for i, percent in enumerate(PERCENT):
                label = "" if i else f"ideal mix, {title}"
                y = self.ideal(percent, detector)
                axes.hlines(y, i - 0.45, i + 0.45, colors="black", linestyles=style, label=label)
        axes.set_xticks(range(len(PERCENT)), [f"{p} % high" for p in PERCENT])
        axes.set_ylabel("ms per photo (median)")
        axes.set_title(f"{self.high} / {self.high * self.scale:g} px, {self.threads} threads, router included")
        axes.legend(fontsize=8)
        figure.tight_layout()
        with atomic_write(path) as temporary:
            figure.savefig(temporary, dpi=120)
