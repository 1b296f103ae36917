"""The runtime's numpy: letterbox, NMS, metadata, and what it says about bad files and inputs. No torch, no host."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from dualres_plugin.common.card import KEY, Card, Postprocess, Preprocess
from dualres_plugin.common.errors import DualResError
from dualres_plugin.common.resize import low_size, make_thumbnails
from dualres_plugin.common.types import RouterImages
from dualres_plugin.router.network import ResolutionRouter
from dualres_plugin.runtime.boxes import nms, select
from dualres_plugin.runtime.photo import letterbox_sizes, make_frame, resize
from tests.fakes import photo
from tests.shared import ROOT

CARD = Card("cond", "ultralytics", 640, 0.5, 32, 0.25, "0.1", Preprocess(multiple=32), Postprocess())


# -- metadata ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("threshold", [0.5, float("inf"), float("-inf")])
def test_metadata_survives_json(threshold: float) -> None:
    card = replace(CARD, threshold=threshold, names={3: "bär"}, static=(640, 640), quantiles=[0.0, 1.0])
    text = card.to_json()
    json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert Card.from_json(text, "x") == card


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "damaged"),
        ("[]", "does not describe"),
        ('{"kind": "dualres-router"}', "does not describe"),
        (CARD.to_json().replace('"format_version": 1', '"format_version": 9'), "format version 9"),
        (CARD.to_json().replace('"names"', '"nomes"'), "incomplete or edited"),
        (CARD.to_json().replace('"iou"', '"uoi"'), "incomplete or edited"),
    ],
)
def test_bad_metadata_is_one_clear_error(text: str, message: str) -> None:
    with pytest.raises(DualResError, match=message):
        Card.from_json(text, "model.onnx")


# -- photos in -----------------------------------------------------------------------------------------------


@given(st.integers(1, 2000), st.integers(1, 2000), st.sampled_from([320, 640]), st.sampled_from([0, 32]))
def test_letterbox_keeps_the_photo_inside_and_pads_to_the_stride(h: int, w: int, size: int, multiple: int) -> None:
    inner, outer, (x, y) = letterbox_sizes((h, w), size, Preprocess(multiple=multiple))
    assert max(inner) == size and all(i <= o <= size for i, o in zip(inner, outer))
    assert outer == (size, size) if not multiple else all(o % multiple == 0 for o in outer)
    assert 0 <= x <= outer[1] - inner[1] and 0 <= y <= outer[0] - inner[0]


def test_a_photo_of_the_right_size_is_not_touched() -> None:
    picture = photo(0, (480, 640))
    frame = make_frame(picture, CARD)
    assert frame.images.shape == (1, 3, 480, 640) and frame.content == (0, 0, 640, 480)
    assert np.array_equal(np.rint(frame.images[0] * 255).astype(np.uint8), picture.transpose(2, 0, 1))


@given(st.integers(20, 900), st.integers(20, 900))
def test_boxes_come_back_to_the_photo(h: int, w: int) -> None:
    frame = make_frame(np.zeros((h, w, 3), np.uint8), replace(CARD, high=320))
    x0, y0, x1, y1 = frame.content
    whole = frame.to_original(np.array([[x0, y0, x1, y1]], np.float32))
    assert np.allclose(whole, [[0, 0, w, h]], atol=0.01)


def test_without_opencv_a_photo_differs_by_one_grey_level_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    cv2 = pytest.importorskip("cv2")
    picture = photo(1, (97, 131))
    for size in [(64, 80), (97, 200), (200, 131)]:
        expected = cv2.resize(picture, size[::-1], interpolation=cv2.INTER_LINEAR)
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, "cv2", None)
            own = resize(picture, size)
        assert np.abs(own.astype(int) - expected).max() <= 1


@pytest.mark.parametrize(
    "bad", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 4), np.uint8), np.zeros((0, 4, 3), np.uint8), "no"]
)
def test_what_is_no_photo_is_refused(bad: Any) -> None:
    with pytest.raises(DualResError, match="an image must"):
        make_frame(bad, CARD)
    with pytest.raises(DualResError, match="uint8"):
        make_frame(np.zeros((4, 4, 3), np.float32), CARD)


# -- boxes out -------------------------------------------------------------------------------------------------


@given(st.integers(0, 10**6), st.integers(0, 60), st.sampled_from([0.3, 0.5, 0.7]))
def test_nms_is_torchvisions(seed: int, count: int, iou: float) -> None:
    from torchvision.ops import nms as reference

    random = np.random.default_rng(seed)
    corner, side = random.uniform(0, 50, (count, 2)), random.uniform(0, 40, (count, 2))
    boxes = np.concatenate([corner, corner + side], axis=1).astype(np.float32)
    scores = random.permutation(count).astype(np.float32)
    expected = reference(torch.from_numpy(boxes), torch.from_numpy(scores), iou).numpy()
    assert nms(boxes, scores, iou, 10**6).tolist() == expected.tolist()
    assert nms(boxes, scores, iou, 5).tolist() == expected[:5].tolist()


def test_select_reads_both_layouts() -> None:
    anchors = np.zeros((1, 6, 3), np.float32)  # two classes
    anchors[0, :4] = np.array([[10, 10, 4, 4], [10, 10, 4, 4], [50, 50, 8, 2]]).T
    anchors[0, 4:] = np.array([[0.9, 0.2], [0.1, 0.8], [0.3, 0.6]]).T
    boxes, scores, labels = select(anchors, Postprocess(), 0.25, 0.7)
    assert scores.tolist() == pytest.approx([0.9, 0.8, 0.6]) and labels.tolist() == [0, 1, 1]
    assert boxes[0].tolist() == [8, 8, 12, 12] and boxes[2].tolist() == [46, 49, 54, 51]
    many = select(anchors, Postprocess(multi_label=True), 0.25, 0.7)
    assert many[2].tolist() == [0, 1, 1, 0]
    rows = np.array(
        [[[0, 0, 2, 2, 0.9, 3], [0, 0, 2, 2, 0.8, 3], [5, 5, 5, 9, 0.7, 1], [0, 0, 0, 0, 0, 0]]], np.float32
    )
    assert select(rows, Postprocess(layout="rows", nms=False), 0.0, 0.5)[2].tolist() == [3, 3, 1]
    assert select(rows, Postprocess(layout="rows"), 0.0, 0.5)[2].tolist() == [3, 1]
    assert select(rows, Postprocess(layout="rows", drop_empty=True), 0.0, 0.5)[2].tolist() == [3]
    assert select(rows, Postprocess(layout="rows"), 0.95, 0.5)[0].shape == (0, 4)
    assert select(rows, Postprocess(layout="rows"), 0.0, 0.5, (0, 0, 1, 1))[0].max() == 1


# -- small graphs ------------------------------------------------------------------------------------------------


class Blobs(torch.nn.Module):
    """A detector that is one convolution: (1, 3, H, W) -> (1, 4 + 2, H/32 * W/32) xywh in pixels."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = torch.nn.Conv2d(3, 6, 32, 32)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv(x).flatten(2)
        return torch.cat([y[:, :4].sigmoid() * 100, (4 * y[:, 4:]).sigmoid()], dim=1)


@pytest.fixture(scope="module")
def parts() -> dict[str, Any]:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    from dualres_plugin.export.trace import trace

    torch.manual_seed(1)
    router = ResolutionRouter(backbone="tiny@4", input_size=32).eval()
    body, shapes = Blobs(), ((160, 160), (96, 96))
    return {
        "router": router,
        "body": body,
        "graph": trace(router, (32, 32), False, "router"),
        "dynamic": trace(body, (160, 160), True, "body"),
        "fixed": [trace(body, s, False, "body") for s in shapes],
        "shapes": shapes,
    }


@pytest.fixture(scope="module")
def models(parts: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The four forms of one small detector: 160 and 96 px."""
    import onnx

    from dualres_plugin.export import forms
    from dualres_plugin.export.build import _save_pair, _write_card
    from dualres_plugin.hosts.export_plan import ExportPlan

    folder = tmp_path_factory.mktemp("models")
    plan = ExportPlan(Preprocess(multiple=32), Postprocess(conf=0.05), 0.5, 32)
    dynamic = forms.Parts(plan, parts["graph"], 32, 0.0, parts["dynamic"])
    high, low = parts["shapes"]
    fixed = forms.Parts(plan, parts["graph"], 32, 0.0, *parts["fixed"], high, low)
    card = Card("cond", "test", 160, 0.5, 32, 0.0, "0", plan.preprocess, plan.postprocess, names={0: "a", 1: "b"})
    made = {}
    for form in ("cond", "resize", "branches"):
        made[form] = folder / f"{form}.onnx"
        onnx.save(getattr(forms, form)(fixed if form == "branches" else dynamic), str(made[form]))
    made["pair"] = folder / "pair"
    _save_pair(forms.pair(fixed), made["pair"])
    files = {name: f"{name}.onnx" for name in ("router", "high", "low")}
    for form, path in made.items():
        static = {"static": high, "low": low} if form in ("branches", "pair") else {}
        _write_card(path, replace(card, form=form, files=files if form == "pair" else {}, **static))
    return made


def eager(parts: dict[str, Any], images: torch.Tensor, high: bool) -> np.ndarray:
    with torch.no_grad():
        if high:
            return parts["body"](images).numpy()
        shape = tuple(images.shape[-2:])
        small = low_size(shape, 0.5, 32)  # type: ignore[arg-type]
        x = torch.nn.functional.interpolate(images, size=small, mode="bilinear", align_corners=False)
        y = parts["body"](x).numpy()
    y[:, :4] *= np.array([shape[1] / small[1], shape[0] / small[0]] * 2)[None, :, None]
    return y


@pytest.mark.parametrize("form", ["cond", "resize", "branches", "pair"])
def test_every_form_computes_what_pytorch_computes(parts: dict[str, Any], models: dict[str, Path], form: str) -> None:
    from dualres_plugin.runtime.session import DualResSession

    session = DualResSession(models[form])
    shapes = [(160, 160)] if form in ("branches", "pair") else [(160, 160), (96, 160), (160, 64), (32, 32)]
    for h, w in shapes:
        images = torch.rand(1, 3, h, w, generator=torch.Generator().manual_seed(h + w))
        content = (3, 5, w - 4, h)
        with torch.no_grad():
            score = float(parts["router"](make_thumbnails(RouterImages(images, [content]), 32))[0])
        for threshold in (score - 1e-3, score + 1e-3):
            found, high, given_score = session.run(images.numpy(), content, threshold)
            assert high == (score > threshold) and given_score == pytest.approx(score, abs=1e-4)
            expected = eager(parts, images, high)
            found = found[:, :, : expected.shape[2]]  # `branches` fills the low pass up with zeros
            assert np.allclose(found, expected, atol=2e-4)


def test_cond_has_one_if_and_no_weights_in_it(models: dict[str, Path]) -> None:
    import onnx

    from dualres_plugin.export.graph import walk

    graph = onnx.load(str(models["cond"])).graph
    choices = [n for n in walk(graph) if n.op_type == "If"]
    assert len(choices) == 1
    assert not any(a.g.initializer or any(n.op_type == "Conv" for n in a.g.node) for a in choices[0].attribute)
    assert not any(n.metadata_props or n.doc_string for n in walk(graph))
    assert not [n for n in walk(onnx.load(str(models["resize"])).graph) if n.op_type == "If"]


def test_weights_are_stored_once(models: dict[str, Path]) -> None:
    assert models["branches"].stat().st_size < 1.1 * models["cond"].stat().st_size + 10_000
    folder = models["pair"]
    assert (folder / "weights.bin").stat().st_size < models["cond"].stat().st_size
    assert (folder / "high.onnx").stat().st_size < 20_000


def test_the_threshold_and_the_content_are_optional_inputs(models: dict[str, Path]) -> None:
    import onnxruntime as ort

    session = ort.InferenceSession(str(models["cond"]))
    assert [i.name for i in session.get_inputs()] == ["images"]  # the others have defaults
    assert {i.name for i in session.get_overridable_initializers()} >= {"threshold", "content"}
    images = np.random.default_rng(0).random((1, 3, 160, 160), dtype=np.float32)
    _, route, score = session.run(None, {"images": images})
    assert bool(route[0]) == bool(score[0] > 0)
    for limit, high in ((-1e9, True), (1e9, False)):
        assert bool(session.run(["route"], {"images": images, "threshold": np.array(limit, np.float32)})[0][0]) == high


@given(st.integers(1, 80), st.integers(1, 80), st.sampled_from([0.25, 0.5, 0.55, 0.75, 320 / 608, 416 / 640, 1 / 3]))
def test_the_low_size_in_the_graph_is_that_of_resize(h: int, w: int, scale: float) -> None:
    from dualres_plugin.export.front import ROUND_UP_SLACK

    sides = np.array([h, w], np.float32)  # in strides; the graph computes in float32
    low = np.ceil(sides * np.float32(scale) - np.float32(ROUND_UP_SLACK)).astype(int) * 32
    assert tuple(np.maximum(low, 32)) == low_size((32 * h, 32 * w), scale, 32)


# -- sessions -------------------------------------------------------------------------------------------------


def pictures(count: int) -> list[np.ndarray]:
    return [photo(i, [(120, 160), (160, 90), (97, 101)][i % 3]) for i in range(count)]


def same(a: Any, b: Any) -> bool:
    return a.route == b.route and all(
        np.array_equal(getattr(a, k), getattr(b, k)) for k in ("boxes", "scores", "labels")
    )


@pytest.mark.parametrize("form", ["cond", "pair"])
def test_threads_that_share_a_session_get_the_results_of_serial_runs(models: dict[str, Path], form: str) -> None:
    from dualres_plugin.runtime.session import DualResSession

    photos = pictures(10)
    session = DualResSession(models[form], threads=1)
    session.threshold = float(np.median([r.score for r in session.predict(photos)]))
    serial = session.predict(photos)
    assert {r.route for r in serial} == {"high", "low"}
    wrong: list[int] = []

    def work(start: int) -> None:
        for i in range(start, start + 125):
            if not same(session.predict(photos[i % 10])[0], serial[i % 10]):
                wrong.append(i)

    workers = [threading.Thread(target=work, args=(7 * i,)) for i in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong


@pytest.mark.parametrize("form", ["cond", "pair"])
def test_a_batch_keeps_its_order(models: dict[str, Path], form: str) -> None:
    from dualres_plugin.runtime.session import DualResSession

    photos = pictures(9)
    session = DualResSession(models[form])
    middle = float(np.median([r.score for r in session.predict(photos)]))
    one_by_one = session.predict(photos, threshold=middle)
    together = session.predict_batch(photos, threshold=middle)
    assert all(same(a, b) for a, b in zip(one_by_one, together)) and len(together) == 9


def test_openvino_runs_a_pair_as_onnxruntime_does(models: dict[str, Path]) -> None:
    pytest.importorskip("openvino")
    from dualres_plugin.runtime.session import DualResSession

    photos = pictures(6)
    expected = DualResSession(models["pair"]).predict(photos)
    session = DualResSession(models["pair"], engine="openvino", threads=2)
    for found in (session.predict(photos), session.predict_batch(photos)):
        assert [r.route for r in found] == [r.route for r in expected]
        for a, b in zip(found, expected):
            assert len(a) == len(b) and a.score == b.score  # the router stays with onnxruntime
            np.testing.assert_allclose(a.boxes, b.boxes, atol=0.05)
            np.testing.assert_allclose(a.scores, b.scores, atol=1e-4)


def test_every_call_takes_every_source_and_says_which_photo_a_result_is_of(
    models: dict[str, Path], tmp_path: Path
) -> None:
    from dualres_plugin.runtime.session import DualResSession

    photos = pictures(3)
    files = [tmp_path / f"{name}.png" for name in "abc"]
    for file, pixels in zip(files, photos):
        Image.fromarray(pixels).save(file)
    session = DualResSession(models["cond"])
    expected = session.predict(photos)
    assert [r.image for r in expected] == ["image0", "image1", "image2"]
    for call in (session.predict, session.stream, session.predict_batch):
        for source in (tmp_path, str(tmp_path), [str(f) for f in files], iter(files)):
            found = list(call(source))
            assert [r.image for r in found] == ["a.png", "b.png", "c.png"]
            assert all(same(a, b) for a, b in zip(found, expected))
        assert [r.image for r in call(iter(photos))] == ["image0", "image1", "image2"]
        with pytest.raises(DualResError, match="nowhere"):
            list(call(tmp_path / "nowhere.jpg"))


def test_a_stream_reads_no_further_than_it_is_read(models: dict[str, Path]) -> None:
    from dualres_plugin.runtime.session import DualResSession

    def camera() -> Iterator[np.ndarray]:
        yield from pictures(2)
        raise AssertionError("read ahead")

    results = DualResSession(models["cond"]).stream(camera())
    assert [next(results).image, next(results).image] == ["image0", "image1"]


def test_a_session_holds_a_rate_where_the_calibration_is_off(models: dict[str, Path], tmp_path: Path) -> None:
    from dualres_plugin.export.build import _write_card
    from dualres_plugin.runtime.session import DualResSession

    photos = pictures(40) * 3
    copy = tmp_path / "m.onnx"
    copy.write_bytes(models["cond"].read_bytes())
    card = DualResSession(copy).card
    top = max(r.score for r in DualResSession(copy).predict(photos[:40]))
    _write_card(copy, replace(card, quantiles=np.linspace(top + 1, top + 2, 101).tolist()))  # of other photos
    assert not any(r.route == "high" for r in DualResSession(copy, target_high_rate=0.3).predict(photos))
    for method in ("predict", "predict_batch"):
        session = DualResSession(copy, target_high_rate=0.3, hold_rate=True)
        results = getattr(session, method)(photos)
        assert session.controller is not None and session.controller.state.images == len(photos)
        assert np.mean([r.route == "high" for r in results]) == pytest.approx(0.3, abs=0.04)
        before = session.controller.state
        assert session.predict(photos[0], threshold=float("inf"))[0].route == "low"
        assert session.controller.state == before  # a threshold of one's own teaches it nothing
    with pytest.raises(DualResError, match="give target_high_rate"):
        DualResSession(copy, hold_rate=True)
    with pytest.raises(DualResError, match="calibrated"):
        DualResSession(models["cond"], hold_rate=True, target_high_rate=1.0)


def test_a_rate_becomes_a_threshold(models: dict[str, Path], tmp_path: Path) -> None:
    from dualres_plugin.export.build import _write_card
    from dualres_plugin.runtime.session import DualResSession

    photos = pictures(20)
    scores = [r.score for r in DualResSession(models["cond"]).predict(photos)]
    copy = tmp_path / "m.onnx"
    copy.write_bytes(models["cond"].read_bytes())
    card = DualResSession(copy).card
    _write_card(copy, replace(card, quantiles=[float(q) for q in np.quantile(scores, np.linspace(0, 1, 101))]))
    for rate in (0.0, 0.3, 0.7, 1.0):
        results = DualResSession(copy, target_high_rate=rate).predict(photos)
        assert np.mean([r.route == "high" for r in results]) == pytest.approx(rate, abs=0.051)
    with pytest.raises(DualResError, match="no calibration"):
        DualResSession(models["cond"], target_high_rate=0.5)
    with pytest.raises(DualResError, match="between 0"):
        DualResSession(copy, target_high_rate=1.5)
    with pytest.raises(DualResError, match="either"):
        DualResSession(copy, target_high_rate=0.5, threshold=0.0)


def test_the_runtime_loads_neither_torch_nor_a_host(models: dict[str, Path]) -> None:
    code = (
        "import sys, numpy as np\n"
        "from dualres_plugin.runtime.session import DualResSession\n"
        f"session = DualResSession({str(models['cond'])!r})\n"
        "assert session.predict(np.zeros((50, 60, 3), np.uint8))[0].route in ('high', 'low')\n"
        "print(sorted({'torch', 'torchvision', 'ultralytics', 'mmdet', 'onnx'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, env={**os.environ, "PYTHONPATH": ""}
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip() == "[]"


# -- errors ------------------------------------------------------------------------------------------------------


def test_damaged_and_foreign_files_are_one_clear_error(models: dict[str, Path], tmp_path: Path) -> None:
    import onnx

    from dualres_plugin.runtime.session import DualResSession

    good = models["cond"].read_bytes()
    cases = {
        "cut.onnx": (good[: len(good) // 2], "damaged, cut short"),
        "empty.onnx": (b"", "damaged, cut short|not a DualRes"),
        "text.onnx": (b"this is no model", "damaged, cut short"),
        "flipped.onnx": (good[:200] + bytes(200) + good[400:], "damaged|DualRes|metadata"),
    }
    for name, (content, message) in cases.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DualResError, match=message):
            DualResSession(tmp_path / name)
    foreign = onnx.load(str(models["cond"]))
    del foreign.metadata_props[:]
    onnx.save(foreign, str(tmp_path / "foreign.onnx"))
    with pytest.raises(DualResError, match="not a DualRes one"):
        DualResSession(tmp_path / "foreign.onnx")
    onnx.helper.set_model_props(foreign, {KEY: "{"})
    onnx.save(foreign, str(tmp_path / "edited.onnx"))
    with pytest.raises(DualResError, match="metadata"):
        DualResSession(tmp_path / "edited.onnx")
    with pytest.raises(DualResError, match="does not exist"):
        DualResSession(tmp_path / "nothing.onnx")
    with pytest.raises(DualResError, match="unknown engine"):
        DualResSession(models["cond"], engine="tensorrt")
    with pytest.raises(DualResError, match="takes a pair"):
        DualResSession(models["cond"], engine="openvino")


def test_a_pair_without_a_part_says_which(models: dict[str, Path], tmp_path: Path) -> None:
    import shutil

    from dualres_plugin.runtime.session import DualResSession

    folder = tmp_path / "pair"
    shutil.copytree(models["pair"], folder)
    (folder / "low.onnx").unlink()
    with pytest.raises(DualResError, match="lacks its low"):
        DualResSession(folder)
    (folder / "manifest.json").write_text("{}")
    with pytest.raises(DualResError, match="does not describe"):
        DualResSession(folder)
    (folder / "manifest.json").unlink()
    with pytest.raises(DualResError, match="does not exist"):
        DualResSession(folder)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((2, 3, 160, 160), np.float32), "one image a run"),
        (np.zeros((3, 160, 160), np.float32), "one image a run"),
        (np.zeros((1, 160, 160, 3), np.float32), "one image a run"),
        (np.zeros((1, 3, 160, 160), np.float64), "float32"),
        (np.zeros((1, 3, 160, 160), np.uint8), "float32"),
        (np.zeros((1, 3, 150, 160), np.float32), "multiples of 32"),
        (np.zeros((1, 3, 0, 160), np.float32), "multiples of 32"),
    ],
)
def test_wrong_inputs_are_one_clear_error(models: dict[str, Path], images: np.ndarray, message: str) -> None:
    from dualres_plugin.runtime.session import DualResSession

    with pytest.raises(DualResError, match=message):
        DualResSession(models["cond"], warm_up=False).run(images)


def test_a_fixed_model_says_its_size(models: dict[str, Path]) -> None:
    from dualres_plugin.runtime.session import DualResSession

    for form in ("branches", "pair"):
        with pytest.raises(DualResError, match=r"exported for inputs \(1, 3, 160, 160\)"):
            DualResSession(models[form], warm_up=False).run(np.zeros((1, 3, 96, 160), np.float32))
