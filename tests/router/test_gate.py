"""A router at its operating point, and the count of its decisions."""

from __future__ import annotations

import copy

import pytest
import torch

from dualres_plugin.budget.calibration import score_quantiles
from dualres_plugin.budget.controller import BudgetController
from dualres_plugin.budget.cost import Budget
from dualres_plugin.budget.pace import PacedController
from dualres_plugin.common.errors import DualResError
from dualres_plugin.common.images.photo import router_images_of
from dualres_plugin.common.types import Decision
from dualres_plugin.router.gate import Gate, RouteLog, given_point, make_gate
from tests.fakes import photo
from tests.router.helpers import loud, tiny


def test_the_log_counts_through_copies() -> None:
    log = RouteLog()
    twin = copy.deepcopy(log)
    twin(Decision.of_two(torch.zeros(4), torch.tensor([True, False, False, False]), 0.0))
    assert (log.images, log.high, log.rate) == (4, 1, 0.25)
    assert RouteLog().rate == 0.0


def test_a_gate_takes_either_a_threshold_or_a_controller() -> None:
    router = loud(tiny())
    controller = BudgetController(0.5, [-1.0, 1.0])
    for given in ({}, {"threshold": 0.0, "controller": controller}):
        with pytest.raises(DualResError, match="either a threshold, or a controller"):
            Gate(router, **given)
    assert Gate(router, 0.25).threshold == 0.25
    assert Gate(router, controller=controller).threshold == controller.threshold


def test_a_controller_decides_image_by_image_within_a_batch() -> None:
    router = loud(tiny())
    batch = router_images_of([photo(i) for i in range(6)])
    quantiles = score_quantiles(router.score(batch).numpy())
    gate, alone = (Gate(router, controller=BudgetController(0.5, quantiles)) for _ in range(2))
    first = gate.threshold
    together = gate(batch)
    one_by_one = [alone(router_images_of([photo(i)])).high[0] for i in range(6)]
    assert together.high.tolist() == one_by_one and together.threshold == first
    assert gate.controller is not None and gate.controller.state.images == 6


def test_frames_per_second_are_held_from_frame_to_frame() -> None:
    router = loud(tiny())
    router.calibrate([-1.0, 0.0, 1.0])
    gate = make_gate(router, Budget(fps=20))
    assert isinstance(gate.controller, PacedController) and gate.expected_shares is None
    gate(router_images_of([photo(0)]))
    with pytest.raises(DualResError, match=r"2 images at once.*batch=1"):
        gate(router_images_of([photo(0), photo(1)]))
    assert gate.controller.state.images == 1
    for others in ({"target_high_rate": 0.3}, {"threshold": 0.1}, {"shares": (0.5, 0.5)}):
        with pytest.raises(DualResError, match="fps=20 sets the shares by itself"):
            given_point(**{"target_high_rate": None, "threshold": None, **others, "fps": 20.0})
