"""Every host's detector as ONNX does what it does in PyTorch: whole path, every route, photos of several shapes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from dualres_plugin import DualResWrapper
from dualres_plugin.common.errors import DualResError
from dualres_plugin.common.images.photo import router_images_of
from dualres_plugin.export.build import export_model
from dualres_plugin.hosts.contract import HostAdapter
from dualres_plugin.hosts.registry import adapt
from dualres_plugin.hosts.sizes import size_costs
from dualres_plugin.router.network import ResolutionRouter
from dualres_plugin.runtime.session import DualResSession
from tests.adapters.ultralytics.helpers import val_photos
from tests.contract.hosts import HOSTS, Host, pictures, require
from tests.fakes import lively_router

SIZES = [(96, 128), (150, 90), (300, 301), (64, 64)]
FORMS = {"effdet-lite0": "branches", "torchvision-ssdlite": "branches"}  # its sizes are built in


def save(photos: Sequence[np.ndarray], folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    for i, photo in enumerate(photos):
        Image.fromarray(photo).save(folder / f"{i}.png")
    return folder


def distinct(adapter: HostAdapter[Any]) -> HostAdapter[Any]:
    """Random heads give every box the same score, and then chance decides what NMS keeps: spread the scores."""
    import torch

    head = getattr(adapter.detector, "model", adapter.detector)
    head = head.model[-1] if adapter.name == "ultralytics" else head
    torch.manual_seed(0)
    with torch.no_grad():
        for name in ("cv3", "one2one_cv3"):
            for branch in getattr(head, name, None) or []:
                branch[-1].weight.normal_(0, 3)
                branch[-1].bias.normal_(-2, 2)
        if adapter.name == "ultralytics":
            settle(adapter.detector.model)
    return adapter


def settle(net: Any) -> None:
    """Batch-norm statistics of real activations: without them deep random networks see the same everywhere."""
    import torch

    norms = [m for m in net.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    net.eval()
    for norm in norms:
        norm.train().momentum = 1.0
    net(torch.rand(2, 3, 256, 256))
    for norm in norms:
        norm.eval().momentum = 0.03


@pytest.fixture(scope="module")
def photos() -> list[np.ndarray]:
    return pictures(SIZES)


@pytest.fixture(scope="module")
def router(photos: list[np.ndarray]) -> ResolutionRouter:
    return lively_router(photos)


@pytest.mark.parametrize("host", [h for h in HOSTS if h.name != "mmdet-yolox"], ids=lambda host: host.name)
def test_the_file_agrees_with_pytorch(
    host: Host, photos: list[np.ndarray], router: ResolutionRouter, tmp_path: Path
) -> None:
    require(host)
    adapter = distinct(adapt(host.build()))
    form = FORMS.get(host.name, "cond")
    threshold = router.threshold_for(0.5)
    out = tmp_path / "model.onnx"
    # `export_model` itself compares every detection, score and route, and raises where one differs.
    export_model(
        adapter,
        router,
        out,
        form=form,
        high=host.size,
        threshold=threshold,
        images=save(photos, tmp_path / "photos"),
    )
    session = DualResSession(out)
    assert session.card.parity["images"] == len(photos) and session.card.parity["detections"] > 0
    assert session.card.names == (adapter.class_names or {})
    results = session.predict(photos)
    assert {r.route for r in results} == {"high", "low"}
    expected = router.score(router_images_of(photos))
    if session.card.preprocess.kind == "original":  # the router sees the photo itself here
        assert np.allclose([r.score for r in results], expected.numpy(), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("host", [h for h in HOSTS if h.name != "mmdet-yolox"], ids=lambda host: host.name)
def test_the_thumbnail_of_every_host_may_be_outside(
    host: Host, photos: list[np.ndarray], router: ResolutionRouter, tmp_path: Path
) -> None:
    require(host)
    form, folder = FORMS.get(host.name, "cond"), save(photos, tmp_path / "photos")
    adapter, limit = distinct(adapt(host.build())), router.threshold_for(0.5)
    out = tmp_path / "model.onnx"
    export_model(
        adapter, router, out, form=form, high=host.size, threshold=limit, images=folder, thumbnail="outside"
    )  # fmt: skip
    session = DualResSession(out)
    assert session.card.thumbnail == router.config.input_size
    assert session.card.parity["images"] == len(photos) and session.card.parity["thumbnail"] > 0
    assert {r.route for r in session.predict(photos)} == {"high", "low"}


LADDERS = {
    "torchvision-fcos": ("cond", (128, 96, 64)),
    "torchvision-fasterrcnn": ("resize", (128, 96, 64)),
    "torchvision-ssdlite": ("branches", (320, 256, 128)),
    "effdet-lite0": ("pair", (384, 256, 128)),
}


@pytest.mark.parametrize("name", LADDERS)
def test_the_file_agrees_with_pytorch_at_three_sizes(
    name: str, photos: list[np.ndarray], router: ResolutionRouter, tmp_path: Path
) -> None:
    host = next(h for h in HOSTS if h.name == name)
    require(host)
    form, sizes = LADDERS[name]
    scores = sorted(router.score(router_images_of(photos)).tolist())
    limits = (sum(scores[2:]) / 2, sum(scores[:2]) / 2)  # the four photos go 1, 2 and 1
    wrapper = DualResWrapper(distinct(adapt(host.build())).detector, router, sizes=sizes, thresholds=limits)
    out = tmp_path / ("pair" if form == "pair" else "model.onnx")
    session = DualResSession(wrapper.export(out, form, images=save(photos, tmp_path / "photos")))
    assert session.card.parity["images"] == len(photos) and session.card.parity["detections"] > 0
    assert session.sizes == wrapper.sizes == sizes and session.thresholds == wrapper.thresholds
    costs = size_costs(wrapper.adapter, wrapper.high, wrapper.ladder)
    assert session.card.costs == tuple(costs) and costs == sorted(costs, reverse=True)
    assert sorted(r.step for r in session.predict(photos)) == [0, 1, 1, 2]


def test_two_networks_export_with_fixed_shapes_only(router: ResolutionRouter, tmp_path: Path) -> None:
    require(next(h for h in HOSTS if h.name == "effdet-lite0"))
    from tests.adapters.effdet.helpers import make_bench

    both = adapt(make_bench(256, num_classes=3), make_bench(128, num_classes=3))
    with pytest.raises(DualResError, match="branches or pair"):
        export_model(both, router, tmp_path / "m.onnx", form="cond")
    folder = export_model(both, router, tmp_path / "pair", form="pair", threshold=0.0, photos=1)
    assert DualResSession(folder).card.low == (128, 128)


def test_a_network_at_its_own_size_that_is_off_the_stride(router: ResolutionRouter, tmp_path: Path) -> None:
    """Lite0 was built for 320, which is no multiple of effdet's 128: fixed graphs take the size they were made for."""
    require(next(h for h in HOSTS if h.name == "effdet-lite0"))
    from tests.adapters.effdet.helpers import make_bench

    folder = export_model(adapt(make_bench(320)), router, tmp_path / "pair", form="pair", threshold=0.0, photos=1)
    session = DualResSession(folder)
    assert session.card.static == (320, 320) and session.card.low == (256, 256)
    with pytest.raises(DualResError, match=r"exported for inputs \(1, 3, 320, 320\)"):
        session.run(np.zeros((1, 3, 256, 256), np.float32))


def test_other_mmdet_families_say_what_to_do(router: ResolutionRouter, tmp_path: Path) -> None:
    require(next(h for h in HOSTS if h.name == "mmdet-yolox"))
    from tests.adapters.mmdet.helpers import family_detector

    adapter = adapt(family_detector("faster_rcnn"))
    with pytest.raises(DualResError, match="YOLOX and RTMDet"):
        export_model(adapter, router, tmp_path / "m.onnx")


@pytest.mark.shared
def test_yolox_with_real_weights(router: ResolutionRouter, tmp_path: Path) -> None:
    host = next(h for h in HOSTS if h.name == "mmdet-yolox")
    require(host)
    assert host.real
    adapter, size = host.real()
    out = tmp_path / "model.onnx"
    export_model(adapter, router, out, high=size // 2, threshold=0.0, images=val_photos(1)[0].parent, photos=3)
    assert DualResSession(out).card.parity["detections"] > 10


def test_rtmdet(photos: list[np.ndarray], router: ResolutionRouter, tmp_path: Path) -> None:
    require(next(h for h in HOSTS if h.name == "mmdet-yolox"))
    import torch

    from tests.adapters.mmdet.helpers import family_detector

    detector = family_detector("rtmdet")
    torch.manual_seed(0)
    with torch.no_grad():
        for layer in detector.bbox_head.rtm_cls:
            layer.weight.normal_(0, 2)
            layer.bias.normal_(-2, 1)
    out = tmp_path / "model.onnx"
    images = save(photos, tmp_path / "photos")
    export_model(adapt(detector), router, out, high=128, threshold=0.0, images=images)
    assert DualResSession(out).card.parity["detections"] > 0
