"""An mmdet detector behind routers, measured by the host's own runner and `CocoMetric`: one row per share at high.

    python examples/mmdet_curve.py mmdet::yolox/yolox_nano_8xb8-300e_coco.py yolox_nano.pth --high 640 \\
        --router runs/router-yolox --router runs/router-yolo11n --rates 0.25,0.5,0.75 \\
        --annotations annotations/instances_val2017.json --images val2017/

Prints the plain host at the high and at the low size first, then the routers: all high and all low (the same with any
router, so only with the first) have to be these two, and the rows between are the curve. Nothing is trained here. A
router of another detector plugs in as it is.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.runner import Runner

from dualres_plugin.adapters.mmdet import MMDetAdapter, config_file  # makes mmdet importable on mmcv-lite
from dualres_plugin.common.errors import one_message
from dualres_plugin.common.resize import low_size

STRIDE = 32  # low sizes are rounded up to it


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", help="of the plain detector, for mmdet's tools")
    parser.add_argument("checkpoint")
    parser.add_argument("--annotations", required=True, help="COCO annotations of the evaluation photos")
    parser.add_argument("--images", required=True, help="their folder")
    parser.add_argument("--router", action="append", default=[], help="router folder, or default; repeatable")
    parser.add_argument("--high", type=int, required=True, help="high size in pixels")
    parser.add_argument("--low", type=float, default=0.5, help="low / high")
    parser.add_argument("--rates", default="0.25,0.5,0.75", help="shares at high between 0 and 1")
    args = parser.parse_args()

    rates = [float(rate) for rate in args.rates.split(",")]
    # One for all runs: the host's visualiser outlives its runner.
    with tempfile.TemporaryDirectory() as work:
        _table(args, rates, work)


def _table(args: argparse.Namespace, rates: list[float], work: str) -> None:
    print(f"{'policy':40s} {'asked':>6s} {'high':>6s} {'GMACs':>6s} {'AP':>6s}")
    for size in (args.high, _low(args.high, args.low)):
        _row(f"plain host at {size}", "", *_run(args, size, work))
    for i, router in enumerate(args.router):
        for rate in rates if i else [0.0, *rates, 1.0]:
            settings = {"router": router, "low": args.low, "target_high_rate": rate}
            _row(router, f"{rate:.2f}", *_run(args, args.high, work, settings))


def _row(policy: str, asked: str, share: float, gmacs: float, ap: float) -> None:
    print(f"{policy[-40:]:40s} {asked:>6s} {share:6.1%} {gmacs:6.3f} {ap:6.3f}", flush=True)


def _run(
    args: argparse.Namespace, size: int, work: str, dualres: dict[str, Any] | None = None
) -> tuple[float, float, float]:
    """`Runner.test`: share at high, mean GMACs with the router, and AP."""
    cfg = _config(args, size, work)
    if dualres:
        cfg.merge_from_dict({f"dualres.{key}": value for key, value in dualres.items()})
    runner = Runner.from_cfg(cfg)
    high: list[bool] = []
    if dualres:
        runner.model.routing.on_decision = lambda decision: high.extend(decision.high.tolist())
    ap = float(runner.test()["coco/bbox_mAP"])
    adapter = runner.model.adapter if dualres else MMDetAdapter(runner.model)
    costs = [adapter.macs((side, side)) for side in (size, _low(size, args.low))]
    if not dualres:
        return 1.0, costs[0], ap
    share = sum(high) / len(high)
    return share, share * costs[0] + (1 - share) * costs[1] + runner.model.router.gmacs(), ap


def _low(high: int, ratio: float) -> int:
    return low_size((high, high), ratio, STRIDE)[0]


def _config(args: argparse.Namespace, size: int, work: str) -> Config:
    """The user's config on these photos at this size."""
    cfg = Config.fromfile(config_file(args.config))
    loader = cfg.test_dataloader
    loader.update(num_workers=0, persistent_workers=False)
    loader.dataset.update(data_root="", ann_file=args.annotations, data_prefix={"img": args.images}, backend_args=None)
    for step in loader.dataset.pipeline:
        if step.type == "Resize":
            step.scale = (size, size)
    cfg.test_evaluator.ann_file = args.annotations
    name = str(len(list(Path(work).iterdir())))  # the host refuses two runs of one name
    folder = Path(work, name)
    folder.mkdir()
    cfg.update(load_from=args.checkpoint, work_dir=str(folder), log_level="ERROR", experiment_name=name)
    return cfg


if __name__ == "__main__":
    with one_message():
        main()
