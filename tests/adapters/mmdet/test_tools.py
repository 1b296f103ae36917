"""The host's own tools on a routed config, typed as a user types them."""

from __future__ import annotations

import copy
import json
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("mmdet")

from mmengine.config import Config

from dualres_plugin.adapters import mmcv_ext as _mmcv_ext
from dualres_plugin.adapters.mmdet import DualResDetector, MMDetAdapter
from dualres_plugin.common.images.decode import read_image
from tests.adapters.mmdet.helpers import Project, mim_folder, run_tool, run_tool_here, tiny_router
from tests.shared import ROOT, require_shared


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = Project(tmp_path_factory.mktemp("tools"))
    project.config()
    return project


@pytest.fixture(scope="module")
def plain_metrics(project: Project) -> dict[str, float]:
    """COCO's figures of the config without routing."""
    run_tool_here("test.py", "base.py", "plain.pth", "--work-dir", "w_base", cwd=project.folder)
    return metrics_of(project.folder / "w_base")


def test_test_py_with_metric_dump_and_drawn_images(project: Project) -> None:
    """`tools/test.py`: batches of three with mixed routes, `CocoMetric`, the visualisation hook, `--out`."""
    printed = run_tool(
        "test.py", "routed.py", "plain.pth", "--work-dir", "work", "--out", "out.pkl", "--show-dir", "drawn",
        cwd=project.folder,
    )  # fmt: skip
    assert "bbox_mAP" in printed
    dumped = pickle.loads((project.folder / "out.pkl").read_bytes())
    assert len(dumped) == 8
    assert {sample["route"] for sample in dumped} == {"high", "low"}
    assert all(np.isfinite(sample["score"]) for sample in dumped)
    high = sum(sample["route"] == "high" for sample in dumped)
    assert f"{high} of 8 images at high" in printed
    assert len(list((project.folder / "work").rglob("drawn/*.png"))) >= 1
    assert b"dualres_plugin" not in (project.folder / "out.pkl").read_bytes()  # anybody can read it


# The host's own for YOLOX, at a fifth of its sizes.
SMALL_TTA = """
tta_pipeline = [
    dict(type='LoadImageFromFile', backend_args=None),
    dict(type='TestTimeAug', transforms=[
        [dict(type='Resize', scale=(s, s), keep_ratio=True) for s in (128, 64, 192)],
        [dict(type='RandomFlip', prob=1.0), dict(type='RandomFlip', prob=0.0)],
        [dict(type='Pad', pad_to_square=True, pad_val=dict(img=(114.0, 114.0, 114.0)))],
        [dict(type='LoadAnnotations', with_bbox=True)],
        [dict(type='PackDetInputs', meta_keys=(
            'img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor', 'flip', 'flip_direction'))]])]
"""


def test_test_time_augmentation(project: Project) -> None:
    config = project.config("tta.py")
    config.write_text(config.read_text() + SMALL_TTA)
    printed = run_tool_here("test.py", "tta.py", "plain.pth", "--work-dir", "tta", "--tta", cwd=project.folder)
    assert "bbox_mAP" in printed


def test_three_sizes_through_the_runner(project: Project, plain_metrics: dict[str, float]) -> None:
    """`tools/test.py` with a ladder: counts by size, the size in every sample; all at the largest is the plain run."""
    project.config("ladder.py", sizes=[1, 0.75, 0.5], shares=[0.25, 0.5, 0.25])
    printed = run_tool_here(
        "test.py", "ladder.py", "plain.pth", "--work-dir", "l", "--out", "l.pkl", cwd=project.folder
    )  # fmt: skip
    dumped = pickle.loads((project.folder / "l.pkl").read_bytes())
    sizes = sorted({sample["size"] for sample in dumped}, reverse=True)
    assert len(sizes) == 3 and sizes[1:] == [round(sizes[0] * r) for r in (0.75, 0.5)]
    counted = [sum(sample["route"] == str(size) for sample in dumped) for size in sizes]
    assert f"8 images: {sizes[0]} px {counted[0]}" in printed and sum(counted) == 8
    project.config("largest.py", sizes=[sizes[0], 0.75, 0.5], thresholds=[-1e9, -1e9])
    run_tool_here("test.py", "largest.py", "plain.pth", "--work-dir", "l_largest", cwd=project.folder)
    assert metrics_of(project.folder / "l_largest") == plain_metrics and plain_metrics["coco/bbox_mAP"] > -1


def test_all_high_equals_the_plain_config(project: Project, plain_metrics: dict[str, float]) -> None:
    """The same metric file, to the last digit."""
    project.config("high.py", target_high_rate=1.0)
    run_tool_here("test.py", "high.py", "plain.pth", "--work-dir", "w_high", cwd=project.folder)
    assert metrics_of(project.folder / "w_high") == plain_metrics and plain_metrics


def metrics_of(work_dir: Path) -> dict[str, float]:
    """COCO's figures of the last run."""
    file = sorted(work_dir.glob("*/*.json"))[-1]
    return {k: v for k, v in json.loads(file.read_text()).items() if k.startswith("coco/")}


def test_get_flops_gives_the_expected_cost(project: Project) -> None:
    def flops(config: str, run: Callable[..., str] = run_tool_here) -> float:
        printed = run("analysis_tools/get_flops.py", config, "--num-images", "4", cwd=project.folder)
        number = printed.split("Flops: ")[1].split()[0]
        return float(number[:-1]) * {"K": 1e3, "M": 1e6, "G": 1e9}[number[-1]]

    project.config("high.py", target_high_rate=1.0)
    project.config("low.py", target_high_rate=0.0)
    high, mixed, low = flops("high.py"), flops("routed.py", run_tool), flops("low.py")
    # The host counts multiply-accumulates. get_flops builds the model from the config alone: no checkpoint.
    adapter = MMDetAdapter(project.detector)
    router = tiny_router().gmacs() * 1e9
    assert high == pytest.approx(adapter.macs((128, 128)) * 1e9 + router, rel=0.03)
    assert low == pytest.approx(adapter.macs((64, 64)) * 1e9 + router, rel=0.03)
    assert low < mixed < high


def test_benchmark(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """`tools/analysis_tools/benchmark.py` moves every model to a GPU; here it finds the CPU in its place."""
    import runpy

    if not torch.cuda.is_available():
        monkeypatch.setattr("mmengine.model.BaseModel.cuda", lambda self, device=None: self)
        monkeypatch.setattr(torch.cuda, "synchronize", lambda device=None: None)
        monkeypatch.setattr("mmdet.utils.benchmark.get_max_cuda_memory", lambda device=None: 0)
    script = mim_folder() / "tools" / "analysis_tools" / "benchmark.py"
    options = ["--task", "inference", "--max-iter", "8", "--num-warmup", "2", "--log-interval", "1", "--fuse-conv-bn"]
    arguments = [str(script), "routed.py", "--checkpoint", "plain.pth", "--work-dir", "bench", *options]
    monkeypatch.setattr(sys, "argv", arguments)
    monkeypatch.chdir(project.folder)
    runpy.run_path(str(script), run_name="__main__")
    log = next((project.folder / "bench").rglob("benchmark.log")).read_text()
    assert "Overall fps" in log


def test_init_detector_and_inference_detector(project: Project) -> None:
    from mmdet.apis import inference_detector, init_detector

    model = init_detector(str(project.folder / "routed.py"), str(project.plain), device="cpu")
    assert isinstance(model, DualResDetector) and model.dataset_meta["classes"] == ("person", "bicycle", "car")
    files = sorted(str(p) for p in (project.folder / "images").iterdir())
    results = inference_detector(model, files)
    assert {sample.route for sample in results} == {"high", "low"}
    plain = init_detector(str(project.base), str(project.plain), device="cpu")
    for sample, expected in zip(results, inference_detector(plain, files)):
        same = torch.equal(sample.pred_instances.bboxes, expected.pred_instances.bboxes)
        assert same == (sample.route == "high")
    array = inference_detector(model, project.pictures[0][..., ::-1].copy())
    assert array.route in ("high", "low")


def test_det_inferencer_on_an_image_and_a_folder(project: Project) -> None:
    from mmdet.apis import DetInferencer

    inferencer = DetInferencer(str(project.folder / "routed.py"), str(project.plain), device="cpu")
    out = project.folder / "inferred"
    result = inferencer(
        str(project.folder / "images"), batch_size=3, out_dir=str(out), no_save_pred=False, return_datasamples=True
    )
    assert {sample.route for sample in result["predictions"]} == {"high", "low"}
    assert len(list((out / "vis").iterdir())) == 8
    single = inferencer(str(project.folder / "images" / "000.png"), pred_score_thr=0.0)
    assert set(single["predictions"][0]) >= {"bboxes", "labels", "scores"}


NANO = """
_base_ = ['{base}']
custom_imports = dict(imports=['dualres_plugin.adapters.mmdet'], allow_failed_imports=False)
dualres = dict(router='default', low=0.5, target_high_rate=1.0, stream=dict(memory=True, skip=1))
"""


@pytest.mark.shared
@pytest.mark.parametrize("way", ["inference_detector", "DetInferencer"])
@pytest.mark.parametrize("by", ["wrapper", "config"])
def test_a_scene_that_stands_still_is_remembered_and_skipped(way: str, by: str, tmp_path: Path) -> None:
    """YOLOX-Nano with its own weights: the third frame reuses what the second one found."""
    from mmdet.apis import DetInferencer, inference_detector, init_detector

    from dualres_plugin import DualResWrapper

    config = mim_folder() / "configs" / "yolox" / "yolox_nano_8xb8-300e_coco.py"
    weights = str(require_shared("weights", "yolox_nano.pth"))
    frame = read_image(min(require_shared("data", "coco_mini", "images", "val2017").iterdir()))[..., ::-1].copy()
    if by == "config":
        (tmp_path / "stream.py").write_text(NANO.replace("{base}", str(config)))
        config = tmp_path / "stream.py"
    inferencer = DetInferencer(str(config), weights, device="cpu") if way == "DetInferencer" else None
    model = inferencer.model if inferencer else init_detector(str(config), weights, palette="coco", device="cpu")
    if by == "wrapper":
        model = DualResWrapper(model, "default", memory=True, skip=1, target_high_rate=1.0).host
    if inferencer:
        inferencer.model = model
        samples = [inferencer(frame, return_datasamples=True)["predictions"][0] for _ in range(4)]
    else:
        samples = [inference_detector(model, frame) for _ in range(4)]
    assert [sample.route for sample in samples] == ["high", "high", "skip", "high"]
    second, third = (sample.pred_instances for sample in samples[1:3])
    sure = second.scores > 0.3
    assert sure.any() and len(third) == len(second)
    edges = torch.tensor([frame.shape[1], frame.shape[0]] * 2)
    inside = torch.minimum(second.bboxes.clamp(min=0), edges)  # what is remembered ends at the frame's edges
    torch.testing.assert_close(third.bboxes[sure], inside[sure], atol=0.5, rtol=0)


@pytest.mark.shared
def test_a_config_and_the_wrapper_decide_a_stream_alike(tmp_path: Path) -> None:
    """YOLOX-Nano over frames that move and stand still; a rate is held, and a state goes on where it stopped."""
    from mmdet.apis import inference_detector, init_detector

    from dualres_plugin import DualResWrapper

    base = mim_folder() / "configs" / "yolox" / "yolox_nano_8xb8-300e_coco.py"
    weights = str(require_shared("weights", "yolox_nano.pth"))
    photos = [read_image(p) for p in sorted(require_shared("data", "coco_mini", "images", "val2017").iterdir())[:3]]
    frames = [photo[..., ::-1].copy() for photo in photos for _ in range(4)]
    text = NANO.replace("{base}", str(base)).replace("target_high_rate=1.0", "target_high_rate=0.4")
    (tmp_path / "stream.py").write_text(text.replace("skip=1", "skip=2, hold_rate=True"))
    model = init_detector(str(tmp_path / "stream.py"), weights, device="cpu")
    assert not [key for key in model.state_dict() if "routing" in key or "_held" in key], "the router is there once"
    ours = [inference_detector(model, frame) for frame in frames]
    plain = init_detector(str(base), weights, palette="coco", device="cpu")
    wrapped = DualResWrapper(plain, "default", low=0.5, memory=True, skip=2, target_high_rate=0.4, hold_rate=True)
    theirs = [inference_detector(wrapped.host, frame) for frame in frames]
    assert [(s.route, s.score) for s in ours] == [(s.route, s.score) for s in theirs]
    assert {s.route for s in ours} >= {"high", "low", "skip"}
    assert model.controller.state == wrapped.controller.state and model.controller.state.images == 12
    again = init_detector(str(tmp_path / "stream.py"), weights, device="cpu")
    again.streams.resume(model.streams.saved())
    more = [inference_detector(m, frames[0]).route for m in (again, model)]
    assert more[0] == more[1]


def test_a_low_route_without_rescale(project: Project) -> None:
    """Some tools ask for boxes in input pixels."""
    from mmdet.apis import init_detector

    model = init_detector(str(project.config("low.py", target_high_rate=0.0)), str(project.plain), device="cpu")
    batch = model.adapter.collate(project.pictures[:3], 128)
    again = copy.deepcopy(batch.samples)
    original = model.predict(batch.inputs, batch.samples)
    high = model.predict(batch.inputs, again, rescale=False)
    for a, b in zip(original, high):
        factor = torch.tensor(a.scale_factor * 2, dtype=torch.float32)
        torch.testing.assert_close(a.pred_instances.bboxes * factor, b.pred_instances.bboxes, rtol=1e-3, atol=0.05)


@pytest.mark.parametrize("name", ["yolox_tiny_dualres.py", "rtmdet_tiny_dualres.py"])
def test_the_ready_configs_build_and_run(name: str) -> None:
    from tests.adapters.mmdet.helpers import build, photos

    cfg = Config.fromfile(ROOT / "configs" / "mmdet" / name)
    cfg.merge_from_dict({"dualres.threshold": 0.0})
    model = build(cfg.model)
    model.detector.cfg = cfg
    adapter = MMDetAdapter(model.detector)
    batch = adapter.collate(photos(2), adapter.default_size)
    assert batch.shape == (adapter.default_size,) * 2
    assert all("route" in sample for sample in model.predict(batch.inputs, batch.samples))
    assert cfg.train_dataloader.dataset.type == "CocoDataset"
    assert [hook.type for hook in cfg.custom_hooks] == ["DualResHook"]


@pytest.mark.skipif(not _mmcv_ext.install(), reason="compiled mmcv has these operations")
def test_a_detector_that_needs_other_operations_says_so() -> None:
    from dualres_plugin.common.errors import DualResError
    from tests.adapters.mmdet.helpers import build, family_config, photos

    cfg = family_config("faster_rcnn")
    cfg.model.backbone.depth = 50
    cfg.model.neck.in_channels = [256, 512, 1024, 2048]
    cfg.model.backbone.dcn = {"type": "DCNv2", "deform_groups": 1, "fallback_on_stride": False}
    cfg.model.backbone.stage_with_dcn = (False, True, True, True)
    with pytest.raises(DualResError, match="make mmcv"):
        adapter = MMDetAdapter(build(cfg.model))
        adapter.predict(adapter.collate(photos(1), 128))


def test_the_command_line_names_a_config_and_its_options(project: Project) -> None:
    from dualres_plugin.common.errors import DualResError
    from dualres_plugin.hosts.registry import load_detector

    adapter = load_detector(f"mmdet:{project.base},{project.plain},model.test_cfg.score_thr=0.99")
    assert isinstance(adapter, MMDetAdapter) and adapter.default_size == 128
    batch = adapter.collate(project.pictures[:2], 128)
    found = adapter.detections(adapter.predict(batch), batch)
    assert all((f.scores > 0.99).all() for f in found)
    plain = load_detector(f"mmdet:{project.base},{project.plain}")
    assert all((f.scores <= 0.99).any() for f in plain.detections(plain.predict(batch), batch))
    assert list(adapter.class_names.values()) == ["person", "bicycle", "car"]
    with pytest.raises(DualResError, match=r"configs/yolox/none\.py' does not exist"):
        load_detector("mmdet:mmdet::yolox/none.py")
    with pytest.raises(DualResError, match=r"none\.py' does not exist"):
        load_detector(f"mmdet:{Path('none.py')}")
    with pytest.raises(DualResError, match="cannot build"):
        load_detector(f"mmdet:{project.base},{project.plain},model.type=NoSuchDetector")


def test_a_detector_without_its_own_weights_is_refused(project: Project, tmp_path: Path) -> None:
    from dualres_plugin.common.errors import DualResError
    from dualres_plugin.hosts.registry import load_detector

    inside = "mmdet:mmdet::yolox/yolox_nano_8xb8-300e_coco.py"
    for spec in (inside, f"mmdet:{project.base}", f"mmdet:{project.base},model.test_cfg.score_thr=0.5"):
        with pytest.raises(DualResError, match=r"would have random weights.*WEIGHTS\.pth"):
            load_detector(spec)
    with pytest.raises(DualResError, match=r"do not fit the config: \d+ of \d+ parameters stay random"):
        load_detector(f"{inside},{project.plain}")  # another width: mmengine only logs it
    torch.save({"state_dict": {"something": torch.zeros(1)}}, tmp_path / "other.pth")
    with pytest.raises(DualResError, match="do not fit the config"):
        load_detector(f"mmdet:{project.base},{tmp_path / 'other.pth'}")


def test_a_detector_that_was_built_and_never_trained_says_so(
    project: Project, caplog: pytest.LogCaptureFixture
) -> None:
    from mmdet.registry import MODELS
    from mmengine.config import Config

    adapter = MMDetAdapter(MODELS.build(Config.fromfile(project.base).model).eval())
    batch = adapter.collate(project.pictures[:1], 128)
    for _ in range(2):
        adapter.predict(batch)
    assert len([r for r in caplog.records if "never trained" in r.message]) == 1
    caplog.clear()
    MMDetAdapter(project.detector).predict(batch)
    assert not [r for r in caplog.records if "never trained" in r.message]


def test_arrays_are_bgr_as_in_the_host(project: Project) -> None:
    from mmdet.apis import inference_detector, init_detector

    from dualres_plugin import DualResWrapper

    detector = init_detector(str(project.base), str(project.plain), device="cpu")
    model = DualResWrapper(detector, router=project.router, low=0.5, target_high_rate=1.0)
    photo = project.pictures[0]
    expected = inference_detector(detector, photo[..., ::-1].copy()).pred_instances
    file = str(project.folder / "images" / "000.png")
    for source in (photo[..., ::-1], [photo[..., ::-1]], iter([photo[..., ::-1]]), file):
        (found,) = model.predict(source)
        assert torch.equal(found.pred_instances.bboxes, expected.bboxes)
        assert found.dualres.route == found.route == "high"


@pytest.mark.parametrize("resize", [{"scale": (128, 80), "keep_ratio": True}, {"scale": 96, "keep_ratio": False}])
def test_the_pipeline_is_the_hosts_at_its_own_size(project: Project, resize: dict[str, Any]) -> None:
    """A square Pad after an oblong Resize, and a Resize with one number."""
    from mmdet.apis import inference_detector, init_detector

    cfg = Config.fromfile(project.base)
    steps = cfg.test_dataloader.dataset.pipeline
    steps[1] = {"type": "Resize", **resize}
    steps[2] = {"type": "Pad", "size": (160, 160), "pad_val": {"img": (114.0, 114.0, 114.0)}}
    detector = init_detector(cfg, str(project.plain), device="cpu")
    adapter = MMDetAdapter(detector)
    for picture in project.pictures[:3]:
        batch = adapter.collate([picture], adapter.default_size)
        (found,) = adapter.predict(batch)
        expected = inference_detector(detector, picture[..., ::-1].copy())
        assert batch.shape == (160, 160)
        assert torch.equal(found.pred_instances.bboxes, expected.pred_instances.bboxes)
