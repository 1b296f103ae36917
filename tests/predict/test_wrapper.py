"""The wrapper, routing and the plumbing around them, on a host-free stand-in."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dualres_plugin.common.errors import DualResError
from dualres_plugin.common.types import Decision, Detections, RouterImages, Targets
from dualres_plugin.hosts.registry import adapt, adapter_class, load_detector
from dualres_plugin.hosts.routing import run_routed
from dualres_plugin.predict.wrapper import DualResWrapper
from dualres_plugin.router.gate import RouteLog
from dualres_plugin.router.network import ResolutionRouter
from dualres_plugin.router.recalibrate import recalibrate
from tests.fakes import FakeAdapter, forced, photo, write_coco, write_photos


@pytest.fixture
def router() -> ResolutionRouter:
    torch.manual_seed(0)
    net = ResolutionRouter(backbone="tiny@3", input_size=16).eval()
    net.calibrate([-1.0, 0.0, 1.0])
    return net


def pictures(count: int = 5) -> list[np.ndarray]:
    return [photo(i, ((48, 64), (64, 48), (30, 90))[i % 3]) for i in range(count)]


# -- routing ----------------------------------------------------------------------------------------------


@given(st.lists(st.booleans(), min_size=1, max_size=8))
def test_each_image_gets_the_answer_of_its_route_in_order(routes: list[bool]) -> None:
    host = FakeAdapter()
    batch = host.collate(pictures(len(routes)), 64)
    merged = run_routed(host, batch, forced(routes), 0.5)
    for i, high in enumerate(routes):
        alone = host.select(batch, torch.tensor([i]))
        part = alone if high else host.resize(alone, torch.tensor([0]), 0.5)
        assert torch.allclose(merged[i], host.predict(part)[0])


@pytest.mark.parametrize(("routes", "passes"), [([True] * 4, 1), ([False] * 4, 1), ([True, False, True, True], 2)])
def test_each_resolution_runs_once(routes: list[bool], passes: int) -> None:
    host = FakeAdapter()
    seen: list[int] = []
    host.on_pass = lambda batch: seen.append(len(batch.images))
    told: list[Decision] = []
    run_routed(host, host.collate(pictures(4), 64), forced(routes), 0.5, told.append)
    assert len(seen) == passes and sum(seen) == 4
    assert told[0].high.tolist() == routes


def test_an_empty_batch_stays_empty() -> None:
    host = FakeAdapter()
    batch = host.select(host.collate(pictures(2), 64), torch.zeros(0, dtype=torch.long))
    assert run_routed(host, batch, forced([]), 0.5).shape == (0, 2)


def test_the_log_counts_through_copies() -> None:
    log = RouteLog()
    twin = copy.deepcopy(log)
    twin(Decision(torch.zeros(4), torch.tensor([True, False, False, False]), 0.0))
    assert (log.images, log.high, log.rate) == (4, 1, 0.25)
    assert RouteLog().rate == 0.0


# -- the wrapper ------------------------------------------------------------------------------------------


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


# -- swapping ----------------------------------------------------------------------------------------------


def test_swapping_moves_thresholds_but_no_weights(router: ResolutionRouter, tmp_path: Path) -> None:
    write_photos(tmp_path, 12)
    before = {k: v.clone() for k, v in router.state_dict().items()}
    count, cost = recalibrate(router, FakeAdapter(), tmp_path, 64, 0.5, "fake detector", progress=False)
    assert count == 12 and cost == {"low_gmacs": pytest.approx(0.1024), "high_gmacs": pytest.approx(0.4096)}
    assert all(torch.equal(v, before[k]) for k, v in router.state_dict().items())
    host = FakeAdapter()
    scores = torch.cat([router.score(host.router_images(host.collate([photo(i, s)], 64))) for i, s in _sizes(12)])
    assert router.quantiles[0] == pytest.approx(float(scores.min()), abs=1e-6)
    assert router.quantiles[-1] == pytest.approx(float(scores.max()), abs=1e-6)
    assert router.info["swapped_to"]["detector"] == "fake detector"


def _sizes(count: int) -> list[tuple[int, tuple[int, int]]]:
    return [(i, ((48, 64), (64, 48))[i % 2]) for i in range(count)]


def test_swapping_leaves_out_what_cannot_be_used(
    router: ResolutionRouter, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    paths = write_photos(tmp_path, 6)
    paths[2].write_bytes(b"")

    class Picky(FakeAdapter):
        def collate(self, images: Any, size: int, targets: Any = None) -> Any:
            if np.array_equal(images[0], photo(4, (48, 64))):
                raise RuntimeError("cannot do this one")
            return super().collate(images, size, targets)

    with caplog.at_level("WARNING", "dualres"):
        count, _ = recalibrate(router, Picky(), tmp_path, 64, 0.5, progress=False)
    assert count == 4 and "2.png" in caplog.text and "4.png" in caplog.text
    for path in paths:
        path.write_bytes(b"")
    with pytest.raises(DualResError, match=r"no usable image .*5\.png"):
        recalibrate(router, FakeAdapter(), tmp_path, 64, 0.5, progress=False)


# -- finding adapters --------------------------------------------------------------------------------------


@pytest.fixture
def only_torchvision(monkeypatch: pytest.MonkeyPatch) -> None:
    """Asking every installed host would import them all."""
    from dualres_plugin.hosts import registry as hosts

    point = hosts._installed()["torchvision"]
    monkeypatch.setattr(hosts, "_installed", lambda: {"torchvision": point})


@pytest.mark.usefixtures("only_torchvision")
def test_objects_without_an_adapter() -> None:
    with pytest.raises(DualResError, match=r"no adapter for builtins\.dict\. Installed adapters: torchvision"):
        adapt({})
    with pytest.raises(DualResError, match="no adapter for"):
        DualResWrapper(torch.nn.Linear(2, 2))
    host = FakeAdapter()
    assert adapt(host) is host


def test_a_host_that_is_missed_only_when_a_detector_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    from dualres_plugin.hosts import registry as hosts

    class Lazy(FakeAdapter):
        @classmethod
        def from_spec(cls, spec: str, **options: str) -> FakeAdapter:
            raise ModuleNotFoundError("No module named 'ultralytics'")

    monkeypatch.setattr(hosts, "adapter_class", lambda name: Lazy)
    with pytest.raises(DualResError, match=r'not installed.*pip install "dualres-plugin\[ultralytics\]"'):
        load_detector("nope.pt")


def test_unknown_detectors() -> None:
    with pytest.raises(DualResError, match=r"unknown host 'tensorflow'\. Installed adapters: .*torchvision"):
        load_detector("tensorflow:x")
    for spec in ("detector", "model.pth", ""):
        with pytest.raises(DualResError, match="Write HOST:NAME"):
            load_detector(spec)
    with pytest.raises(DualResError, match=r"'model\.onnx' is an exported model"):
        load_detector("model.onnx")
    with pytest.raises(DualResError, match=r"unknown torchvision detector 'nothing'\. Known: .*retinanet"):
        load_detector("torchvision:nothing")
    with pytest.raises(DualResError, match=r"unknown option\(s\) \['colour'\]"):
        load_detector("torchvision:ssdlite320_mobilenet_v3_large,colour=red")
    with pytest.raises(DualResError, match="would have random weights"):
        load_detector("torchvision:ssdlite320_mobilenet_v3_large")
    with pytest.raises(DualResError, match=r"'none\.pth' do not exist"):
        load_detector("torchvision:ssdlite320_mobilenet_v3_large,weights=none.pth")
    with pytest.raises(DualResError, match="num_classes=many is not a number"):
        load_detector("torchvision:ssdlite320_mobilenet_v3_large,num_classes=many")


def test_a_host_that_is_not_installed_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib.metadata import EntryPoint

    from dualres_plugin.hosts import registry as hosts

    point = EntryPoint("ultralytics", "no_such_package_at_all:Adapter", hosts.ENTRY_POINT_GROUP)
    monkeypatch.setattr(hosts, "_installed", lambda: {"ultralytics": point})
    with pytest.raises(DualResError, match=r'Install it with: pip install "dualres-plugin\[ultralytics\]"'):
        adapter_class("ultralytics")


# -- small types ---------------------------------------------------------------------------------------------


@given(st.lists(st.floats(0, 1, width=32), max_size=30), st.one_of(st.none(), st.integers(0, 10)))
def test_detections_are_sorted_stably_and_cut(scores: list[float], limit: int | None) -> None:
    boxes = np.arange(4 * len(scores)).reshape(-1, 4)
    made = Detections.from_arrays(boxes, scores, np.arange(len(scores)), limit)
    expected = sorted(range(len(scores)), key=lambda i: -np.float32(scores[i]))[:limit]
    assert made.labels.tolist() == expected
    assert made.boxes.shape == (len(expected), 4) and made.boxes.dtype == np.float32
    assert np.array_equal(made.boxes, boxes[expected])


def test_targets_that_a_loss_can_use() -> None:
    targets = Targets(np.zeros((4, 4)), np.array([0, -1, 3, 2]), np.array([False, False, True, False]))
    assert targets.trainable.labels.tolist() == [0, 2]
    assert not Targets(np.zeros((2, 4)), np.array([0, 1])).ignore.any()
