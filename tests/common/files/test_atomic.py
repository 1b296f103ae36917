"""Nobody ever sees a half-written file."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import pytest

from dualres_plugin.common.errors import DualResError
from dualres_plugin.common.files.atomic import atomic_dir, atomic_write, make_dir, read_json, write_json, write_text


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    write_text(target, "old")
    with pytest.raises(RuntimeError), atomic_write(target) as temporary:
        temporary.write_text("half")
        assert target.read_text() == "old"
        raise RuntimeError
    assert target.read_text() == "old" and list(tmp_path.iterdir()) == [target]


def test_a_write_makes_folders_replaces_and_is_readable_by_others(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "er" / "a.txt"
    write_text(target, "é")
    write_text(target, "ü")
    assert target.read_text(encoding="utf-8") == "ü"
    assert target.stat().st_mode & 0o777 == 0o644


def test_the_temporary_name_keeps_the_suffix(tmp_path: Path) -> None:
    with atomic_write(tmp_path / "a.png") as temporary:
        assert temporary.suffix == ".png" and temporary.parent == tmp_path


def test_folders_keep_other_files_and_vanish_on_failure(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    with atomic_dir(tmp_path / "out") as folder:
        (folder / "a").write_text("1")
    with pytest.raises(RuntimeError), atomic_dir(tmp_path / "out") as folder:
        (folder / "a").write_text("2")
        raise RuntimeError
    assert {p.name: p.read_text() for p in (tmp_path / "out").iterdir()} == {"mine.txt": "mine", "a": "1"}
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_json_of_infinities_is_json(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"a": float("nan"), "b": [float("inf"), 1.5], "c": (1,)})
    assert json.loads((tmp_path / "a.json").read_text()) == {"a": None, "b": [None, 1.5], "c": [1]}


def test_what_cannot_be_written_or_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("{")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(DualResError, match=r"cannot write to .*Choose another output folder"):
            make_dir(path)
    with pytest.raises(DualResError, match="cannot write to"), atomic_write(tmp_path / "file" / "a.txt"):
        pass
    with pytest.raises(DualResError, match=r"recipe '.*none' does not exist"):
        read_json(tmp_path / "none", "recipe")
    with pytest.raises(DualResError, match="not valid JSON"):
        read_json(tmp_path / "file")
    (tmp_path / "bytes").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DualResError, match="not valid JSON"):
        read_json(tmp_path / "bytes")
    with pytest.raises(DualResError, match="cannot read"):
        read_json(tmp_path)


def test_names_as_long_as_the_file_system_takes(tmp_path: Path) -> None:
    for suffix in (".txt", ".a-suffix-of-two-hundred-characters" + "x" * 200):
        write_text(tmp_path / ("n" * (255 - len(suffix)) + suffix), "x")
    with atomic_dir(tmp_path / ("d" * 255)) as folder:
        (folder / "a").write_text("1")


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        RuntimeError("I/O error: No space left on device (os error 28)"),  # as safetensors has it
    ],
)
def test_a_full_disk_is_one_message_and_changes_nothing(tmp_path: Path, error: Exception) -> None:
    write_text(tmp_path / "a.txt", "before")
    for write in (atomic_write, atomic_dir):
        with pytest.raises(DualResError, match=r"no space left to write '.*a\.txt'"), write(tmp_path / "a.txt"):
            raise error
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"] and (tmp_path / "a.txt").read_text() == "before"
