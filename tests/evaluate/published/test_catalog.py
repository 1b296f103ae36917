"""The published points: carried over unchanged, converted to one unit, and the paper's tables reproduced."""

from __future__ import annotations

import csv
import io
import re

import numpy as np
import pytest

from dualres_plugin.evaluate.published.catalog import detectors, methods, sources
from dualres_plugin.evaluate.published.tables import csv_text, format_tables, table_rows
from tests.shared import require_shared

BY_ID = {method.id: method for method in methods()}


@pytest.mark.parametrize("row", [row for row in table_rows() if row.ours is not None], ids=lambda row: row.method.id)
def test_every_row_of_the_papers_tables_is_reproduced(row) -> None:
    tolerance = 0.003 if row.method.name == "IMTA-MSDNet" else 0.001
    assert row.method.paper is not None
    assert abs(row.difference) <= tolerance
    assert row.band[0] <= row.ours <= row.band[1]
    assert row.band[0] <= row.method.paper <= row.band[1]


def test_tables_hold_every_method() -> None:
    rows = table_rows()
    assert [r.method.name for r in rows if r.method.table == "1"] == [
        "MSDNet",
        "IMTA-MSDNet",
        "RANet",
        "DVT (T2T-ViT-12)",
        "ConvNet-AIG-50",
        "CF-ViT DeiT-S",
        "CF-ViT LV-ViT-S",
    ]
    assert [r.method.name for r in rows if r.method.table == "2"] == [
        "Dy-YOLOv7",
        "Dy-YOLOv7-X",
        "Dy-YOLOv7-W6",
    ]
    assert {r.method.dataset for r in rows if r.method.table == "2"} == {"COCO test-dev2017"}
    own = {r.method.dataset: r.method.paper for r in rows if r.method.table == "paper"}
    assert own == {"COCO": 0.700, "number plates": 0.894, "logos": 0.641}
    assert len(table_rows(everything=True)) > len(rows)


def test_val2017_points_do_not_give_the_papers_value() -> None:
    """The paper used test-dev AP; this is how we know."""
    values = [BY_ID[f"dy-yolov7{size}-val"].result().value for size in ("", "-x", "-w6")]
    assert values == pytest.approx([0.582, 0.614, 0.594], abs=1e-3)


def test_text_says_what_is_missing_or_unverified() -> None:
    text = format_tables(table_rows())
    assert "Table 1" in text and "Table 2" in text
    line = next(line for line in text.splitlines() if line.startswith("DualRes YOLOv6"))
    assert "none public" in line and "0.700" in line
    assert "no (from memory)" in next(line for line in text.splitlines() if line.startswith("ConvNet-AIG-50"))
    dy = next(line for line in text.splitlines() if line.startswith("Dy-YOLOv7 "))
    assert re.search(r"COCO test-dev2017 +4 +0\.614 +0\.6142 +\+0\.0002 +0\.573 \.\.\. 0\.655 +1\.80 +yes", dy)
    assert "DVT (DeiT-S) full sweep" not in text
    assert "DVT (DeiT-S) full sweep" in format_tables(table_rows(everything=True))


def test_csv_has_the_numbers_of_the_text_and_their_sources() -> None:
    rows = list(csv.DictReader(io.StringIO(csv_text(table_rows()))))
    assert len(rows) == len(table_rows())
    dy = next(row for row in rows if row["method"] == "Dy-YOLOv7")
    assert float(dy["ours"]) == pytest.approx(0.61420, abs=1e-5)
    assert float(dy["difference"]) == pytest.approx(float(dy["ours"]) - 0.614)
    assert dy["n_points"] == "4" and dy["flops_convention"] == "2xMAC" and "DynamicDet" in dy["source"]
    assert "test" in dy["metric"]
    own = next(row for row in rows if row["method"] == "DualRes YOLOv6")
    assert own["ours"] == "" and own["n_points"] == "0"


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
