"""The stand-in for `mmcv._ext` against plain reference code; no mmcv needed."""

from __future__ import annotations

import importlib.util
import logging
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dualres_plugin.adapters import mmcv_ext as ext
from dualres_plugin.common.errors import DualResError
from tests.shared import ROOT


def reference_nms(boxes: np.ndarray, scores: np.ndarray, threshold: float, offset: int) -> list[int]:
    """Greedy suppression, one pair at a time, in double precision."""
    order = np.argsort(-scores, kind="stable").tolist()
    kept: list[int] = []
    while order:
        best = order.pop(0)
        kept.append(best)
        order = [other for other in order if _iou(boxes[best], boxes[other], offset) <= threshold]
    return kept


def _iou(a: np.ndarray, b: np.ndarray, offset: int) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0]) + offset
    height = min(a[3], b[3]) - max(a[1], b[1]) + offset
    overlap = max(width, 0) * max(height, 0)
    area = sum((box[2] - box[0] + offset) * (box[3] - box[1] + offset) for box in (a, b)) - overlap
    return overlap / area if area > 0 else 0.0


def reference_roi_align(features: np.ndarray, roi: np.ndarray, size: int, scale: float, samples: int, aligned: bool):
    """Average of bilinear samples, straight from the definition; (C, H, W) and xyxy -> (C, size, size)."""
    x0, y0, x1, y1 = roi * scale - (0.5 if aligned else 0.0)
    width, height = (x1 - x0, y1 - y0) if aligned else (max(x1 - x0, 1.0), max(y1 - y0, 1.0))
    out = np.zeros((features.shape[0], size, size))
    for row in range(size):
        for column in range(size):
            for i in range(samples):
                for j in range(samples):
                    y = y0 + (row + (i + 0.5) / samples) * height / size
                    x = x0 + (column + (j + 0.5) / samples) * width / size
                    out[:, row, column] += _bilinear(features, y, x)
    return out / samples**2


def _bilinear(features: np.ndarray, y: float, x: float) -> np.ndarray:
    rows, columns = features.shape[1:]
    if y < -1 or y > rows or x < -1 or x > columns:
        return np.zeros(features.shape[0])
    y, x = min(max(y, 0), rows - 1), min(max(x, 0), columns - 1)
    top, left = int(y), int(x)
    bottom, right = min(top + 1, rows - 1), min(left + 1, columns - 1)
    dy, dx = y - top, x - left
    above = features[:, top, left] * (1 - dx) + features[:, top, right] * dx
    below = features[:, bottom, left] * (1 - dx) + features[:, bottom, right] * dx
    return above * (1 - dy) + below * dy


@settings(deadline=None, max_examples=60)
@given(
    st.integers(0, 2**31 - 1),
    st.integers(0, 25),
    st.sampled_from([0.3, 0.5, 0.65, 0.9]),
    st.sampled_from([0, 1]),
)
def test_nms_equals_the_reference(seed: int, count: int, threshold: float, offset: int) -> None:
    random = np.random.default_rng(seed)
    # Whole pixels: the IoU is a ratio of integers, so no rounding can turn a decision.
    corner = random.integers(0, 30, (count, 2))
    boxes = np.concatenate([corner, corner + random.integers(1, 20, (count, 2))], axis=1).astype(np.float32)
    scores = random.permutation(count).astype(np.float32)
    kept = ext.nms(torch.from_numpy(boxes), torch.from_numpy(scores), threshold + 1e-4, offset)
    assert kept.tolist() == reference_nms(boxes.astype(float), scores, threshold + 1e-4, offset)


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("scale", [1.0, 0.25])
def test_roi_align_equals_the_reference(aligned: bool, scale: float) -> None:
    random = np.random.default_rng(0)
    features = random.normal(size=(2, 3, 9, 11)).astype(np.float32)
    rois = np.array([[0, 1, 2, 30, 20], [1, 0.3, 4.2, 11, 8.9], [0, 20, 15, 40, 35]], np.float32)
    out, none = torch.zeros(3, 3, 4, 4), torch.zeros(0)
    where = torch.from_numpy(rois)
    ext.roi_align_forward(torch.from_numpy(features), where, out, none, none, 4, 4, scale, 2, 1, aligned)
    expected = [reference_roi_align(features[int(roi[0])], roi[1:], 4, scale, 2, aligned) for roi in rois]
    torch.testing.assert_close(out, torch.from_numpy(np.stack(expected)).float(), rtol=1e-4, atol=1e-5)


def test_roi_align_backward_is_the_adjoint_of_forward() -> None:
    # <A x, g> = <x, A' g> for every x and g: together with the forward test this fixes the gradient.
    torch.manual_seed(0)
    x, g = torch.randn(2, 3, 8, 8, dtype=torch.float64), torch.randn(4, 3, 7, 7, dtype=torch.float64)
    rois = torch.tensor([[0, 1, 1, 6, 7], [1, 0, 0, 7, 7], [1, 2, 3, 4, 5], [0, 6, 6, 12, 12]], dtype=torch.float64)
    none = torch.zeros(0, dtype=torch.float64)
    out, grad = torch.zeros_like(g), torch.zeros_like(x)
    ext.roi_align_forward(x, rois, out, none, none, 7, 7, 1.0, 0, 1, True)
    ext.roi_align_backward(g, rois, none, none, grad, 7, 7, 1.0, 0, 1, True)
    torch.testing.assert_close((out * g).sum(), (x * grad).sum())
    assert grad.abs().sum() > 0


def test_no_boxes() -> None:
    assert ext.nms(torch.zeros(0, 4), torch.zeros(0), 0.5).shape == (0,)
    out = torch.zeros(0, 3, 7, 7)
    ext.roi_align_forward(torch.rand(1, 3, 8, 8), torch.zeros(0, 5), out, out, out, 7, 7, 1.0, 0, 1, True)


def test_max_pooling_is_refused() -> None:
    out = torch.zeros(1, 3, 7, 7)
    with pytest.raises(DualResError, match="make mmcv"):
        ext.roi_align_forward(torch.rand(1, 3, 8, 8), torch.zeros(1, 5), out, out, out, 7, 7, 1.0, 0, 0, True)


FINDERS = ("_StandInFinder", "DualResMmcvExt")  # by install() and by the start-up line


@pytest.fixture
def fresh_import(monkeypatch: pytest.MonkeyPatch, tmp_path):
    """An empty `mmcv` package of our own and no trace of the installed one."""
    for name in [n for n in sys.modules if n == "mmcv" or n.startswith("mmcv.")]:
        monkeypatch.delitem(sys.modules, name)
    ours = [f for f in sys.meta_path if getattr(f, "__name__", type(f).__name__) in FINDERS]
    monkeypatch.setattr(sys, "meta_path", [f for f in sys.meta_path if f not in ours])
    package = tmp_path / "mmcv"
    package.mkdir()
    (package / "__init__.py").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    yield package
    for name in ("mmcv", "mmcv._ext"):
        sys.modules.pop(name, None)


def test_import_is_announced_once_and_missing_operations_explain_themselves(fresh_import, caplog) -> None:
    with caplog.at_level(logging.WARNING):
        assert ext.install() and ext.install()
        assert not caplog.records  # nothing is said before something needs the operations
        import mmcv._ext as found
    assert len(caplog.records) == 1 and "make mmcv" in caplog.text
    assert importlib.util.find_spec("mmcv._ext") is not None
    assert ext.install()  # and after the import
    with pytest.raises(DualResError, match=r"'modulated_deform_conv_forward'.*make mmcv"):
        found.modulated_deform_conv_forward(1, key=2)
    with pytest.raises(AttributeError):
        found.__wrapped__  # noqa: B018


def test_a_real_extension_wins(fresh_import, caplog) -> None:
    (fresh_import / "_ext.py").write_text("nms = 'compiled'\n")
    assert not ext.install()
    sys.meta_path.append(ext._StandInFinder())  # even if the finder is there
    import mmcv._ext as found

    assert found.nms == "compiled" and not caplog.records
    assert not ext.install()


def test_without_mmcv_nothing_happens(fresh_import, monkeypatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    before = list(sys.meta_path)
    assert not ext.install()
    assert sys.meta_path == before


def test_the_start_up_line_finds_the_stand_in_and_loads_nothing_else(fresh_import) -> None:
    line = (ROOT / "adapters" / "dualres_mmcv_ext.pth").read_text()
    assert line.startswith("import ") and line.count("\n") == 1  # how `site` tells code from a path
    exec(line)
    import mmcv._ext as found

    assert isinstance(found, ext._StandIn)
    assert importlib.util.find_spec("mmcv.other") is None


def test_the_start_up_line_imports_nothing() -> None:
    line = (ROOT / "adapters" / "dualres_mmcv_ext.pth").read_text()
    code = f"import sys; before = set(sys.modules)\n{line}\nprint(sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_mmcv_tells_its_environment() -> None:
    """`collect_env` asks for the compilers, also in programs that never heard of us."""
    pytest.importorskip("mmcv")
    code = "from mmcv.utils import collect_env; print(collect_env()['MMCV Compiler'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-1000:]
