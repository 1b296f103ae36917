"""YOLO11n with real weights on real photos: the exported file, the host and the command line agree."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("ultralytics")
pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from dualres_plugin import DualResWrapper
from dualres_plugin.common.card import Card
from dualres_plugin.common.errors import DualResError
from dualres_plugin.common.images.decode import read_image
from dualres_plugin.export.build import export_model, export_plain
from dualres_plugin.export.files import write_card
from dualres_plugin.export.graph import attribute, require_onnx
from dualres_plugin.export.parity import Limits, ParityError, check_parity
from dualres_plugin.runtime.engines import MANIFEST
from dualres_plugin.runtime.session import DualResSession
from tests.adapters.ultralytics.helpers import real_yolo, rows, val_photos
from tests.e2e.cli import subprocess_dualres
from tests.fakes import lively_router
from tests.shared import require_shared


@pytest.fixture(scope="module")
def routed() -> DualResWrapper:
    return DualResWrapper(real_yolo(), lively_router(val_photos(12)), low=0.5)


@pytest.fixture(scope="module")
def folder() -> Path:
    return val_photos(1)[0].parent


@pytest.fixture(scope="module")
def session(routed: DualResWrapper, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> DualResSession:
    out = tmp_path_factory.mktemp("export") / "yolo11n.onnx"
    return DualResSession(routed.export(out, images=folder, photos=3))


@pytest.mark.shared
def test_results_are_those_of_the_hosts_own_predict(routed: DualResWrapper, session: DualResSession) -> None:
    photos = val_photos(8)
    # One by one: the host pads a list of mixed shapes to squares.
    expected = [routed.predict(p, conf=0.25, verbose=False)[0] for p in photos]
    found = session.predict([str(p) for p in photos])
    assert {r.route for r in found} == {"high", "low"}
    for a, b in zip(expected, found):
        assert a.dualres.route == b.route and a.dualres.score == pytest.approx(b.score, rel=1e-3, abs=1e-2)
        own = rows(a)
        own, order = own[np.argsort(-own[:, 4], kind="stable")], np.argsort(-b.scores, kind="stable")
        assert len(own) == len(b) and own[:, 5].astype(int).tolist() == b.labels[order].tolist()
        assert np.abs(own[:, :4] - b.boxes[order]).max(initial=0) < 0.5
        assert np.abs(own[:, 4] - b.scores[order]).max(initial=0) < 1e-3


@pytest.mark.shared
def test_the_threshold_moves_the_rate_as_calibrated(routed: DualResWrapper, session: DualResSession) -> None:
    photos = [read_image(p) for p in val_photos(12)]  # those of the calibration
    for rate in (0.25, 0.75):
        results = session.predict(photos, threshold=session.threshold_for(rate))
        assert np.mean([r.route == "high" for r in results]) == pytest.approx(rate, abs=0.09)


@pytest.mark.shared
def test_the_hosts_nms_goes_into_the_graph(routed: DualResWrapper, folder: Path, tmp_path: Path) -> None:
    session = DualResSession(routed.export(tmp_path / "nms.onnx", nms=True, images=folder, photos=2))
    assert session.card.postprocess.layout == "rows" and not session.card.postprocess.nms


@pytest.mark.shared
def test_nms_goes_into_the_graph_in_a_process_that_has_not_seen_torchvision(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "nms.onnx"
    weights = require_shared("weights", "yolo11n.pt")
    command = ("export", weights, "--router", "default", "--nms", "--images", folder, "--photos", 1, "--out", out)
    done = subprocess_dualres(*command)
    assert done.status == 0, done.err
    assert f"{out}: " in done.out and "form cond" in done.out and "0 routes differ" in done.err
    assert DualResSession(out).predict(val_photos(1)[0])[0].boxes.shape[1] == 4


@pytest.mark.shared
def test_the_hosts_own_exporter_makes_the_fixed_graphs(routed: DualResWrapper, folder: Path, tmp_path: Path) -> None:
    before = {p.name for p in tmp_path.iterdir()}
    pair = routed.export(tmp_path / "pair", form="pair", images=folder, photos=2)
    assert {p.name for p in tmp_path.iterdir()} - before == {"pair"}
    card = DualResSession(pair).card
    assert card.static == (640, 640) and card.low == (320, 320)
    assert (pair / "weights.bin").stat().st_size < 11_000_000


@pytest.mark.shared
def test_openvino_finds_what_onnxruntime_finds(routed: DualResWrapper, folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    pair = routed.export(tmp_path / "pair", form="pair", photos=0)
    photos = [read_image(p) for p in val_photos(6)]
    expected = DualResSession(pair).predict(photos)
    found = DualResSession(pair, engine="openvino").predict(photos)
    assert {r.route for r in found} == {"high", "low"} and sum(len(r) for r in found) > 10
    for a, b in zip(found, expected):
        assert (a.route, a.score) == (b.route, b.score) and a.labels.tolist() == b.labels.tolist()
        assert np.abs(a.boxes - b.boxes).max(initial=0) < 0.5 and np.abs(a.scores - b.scores).max(initial=0) < 1e-3


@pytest.mark.shared
def test_distributions_are_decoded_fast_in_every_form_and_as_the_host_writes_them_in_the_plain_graphs(
    routed: DualResWrapper, folder: Path, tmp_path: Path
) -> None:
    files = export_plain(routed.adapter, tmp_path, 640, 0.5)
    assert sorted(files) == ["lean_high", "lean_low", "plain_high", "plain_low"]
    decoders = {name: decodes_by_softmax(path) for name, path in files.items()}
    assert decoders == {"plain_high": True, "plain_low": True, "lean_high": False, "lean_low": False}
    cond = routed.export(tmp_path / "cond.onnx", photos=0)
    pair = routed.export(tmp_path / "pair", form="pair", photos=0)
    assert not any(decodes_by_softmax(path) for path in (cond, pair / "high.onnx", pair / "low.onnx"))


def decodes_by_softmax(path: Path) -> bool:
    nodes = require_onnx().load(str(path), load_external_data=False).graph.node
    return any(n.op_type == "Softmax" and attribute(n, "axis", -1) == 1 for n in nodes)


@pytest.mark.shared
def test_another_detector_fails_the_check(session: DualResSession, folder: Path) -> None:
    from tests.adapters.ultralytics.helpers import random_yolo

    other = DualResWrapper(random_yolo("yolo11n.yaml"), lively_router(val_photos(4)), low=0.5)
    with pytest.raises(ParityError, match="photo 0"):
        check_parity(session, other.adapter, other.router, [read_image(val_photos(1)[0])])


def test_what_cannot_be_exported_is_refused_before_any_work(tmp_path: Path) -> None:
    from tests.adapters.ultralytics.helpers import random_yolo

    wrapper = DualResWrapper(random_yolo(), lively_router([np.zeros((64, 64, 3), np.uint8)]), threshold=0.0)
    for options, message in [
        ({"form": "engine"}, "unknown form"),
        ({"thumbnail": "none"}, "unknown thumbnail 'none': use inside or outside"),
        ({"form": "pair"}, "folder"),
        ({"threshold": float("nan")}, "not a number"),
        ({"scale": 1.5}, "low size must be smaller"),
    ]:
        with pytest.raises(DualResError, match=message):
            wrapper.export(tmp_path / "m.onnx", **options)
    with pytest.raises(DualResError, match=r"ends in \.onnx"):
        wrapper.export(tmp_path / "model.pt")
    assert not list(tmp_path.iterdir())


@pytest.mark.shared
def test_a_file_that_fails_its_check_is_not_written(routed: DualResWrapper, tmp_path: Path) -> None:
    strict = Limits(box=-1.0)
    with pytest.raises(ParityError):
        export_model(routed.adapter, routed.router, tmp_path / "m.onnx", threshold=0.0, photos=1, limits=strict)
    assert not list(tmp_path.iterdir())


@pytest.mark.shared
def test_a_high_size_off_the_stride_is_the_one_that_the_host_rounds_it_up_to(folder: Path, tmp_path: Path) -> None:
    routed = DualResWrapper(real_yolo(), lively_router(val_photos(4)), high=330, low=0.5)
    session = DualResSession(routed.export(tmp_path / "m.onnx", images=folder, photos=1))
    assert session.sizes == routed.sizes == (352, 176)


SIZES = (640, 512, 224)  # sampled, and averaged below half


@pytest.fixture(scope="module")
def ladder() -> DualResWrapper:
    return DualResWrapper(real_yolo(), lively_router(val_photos(12)), sizes=SIZES)


@pytest.fixture(scope="module")
def ladder_file(ladder: DualResWrapper, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ladder.export(tmp_path_factory.mktemp("ladder") / "cond.onnx", images=folder, photos=3)


@pytest.mark.shared
def test_results_at_three_sizes_are_those_of_the_hosts_own_predict(ladder: DualResWrapper, ladder_file: Path) -> None:
    photos = val_photos(9)
    session = DualResSession(ladder_file)
    expected = [ladder.predict(p, conf=0.25, verbose=False)[0] for p in photos]
    found = session.predict([str(p) for p in photos])
    assert {r.size for r in found} == set(SIZES) and session.thresholds == ladder.thresholds
    for a, b in zip(expected, found):
        assert (a.dualres.route, a.dualres.step, a.dualres.size) == (b.route, b.step, b.size)
        own = rows(a)
        own, order = own[np.argsort(-own[:, 4], kind="stable")], np.argsort(-b.scores, kind="stable")
        assert len(own) == len(b) and own[:, 5].astype(int).tolist() == b.labels[order].tolist()
        assert np.abs(own[:, :4] - b.boxes[order]).max(initial=0) < 0.5


@pytest.mark.shared
def test_three_sizes_take_no_more_room_than_two(
    ladder: DualResWrapper, ladder_file: Path, session: DualResSession, folder: Path, tmp_path: Path
) -> None:
    two = (Path(session.engine.graph.path)).stat().st_size  # type: ignore[attr-defined]
    assert ladder_file.stat().st_size < two + 10_000
    resize = ladder.export(tmp_path / "resize.onnx", "resize", images=folder, photos=1)
    assert resize.stat().st_size < two + 10_000
    branches = ladder.export(tmp_path / "branches.onnx", "branches", images=folder, photos=1)
    assert branches.stat().st_size < 1.05 * two, "weights once; each further size brings nodes"


@pytest.mark.shared
def test_a_pair_of_three_and_its_engines(ladder: DualResWrapper, folder: Path, tmp_path: Path) -> None:
    pair = ladder.export(tmp_path / "pair", "pair", images=folder, photos=1)
    assert {p.name for p in pair.glob("*.onnx")} == {"router.onnx", "640.onnx", "512.onnx", "224.onnx"}
    pytest.importorskip("openvino")
    photos = [read_image(p) for p in val_photos(6)]
    expected = DualResSession(pair).predict(photos)
    found = DualResSession(pair, engine="openvino").predict(photos)
    assert len({r.route for r in found}) == 3
    for a, b in zip(found, expected):
        assert (a.route, a.score) == (b.route, b.score) and a.labels.tolist() == b.labels.tolist()
        assert np.abs(a.boxes - b.boxes).max(initial=0) < 0.5
    parts = {name: (pair / f"{name}.onnx").read_bytes() for name in ("512", "224")}
    (pair / "512.onnx").write_bytes(parts["224"])
    (pair / "224.onnx").write_bytes(parts["512"])
    with pytest.raises(DualResError, match="changed or swapped"):
        DualResSession(pair)
    write_card(pair, card_of(pair))
    with pytest.raises(ParityError, match="photo 0, 512"):
        check_parity(DualResSession(pair), ladder.adapter, ladder.router, photos[:1])


def card_of(pair: Path) -> Card:
    return Card.from_json((pair / MANIFEST).read_text(encoding="utf-8"), "pair")


@pytest.mark.shared
def test_the_check_finds_a_file_at_other_sizes_or_with_other_thresholds(
    ladder: DualResWrapper, ladder_file: Path
) -> None:
    photos = [read_image(p) for p in val_photos(4)]
    session = DualResSession(ladder_file)
    good = session.card
    assert good.several is not None
    session.card = replace(good, several=replace(good.several, scales=(0.8, 0.6)))
    with pytest.raises(ParityError, match="photo 0, 224"):
        check_parity(session, ladder.adapter, ladder.router, photos)
    session.card = good
    run = session.engine.run
    session.engine.run = lambda images, content, *_: run(images, content, good.only(1))  # type: ignore[method-assign]
    with pytest.raises(ParityError, match="its size number 1 whatever its thresholds say"):
        check_parity(session, ladder.adapter, ladder.router, photos)


def test_sizes_that_cannot_be_written_are_refused(tmp_path: Path) -> None:
    from tests.adapters.ultralytics.helpers import random_yolo

    router = lively_router([np.zeros((64, 64, 3), np.uint8)])
    wrapper = DualResWrapper(random_yolo(), router, sizes=(1, 0.5001, 0.5), thresholds=(0.1, 0.0))
    with pytest.raises(DualResError, match="each of other pixels"):
        wrapper.export(tmp_path / "m.onnx")
    with pytest.raises(DualResError, match="3 sizes need 2 thresholds"):
        wrapper.export(tmp_path / "m.onnx", threshold=0.0)
    assert not list(tmp_path.iterdir())
