"""Train the embedded default's detector from nothing, on generated scenes.

    python -m dualres_plugin.demo.train_detector

draws the scenes, trains at mixed resolutions, measures AP at both sizes on unseen scenes, and writes
`detector.safetensors` and `detector.json`. Everything follows from the seed.
"""

from __future__ import annotations

import argparse
import math
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torchvision.models.detection import FCOS
from tqdm.auto import tqdm

from dualres_plugin.common.errors import DualResError
from dualres_plugin.common.files.atomic import make_dir, write_json
from dualres_plugin.demo.detector import (
    HIGH_SIZE,
    LOW_SIZE,
    WEIGHTS_PATH,
    build_demo_detector,
    count_parameters,
    load_weights,
    save_weights,
)
from dualres_plugin.demo.measure import average_precision, set_size, to_tensor
from dualres_plugin.demo.scenes import CLASSES, Scene, generate_scenes

BATCH = 8
SIZES = {128: 0.25, 160: 0.1, 192: 0.15, 256: 0.5}
"""Long side in pixels and its share of the batches: both sizes the demo runs at, and some between."""
LEARNING_RATE = 2e-3
WEIGHT_DECAY = 0.02
EMA_DECAY = 0.998
TEST_SCENES = 200

Tensors = tuple[Tensor, ...] | list[Tensor]
Batch = tuple[list[Tensor], list[dict[str, Tensor]]]


# --- batches ----------------------------------------------------------------------------------------------


def batches(scenes: Sequence[Scene], rng: np.random.Generator) -> Iterator[Batch]:
    """One epoch of augmented batches; pictures of a batch have one shape, so that padding costs little.

    Args:
        scenes: what to draw from; each is used at most once.
        rng: source of the order and the augmentation.

    Yields:
        `BATCH` pictures, (3, H, W) in [0, 1], and torchvision's targets for them.
    """
    shapes = [tuple(sorted(scene.image.shape[:2])) for scene in scenes]
    groups = []
    for shape in sorted(set(shapes)):
        members = rng.permutation([i for i, other in enumerate(shapes) if other == shape])
        groups += [members[i : i + BATCH] for i in range(0, len(members) - BATCH + 1, BATCH)]
    for group in rng.permutation(len(groups)):
        upright = bool(rng.random() < 0.5)
        pairs = [augment(scenes[i], upright, rng) for i in groups[group]]
        yield [image for image, _ in pairs], [target for _, target in pairs]


def count_batches(scenes: Sequence[Scene]) -> int:
    """How many batches `batches` gives.

    Args:
        scenes: as there.

    Returns:
        Batches of an epoch.
    """
    shapes = [tuple(sorted(scene.image.shape[:2])) for scene in scenes]
    return sum(shapes.count(shape) // BATCH for shape in set(shapes))


def augment(scene: Scene, upright: bool, rng: np.random.Generator) -> tuple[Tensor, dict[str, Tensor]]:
    """Turn, mirror and recolour a scene; what makes a class survives all of it.

    Args:
        scene: the scene.
        upright: return a picture at least as high as wide; otherwise at least as wide as high.
        rng: source of the random choices.

    Returns:
        The (3, H, W) picture in [0, 1] and torchvision's target for it.
    """
    image, boxes = to_tensor(scene.image), torch.from_numpy(scene.boxes)
    height, width = image.shape[1:]
    if (height > width) != upright and height != width:
        image, boxes = image.transpose(1, 2), boxes[:, [1, 0, 3, 2]]
        height, width = width, height
    if rng.random() < 0.5:
        image = image.flip(2)
        boxes = torch.stack([width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]], 1)
    if rng.random() < 0.5:
        image = image.flip(1)
        boxes = torch.stack([boxes[:, 0], height - boxes[:, 3], boxes[:, 2], height - boxes[:, 1]], 1)
    image = image[torch.from_numpy(rng.permutation(3))] * float(rng.uniform(0.7, 1.2))
    return image.clamp(0, 1), {"boxes": boxes, "labels": torch.from_numpy(scene.labels)}


# --- training ---------------------------------------------------------------------------------------------


def train(model: FCOS, scenes: Sequence[Scene], epochs: int, seed: int, sizes: Mapping[int, float] = SIZES) -> FCOS:
    """Train at mixed resolutions, in place.

    Args:
        model: the detector to train.
        scenes: what to learn from; at least one batch of one shape.
        epochs: passes over the scenes.
        seed: of the order, the augmentation and the sizes.
        sizes: long sides in pixels, each with its share of the batches; the shares sum to 1.

    Returns:
        The running average of the weights, in evaluation mode.

    Raises:
        DualResError: If the loss stops being a number.
    """
    rng = np.random.default_rng(seed)
    average = AveragedModel(model, multi_avg_fn=_follow, use_buffers=True)
    steps = epochs * count_batches(scenes)
    optimizer = torch.optim.AdamW(_decay_groups(model), lr=LEARNING_RATE)
    warm_up = min(100, steps // 5 + 1)

    def rate(step: int) -> float:
        return min((step + 1) / warm_up, 0.5 * (1 + math.cos(math.pi * step / steps)))

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
    model.train().to(memory_format=torch.channels_last)
    step = 0
    with tqdm(total=steps, desc="training", unit="batch", mininterval=2) as bar:
        for _ in range(epochs):
            for images, targets in batches(scenes, rng):
                set_size(model, int(rng.choice(list(sizes), p=list(sizes.values()))))
                losses: dict[str, Tensor] = model(images, targets)
                loss = torch.stack(list(losses.values())).sum()
                if not torch.isfinite(loss):
                    raise DualResError(f"training diverged at step {step}: the loss is {loss.item()}.")
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(model.parameters(), 10.0)
                optimizer.step()
                schedule.step()
                step += 1
                average.update_parameters(model)
                bar.set_postfix({k[:7]: f"{v.item():.2f}" for k, v in losses.items()}, refresh=False)
                bar.update()
    trained: FCOS = average.module.requires_grad_(False).eval()
    set_size(trained, HIGH_SIZE)
    return trained


def _decay_groups(model: nn.Module) -> list[dict[str, Any]]:
    """Weight decay for the kernels only, not for biases and normalisation."""
    kernels = [value for value in model.parameters() if value.ndim > 1]
    others = [value for value in model.parameters() if value.ndim <= 1]
    return [{"params": kernels, "weight_decay": WEIGHT_DECAY}, {"params": others, "weight_decay": 0.0}]


def _follow(average: Tensors, model: Tensors, count: Tensor | int) -> None:
    """Move the average towards the model; its memory grows with the steps, so that the first are soon forgotten."""
    step = int(count) + 1
    get_ema_multi_avg_fn(min(EMA_DECAY, step / (step + 10)))(average, model, count)


def make_detector(
    out: Path,
    epochs: int,
    images: int,
    seed: int,
    *,
    sizes: Mapping[int, float] = SIZES,
    test_scenes: int = TEST_SCENES,
) -> dict[str, Any]:
    """Train, measure and write `detector.safetensors` and `detector.json`.

    Args:
        out: folder for the two files.
        epochs: passes over the training scenes.
        images: training scenes to draw.
        seed: of everything random.
        sizes: long sides in pixels to train at, each with its share of the batches.
        test_scenes: unseen scenes to measure AP on.

    Returns:
        What `detector.json` holds.

    Raises:
        DualResError: If there is too little to train on, the training diverges, or `out` cannot be written.
    """
    out = make_dir(out)
    if epochs < 1 or images < 2 * BATCH:
        raise DualResError(f"training needs at least 1 epoch and {2 * BATCH} images.")
    began = time.perf_counter()
    torch.manual_seed(seed)
    scenes = list(generate_scenes(seed, "detector-train", images, os.cpu_count() or 1))
    model = train(build_demo_detector(pretrained=False), scenes, epochs, seed, sizes)
    minutes = (time.perf_counter() - began) / 60
    save_weights(model, out / WEIGHTS_PATH.name)
    load_weights(model, out / WEIGHTS_PATH.name)  # measure what was written, in half precision
    unseen = list(generate_scenes(seed, "detector-test", test_scenes, os.cpu_count() or 1))
    report = {
        "trained_by": f"python -m dualres_plugin.demo.train_detector --epochs {epochs} --images {images} --seed {seed}",
        "minutes": round(minutes, 1),
        "torch": torch.__version__,
        "parameters": count_parameters(model),
        "classes": list(CLASSES),
        "high_size": HIGH_SIZE,
        "low_size": LOW_SIZE,
        "test_scenes": test_scenes,
        "ap_high": round(average_precision(model, unseen, HIGH_SIZE), 4),
        "ap_low": round(average_precision(model, unseen, LOW_SIZE), 4),
    }
    write_json(out / WEIGHTS_PATH.with_suffix(".json").name, report)
    return report


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line of `make_detector`.

    Args:
        arguments: those after the program's name; `sys.argv` by default.

    Raises:
        DualResError: As `make_detector`.
    """
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--epochs", type=int, default=24)
    parser.add_argument("--images", type=int, default=1600, help="training scenes to draw")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=WEIGHTS_PATH.parent, help="folder for the two files")
    options = parser.parse_args(arguments)
    report = make_detector(options.out, options.epochs, options.images, options.seed)
    print(f"AP {report['ap_high']:.3f} at {HIGH_SIZE}, {report['ap_low']:.3f} at {LOW_SIZE} px: {options.out}")


if __name__ == "__main__":
    main()
