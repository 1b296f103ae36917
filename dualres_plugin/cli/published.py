"""`dualres auc`, `dualres tables` and `dualres pareto`: the metric, and the numbers that others published."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from dualres_plugin.evaluate.published.points_file import Points

# Imports of the package sit inside the commands: `dualres --help` must not wait for numpy or matplotlib.


def register(app: typer.Typer) -> None:
    """Add the commands of this file to the command line."""
    app.command("auc")(auc)
    app.command("tables")(tables)
    app.command("pareto")(pareto)


def auc(
    points: Annotated[Path, typer.Argument(metavar="POINTS", help="CSV with a header line, or a metrics.json.")],
    compute: Annotated[str | None, typer.Option(help="Compute column, if its name is not recognised.")] = None,
    metric: Annotated[str | None, typer.Option(help="Metric column, if its name is not recognised.")] = None,
    by: Annotated[str | None, typer.Option(help="Column that names the method: one result for each.")] = None,
    decimals: Annotated[
        int | None,
        typer.Option(min=0, help="The metric was printed with so many decimals: add the rounding band."),
    ] = None,
    compute_decimals: Annotated[
        int | None,
        typer.Option(min=0, help="Decimals of compute for the band; default: as written in the file."),
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="Save the normalised curve as PNG, SVG or PDF.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> None:
    """AUC-Policy (Eq. 10) of any method from its (compute, metric) points.

    0.5 is a random mix of the cheapest and the dearest point; higher is better. Compute may be GMACs, GFLOPs
    or milliseconds: the unit cancels, and so does that of the metric.

    \b
    Example: points.csv holds
        gflops,ap
        112.4,52.1
        143.2,53.3
        174.0,53.8
        181.7,53.9
    dualres auc points.csv                 AUC-Policy 0.6142
    dualres auc points.csv --decimals 1    adds 0.573 ... 0.655, all that rounding allows
    dualres auc all.csv --by method --compute latency_ms --metric mAP --plot auc.png
    """
    from dualres_plugin.evaluate.published.points_file import name_column, read_groups

    groups = read_groups(points, by, compute, metric)
    records = _records(groups, decimals, compute_decimals)
    typer.echo(_json(records) if as_json else "\n\n".join(map(_text, records)))
    names = name_column(points) if by is None else None
    if names is not None:
        typer.echo(f"note: column '{names}' names several methods; --by {names} treats each alone", err=True)
    if plot is not None:
        from dualres_plugin.evaluate.auc_policy import plot_curves

        figure, _ = plot_curves(
            {
                record["name"] or points.stem: (groups[record["name"]].compute, groups[record["name"]].metric)
                for record in records
                if "error" not in record
            }
        )
        _save(figure, plot)


def _record(name: str, points: Points, decimals: int | None, compute_decimals: int | None) -> dict[str, Any]:
    """Everything to print about one curve.

    Raises:
        DualResError: As `auc_policy` and `rounding_band`.
    """
    from dualres_plugin.evaluate.auc_policy import evaluate_points
    from dualres_plugin.evaluate.published.rounding import rounding_band

    result = evaluate_points(points.compute, points.metric, points.beta)
    band = None
    if decimals is not None:
        shown = points.compute_decimals if compute_decimals is None else compute_decimals
        band = rounding_band(points.compute, points.metric, decimals, shown)
    return {
        "name": name,
        "auc_policy": result.value,
        "n_points": result.n_points,
        "metric_span": result.metric_span,
        "compute_low": result.compute_low,
        "compute_high": result.compute_high,
        "compute_column": points.compute_name,
        "metric_column": points.metric_name,
        "rounding_band": band,
        "notes": result.notes,
    }


def _records(groups: dict[str, Points], decimals: int | None, compute_decimals: int | None) -> list[dict[str, Any]]:
    """One record per curve; a curve without a value holds `error`, unless it is the only one."""
    from dualres_plugin.common.errors import DualResError

    records: list[dict[str, Any]] = []
    for name, points in groups.items():
        try:
            records.append(_record(name, points, decimals, compute_decimals))
        except DualResError as error:
            if len(groups) == 1:
                raise
            records.append({"name": name, "error": str(error)})
    return records


def _text(record: dict[str, Any]) -> str:
    lines = [record["name"]] if record["name"] else []
    if "error" in record:
        return "\n".join([*lines, f"no AUC-Policy: {record['error']}"])
    low, high = record["compute_low"], record["compute_high"]
    lines += [
        f"AUC-Policy  {record['auc_policy']:.4f}   (0.5 = random mix of the two ends; higher is better)",
        f"points      {record['n_points']}",
        f"compute     {low:g} ... {high:g}   (column '{record['compute_column']}')",
        f"M1 - M0     {record['metric_span']:.4g}   (column '{record['metric_column']}')",
    ]
    if record["rounding_band"] is not None:
        low, high = record["rounding_band"]
        lines.append(f"rounding    {low:.4f} ... {high:.4f}   (all that the printed decimals allow)")
    lines += [f"note: {note}" for note in record["notes"]]
    return "\n".join(lines)


def _json(records: list[dict[str, Any]]) -> str:
    import json
    from math import isfinite

    def plain(record: dict[str, Any]) -> dict[str, Any]:
        band = record.get("rounding_band")
        if band is not None:  # JSON has no infinity
            record = {**record, "rounding_band": [end if isfinite(end) else None for end in band]}
        return {key: value for key, value in record.items() if key != "name" or value}

    made = [plain(record) for record in records]
    return json.dumps(made[0] if len(made) == 1 else made, indent=2, ensure_ascii=False)


def tables(
    csv: Annotated[Path | None, typer.Option(help="Also write the rows, with sources and notes, to this CSV.")] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Add public points that the paper does not tabulate.")
    ] = False,
) -> None:
    """The paper's Tables 1 and 2: its AUC-Policy of published methods beside ours from their public points.

    The rounding band holds every value that the points, rounded as printed, can stand for. "verified" says
    whether the points were compared with their source.

    \b
    Example:
    dualres tables --csv tables.csv
    """
    from dualres_plugin.evaluate.published.tables import csv_text, format_tables, table_rows

    rows = table_rows(everything)
    typer.echo(format_tables(rows))
    if csv is not None:
        from dualres_plugin.common.files.atomic import write_text

        write_text(csv, csv_text(rows))
        typer.echo(f"\nsaved {csv}")


def pareto(
    out: Annotated[Path, typer.Option(help="Folder for the plots and the CSV.")] = Path("runs/pareto"),
    curve: Annotated[
        list[str] | None,
        typer.Option(help="Your own curve: PATH or NAME=PATH of a metrics.json, a CSV (beta, gmacs, ap) or a folder."),
    ] = None,
    families: Annotated[
        str | None, typer.Option(help="Only these families, separated by commas, in one plot; see --list.")
    ] = None,
    mix: Annotated[
        list[str] | None, typer.Option(help="LOW,HIGH: random mix of two published models, such as D1,D2.")
    ] = None,
    split: Annotated[str, typer.Option(help="val (COCO val2017) or test (test-dev2017).")] = "val",
    list_families: Annotated[bool, typer.Option("--list", help="Print the families and their models.")] = False,
) -> None:
    """The paper's Figures 3 and 4: AP against compute, published models and your own curves in one unit.

    Writes pareto_detectors.png (detectors and dynamic models), pareto_efficientdet.png (D0-D7 with the random
    mix of D1 and D2) and pareto.csv; with --families or --mix, one plot, pareto.png. All compute is in GMACs:
    sources that count 2 x MAC are halved, and the CSV says which and how we know.

    \b
    Example:
    dualres pareto --curve runs/eval --out runs/pareto
    dualres pareto --families YOLO11,YOLOv8,DynamicDet --curve "routed YOLO11n=runs/eval/metrics.json"
    dualres pareto --families EfficientDet --mix D1,D2 --curve pair=curve.csv
    """
    from dualres_plugin.evaluate.published.figures import figures
    from dualres_plugin.evaluate.published.pareto import csv_text

    if list_families:
        _list(split)
        return
    chosen = None if families is None else families.split(",")
    drawn = figures(chosen, [_pair(text) for text in mix or []], curve or [], split)
    from dualres_plugin.common.files.atomic import make_dir, write_text
    from dualres_plugin.evaluate.published.plot import plot_pareto

    make_dir(out)
    for figure in drawn:
        _save(plot_pareto(figure.series, figure.title, figure.subtitle, figure.zoom), out / f"{figure.name}.png")
    unique = dict.fromkeys(one for figure in drawn for one in figure.series)
    write_text(out / "pareto.csv", csv_text(unique))
    typer.echo(f"saved {out / 'pareto.csv'}")
    if curve:
        typer.echo("note: your curves are on your images; only on COCO are they comparable with the published points")


def _pair(text: str) -> tuple[str, str]:
    from dualres_plugin.common.errors import DualResError

    low, comma, high = text.partition(",")
    if not comma or not low.strip() or not high.strip():
        raise DualResError(f"--mix takes two models, LOW,HIGH, got '{text}'.")
    return low, high


def _list(split: str) -> None:
    from dualres_plugin.evaluate.published.pareto import DYNAMIC, family_names, published_series

    for family in family_names(split):
        found = published_series([family], split)
        names = [one.name for one in found] if family == DYNAMIC else [point.label for point in found[0].points]
        typer.echo(f"{family:14} {', '.join(names)}")


def _save(figure: Figure, path: Path) -> None:
    from dualres_plugin.common.errors import DualResError
    from dualres_plugin.common.files.atomic import atomic_write

    if path.suffix.lower() not in (".png", ".svg", ".pdf"):
        raise DualResError(f"cannot draw '{path}': give a name that ends in .png, .svg or .pdf.")
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=150)
    typer.echo(f"saved {path}", err=True)
