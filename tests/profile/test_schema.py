"""The gate of stored profiles: whatever does not fit together is one clear error."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dualres_plugin.common.errors import DualResError
from dualres_plugin.profile.table import META, ROWS, SCHEMA, Profile
from tests.fakes import planted_profile
from tests.profile.helpers import build


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return planted_profile(tmp_path / "p", 6, views=2).path


META_EDITS: dict[str, Any] = {
    "high": ["640", 0, -1, None, float("nan"), 1e9, [640], True],
    "scale": [0, 1, 1.5, "half", None],
    "labelled": ["yes", 1, None],
    "categories": [[], {"a": "b"}, {"1": 5}, {"99999999999": "x"}, {"9999999999": "x"}, "x"],
    "thumbnail_size": [0, 17, 10**9, "16", 16.5],
    "views": [0, 1, "2", -3],
    "rows": [3, 0, "12", -1],
    "left_out": ["x", [1], {"a": 1}],
    "notes": ["x", [1]],
    "host": [1, None, "x" * 20_000],
    "checksum": [5, "blake2b:0", ""],
    "seed": [-1, "0"],
    "batch": [0, 2.5],
}


@pytest.mark.parametrize(("key", "value"), [(k, v) for k, values in META_EDITS.items() for v in values])
def test_an_edited_description_is_refused(key: str, value: Any, folder: Path) -> None:
    meta = json.loads((folder / META).read_text())
    (folder / META).write_text(json.dumps({**meta, key: value}))
    with pytest.raises(DualResError, match=r"damaged or was edited|checksum differs") as caught:
        Profile.load(folder)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("key", ["host", "detector", "dataset", "labelled", "categories", "high", "scale", "views"])
def test_a_missing_key_is_refused(key: str, folder: Path) -> None:
    meta = json.loads((folder / META).read_text())
    del meta[key]
    (folder / META).write_text(json.dumps(meta))
    with pytest.raises(DualResError, match=f"'{key}' is missing"):
        Profile.load(folder)


def column(name: str, change: Any) -> Any:
    def edit(table: pa.Table) -> pa.Table:
        values = table.column(name).to_pylist()
        values[1] = change(values[1])
        field = SCHEMA.field(name)
        return table.set_column(table.schema.get_field_index(name), name, pa.array(values, field.type))

    return edit


NAN = float("nan")
TABLE_EDITS: dict[str, tuple[Any, str]] = {
    "no rows": (lambda t: t.slice(0, 0), "no rows"),
    "a column gone": (lambda t: t.drop_columns(["gt_area"]), "columns"),
    "a column of texts": (lambda t: t.set_column(0, "image_id", pa.array(["x"] * len(t))), "columns"),
    "rows swapped": (lambda t: t.take(list(range(len(t)))[::-1]), "not in order"),
    "a row twice": (lambda t: pa.concat_tables([t.slice(0, 1), t]), "not in order"),
    "a hole": (column("path", lambda _: None), "has holes"),
    "a hole in a list": (column("high_scores", lambda v: [None, *v[1:]]), "has holes"),
    "NaN boxes": (column("high_boxes", lambda v: [NAN, *v[1:]]), "'high_boxes' holds NaN"),
    "endless scores": (column("high_scores", lambda v: [float("inf"), *v[1:]]), "'high_scores' holds NaN"),
    "one box short": (column("high_boxes", lambda v: v[:-4]), "differ in length"),
    "one score short": (column("low_scores", lambda v: [*v, 0.5]), "differ in length"),
    "an unknown class": (column("high_categories", lambda v: [77, *v[1:]]), "does not list"),
    "a short thumbnail": (column("thumbnail", lambda v: v[:-1]), "a thumbnail that is not 16 x 16"),
    "width 0": (column("width", lambda _: 0), "'width' holds a size below 1"),
    "no compute": (column("gmacs_high", lambda _: NAN), "'gmacs_high' holds no compute"),
    "a view too many": (column("view", lambda _: 2), "a view outside 0 to 1"),
    "no image itself": (lambda t: t.filter(pa.compute.equal(t.column("view"), 1)), "views only"),
}


@pytest.mark.parametrize("case", TABLE_EDITS)
def test_an_edited_table_is_refused(case: str, folder: Path) -> None:
    edit, message = TABLE_EDITS[case]
    pq.write_table(edit(pq.read_table(folder / ROWS)), folder / ROWS)
    with pytest.raises(DualResError, match=message):
        Profile.load(folder)


def test_rows_that_went_and_tables_that_were_swapped(data: tuple[Path, Path], tmp_path: Path) -> None:
    out = tmp_path / "profile"
    profile = build(data, out)
    assert profile.meta["rows"] == 10 and profile.meta["checksum"].startswith("blake2b:")
    pq.write_table(profile.table.slice(0, 9), out / ROWS)
    with pytest.raises(DualResError, match="its checksum differs"):
        Profile.load(out)
    meta = json.loads((out / META).read_text())
    del meta["checksum"]
    (out / META).write_text(json.dumps(meta))
    with pytest.raises(DualResError, match="9 rows, its description says 10"):
        Profile.load(out)


def test_profiles_of_before_there_were_checksums(folder: Path) -> None:
    meta = json.loads((folder / META).read_text())
    assert "checksum" not in meta and "rows" not in meta
    assert len(Profile.load(folder)) == 12
    assert np.isfinite(Profile.load(folder).gmacs).all()
