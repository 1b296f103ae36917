"""Profiles: what is stored is what the detector said; a killed run resumes; what does not fit is refused."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from dualres_plugin.common.errors import DualResError
from dualres_plugin.common.images import read_image, router_images_of
from dualres_plugin.common.resize import make_thumbnails
from dualres_plugin.profile.build import ProfileSettings, build_profile
from dualres_plugin.profile.dataset import load_dataset
from dualres_plugin.profile.table import META, PARTS, ROWS, Profile
from tests.fakes import FakeAdapter, FakeBatch, photo, write_coco
from tests.shared import ROOT

SETTINGS = ProfileSettings(64, 0.5, batch=3, thumbnail_size=16)


class Killed(BaseException):
    """What a kill looks like from inside: nothing may catch it."""


def adapter() -> FakeAdapter:
    torch.manual_seed(0)
    return FakeAdapter()


@pytest.fixture
def data(tmp_path: Path) -> tuple[Path, Path]:
    return write_coco(tmp_path, 10)


def build(
    data: tuple[Path | None, Path],
    out: Path,
    host: FakeAdapter | None = None,
    settings: ProfileSettings = SETTINGS,
    **options: Any,
) -> Profile:
    return build_profile(host or adapter(), load_dataset(*data), out, settings, progress=False, **options)


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


def test_views_share_a_group_and_view_0_is_the_original(data: tuple[Path, Path], tmp_path: Path) -> None:
    profile = build(data, tmp_path / "profile", settings=ProfileSettings(64, 0.5, views=3, thumbnail_size=16))
    assert len(profile) == 30 and len(profile.originals) == 10
    assert profile.views.tolist() == [0, 1, 2] * 10
    assert profile.groups.tolist() == [g for g in range(10) for _ in range(3)]
    alone = build(data, tmp_path / "alone")
    for name in ("high_boxes", "low_scores", "thumbnail", "gt_boxes", "loss_low"):
        views = profile.table.column(name).take(profile.originals)
        assert views.combine_chunks().equals(alone.table.column(name).combine_chunks()), name


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


# -- resuming ----------------------------------------------------------------------------------------------


def kill_after(passes: int) -> Any:
    left = passes

    def on_pass(_: FakeBatch) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise Killed

    return on_pass


@pytest.mark.parametrize("passes", [0, 1, 2, 3, 5, 7])
def test_a_killed_run_resumes_to_the_same_profile(passes: int, data: tuple[Path, Path], tmp_path: Path) -> None:
    whole = build(data, tmp_path / "whole")
    first = adapter()
    first.on_pass = kill_after(passes)
    with pytest.raises(Killed):
        build(data, tmp_path / "profile", first)
    with pytest.raises(DualResError, match="not finished: run the same"):
        Profile.load(tmp_path / "profile")
    second = adapter()
    profile = build(data, tmp_path / "profile", second)
    assert profile.table.equals(whole.table) and profile.meta == whole.meta
    # Two passes a batch; batches whose both passes were done are not done again.
    finished = min(10, 3 * (passes // 2))
    assert second.images_seen == 2 * (10 - finished)
    assert sorted(p.name for p in (tmp_path / "profile").iterdir()) == [META, ROWS]


def test_unreadable_images_of_before_the_kill_are_still_listed(data: tuple[Path, Path], tmp_path: Path) -> None:
    (data[1] / "0.png").write_bytes(b"")
    first = adapter()
    first.on_pass = kill_after(4)
    with pytest.raises(Killed):
        build(data, tmp_path / "profile", first)
    profile = build(data, tmp_path / "profile")
    assert len(profile) == 9 and len(profile.meta["left_out"]) == 1


def test_a_finished_profile_costs_nothing(data: tuple[Path, Path], tmp_path: Path) -> None:
    build(data, tmp_path / "profile")
    host = adapter()
    build(data, tmp_path / "profile", host)
    assert host.images_seen == 0


@pytest.mark.parametrize("finished", [True, False])
@pytest.mark.parametrize(
    ("name", "value"),
    [("high", 96), ("scale", 0.25), ("views", 2), ("batch", 4), ("seed", 1), ("thumbnail_size", 24)],
)
def test_other_settings_are_refused(
    name: str, value: Any, finished: bool, data: tuple[Path, Path], tmp_path: Path
) -> None:
    start(data, tmp_path / "profile", finished)
    other = ProfileSettings(**{**SETTINGS.__dict__, name: value})
    with pytest.raises(DualResError, match=rf"made with other settings .*{name} .* -> {value}.* another --out"):
        build(data, tmp_path / "profile", settings=other)


def start(data: tuple[Path, Path], out: Path, finished: bool) -> None:
    host = adapter()
    if finished:
        build(data, out, host)
        return
    host.on_pass = kill_after(3)
    with pytest.raises(Killed):
        build(data, out, host)


def test_another_detector_is_refused(data: tuple[Path, Path], tmp_path: Path) -> None:
    start(data, tmp_path / "profile", False)
    torch.manual_seed(1)
    with pytest.raises(DualResError, match="detector_fingerprint"):
        build(data, tmp_path / "profile", FakeAdapter())


def test_other_labels_are_refused(data: tuple[Path, Path], tmp_path: Path) -> None:
    start(data, tmp_path / "profile", False)
    content = json.loads(data[0].read_text())
    content["annotations"][0]["bbox"][0] += 1
    data[0].write_text(json.dumps(content))
    with pytest.raises(DualResError, match="dataset_fingerprint"):
        build(data, tmp_path / "profile")


def test_a_folder_with_other_things_is_refused(data: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "profile").mkdir()
    (tmp_path / "profile" / "thesis.tex").write_text("x")
    with pytest.raises(DualResError, match="not empty and not a profile"):
        build(data, tmp_path / "profile")
    assert (tmp_path / "profile" / "thesis.tex").read_text() == "x"


def test_an_output_that_cannot_be_written(data: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(DualResError, match="cannot write to"):
            build(data, out)


def test_a_kill_from_outside_loses_at_most_one_batch(data: tuple[Path, Path], tmp_path: Path) -> None:
    """SIGKILL in a process of its own: nothing gets a chance to tidy up."""
    script = """
        import os, signal, sys, torch
        from pathlib import Path
        from tests.fakes import FakeAdapter
        from tests.profile.test_build import SETTINGS, build
        data, images, out, passes = sys.argv[1:]
        torch.manual_seed(0)
        host = FakeAdapter()
        left = int(passes)
        def on_pass(_):
            global left
            left -= 1
            if left < 0:
                os.kill(os.getpid(), signal.SIGKILL)
        host.on_pass = on_pass
        build((Path(data), Path(images)), Path(out), host)
    """
    command = [sys.executable, "-c", textwrap.dedent(script), *map(str, data), str(tmp_path / "profile"), "5"]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True)
    assert done.returncode == -9, done.stderr.decode()[-2000:]
    assert len(list((tmp_path / "profile" / PARTS).glob("batch-*.parquet"))) == 2
    host = adapter()
    profile = build(data, tmp_path / "profile", host)
    assert host.images_seen == 2 * (10 - 6)
    assert profile.table.equals(build(data, tmp_path / "whole").table)


# -- settings and files --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["high", "views", "batch", "thumbnail_size"])
def test_impossible_settings(name: str) -> None:
    with pytest.raises(DualResError, match=f"{name}=0 must be at least 1"):
        ProfileSettings(**{**SETTINGS.__dict__, name: 0})


def test_a_low_size_above_the_high_one() -> None:
    with pytest.raises(DualResError, match="must be smaller than the high size"):
        ProfileSettings(320, 2.0)


def test_damaged_and_foreign_profiles(data: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(DualResError, match=r"does not exist. Make one with: dualres profile"):
        Profile.load(tmp_path / "none")
    out = tmp_path / "profile"
    build(data, out)
    rows = (out / ROWS).read_bytes()
    (out / ROWS).write_bytes(rows[: len(rows) // 2])
    with pytest.raises(DualResError, match=r"cannot be read .*profile again"):
        Profile.load(out)
    (out / ROWS).write_bytes(rows)
    meta = json.loads((out / META).read_text())
    (out / META).write_text(json.dumps({**meta, "format_version": 99}))
    with pytest.raises(DualResError, match="format version 99"):
        Profile.load(out)
    (out / META).write_text("[]")
    with pytest.raises(DualResError, match=r"does not describe a profile"):
        Profile.load(out)
    (out / META).unlink()
    with pytest.raises(DualResError, match="does not exist"):
        Profile.load(out)


def test_a_large_profile_reads_single_rows_right(tmp_path: Path) -> None:
    from dualres_plugin.common.types import Detections
    from tests.fakes import make_profile

    rng = np.random.default_rng(0)
    rows = []
    for _ in range(300):
        n = int(rng.integers(0, 6))
        rows.append({"high": Detections.from_arrays(rng.random((n, 4)), rng.random(n), rng.integers(1, 3, n))})
    profile = make_profile(tmp_path / "p", rows)
    for i in rng.permutation(300)[:50]:
        found, expected = profile.detections("high", int(i)), rows[i]["high"]
        assert np.array_equal(found.boxes, expected.boxes) and np.array_equal(found.scores, expected.scores)
