"""Labels beside the photos of .tar shards: the data set of a COCO file; odd members are named and left out."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from dualres_plugin.common.errors import DualResError
from dualres_plugin.hosts.registry import load_detector
from dualres_plugin.profile.build import ProfileSettings, build_profile
from dualres_plugin.profile.data import shard_labels
from dualres_plugin.profile.data.dataset import load_dataset, match_categories
from dualres_plugin.profile.data.records import Dataset
from dualres_plugin.profile.table import Profile
from tests.fakes import write_coco, write_photos
from tests.fuzz.strategies import coco as strategy
from tests.shared import require_shared

Member = bytes | None


def add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


def pack(coco: dict[str, Any], photos: Path, shards: list[Path], label: Callable[[dict[str, Any]], Member]) -> None:
    """The photos of a COCO file in turn, each with what `label` makes of its entry and annotations."""
    for number, shard in enumerate(shards):
        with tarfile.open(shard, "w") as tar:
            for image in coco["images"][number :: len(shards)]:
                stem, _, suffix = image["file_name"].rpartition(".")
                of = [{**a} for a in coco["annotations"] if a["image_id"] == image["id"]]
                text = label({**image, "image_id": image["id"], "annotations": of})
                if text is not None:
                    add(tar, f"a/{stem}.json", text)
                add(tar, f"a/{stem}.{suffix}", (photos / image["file_name"]).read_bytes())


def dumped(content: Any) -> bytes:
    return json.dumps(content).encode()


@pytest.fixture
def coco(tmp_path: Path) -> tuple[dict[str, Any], Path, Path]:
    """A COCO file's content, its path and its photos."""
    file, photos = write_coco(tmp_path, 4)
    return json.loads(file.read_text()), file, photos


def packed(
    coco: tuple[dict[str, Any], Path, Path], label: Callable[[dict[str, Any]], Member], **options: Any
) -> Dataset:
    shards = [coco[1].parent / f"s-{i}.tar" for i in range(2)]
    pack(coco[0], coco[2], shards, label)
    return load_dataset(None, coco[1].parent / "s-{0..1}.tar", **options)


def content_of(dataset: Dataset) -> list[Any]:
    return [
        (r.id, r.path.name, r.size, r.boxes.tolist(), r.categories.tolist(), r.ignore.tolist(), r.area.tolist())
        for r in dataset.records
    ]


def test_it_is_the_data_set_of_the_coco_file(coco: tuple[dict[str, Any], Path, Path]) -> None:
    wanted = load_dataset(coco[1], coco[2])
    with_names = packed(coco, lambda label: dumped({**label, "categories": coco[0]["categories"]}))
    by_file = packed(coco, dumped, names=coco[1])
    for found in (with_names, by_file):
        assert found.labelled and found.categories == wanted.categories and not found.dropped
        assert content_of(found) == content_of(wanted)


def test_bare_lists_get_numbers_for_ids_and_names(coco: tuple[dict[str, Any], Path, Path], tmp_path: Path) -> None:
    found = packed(coco, lambda label: dumped(label["annotations"]))
    seen = {a["category_id"] for a in coco[0]["annotations"]}
    assert found.labelled and [r.id for r in found.records] == [1, 2, 3, 4]
    assert found.categories == {i: str(i) for i in sorted(seen)}
    with pytest.raises(DualResError, match="have no names, give --names FILE"):
        match_categories(found.categories, {0: "person", 1: "bicycle", 2: "dog", 3: "cat"}, None)
    assert found.records[1].path.name == coco[0]["images"][2]["file_name"]  # in the order of the shards
    assert found.records[0].size == load_dataset(coco[1], coco[2]).records[0].size  # the photo says it
    (tmp_path / "names.txt").write_text("nothing\nsquare\n\ndisc\n")
    named = packed(coco, lambda label: dumped(label["annotations"]), names=tmp_path / "names.txt")
    assert named.categories == {0: "nothing", 1: "square", 3: "disc"}


@pytest.mark.parametrize(
    ("member", "kind"),
    [
        (None, "photos without a .json beside them"),
        (b"{", "not valid JSON"),
        (b"\xff\xfe\xfa", "not valid JSON"),
        (b"[" * 100_000, "not valid JSON"),
        (b'{"caption": "a dog"}', "no list 'annotations'"),
        (b'{"annotations": 3}', "no list 'annotations'"),
        (b"7", "no list 'annotations'"),
        (b'{"annotations": [], "width": 0, "height": 4}', "impossible height or width"),
        (b" " * 2000 + b"[]", "more than 0 MB"),
    ],
)
def test_an_odd_member_costs_its_photo_and_is_named(
    member: Member, kind: str, coco: tuple[dict[str, Any], Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    if kind.startswith("more than"):
        monkeypatch.setattr(shard_labels, "LARGEST", 2000)
    first = coco[0]["images"][0]["file_name"]
    found = packed(coco, lambda label: member if label["file_name"] == first else dumped(label["annotations"]))
    assert len(found.records) == 3
    (warning,) = found.warnings()
    assert kind in warning and f"s-0.tar/a/{first}" in warning


def test_an_odd_annotation_costs_only_itself_and_is_named(coco: tuple[dict[str, Any], Path, Path]) -> None:
    odd = [3, {"bbox": [0, 0, -1, 2], "category_id": 1}, {"bbox": [0, 0, 1, "x"], "category_id": 1}, {"bbox": [0] * 4}]
    found = packed(coco, lambda label: dumped([*odd, *label["annotations"]]))
    plain = packed(coco, lambda label: dumped(label["annotations"]))
    assert content_of(found) == content_of(plain)
    assert len(found.warnings()) == 4 and all("4 " in w and "of the labels of" in w for w in found.warnings())


def test_other_metadata_is_no_label(coco: tuple[dict[str, Any], Path, Path]) -> None:
    found = packed(coco, lambda label: dumped({"caption": label["file_name"]}))
    assert not found.labelled and len(found.records) == 4 and not found.warnings()
    with pytest.raises(DualResError, match=r"--names is given, and no photo in .* has labels"):
        packed(coco, lambda label: None, names=coco[1])


def test_names_that_contradict_each_other_or_are_none(coco: tuple[dict[str, Any], Path, Path], tmp_path: Path) -> None:
    def differently(label: dict[str, Any]) -> bytes:
        return dumped({**label, "categories": [{"id": 1, "name": label["file_name"]}]})

    with pytest.raises(DualResError, match=r"call category 1 '.*', others '.*': give the names by --names"):
        packed(coco, differently)
    with pytest.raises(DualResError, match="have no category"):
        packed(coco, lambda label: b"[]")
    (tmp_path / "empty.txt").write_text("\n")
    for names in (tmp_path / "empty.txt", tmp_path / "none.json"):
        with pytest.raises(DualResError, match=r"names no category|does not exist"):
            packed(coco, dumped, names=names)
    with pytest.raises(DualResError, match=r"--names is of labels inside of \.tar shards"):
        load_dataset(coco[1], coco[2], names=coco[1])


@pytest.fixture(scope="module")
def one_photo(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    (photo,) = write_photos(tmp_path_factory.mktemp("photo"), 1)
    return photo.read_bytes()


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=strategy.mutated(strategy.valid()))
def test_members_changed_at_random(content: bytes, one_photo: bytes, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "s.tar", "w") as tar:
        add(tar, "0.png", one_photo)
        add(tar, "0.json", content)
    try:
        found = load_dataset(None, tmp_path / "s.tar")
    except DualResError as error:
        assert len(str(error)) < 3000
        return
    json.dumps([found.warnings(), found.categories], ensure_ascii=False).encode()
    (record,) = found.records
    assert np.isfinite(record.boxes).all() and np.isfinite(record.area).all() and min(record.size) > 0
    assert set(record.categories.tolist()) <= found.categories.keys() and abs(record.id) < 2**63


@pytest.mark.shared
def test_the_profile_of_real_photos_is_that_of_the_coco_file(tmp_path: Path) -> None:
    folder, weights = require_shared("data", "coco_mini"), require_shared("weights", "yolo11n.pt")
    file, photos = folder / "annotations" / "instances_val2017.json", folder / "images" / "val2017"
    coco = json.loads(file.read_text())
    coco["images"] = sorted(coco["images"], key=lambda image: int(image["id"]))[:6]
    wanted = load_dataset(file, photos)
    wanted.records = wanted.records[:6]
    pack(coco, photos, [tmp_path / "0.tar", tmp_path / "1.tar"], dumped)
    shards = load_dataset(None, tmp_path / "{0..1}.tar", names=file)
    made = {}
    for name, dataset in (("coco", wanted), ("shards", shards)):
        adapter = load_detector(f"ultralytics:{weights}")
        settings = ProfileSettings(320, 0.5, views=2)
        build_profile(adapter, dataset, tmp_path / name, settings, progress=False)
        made[name] = Profile.load(tmp_path / name)
    assert made["coco"].labelled and len(made["coco"]) == 12
    assert np.concatenate([made["coco"].targets(i).boxes for i in range(12)]).size
    first, second = (p.table.drop_columns(["path"]) for p in made.values())
    assert first.equals(second)
    different = {k for k, v in made["coco"].meta.items() if made["shards"].meta[k] != v}
    assert different == {"dataset", "checksum"}  # its name; the table holds the paths
