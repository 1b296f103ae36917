"""Profiles: what is stored is what the detector said; a killed run resumes; what does not fit is refused."""

from __future__ import annotations

import json
import logging
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dualres_plugin.common.errors import DualResError
from dualres_plugin.common.images.decode import read_image
from dualres_plugin.common.images.photo import router_images_of
from dualres_plugin.common.images.sources import list_images
from dualres_plugin.common.resize import make_thumbnails
from dualres_plugin.common.types import Detections
from dualres_plugin.profile.build import ProfileSettings
from dualres_plugin.profile.data.dataset import load_dataset
from dualres_plugin.profile.table import Profile
from tests.fakes import FakeAdapter, FakeBatch, photo
from tests.profile.helpers import SETTINGS, adapter, build

# -- content ----------------------------------------------------------------------------------------------


def test_rows_hold_what_the_detector_said(data: tuple[Path, Path], tmp_path: Path) -> None:
    profile = build(data, tmp_path / "profile")
    assert len(profile) == 10 and profile.labelled and profile.scale == 0.5
    host = adapter()
    for row, record in enumerate(load_dataset(*data).records):
        batch = host.collate([read_image(record.path)], 64, [profile.targets(row)])
        small = host.resize(batch, torch.arange(1), 0.5)
        for name, part in (("high", batch), ("low", small)):
            expected = host.detections(host.predict(part), part)[0]
            found = profile.detections(name, row)
            assert np.allclose(found.boxes, expected.boxes, atol=1e-4)
            assert np.allclose(found.scores, expected.scores, atol=1e-6)
            assert (found.labels == expected.labels + 1).all()  # labels 0, 1 are categories 1, 2
            assert profile.column(f"loss_{name}")[row] == pytest.approx(float(host.losses(part)[0]), abs=1e-5)
        assert np.array_equal(profile.targets(row).boxes, record.boxes)
        assert np.array_equal(profile.area(row), record.area)
        thumbnail = make_thumbnails(router_images_of([read_image(record.path)]), 16)[0] * 255
        assert torch.equal(profile.thumbnails(np.array([row]))[0], thumbnail.round().byte())
        assert profile.image_path(row) == record.path
    assert profile.gmacs == (pytest.approx(32 * 32 / 1e4), pytest.approx(64 * 64 / 1e4))


def test_each_image_passes_the_detector_once_at_each_size(data: tuple[Path, Path], tmp_path: Path) -> None:
    host = adapter()
    build(data, tmp_path / "profile", host)
    assert host.images_seen == 20


def test_without_labels_there_are_no_losses(data: tuple[Path, Path], tmp_path: Path) -> None:
    profile = build((None, data[1]), tmp_path / "profile")
    assert not profile.labelled and np.isnan(profile.column("loss_high")).all()
    assert set(profile.detections("high", 0).labels) <= {0, 1}


def test_workers_batches_and_order_do_not_change_the_result(data: tuple[Path, Path], tmp_path: Path) -> None:
    one = build(data, tmp_path / "one")
    many = build(data, tmp_path / "many", workers=3)
    assert one.table.equals(many.table)


def test_a_class_that_the_set_does_not_have_is_no_detection(data: tuple[Path, Path], tmp_path: Path) -> None:
    content = json.loads(data[0].read_text())
    content["categories"] = [c for c in content["categories"] if c["id"] == 2]
    content["annotations"] = [a for a in content["annotations"] if a["category_id"] == 2]
    data[0].write_text(json.dumps(content))
    profile = build(data, tmp_path / "profile")
    assert all(set(profile.detections("high", r).labels) == {2} for r in range(len(profile)))


# -- damaged images ---------------------------------------------------------------------------------------


def test_unreadable_images_are_counted_and_cost_only_themselves(
    data: tuple[Path, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole = build(data, tmp_path / "whole")
    (data[1] / "3.png").write_bytes((data[1] / "3.png").read_bytes()[:200])
    (data[1] / "4.png").write_bytes(b"")
    Image.fromarray(photo(0, (10, 10))).save(data[1] / "5.png")  # not the size that its annotation states
    with caplog.at_level(logging.WARNING, "dualres"):
        profile = build(data, tmp_path / "profile")
    kept = [i for i, image_id in enumerate(whole.column("image_id")) if image_id not in (4, 5, 6)]
    assert profile.column("image_id").tolist() == whole.column("image_id")[kept].tolist()
    listed = profile.meta["left_out"]
    assert len(listed) == 3 and all(f"{n}.png" in " ".join(listed) for n in (3, 4, 5))
    assert "3 images or annotations were left out" in caplog.text
    for name in ("high_boxes", "gt_boxes"):
        expected = whole.table.column(name).take(kept).combine_chunks()
        assert profile.table.column(name).combine_chunks().equals(expected)


def test_no_usable_image_at_all_is_an_error_and_leaves_nothing(data: tuple[Path, Path], tmp_path: Path) -> None:
    for path in data[1].iterdir():
        path.write_bytes(b"x")
    with pytest.raises(DualResError, match=r"not one of 10 images could be used; the first problem: .*png"):
        build(data, tmp_path / "profile")
    assert not (tmp_path / "profile").exists()


def test_images_that_the_host_rejects_are_counted(data: tuple[Path, Path], tmp_path: Path) -> None:
    def reject(batch: FakeBatch) -> None:
        if any(size == (64, 48) for size in batch.sizes):
            raise RuntimeError("cannot do tall")

    host = adapter()
    host.on_pass = reject
    profile = build(data, tmp_path / "profile", host)
    assert len(profile) == 5 and len(profile.meta["left_out"]) == 5
    assert "the fake host rejects it (cannot do tall)" in profile.meta["left_out"][0]


def test_a_batch_of_odd_images_only_does_not_stop_the_rest(data: tuple[Path, Path], tmp_path: Path) -> None:
    def reject(batch: FakeBatch) -> None:
        if batch.sizes[0] == (48, 64) and len(batch.sizes) <= 3:
            raise RuntimeError("cannot do wide")

    class Shaped(FakeAdapter):
        def input_shape(self, image_size: tuple[int, int], size: int) -> tuple[int, int]:
            return image_size  # each shape is a batch of its own

    host = Shaped()
    host.on_pass = reject
    profile = build(data, tmp_path / "profile", host)
    assert len(profile) == 5 and len(profile.meta["left_out"]) == 5


def test_a_detector_that_always_fails_is_one_error(data: tuple[Path, Path], tmp_path: Path) -> None:
    def fail(_: FakeBatch) -> None:
        raise RuntimeError("broken weights")

    host = adapter()
    host.on_pass = fail
    with pytest.raises(DualResError, match=r"not one of 10 images .*broken weights"):
        build(data, tmp_path / "profile", host)


def test_a_detector_that_always_fails_does_not_go_on_for_ever(data: tuple[Path, Path], tmp_path: Path) -> None:
    def fail(_: FakeBatch) -> None:
        raise RuntimeError("broken weights")

    host = adapter()
    host.on_pass = fail
    with pytest.raises(DualResError, match=r"not one image could be used so far.*broken weights"):
        build(data, tmp_path / "profile", host, give_up=5)
    assert len(build(data, tmp_path / "profile")) == 10, "mended, it starts with these images again"


# -- settings and files --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["high", "views", "batch", "thumbnail_size"])
def test_impossible_settings(name: str) -> None:
    with pytest.raises(DualResError, match=f"{name}=0 must be at least 1"):
        ProfileSettings(**{**SETTINGS.__dict__, name: 0})


def test_a_low_size_above_the_high_one() -> None:
    with pytest.raises(DualResError, match="must be smaller than the high size"):
        ProfileSettings(320, 2.0)


# -- what hosts give ------------------------------------------------------------------------------------------


def test_boxes_that_are_not_finite_are_no_hits(
    data: tuple[Path, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(FakeAdapter):
        def detections(self, raw: torch.Tensor, batch: FakeBatch) -> list[Detections]:
            found = super().detections(raw, batch)
            bad = [[np.nan, 0, 5, 5], [0, 0, np.inf, 5], [0, 0, 5, 5]]
            return [
                Detections.from_arrays([*bad, *f.boxes], [0.9, 0.9, np.nan, *f.scores], [0, 0, 0, *f.labels])
                for f in found
            ]

        def losses(self, batch: FakeBatch) -> torch.Tensor:
            return super().losses(batch) * torch.inf

    torch.manual_seed(0)
    with caplog.at_level(logging.WARNING, "dualres"):
        profile = build(data, tmp_path / "broken", Broken())
    plain = build(data, tmp_path / "plain")
    for name in ("high_boxes", "high_scores", "low_categories"):
        assert profile.table.column(name).equals(plain.table.column(name))
    assert "60 detections had NaN or infinite boxes or scores" in caplog.text
    assert np.isnan(profile.column("loss_high")).all(), "an endless loss says nothing"


def test_a_size_off_the_stride_is_rounded_as_the_host_does(
    data: tuple[Path, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Strict(FakeAdapter):
        def host_size(self, size: int) -> int:
            return -(-size // self.stride) * self.stride

    torch.manual_seed(0)
    with caplog.at_level(logging.WARNING, "dualres"):
        profile = build(data, tmp_path / "profile", Strict(), replace(SETTINGS, high=50))
    assert profile.meta["high"] == 64 and "high 50 px is off the stride" in caplog.text
    assert profile.table.equals(build(data, tmp_path / "whole").table)


def test_classes_matched_by_order_are_said_and_written_down(
    data: tuple[Path, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    host = adapter()
    host.class_names = {0: "cat", 1: "dog"}
    with caplog.at_level(logging.WARNING, "dualres"):
        profile = build(data, tmp_path / "profile", host)
    assert "matched by their order (cat = square, dog = disc)" in caplog.text
    assert len(profile.meta["notes"]) == 1 and "matched by their order" in profile.meta["notes"][0]
    assert build(data, tmp_path / "named").meta["notes"] == []


# -- where images come from -------------------------------------------------------------------------------


def same_rows(one: Profile, other: Profile) -> bool:
    """All but where the photos lie."""
    return bool(one.table.drop_columns(["path"]).equals(other.table.drop_columns(["path"])))


def test_shards_stores_and_lists_give_the_profile_of_the_folder(data: tuple[Path, Path], tmp_path: Path) -> None:
    fsspec = pytest.importorskip("fsspec")
    annotations, folder = data
    memory = fsspec.filesystem("memory")
    files = sorted(folder.iterdir())
    for part, some in enumerate((files[:4], files[4:])):
        with tarfile.open(tmp_path / f"p-{part}.tar", "w") as tar:
            for file in some:
                tar.add(file, file.name)
                memory.pipe(f"/photos/{file.name}", file.read_bytes())
    wanted = build(data, tmp_path / "folder")
    for number, images in enumerate((str(tmp_path / "p-{0..1}.tar"), "memory://photos")):
        made = build((annotations, images), tmp_path / f"labelled{number}")
        assert same_rows(made, wanted) and made.meta["dataset_fingerprint"] == wanted.meta["dataset_fingerprint"]
        assert str(made.image_path(0)).startswith(("memory:", str(tmp_path / "p-0.tar")))
    plain = build((None, folder), tmp_path / "plain")
    (tmp_path / "photos.txt").write_text("\n".join(map(str, list_images(folder))))
    for number, images in enumerate(("memory://photos", str(tmp_path / "photos.txt"), str(tmp_path / "p-*.tar"))):
        assert same_rows(build((None, images), tmp_path / f"plain{number}"), plain)


def test_a_missing_photo_of_a_list_or_shard_is_counted(data: tuple[Path, Path], tmp_path: Path) -> None:
    annotations, folder = data
    files = list_images(folder)
    (tmp_path / "photos.txt").write_text("\n".join([*map(str, files[:3]), "gone.png"]))
    assert load_dataset(None, tmp_path / "photos.txt").dropped == {"images that are not in the folder": 1}
    with tarfile.open(tmp_path / "p.tar", "w") as tar:
        tar.add(files[0], files[0].name)
    listed = len(load_dataset(*data).records)
    assert load_dataset(annotations, tmp_path / "p.tar").dropped["images that are not in the folder"] == listed - 1
