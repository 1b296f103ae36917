"""`dualres demo`: the main job from nothing to a report, offline, on generated scenes."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from torchvision.models.detection import FCOS

from dualres_plugin.common.files.atomic import make_dir
from dualres_plugin.demo.detector import HIGH_SIZE, LOW_SIZE, build_demo_detector
from dualres_plugin.demo.scenes import CLASSES, write_coco
from dualres_plugin.evaluate.evaluation import Evaluation, evaluate, summary
from dualres_plugin.evaluate.report.write import write_evaluation
from dualres_plugin.hosts.registry import adapt
from dualres_plugin.predict.predictor import Predictor
from dualres_plugin.predict.saving import Outputs, save_predictions
from dualres_plugin.profile.build import ProfileSettings, build_profile
from dualres_plugin.profile.data.dataset import load_dataset
from dualres_plugin.profile.table import Profile
from dualres_plugin.router.config import RouterConfig
from dualres_plugin.router.gate import Gate
from dualres_plugin.router.network import ResolutionRouter
from dualres_plugin.train.config import TrainConfig
from dualres_plugin.train.train import train_router

ROUTER_SIZE = 64
TRAIN_SEED, VAL_SEED = 1, 2  # scenes that the detector never saw, and two sets that share none


def run_demo(out: Path, images: int, seed: int, echo: Callable[[str], None]) -> Evaluation:
    """Generate scenes, profile the embedded detector, train a router, evaluate, draw.

    Args:
        out: gets `scenes/`, `profile-train/`, `profile-val/`, `router/`, `predict/` and the report.
        images: scenes to learn from; two thirds as many are evaluated on.
        seed: other scenes and another training.
        echo: called with lines of text for people.

    Returns:
        The evaluation of the router.

    Raises:
        DualResError: If `out` cannot be written.
    """
    start = time.perf_counter()
    make_dir(out)
    detector = adapt(build_demo_detector())
    detector.class_names = dict(enumerate(CLASSES, 1))
    profiles: dict[str, Profile] = {}
    folders: dict[str, Path] = {}
    sizes = {"train": images, "val": max(30, images * 2 // 3)}
    for split, split_seed in (("train", TRAIN_SEED), ("val", VAL_SEED)):
        echo(f"{split}: {sizes[split]} generated scenes")
        folder = out / f"scenes-{sizes[split]}-{seed}"
        annotations, folders[split] = write_coco(folder, split, sizes[split], seed=1000 * (seed + 1) + split_seed)
        profiles[split] = build_profile(
            detector,
            load_dataset(annotations, folders[split]),
            out / f"profile-{split}-{sizes[split]}-{seed}",
            ProfileSettings(HIGH_SIZE, LOW_SIZE / HIGH_SIZE, seed=seed),
            detector_name="demo detector",
        )
    config = TrainConfig(train_backbone=False, seed=seed)
    router = train_router(profiles["train"], config, router=demo_router(detector.detector))
    router.save(out / "router")
    result = evaluate(profiles["val"], router, seed=seed, progress=True)
    write_evaluation(
        out,
        result,
        profiles["val"],
        title="DualRes demo: generated scenes",
        run={
            "command": f"dualres demo --out {out} --images {images} --seed {seed}",
            "seed": seed,
            "router": router.info,
        },
    )
    predictor = Predictor(detector, Gate(router, router.threshold_for(0.5)), HIGH_SIZE, LOW_SIZE / HIGH_SIZE)
    save_some(predictor, folders["val"], out / "predict", 12)
    echo(summary(result))
    echo(f"done in {time.perf_counter() - start:.0f} s; look at {out / 'report.html'} and {out / 'predict'}")
    return result


def demo_router(detector: FCOS) -> ResolutionRouter:
    """A router that looks through the detector's own body at thumbnail size; its head is still to be fitted.

    Args:
        detector: the demo's.

    Returns:
        The router.
    """
    transform = detector.transform
    config = RouterConfig("demo", ROUTER_SIZE, [1, 2, 3, 4], 0, tuple(transform.image_mean), tuple(transform.image_std))
    router = ResolutionRouter(config)
    for own, given in zip(router.backbone.blocks, detector.backbone.stages()):  # type: ignore[arg-type]
        own.load_state_dict(given.state_dict())
    return router


def save_some(predictor: Predictor, folder: Path, out: Path, count: int) -> None:
    """Draw the detections of the first few images of a folder.

    Args:
        predictor: draws and routes.
        folder: of the images.
        out: gets the pictures; made if it is missing.
        count: how many images.
    """
    listed = make_dir(out) / "images.txt"
    chosen = sorted(folder.iterdir())[:count]
    listed.write_text("\n".join(str(p.resolve()) for p in chosen))
    save_predictions(predictor, str(listed), out, Outputs(conf=0.3, routes=True))
