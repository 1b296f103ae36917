"""VGG-SDN: VGG-16 with six internal classifiers (Kaya et al., Shallow-Deep Networks, ICML 2019), for 32x32 images.

An image that an internal classifier is sure of leaves the network there. Also the images: ten generated classes.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFilter
from torch import Tensor, nn

# VGG-16's convolutions, max pooling where the channels are followed by "M"; exits after every second convolution.
LAYERS = [64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512, "M", 512, 512, 512, "M"]
EXITS_AFTER = (2, 4, 6, 8, 10, 12)  # convolutions
CLASSES = 10


class InternalClassifier(nn.Module):
    """SDN's: max and average pooling mixed by a learned weight, then one linear layer."""

    def __init__(self, channels: int, side: int):
        super().__init__()
        self.pool = min(4, side)
        self.mix = nn.Parameter(torch.zeros(1))
        self.linear = nn.Linear(channels * self.pool**2, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, 10) logits."""
        share = self.mix.sigmoid()
        kernel = x.shape[-1] // self.pool
        pooled = share * F.max_pool2d(x, kernel) + (1 - share) * F.avg_pool2d(x, kernel)
        return self.linear(pooled.flatten(1))


class VggSdn(nn.Module):
    """Seven segments; after each of the first six an internal classifier.

    Args:
        width: multiplies VGG-16's channels.
    """

    def __init__(self, width: float = 1.0):
        super().__init__()
        segments: list[nn.Module] = []
        exits: list[nn.Module] = []
        pending: list[nn.Module] = []
        channels, side, convolutions = 3, 32, 0
        for position, layer in enumerate(LAYERS):
            if layer == "M":
                pending.append(nn.MaxPool2d(2))
                side //= 2
            else:
                wide = int(int(layer) * width)
                pending += [nn.Conv2d(channels, wide, 3, padding=1, bias=False), nn.BatchNorm2d(wide), nn.ReLU()]
                channels, convolutions = wide, convolutions + 1
            # A pooling layer belongs to the segment before it.
            done = convolutions in EXITS_AFTER and len(exits) < EXITS_AFTER.index(convolutions) + 1
            if done and (position + 1 == len(LAYERS) or LAYERS[position + 1] != "M"):
                segments.append(nn.Sequential(*pending))
                exits.append(InternalClassifier(channels, side))
                pending = []
        self.segments = nn.ModuleList([*segments, nn.Sequential(*pending)])
        self.exits = nn.ModuleList(exits)
        self.classifier = nn.Sequential(nn.Flatten(), nn.Linear(channels * side**2, CLASSES))

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3, 32, 32) -> (B, 10) logits of the whole network, without exits."""
        for segment in self.segments:
            x = segment(x)
        y: Tensor = self.classifier(x)
        return y

    def all_logits(self, x: Tensor) -> list[Tensor]:
        """Logits of the six internal classifiers and of the last one."""
        found = []
        for segment, leave in zip(self.segments, self.exits):
            x = segment(x)
            found.append(leave(x))
        return [*found, self.classifier(self.segments[-1](x))]


class EagerExits(nn.Module):
    """Early exits as people write them in PyTorch: Python's own `if`. One image at a time."""

    def __init__(self, net: VggSdn, threshold: float):
        super().__init__()
        self.net, self.threshold = net, threshold

    def forward(self, x: Tensor) -> tuple[Tensor, int]:
        for i, (segment, leave) in enumerate(zip(self.net.segments, self.net.exits)):
            x = segment(x)
            logits = leave(x)
            if float(logits.softmax(1).max()) > self.threshold:
                return logits, i
        return self.net.classifier(self.net.segments[-1](x)), len(self.net.exits)


class CondExits(nn.Module):
    """The same with nested `torch.cond`, which export to nested ONNX `If`."""

    def __init__(self, net: VggSdn):
        super().__init__()
        self.net = net

    def forward(self, x: Tensor, threshold: Tensor) -> tuple[Tensor, Tensor]:
        """(1, 3, 32, 32) and a scalar -> (1, 10) logits and (1,) the exit taken, 6 for the last layer."""
        return self._from(0, x, threshold)

    def _from(self, i: int, x: Tensor, threshold: Tensor) -> tuple[Tensor, Tensor]:
        if i == len(self.net.exits):
            y = self.net.classifier(self.net.segments[i](x))
            return y, torch.full((1,), i, dtype=torch.int64)
        x = self.net.segments[i](x)
        logits = self.net.exits[i](x)

        def leave(x: Tensor, logits: Tensor, threshold: Tensor) -> tuple[Tensor, Tensor]:
            return logits.clone(), torch.full((1,), i, dtype=torch.int64)

        def go_on(x: Tensor, logits: Tensor, threshold: Tensor) -> tuple[Tensor, Tensor]:
            return self._from(i + 1, x, threshold)

        sure = logits.softmax(1).max() > threshold
        return torch.cond(sure, leave, go_on, (x, logits, threshold))


# -- images ------------------------------------------------------------------------------------------------------


def make_images(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Ten classes of shapes at 32x32, from plain to hardly visible: (N, 3, 32, 32) in [-1, 1] and (N,) labels."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, CLASSES, count)
    images = np.stack([_draw(int(label), random) for label in labels])
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 127.5 - 1, torch.from_numpy(labels)


def _draw(label: int, random: np.random.Generator) -> np.ndarray:
    ground, ink = random.integers(0, 90, 3), random.integers(160, 256, 3)
    if random.random() < 0.5:
        ground, ink = ink, ground
    hard = random.random() ** 1.5  # most are easy
    ink = (ink * (1 - 0.6 * hard) + ground * 0.6 * hard).astype(int)
    image = Image.new("RGB", (64, 64), tuple(map(int, ground)))
    draw = ImageDraw.Draw(image)
    size = random.uniform(20, 28) * (1 - 0.3 * hard)
    cx, cy = 32 + random.uniform(-6, 6, 2)
    turn = random.uniform(-0.3, 0.3)
    corners = {2: 3, 3: 4, 4: 5, 5: 6}
    box = (cx - size, cy - size, cx + size, cy + size)
    colour = tuple(map(int, ink))
    if label == 0:
        draw.ellipse(box, fill=colour)
    elif label == 1:
        draw.ellipse(box, outline=colour, width=4)
    elif label in corners:
        draw.polygon(_ring(cx, cy, size, corners[label], turn), fill=colour)
    elif label in (6, 7):  # stars
        points = 4 if label == 6 else 6
        outer, inner = _ring(cx, cy, size, points, turn), _ring(cx, cy, size * 0.4, points, turn + np.pi / points)
        draw.polygon([p for pair in zip(outer, inner) for p in pair], fill=colour)
    else:  # a cross of two bars, three parallel bars
        for i in range(2 if label == 8 else 3):
            angle = turn + (i * np.pi / 2 if label == 8 else 0)
            shift = 0 if label == 8 else (i - 1) * size * 0.7
            dx, dy = np.cos(angle) * size, np.sin(angle) * size
            ox, oy = -np.sin(angle) * shift, np.cos(angle) * shift
            draw.line((cx - dx + ox, cy - dy + oy, cx + dx + ox, cy + dy + oy), fill=colour, width=5)
    image = image.filter(ImageFilter.GaussianBlur(1 + hard)).resize((32, 32), Image.Resampling.BILINEAR)
    noisy = np.asarray(image, dtype=np.float32) + random.normal(0, 3 + 20 * hard, (32, 32, 3))
    return np.clip(noisy, 0, 255).astype(np.uint8)


def _ring(cx: float, cy: float, size: float, points: int, turn: float) -> list[tuple[float, float]]:
    angles = turn + 2 * np.pi * np.arange(points) / points
    return [(float(cx + size * np.cos(a)), float(cy + size * np.sin(a))) for a in angles]
