"""Loading exported files, and what is said about bad files and inputs."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dualres_plugin.common.card import KEY, Card
from dualres_plugin.common.errors import DualResError
from dualres_plugin.export.files import write_card
from dualres_plugin.runtime.engines import MANIFEST
from dualres_plugin.runtime.providers import CUDA, TENSORRT, with_options
from dualres_plugin.runtime.session import DualResSession
from tests.small_models import pictures


def test_openvino_runs_a_pair_as_onnxruntime_does(models: dict[str, Path]) -> None:
    pytest.importorskip("openvino")
    photos = pictures(6)
    expected = DualResSession(models["pair"]).predict(photos)
    session = DualResSession(models["pair"], engine="openvino", threads=2)
    for found in (session.predict(photos), session.predict_batch(photos)):
        assert [r.route for r in found] == [r.route for r in expected]
        for a, b in zip(found, expected):
            assert len(a) == len(b) and a.score == b.score  # the router stays with onnxruntime
            np.testing.assert_allclose(a.boxes, b.boxes, atol=0.05)
            np.testing.assert_allclose(a.scores, b.scores, atol=1e-4)


def test_damaged_and_foreign_files_are_one_clear_error(models: dict[str, Path], tmp_path: Path) -> None:
    import onnx

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
    with pytest.raises(DualResError, match=message):
        DualResSession(models["cond"], warm_up=False).run(images)


def test_a_fixed_model_says_its_size(models: dict[str, Path]) -> None:
    for form in ("branches", "pair"):
        with pytest.raises(DualResError, match=r"exported for inputs \(1, 3, 160, 160\)"):
            DualResSession(models[form], warm_up=False).run(np.zeros((1, 3, 96, 160), np.float32))


def test_a_pair_whose_parts_changed_places_is_refused(models: dict[str, Path], tmp_path: Path) -> None:
    pair = tmp_path / "pair"
    shutil.copytree(models["pair"], pair)
    card = replace(Card.from_json((pair / MANIFEST).read_text(), "pair"), checksums={})
    write_card(pair, card)
    DualResSession(pair)
    high, low = (pair / f"{size}.onnx" for size in ("high", "low"))
    content = high.read_bytes()
    high.write_bytes(low.read_bytes())
    with pytest.raises(DualResError, match=r"high\.onnx.*changed or swapped"):
        DualResSession(pair)
    high.write_bytes(content)
    DualResSession(pair)
    low.write_bytes(low.read_bytes() + b"\0")
    with pytest.raises(DualResError, match=r"low\.onnx.*changed or swapped"):
        DualResSession(pair)


def test_openvino_runs_files_whose_thumbnail_is_outside(outside_models: dict[str, Path]) -> None:
    pytest.importorskip("openvino")
    photos = pictures(6)
    for form, path in outside_models.items():
        ort, session = DualResSession(path), DualResSession(path, engine="openvino", threads=2)
        middle = float(np.median([r.score for r in ort.predict(photos)]))
        expected = ort.predict(photos, threshold=middle)
        for found in (session.predict(photos, threshold=middle), session.predict_batch(photos, threshold=middle)):
            assert [r.route for r in found] == [r.route for r in expected], form
            for a, b in zip(found, expected, strict=True):
                assert len(a) == len(b) and a.score == pytest.approx(b.score, abs=1e-5)
                np.testing.assert_allclose(a.boxes, b.boxes, atol=0.05)
        assert {r.route for r in expected} == {"high", "low"}


def test_openvino_refuses_a_file_that_is_not_ours(models: dict[str, Path], tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    import onnx

    foreign = onnx.load(str(models["cond"]))
    del foreign.metadata_props[:]
    onnx.save(foreign, str(tmp_path / "foreign.onnx"))
    with pytest.raises(DualResError, match="not a DualRes one"):
        DualResSession(tmp_path / "foreign.onnx", engine="openvino")


def test_providers_get_what_a_routed_detector_needs(tmp_path: Path) -> None:
    assert with_options(["CPUExecutionProvider"], tmp_path) == [("CPUExecutionProvider", {})]
    (tensorrt, built), (cuda, searched) = with_options([TENSORRT, CUDA], tmp_path)
    assert (tensorrt, cuda) == (TENSORRT, CUDA) and searched == {"cudnn_conv_algo_search": "HEURISTIC"}
    assert built["trt_engine_cache_enable"] and built["trt_engine_cache_path"] == str(tmp_path)
    own = (CUDA, {"cudnn_conv_algo_search": "DEFAULT", "device_id": 1})
    assert with_options([TENSORRT, own]) == [(TENSORRT, {}), own]


def test_a_session_takes_providers_with_options(models: dict[str, Path]) -> None:
    session = DualResSession(models["cond"], providers=[("CPUExecutionProvider", {"use_arena": "0"})])
    assert session.predict(pictures(1))
