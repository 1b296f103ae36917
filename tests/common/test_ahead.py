"""Reading ahead: the same images and messages in the same order, a bounded number of them, and an end at any time."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

from dualres_plugin.common.errors import DualResError
from dualres_plugin.common.images import ahead
from dualres_plugin.common.images.ahead import read_ahead
from tests.fakes import write_photos


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    made = write_photos(tmp_path, 12)
    for number in (3, 4, 11):
        made[number].write_bytes(b"no photo")
    return made


@pytest.mark.parametrize("workers", [0, 1, 2, 5, 20])
def test_images_and_messages_come_in_order(paths: list[Path], workers: int) -> None:
    events: list[str] = []
    threads = set()

    def on_skip(message: str) -> None:
        threads.add(threading.current_thread())
        events.append(next(path.name for path in paths if f"/{path.name}'" in message))

    for image in read_ahead(iter(paths), workers, on_skip):
        events.append(image.name)
    assert events == [path.name for path in paths] and threads == {threading.main_thread()}


def test_an_unreadable_photo_is_an_error_in_its_turn(paths: list[Path]) -> None:
    images = read_ahead(paths, 4)
    assert [next(images).name for _ in range(3)] == ["0.png", "1.png", "2.png"]
    with pytest.raises(DualResError, match=r"3\.png"):
        next(images)


def test_few_are_read_ahead_and_none_after_the_end(paths: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    plain = ahead._read

    def counted(path: Path, may_skip: bool) -> ahead.Read:
        read.append(path.name)
        return plain(path, may_skip)

    monkeypatch.setattr(ahead, "_read", counted)
    before = threading.active_count()
    images = read_ahead(paths, 2, lambda _: None)
    assert np.asarray(next(images).pixels).ndim == 3
    assert len(read) <= 3
    images.close()
    assert len(read) <= 3 and threading.active_count() == before
