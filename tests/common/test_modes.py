"""Evaluation mode for a while."""

from __future__ import annotations

import threading

import pytest
from torch import nn

from dualres_plugin.common.modes import in_eval, modes_kept


def network() -> nn.Module:
    """In training mode, its batch norm frozen in eval."""
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Dropout()).train()
    net[1].eval()
    return net


def modes(net: nn.Module) -> list[bool]:
    return [part.training for part in net.modules()]


def test_every_part_gets_its_own_mode_back() -> None:
    net = network()
    before = modes(net)
    with pytest.raises(KeyError), in_eval(net):
        assert not any(modes(net))
        with in_eval(net):
            pass
        assert not any(modes(net)), "the outer block is not over"
        raise KeyError
    assert modes(net) == before == [True, True, False, True]
    with modes_kept(net):
        net.eval()
    assert modes(net) == before


def test_threads_that_share_a_module_leave_one_by_one() -> None:
    """The first to leave must not put the others, who still run, into training."""
    net, inside, leave = network(), threading.Barrier(2), threading.Event()
    seen: list[bool] = []

    def stay() -> None:
        with in_eval(net):
            inside.wait()
            leave.wait()
            seen.extend(modes(net))

    other = threading.Thread(target=stay)
    with in_eval(net):
        other.start()
        inside.wait()
    leave.set()
    other.join()
    assert seen == [False] * 4 and modes(net) == [True, True, False, True]


def test_a_block_that_begins_within_another_threads_keeps_the_mode_before_both() -> None:
    """The first calls of two threads: one probes the sizes while the other runs, and leaves last."""
    net, inside, begun, left = network(), threading.Event(), threading.Event(), threading.Event()

    def run() -> None:
        with in_eval(net[0]), in_eval(net):
            inside.set()
            begun.wait()
        left.set()

    other = threading.Thread(target=run)
    other.start()
    inside.wait()
    with modes_kept(net):
        begun.set()
        left.wait()
        assert modes(net) == [False] * 4, "one block is not over"
    other.join()
    assert modes(net) == [True, True, False, True]
