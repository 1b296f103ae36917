"""What every program says when something is wrong, and the check of a number."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from dualres_plugin.common.errors import DualResError, at_hand, check_number, file_at_hand, is_full_disk, one_line


def test_one_line_has_no_control_characters() -> None:
    assert one_line("a\nb\tc\x1b[31m\udce9 é") == "a\\nb\\tc\\x1b[31m\\udce9 é"


def test_the_file_at_hand_is_the_innermost() -> None:
    with pytest.raises(KeyError) as caught, at_hand("folder"), at_hand(Path("a.jpg")):
        raise KeyError("x")
    assert file_at_hand(caught.value) == "a.jpg"
    assert file_at_hand(OSError(errno.EIO, "broken", "b.jpg")) == "b.jpg" and file_at_hand(KeyError()) is None


def test_a_full_disk_is_seen_through_what_it_led_to() -> None:
    with pytest.raises(ValueError, match="save") as caught:
        try:
            raise OSError(errno.EFBIG, "File too large")
        except OSError as error:
            raise ValueError("cannot save") from error
    assert is_full_disk(caught.value) and not is_full_disk(OSError(errno.EACCES, "denied")) and not is_full_disk(None)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -0.1, 1.1])
def test_numbers_out_of_range(value: float) -> None:
    with pytest.raises(DualResError, match=r"conf=.* must lie between 0 and 1"):
        check_number("conf", value, 0, 1)


def test_numbers_at_the_ends() -> None:
    for value in (0, 1, None):
        check_number("conf", value, 0, 1)
    check_number("threshold", -1e9)
    with pytest.raises(DualResError, match="must be a finite number"):
        check_number("threshold", float("-inf"))
    with pytest.raises(DualResError, match="ms=0 must be above 0, and finite"):
        check_number("ms", 0, above=0)
