"""Large annotation files are read entry by entry, and give what reading them at once gives."""

from __future__ import annotations

import json
from dataclasses import astuple
from pathlib import Path

import numpy as np
import pytest

from dualres_plugin.common.errors import DualResError
from dualres_plugin.profile.data import large_json
from dualres_plugin.profile.data.coco_json import read_coco, read_ids
from dualres_plugin.profile.data.large_json import entries


@pytest.mark.parametrize("text", ["", "{", '{"a"', '{"a": [1, 2}', '{"a": [1] "b": 2}', '{"a": [1,]}', "{1: 2}"])
def test_what_is_no_json_is_one_error(text: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(DualResError, match=r"annotation file '.*a.json' is not valid JSON"):
        list(entries(tmp_path / "a.json", "a"))


def test_a_large_file_gives_the_same_data_set(data: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    content = json.loads(data[0].read_text())
    content["annotations"] += [{"image_id": 99}, 5, {**content["annotations"][0], "bbox": [1, 2, "x", 4]}]
    content["images"].append({"id": "one"})
    data[0].write_text(json.dumps({"info": {"year": [1]}, "licenses": [], **content}))
    whole, ids = read_coco(*data), read_ids(data[0])
    monkeypatch.setattr(large_json, "LARGE", 10)
    large = read_coco(*data)
    assert large.categories == whole.categories and large.warnings() == whole.warnings() and ids == read_ids(data[0])
    for one, other in zip(whole.records, large.records, strict=True):
        for a, b in zip(astuple(one), astuple(other)):
            assert np.array_equal(a, b)
    data[0].write_text(json.dumps({"annotations": content["annotations"], "categories": content["categories"]}))
    with pytest.raises(DualResError, match="its list 'images' is missing"):
        read_coco(*data)
