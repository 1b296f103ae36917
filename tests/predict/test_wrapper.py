"""The wrapper, on a host-free stand-in."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dualres_plugin.budget.pace import PacedController
from dualres_plugin.common.errors import DualResError
from dualres_plugin.common.types import RouterImages
from dualres_plugin.hosts.contract import HostAdapter
from dualres_plugin.predict.wrapper import DualResWrapper
from dualres_plugin.router.network import ResolutionRouter
from tests.contract.hosts import identical, shared_adapter
from tests.fakes import FakeAdapter, photo, write_coco, write_photos


@pytest.fixture
def router() -> ResolutionRouter:
    torch.manual_seed(0)
    net = ResolutionRouter(backbone="tiny@3", input_size=16).eval()
    net.calibrate([-1.0, 0.0, 1.0])
    return net


def pictures(count: int = 5) -> list[np.ndarray]:
    return [photo(i, ((48, 64), (64, 48), (30, 90))[i % 3]) for i in range(count)]


def test_sizes_as_a_ratio_or_in_pixels(router: ResolutionRouter) -> None:
    assert DualResWrapper(FakeAdapter(), router, low=0.5).scale == 0.5
    assert DualResWrapper(FakeAdapter(), router, low=16).scale == 0.25  # of the host's 64
    assert DualResWrapper(FakeAdapter(), router, high=128, low=32).scale == 0.25
    for low in (0, 1, 1.0, 64, 65, 640, -0.5):
        with pytest.raises(DualResError, match="must be smaller than the high size"):
            DualResWrapper(FakeAdapter(), router, low=low)


def test_without_a_router_the_shipped_one_decides_and_says_what_it_is(caplog: pytest.LogCaptureFixture) -> None:
    wrapper = DualResWrapper(FakeAdapter())
    assert not caplog.messages, "nothing is said before it is used: fit may come first"
    shipped = ResolutionRouter.from_pretrained("default")
    assert wrapper.threshold == shipped.threshold_for(0.5) and wrapper.router.quantiles == shipped.quantiles
    (message,) = caplog.messages
    for part in ("default", shipped.info["summary"], "model.fit(", "dualres swap default"):
        assert part in message


def test_an_uncalibrated_router_fails_at_once_unless_a_threshold_is_given() -> None:
    bare = ResolutionRouter(backbone="tiny@3", input_size=16)
    with pytest.raises(DualResError, match="no calibration"):
        DualResWrapper(FakeAdapter(), bare)
    assert DualResWrapper(FakeAdapter(), bare, threshold=0.2).threshold == 0.2
    assert DualResWrapper(FakeAdapter(), bare, target_high_rate=1.0).threshold == float("-inf")


def test_the_operating_point_can_be_moved(router: ResolutionRouter) -> None:
    wrapper = DualResWrapper(FakeAdapter(), router, target_high_rate=0.5)
    assert wrapper.threshold == pytest.approx(0.0, abs=1e-6)
    wrapper.set_operating_point(target_high_rate=0.25)
    assert wrapper.threshold == pytest.approx(0.5, abs=1e-6)
    wrapper.set_operating_point(threshold=-3.0)
    assert wrapper.threshold == -3.0
    for bad in ({}, {"target_high_rate": 0.5, "threshold": 0.0}):
        with pytest.raises(DualResError, match="either target_high_rate or threshold"):
            wrapper.set_operating_point(**bad)
    with pytest.raises(DualResError, match="must lie between"):
        wrapper.set_operating_point(target_high_rate=2)
    assert wrapper.threshold == -3.0, "a refused change changes nothing"


def test_routers_plug_in_from_a_folder_and_swap(router: ResolutionRouter, tmp_path: Path) -> None:
    router.save(tmp_path / "router")
    wrapper = DualResWrapper(FakeAdapter(), tmp_path / "router")
    expected = router.score(RouterImages([torch.ones(3, 20, 20)], [(0, 0, 20, 20)]))
    white = np.full((20, 20, 3), 255, np.uint8)
    assert torch.allclose(wrapper.decide([white]).scores, expected)
    other = ResolutionRouter(backbone="tiny@2", input_size=24)
    other.calibrate([5.0])
    wrapper.set_router(other)
    assert wrapper.router is other and wrapper.threshold == 5.0
    with pytest.raises(DualResError, match="does not exist"):
        wrapper.set_router(tmp_path / "none")
    assert wrapper.router is other


def test_forward_routes_the_hosts_own_batch(router: ResolutionRouter) -> None:
    host = FakeAdapter()
    wrapper = DualResWrapper(host, router)
    batch = host.collate(pictures(), 64)
    wrapper.set_operating_point(target_high_rate=1.0)
    assert torch.equal(wrapper.forward(batch), host.predict(batch))
    wrapper.set_operating_point(target_high_rate=0.0)
    assert torch.equal(wrapper.forward(batch), host.predict(host.resize(batch, torch.arange(5), 0.5)))
    assert (wrapper.log.images, wrapper.log.high) == (10, 5)


def test_what_an_adapter_cannot_do_is_said(router: ResolutionRouter) -> None:
    wrapper = DualResWrapper(FakeAdapter(), router)
    with pytest.raises(DualResError, match="the fake adapter has no wrapped host object"):
        wrapper.predict("x")
    host = FakeAdapter()
    for use in (
        lambda: host.export_branch((64, 64)),
        lambda: host.predict_source(None, "x"),
        lambda: FakeAdapter.from_spec("x"),
    ):
        with pytest.raises(DualResError, match="fake adapter"):
            use()


def test_fit_makes_the_wrapper_ready_and_keeps_what_it_made(tmp_path: Path) -> None:
    from dualres_plugin.train.config import TrainConfig

    data, images = write_coco(tmp_path / "set", 12)
    config = TrainConfig(backbone="tiny@3", input_size=16, epochs=1, batch=8)
    wrapper = DualResWrapper(FakeAdapter())
    same = wrapper.fit(data, images, views=2, config=config, out=tmp_path / "out", progress=False)
    assert same is wrapper and len(wrapper.router.quantiles) == 101
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["profile", "router"]
    loaded = ResolutionRouter.from_pretrained(tmp_path / "out" / "router")
    assert loaded.quantiles == wrapper.router.quantiles
    assert loaded.info["trained_on"][0]["views"] == 2
    again = DualResWrapper(FakeAdapter(wrapper.detector)).fit(
        data, images, views=2, config=config, out=tmp_path / "out", progress=False
    )
    assert again.router.quantiles == wrapper.router.quantiles


def test_fit_is_profile_and_train_in_one_call(tmp_path: Path) -> None:
    from dualres_plugin.profile.table import Profile
    from dualres_plugin.train.train import train_router

    data, images = write_coco(tmp_path / "set", 12)
    wrapper = DualResWrapper(FakeAdapter()).fit(data, images, views=2, out=tmp_path / "out", progress=False)
    alone = train_router(Profile.load(tmp_path / "out" / "profile"), progress=False)
    assert wrapper.router.config == alone.config
    assert wrapper.router.quantiles == pytest.approx(alone.quantiles)


def test_fit_without_labels(tmp_path: Path) -> None:
    from dualres_plugin.train.config import TrainConfig

    write_photos(tmp_path, 10)
    config = TrainConfig(backbone="tiny@3", input_size=16, epochs=1, batch=8)
    wrapper = DualResWrapper(FakeAdapter()).fit(None, tmp_path, views=1, config=config, progress=False)
    assert wrapper.router.info["gain"] == "agreement"


# -- holding a rate ------------------------------------------------------


def test_a_threshold_beside_a_held_rate_is_refused(router: ResolutionRouter) -> None:
    with pytest.raises(DualResError, match=r"threshold=0\.2 cannot hold too: give target_high_rate, not threshold"):
        DualResWrapper(FakeAdapter(), router, threshold=0.2, hold_rate=True)
    wrapper = DualResWrapper(FakeAdapter(), router, target_high_rate=0.3, hold_rate=True)
    controller = wrapper.controller
    with pytest.raises(DualResError, match="not threshold"):
        wrapper.set_operating_point(threshold=0.2)
    assert wrapper.controller is controller, "a refused change changes nothing"
    with pytest.raises(DualResError, match="calibrated router"):
        DualResWrapper(FakeAdapter(), ResolutionRouter(backbone="tiny@3", input_size=16), hold_rate=True)


def test_every_way_in_obeys_the_controller(router: ResolutionRouter) -> None:
    """The calibration is of other images: the threshold alone would send none of these high."""
    router.calibrate([100.0, 200.0])
    host, photos = FakeAdapter(), pictures(60)
    fixed = DualResWrapper(host, router, target_high_rate=0.3)
    assert fixed.controller is None and not fixed.decide(photos).high.any()
    decided, forwarded, mixed = (DualResWrapper(host, router, target_high_rate=0.3, hold_rate=True) for _ in range(3))
    assert decided.decide(photos).rate == pytest.approx(0.3, abs=0.05)
    forwarded.forward(host.collate(photos, 64))
    assert forwarded.log.rate == pytest.approx(0.3, abs=0.05)
    mixed.decide(photos[:30])
    mixed.forward(host.collate(photos[30:], 64))
    assert mixed.controller is not None and mixed.controller.state.images == 60, "they share one stream"
    assert mixed.controller.state.rate == pytest.approx(0.3, abs=0.05)
    assert mixed.threshold == router.threshold_for(0.3), "what an export gets"


def test_frames_per_second_instead_of_a_rate(router: ResolutionRouter) -> None:
    wrapper = DualResWrapper(FakeAdapter(), router, fps=25)
    for picture in pictures(5):
        wrapper.decide([picture])
    assert isinstance(wrapper.controller, PacedController) and wrapper.controller.state.images == 5
    assert wrapper.controller.pace.fps == 25 and "moves to hold 25 frames a second" in repr(wrapper)
    wrapper.set_operating_point(fps=12)
    assert isinstance(wrapper.controller, PacedController) and wrapper.controller.budget_ms == pytest.approx(1000 / 12)
    wrapper.set_operating_point(target_high_rate=0.3)
    assert wrapper.controller is None
    with pytest.raises(DualResError, match="leave out rates"):
        DualResWrapper(FakeAdapter(), router, fps=25, target_high_rate=0.3)


def test_looking_at_the_gate_changes_nothing_and_a_new_point_begins_anew(router: ResolutionRouter) -> None:
    wrapper = DualResWrapper(FakeAdapter(), router, target_high_rate=0.3, hold_rate=True)
    first = wrapper.controller
    assert first is not None and wrapper.gate is wrapper.gate and wrapper.controller is first
    wrapper.decide(pictures(4))
    assert first.state.images == 4
    wrapper.set_operating_point(target_high_rate=0.6)
    second = wrapper.controller
    assert second is not None and second is not first and second.target == 0.6 and second.state.images == 0
    wrapper.set_router(router)
    assert wrapper.controller is not second and wrapper.gate.controller is wrapper.controller
    assert wrapper.controller.target == 0.6


@pytest.mark.parametrize("name", ["fake", "torchvision-fcos"])
def test_threads_that_share_a_wrapper_get_the_results_of_serial_runs(name: str, router: ResolutionRouter) -> None:
    host: HostAdapter[Any] = FakeAdapter() if name == "fake" else shared_adapter(name)
    batches = [host.collate([photo], 128) for photo in pictures(6)]
    wrapper = DualResWrapper(host, router)
    scores = [float(wrapper.decide([photo]).scores[0]) for photo in pictures(6)]
    wrapper.set_operating_point(threshold=float(np.median(scores)))
    serial = [wrapper.forward(batch) for batch in batches]
    wrong: list[int] = []

    def work(start: int) -> None:
        for i in range(start, start + 12):
            if not identical(wrapper.forward(batches[i % 6]), serial[i % 6]):
                wrong.append(i)

    workers = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong


def test_what_a_notebook_shows_says_something(router: ResolutionRouter) -> None:
    wrapper = DualResWrapper(FakeAdapter(), router, low=16, target_high_rate=0.25)
    wrapper.forward(wrapper.adapter.collate(pictures(), 64))
    lines = repr(wrapper).splitlines()
    assert len(lines) == 3 and "Conv2d of fake, high 64 px, low 16 px" in lines[0]
    assert "(target 25%); so far 5 images" in lines[2]
    assert repr(router) in lines[1] and "tiny@3, 16 px, calibrated" in repr(router)
    assert "none yet" in repr(DualResWrapper(FakeAdapter()))
    assert {"predict", "fit", "export", "log"} <= set(dir(wrapper))


def test_public_names_are_completed_before_they_are_loaded() -> None:
    import dualres_plugin
    import dualres_plugin.runtime

    assert set(dualres_plugin.__all__) <= set(dir(dualres_plugin))
    assert set(dualres_plugin.runtime.__all__) <= set(dir(dualres_plugin.runtime))


def test_the_share_so_far_has_an_interval_and_an_expectation(router: ResolutionRouter) -> None:
    wrapper = DualResWrapper(FakeAdapter(), router, target_high_rate=0.25)
    wrapper.forward(wrapper.adapter.collate(pictures(), 64))
    low, high = wrapper.log.interval
    assert low <= wrapper.log.rate <= high and wrapper.gate.expected_rate == pytest.approx(0.25, abs=0.01)
    wrapper.set_operating_point(threshold=0.0)
    assert wrapper.gate.expected_rate == pytest.approx(0.5, abs=0.01)
