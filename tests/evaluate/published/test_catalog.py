"""The published points: carried over unchanged, converted to one unit, and the paper's tables reproduced."""

from __future__ import annotations

import csv

import numpy as np
import pytest

from dualres_plugin.evaluate.published.catalog import detectors, methods, sources
from tests.shared import require_shared

BY_ID = {method.id: method for method in methods()}


def test_val2017_points_do_not_give_the_papers_value() -> None:
    """The paper used test-dev AP; this is how we know."""
    values = [BY_ID[f"dy-yolov7{size}-val"].result().value for size in ("", "-x", "-w6")]
    assert values == pytest.approx([0.582, 0.614, 0.594], abs=1e-3)


def test_rows_from_memory_agree_with_the_verified_sweep() -> None:
    """The CF-ViT rows that nobody compared with the paper lie on the authors' own sweep, up to 0.1."""
    for name in ("cf-vit-deit-s", "cf-vit-lv-vit-s"):
        rows, sweep = BY_ID[name], BY_ID[f"{name}-sweep"]
        assert rows.verified != "yes" and sweep.verified == "yes"
        gflops = np.interp(rows.settings, sweep.settings, sweep.compute)
        top1 = np.interp(rows.settings, sweep.settings, sweep.metric)
        assert np.abs(gflops - rows.compute).max() < 0.1
        assert np.abs(top1 - rows.metric).max() < 0.1


def test_every_unit_is_stated_and_converted() -> None:
    for source in sources().values():
        assert source.convention in ("MAC", "2xMAC", "")
        assert bool(source.convention) == bool(source.convention_note)
    used = {m.source.name for m in methods()} | {d.source.name for d in detectors()}
    assert used == set(sources())
    found = {(d.name, d.metric_name): d for d in detectors()}
    assert found["EfficientDet-D1", "AP_val"].gmacs == 6.1  # the source counts multiply-adds
    assert found["YOLO11n@640", "AP_val"].gmacs == pytest.approx(3.25)  # the source counts twice that
    assert BY_ID["dy-yolov7"].gmacs[0] == pytest.approx(56.2)


def test_packaged_facts_equal_the_collected_ones() -> None:
    """Every row of the collected file is in the package, number for number, with source and verified mark."""
    rows = list(csv.DictReader(require_shared("data", "published.csv").open(encoding="utf-8")))

    def number(text: str) -> float | None:
        return float(text) if text else None

    wanted = sorted(
        (
            r["method"],
            float(r["gflops"]),
            float(r["metric"]),
            r["metric_name"],
            r["dataset"],
            r["source"],
            r["verified"],
        )
        for r in rows
    )
    packaged = [
        (m.name, f, v, m.metric_name, m.dataset, m.source.name, m.verified)
        for m in methods()
        for f, v in zip(m.compute, m.metric)
    ]
    packaged += [(d.name, d.reported, d.ap, d.metric_name, d.dataset, d.source.name, d.verified) for d in detectors()]
    assert sorted(packaged) == wanted
    reported = {r["method"]: (number(r["reported_aucp"])) for r in rows if not r["table"].startswith("pareto")}
    assert {m.name: m.paper for m in methods() if m.has_points} == reported
    settings = [number(r["beta"]) for r in rows if r["method"] == "ConvNet-AIG-50"]
    assert list(BY_ID["convnet-aig-50"].settings) == settings
    stated = {r["source"]: r["table"] for r in rows if r["table"] in ("pareto MAC", "pareto 2xMAC")}
    for name, table in stated.items():
        if name in {d.source.name for d in detectors() if d.verified == "yes"} and "Lite" not in name:
            assert sources()[name].convention == table.removeprefix("pareto ")
