"""The folder of a profile: a killed run resumes, what does not fit is refused."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from dualres_plugin.common.errors import DualResError
from dualres_plugin.profile.build import ProfileSettings
from dualres_plugin.profile.table import META, PARTS, ROWS, Profile
from tests.fakes import FakeAdapter
from tests.profile.helpers import SETTINGS, Killed, adapter, build, kill_after
from tests.shared import ROOT


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
        from tests.profile.helpers import build
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


# -- damage ---------------------------------------------------------------------------------------------------


def shorten(parts: Path) -> None:
    path = parts / "batch-000001.parquet"
    path.write_bytes(path.read_bytes()[:200])


def flip(parts: Path) -> None:
    path = parts / "batch-000001.parquet"
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 1
    path.write_bytes(bytes(content))


def swap(parts: Path) -> None:
    one, two = (parts / f"batch-00000{i}.parquet" for i in (0, 1))
    first, second = one.read_bytes(), two.read_bytes()
    one.write_bytes(second)
    two.write_bytes(first)


def swap_without_checksums(parts: Path) -> None:
    swap(parts)
    (parts / "checksums.txt").unlink()


def cut_the_checksums(parts: Path) -> None:
    path = parts / "checksums.txt"
    path.write_bytes(path.read_bytes()[:-10] + b"\xff")


DAMAGES = [(shorten, 1), (flip, 1), (swap, 2), (swap_without_checksums, 2), (cut_the_checksums, 1)]


@pytest.mark.parametrize(("damage", "again"), DAMAGES)
def test_damaged_parts_are_made_again(damage: Any, again: int, data: tuple[Path, Path], tmp_path: Path) -> None:
    whole = build(data, tmp_path / "whole")
    start(data, tmp_path / "profile", False)
    parts = tmp_path / "profile" / PARTS
    first = adapter()
    first.on_pass = kill_after(2)
    with pytest.raises(Killed):
        build(data, tmp_path / "profile", first)
    assert len(list(parts.glob("batch-*.parquet"))) == 2
    damage(parts)
    host = adapter()
    profile = build(data, tmp_path / "profile", host)
    assert profile.table.equals(whole.table) and profile.meta == whole.meta
    assert host.images_seen == 2 * (4 + 3 * again)


def test_parts_of_a_version_without_checksums_are_kept(data: tuple[Path, Path], tmp_path: Path) -> None:
    start(data, tmp_path / "profile", False)
    (tmp_path / "profile" / PARTS / "checksums.txt").unlink()
    host = adapter()
    assert len(build(data, tmp_path / "profile", host)) == 10 and host.images_seen == 2 * 7


def test_a_kill_between_the_table_and_the_end_leaves_no_parts(data: tuple[Path, Path], tmp_path: Path) -> None:
    build(data, tmp_path / "profile")
    (tmp_path / "profile" / PARTS).mkdir()
    (tmp_path / "profile" / PARTS / "batch-000000.parquet").write_bytes(b"x")
    build(data, tmp_path / "profile")
    assert sorted(p.name for p in (tmp_path / "profile").iterdir()) == [META, ROWS]


def test_two_at_once_are_one_error(data: tuple[Path, Path], tmp_path: Path) -> None:
    from dualres_plugin.common.files.lock import locked

    with (
        locked(tmp_path / "profile"),
        pytest.raises(DualResError, match=r"another dualres process writes to .*profile"),
    ):
        build(data, tmp_path / "profile")
    assert len(build(data, tmp_path / "profile")) == 10


def test_a_description_that_is_no_object_is_no_start(data: tuple[Path, Path], tmp_path: Path) -> None:
    start(data, tmp_path / "profile", False)
    (tmp_path / "profile" / META).write_text("[]")
    with pytest.raises(DualResError, match="does not describe a profile"):
        build(data, tmp_path / "profile")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills a forked process")
@pytest.mark.filterwarnings("ignore:This process.*multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("seed", range(7))
def test_kills_at_random_moments_resume_to_the_same_profile(seed: int, data: tuple[Path, Path], tmp_path: Path) -> None:
    """SIGKILL up to three times, also within the writing of a part or of the table; nothing temporary is left."""
    moments = random.Random(seed)
    settings = replace(SETTINGS, batch=1)
    start = time.monotonic()
    whole = build(data, tmp_path / "whole", settings=settings)
    takes = time.monotonic() - start
    out = tmp_path / "profile"
    for _ in range(3):
        child = os.fork()
        if child == 0:
            with contextlib.suppress(BaseException):
                build(data, out, settings=settings)
            os._exit(0)
        time.sleep(moments.uniform(0, takes))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    profile = build(data, out, settings=settings)
    assert profile.table.equals(whole.table) and profile.meta == whole.meta
    assert sorted(p.name for p in out.iterdir()) == [META, ROWS]
