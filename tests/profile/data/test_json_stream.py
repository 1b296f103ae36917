"""Large annotation files are read entry by entry, and give what reading them at once gives."""

from __future__ import annotations

import io
import json
from dataclasses import astuple
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dualres_plugin.common.errors import DualResError
from dualres_plugin.profile.data import json_stream
from dualres_plugin.profile.data.coco_json import read_coco, read_ids
from dualres_plugin.profile.data.json_stream import entries

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8)
values = st.recursive(scalars, lambda v: st.lists(v, max_size=3) | st.dictionaries(st.text(max_size=3), v, max_size=3))


@given(st.dictionaries(st.text(max_size=5), values, max_size=5), st.integers(1, 9), st.sampled_from([None, 2]))
def test_entries_are_those_of_the_whole(content: dict[str, Any], chunk: int, indent: int | None) -> None:
    file = io.StringIO(json.dumps(content, indent=indent, ensure_ascii=False))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_stream, "CHUNK", chunk)
        found = list(json_stream._Reader(file).lists())
    assert found == [(name, e) for name, value in content.items() if isinstance(value, list) for e in value]


@pytest.mark.parametrize("text", ["", "[]", "{", '{"a"', '{"a": [1, 2}', '{"a": [1] "b": 2}', '{"a": [1,]}', "{1: 2}"])
def test_what_is_no_json_object_is_one_error(text: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(DualResError, match=r"annotation file '.*a.json' is not valid JSON"):
        list(entries(tmp_path / "a.json"))


def test_a_large_file_gives_the_same_data_set(data: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    content = json.loads(data[0].read_text())
    content["annotations"] += [{"image_id": 99}, 5, {**content["annotations"][0], "bbox": [1, 2, "x", 4]}]
    content["images"].append({"id": "one"})
    data[0].write_text(json.dumps({"info": {"year": [1]}, "licenses": [], **content}))
    whole, ids = read_coco(*data), read_ids(data[0])
    monkeypatch.setattr(json_stream, "LARGE", 10)
    large = read_coco(*data)
    assert large.categories == whole.categories and large.warnings() == whole.warnings() and ids == read_ids(data[0])
    for one, other in zip(whole.records, large.records, strict=True):
        for a, b in zip(astuple(one), astuple(other)):
            assert np.array_equal(a, b)
    data[0].write_text(json.dumps({"images": content["images"], "annotations": []}))
    with pytest.raises(DualResError, match="its list 'annotations' is missing"):
        read_coco(*data)
