"""Files changed at random: a `DualResError` or a sound result, never another error."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from PIL import Image

from dualres_plugin.common.errors import DualResError
from dualres_plugin.profile.data.dataset import Dataset, load_dataset
from dualres_plugin.profile.schema import checksum
from dualres_plugin.profile.table import META, ROWS, Profile
from tests.fakes import photo, planted_profile, write_photos
from tests.fuzz.strategies import coco, profile, yolo_labels

FIXTURES = [HealthCheck.function_scoped_fixture]


def sound(dataset: Dataset) -> None:
    """What everything after the reading relies on."""
    json.dumps([dataset.name, dataset.warnings(), dataset.categories], ensure_ascii=False).encode()
    assert dataset.records and len({r.id for r in dataset.records}) == len(dataset.records)
    for record in dataset.records:
        assert np.isfinite(record.boxes).all() and np.isfinite(record.area).all() and record.path.is_file()
        assert set(record.categories.tolist()) <= dataset.categories.keys()
        assert -(2**63) <= record.id < 2**63 and min(record.size) > 0
        assert (record.boxes[:, 2:] > record.boxes[:, :2]).all()


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    write_photos(folder, coco.IMAGES, [(48, 64)])
    return folder


@settings(max_examples=150, suppress_health_check=FIXTURES)
@given(content=coco.mutated(coco.valid()))
def test_coco(content: bytes, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(content)
    try:
        sound(load_dataset(tmp_path / "a.json", photos))
    except DualResError as error:
        assert len(str(error)) < 3000


@pytest.fixture(scope="module")
def yolo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("yolo")
    for kind in ("images", "labels"):
        (folder / kind).mkdir()
    Image.fromarray(photo(0, (48, 64))).save(folder / "images" / "0.png")
    Image.fromarray(photo(1, (48, 64))).save(folder / "images" / "1.png")
    return folder


@settings(max_examples=150, suppress_health_check=FIXTURES)
@given(content=yolo_labels.mutated(yolo_labels.valid()))
def test_label_files(content: bytes, yolo: Path) -> None:
    (yolo / "data.yaml").write_bytes(yolo_labels.valid_yaml())
    (yolo / "labels" / "0.txt").write_bytes(content)
    sound(load_dataset(yolo / "data.yaml", split="val"))


@settings(max_examples=150, suppress_health_check=FIXTURES)
@given(content=yolo_labels.mutated(yolo_labels.valid_yaml()))
def test_data_files(content: bytes, yolo: Path) -> None:
    (yolo / "labels" / "0.txt").write_bytes(yolo_labels.valid())
    (yolo / "data.yaml").write_bytes(content)
    try:
        sound(load_dataset(yolo / "data.yaml", split="val"))
    except DualResError as error:
        assert len(str(error)) < 3000


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return planted_profile(tmp_path_factory.mktemp("stored") / "p", 4, views=2).path


def read_all(folder: Path) -> None:
    loaded = Profile.load(folder)
    rows = np.arange(len(loaded))
    assert len(loaded.thumbnails(rows)) == len(loaded) and loaded.scale and loaded.categories is not None
    for row in rows:
        assert len(loaded.detections("high", row)) == len(loaded.detections("high", row).boxes)
        assert len(loaded.targets(row)) == len(loaded.area(row)) and loaded.image_path(row)
    assert np.isfinite(loaded.gmacs).all()


@settings(max_examples=150, suppress_health_check=FIXTURES)
@given(content=profile.mutated(profile.valid()))
@example(content=profile.valid())
def test_descriptions(content: bytes, stored: Path, tmp_path: Path) -> None:
    (tmp_path / ROWS).write_bytes((stored / ROWS).read_bytes())
    (tmp_path / META).write_bytes(content)
    try:
        read_all(tmp_path)
    except DualResError as error:
        assert len(str(error)) < 3000


@settings(max_examples=100, suppress_health_check=FIXTURES)
@given(data=st.data())
def test_tables(data: st.DataObject, stored: Path, tmp_path: Path) -> None:
    valid = (stored / ROWS).read_bytes()
    meta = json.loads((stored / META).read_bytes())
    content = data.draw(profile.mutated_table(valid))
    (tmp_path / META).write_text(json.dumps(meta))  # no checksum, as of old profiles: the table itself is looked at
    (tmp_path / ROWS).write_bytes(content)
    with contextlib.suppress(DualResError):
        read_all(tmp_path)
    (tmp_path / META).write_text(json.dumps({**meta, "checksum": checksum(stored / ROWS)}))
    (tmp_path / ROWS).write_bytes(content)
    if content == valid:
        read_all(tmp_path)
        return
    with pytest.raises(DualResError, match="checksum differs"):
        Profile.load(tmp_path)
