"""The paper's tables, reproduced."""

from __future__ import annotations

import csv
import io
import re

import pytest

from dualres_plugin.evaluate.published.tables import csv_text, format_tables, table_rows


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
