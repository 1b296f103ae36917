"""The frontier as a picture."""

from __future__ import annotations

from pathlib import Path

from dualres_plugin.common.files.atomic import atomic_write
from dualres_plugin.evaluate.ladder.advise import Advice

STYLES = {"one size (host)": "o-", "one size (high frame scaled)": "s--"}


def draw_frontiers(path: Path, advice: Advice, title: str) -> None:
    """AP against cost of every way, with the recommended one marked.

    Args:
        path: of the PNG.
        advice: what was found.
        title: above the picture.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    for name, points in advice.frontiers.items():
        cost, ap = zip(*points)
        axes.plot(cost, [100 * value for value in ap], STYLES.get(name, ".-"), label=name, linewidth=1.4, markersize=5)
    axes.plot(
        advice.choice.cost, 100 * advice.choice.ap, "*", markersize=18, color="black", zorder=5,
        label="advice: " + " / ".join(map(str, advice.choice.sizes)) + " px",
    )  # fmt: skip
    axes.set(xlabel=f"{advice.unit} per image, router included", ylabel="AP@[.5:.95]")
    axes.set_title(title.replace("$", r"\$"))
    axes.grid(alpha=0.3)
    axes.legend()
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=130, format="png")
