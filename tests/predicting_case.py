"""A router with lively scores and a predictor on the host-free stand-in."""

from __future__ import annotations

from typing import Any

from dualres_plugin.predict.predictor import Predictor
from dualres_plugin.router.gate import Gate
from dualres_plugin.router.network import ResolutionRouter
from tests.fakes import FakeAdapter, lively_router, photo


def make_router() -> ResolutionRouter:
    return lively_router([photo(i) for i in range(6)], backbone="tiny@3", input_size=16)


def predictor(router: ResolutionRouter, host: FakeAdapter | None = None, **options: Any) -> Predictor:
    """At 64 and 32 px, half of the calibration images high."""
    return Predictor(host or FakeAdapter(), Gate(router, router.threshold_for(0.5)), 64, 0.5, **options)
