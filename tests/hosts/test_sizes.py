"""What a user asks of a detector's sizes, and what each of them costs."""

from __future__ import annotations

import pytest

from dualres_plugin.common.errors import DualResError
from dualres_plugin.hosts.sizes import ask_sizes, size_costs
from tests.fakes import FakeAdapter


class Rounding(FakeAdapter):
    def host_size(self, size: int) -> int:
        return -(-size // 32) * 32


def test_sizes_are_the_detectors_own_and_low_is_set_against_what_the_host_runs() -> None:
    for adapter, low, high, expected in (
        (FakeAdapter(), None, None, (64, (0.5,))),
        (FakeAdapter(), 16, None, (64, (0.25,))),
        (Rounding(), 32, 100, (100, (0.25,))),  # 100 runs at 128
    ):
        size, ladder = ask_sizes(adapter, low, high, None)
        assert (size, ladder.ratios()) == expected
    with pytest.raises(DualResError, match=r"low=128: .* 128 pixels here"):
        ask_sizes(Rounding(), 128, 100, None)


def test_a_list_of_sizes_in_pixels_or_as_ratios_of_the_first() -> None:
    for sizes in ((64, 48, 32), (1, 0.75, 0.5), (64, 0.75, 32)):
        size, ladder = ask_sizes(FakeAdapter(), None, None, sizes)
        assert size == 64 and ladder.pixels() == (64, 48, 32) and len(ladder) == 3
    assert ladder.ratios(128) == (0.75, 0.25), "pixels stay pixels, ratios ratios"


def test_costs_are_those_of_a_square_image_or_of_one_that_is_given() -> None:
    host = FakeAdapter()
    size, ladder = ask_sizes(host, None, None, (64, 32))
    assert size_costs(host, size, ladder) == [0.4096, 0.1024]
    shape = host.input_shape((30, 90), size)
    lower = host.macs(host.low_shape(shape, 0.5), low=True)
    assert size_costs(host, size, ladder, (30, 90)) == [host.macs(shape), lower]
