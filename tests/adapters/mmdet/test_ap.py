"""YOLOX-Nano with real weights on real photos: the wrapped config's AP through the host's own runner."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("mmdet")

from mmengine.config import Config

from tests.adapters.mmdet.helpers import tiny_router
from tests.shared import require_shared

pytestmark = pytest.mark.shared

ALL, FEW = 164, 48  # photos: an equal AP is shown by few
CONFIG = """
_base_ = [r'{model}', 'mmdet::_base_/default_runtime.py']
custom_imports = dict(imports=['dualres_plugin.adapters.mmdet'], allow_failed_imports=False)
pipeline = [
    dict(type='LoadImageFromFile', backend_args=None),
    dict(type='Resize', scale=({size}, {size}), keep_ratio=True),
    dict(type='Pad', pad_to_square=True, pad_val=dict(img=(114.0, 114.0, 114.0))),
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor'))]
test_dataloader = dict(
    batch_size=4, num_workers=0, persistent_workers=False, drop_last=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='CocoDataset', data_root=r'{root}', ann_file=r'{annotations}',
        data_prefix=dict(img='images/val2017/'), test_mode=True, pipeline=pipeline))
test_evaluator = dict(type='CocoMetric', ann_file=r'{annotations}', metric='bbox')
test_cfg = dict(type='TestLoop')
load_from = r'{weights}'
work_dir = r'{work}'
log_level = 'ERROR'
{dualres}
"""


def write_annotations(folder: Path, count: int) -> None:
    """COCO annotations of the first photos of the set."""
    content = json.loads(require_shared("data/coco_mini/annotations/instances_val2017.json").read_text())
    content["images"] = content["images"][:count]
    kept = {image["id"] for image in content["images"]}
    content["annotations"] = [a for a in content["annotations"] if a["image_id"] in kept]
    (folder / "annotations.json").write_text(json.dumps(content))


def host_ap(folder: Path, name: str, size: int, **settings: Any) -> float:
    """`Runner.test` on the photos of `annotations.json`."""
    from mmengine.runner import Runner

    written = ", ".join(f"{key}={value!r}" for key, value in settings.items())
    config = folder / f"{name}.py"
    config.write_text(
        CONFIG.format(
            model=require_shared("weights", "yolox_nano_cfg.py"),
            weights=require_shared("weights", "yolox_nano.pth"),
            root=require_shared("data", "coco_mini"),
            annotations=folder / "annotations.json",
            work=folder / name,
            size=size,
            dualres=f"dualres = dict({written})" if settings else "",
        )
    )
    cfg = Config.fromfile(config)
    cfg.experiment_name = f"{folder.name}_{name}"
    return float(Runner.from_cfg(cfg).test()["coco/bbox_mAP"])


def test_all_high_and_all_low_are_the_plain_host(tmp_path: Path) -> None:
    """To 1e-3 AP, the last digit that the host prints."""
    write_annotations(tmp_path, FEW)
    router = str(tiny_router().save(tmp_path / "router"))
    plain = {size: host_ap(tmp_path, f"plain{size}", size) for size in (640, 320)}
    high = host_ap(tmp_path, "high", 640, router=router, low=0.5, target_high_rate=1.0)
    assert high == plain[640]
    # The two 320s are resized by different code: on few photos their AP differs by more.
    write_annotations(tmp_path, ALL)
    small = host_ap(tmp_path, "small", 320)
    low = host_ap(tmp_path, "low", 640, router=router, low=0.5, target_high_rate=0.0)
    assert plain[640] > plain[320] + 0.02  # two different operating points
    assert low == pytest.approx(small, abs=1.01e-3)
