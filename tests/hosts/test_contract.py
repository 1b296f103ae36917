"""What the base class does for every adapter."""

from __future__ import annotations

import pytest

from dualres_plugin.common.errors import DualResError
from dualres_plugin.hosts.contract import HostAdapter
from tests.fakes import FakeAdapter


class Counting(FakeAdapter):
    """Counts how often it is asked to count."""

    macs = HostAdapter.macs

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[tuple[int, int], bool]] = []

    def count_macs(self, shape: tuple[int, int], low: bool = False) -> float:
        self.asked.append((shape, low))
        return shape[0] * shape[1] / (2 if low else 1)


def test_compute_is_counted_once_per_shape_and_network() -> None:
    adapter = Counting()
    costs = [adapter.macs((4, 6)), adapter.macs((4, 6)), adapter.macs((4, 6), low=True), adapter.macs((6, 4))]
    assert costs == [24, 24, 12, 24]
    assert adapter.asked == [((4, 6), False), ((4, 6), True), ((6, 4), False)]
    assert Counting().macs((2, 2)) == 4, "every adapter remembers its own"


def test_adapters_that_override_macs_itself_go_on_working() -> None:
    assert FakeAdapter().macs((100, 100)) == 1.0


def test_a_host_that_cannot_count_says_so() -> None:
    class Silent(FakeAdapter):
        macs = HostAdapter.macs

    with pytest.raises(DualResError, match="the fake adapter cannot count compute"):
        Silent().macs((4, 4))


def test_the_detector_at_a_size_is_the_pairs_own() -> None:
    alone = FakeAdapter()
    assert alone.detector_at(True) is alone.detector_at(False) is alone.detector
    alone.low_detector = "small"
    assert alone.detector_at(True) == "small" and alone.detector_at(False) is alone.detector
