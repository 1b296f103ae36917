"""The blocks of this project's own small networks, in forward order, with random weights."""

from __future__ import annotations

from collections import OrderedDict
from itertools import pairwise

from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock
from torchvision.ops import Conv2dNormActivation, FeaturePyramidNetwork


def _conv(cin: int, cout: int, stride: int, kernel: int = 3, groups: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(cin, cout, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(cout),
        nn.ReLU6(inplace=True),
    )


class _Separable(nn.Module):
    """Inverted residual: expand, depthwise, project; with a skip where the shapes allow one."""

    def __init__(self, cin: int, cout: int, stride: int, expand: int = 4, kernel: int = 3):
        super().__init__()
        mid = cin * expand
        self.body = nn.Sequential(
            *([_conv(cin, mid, 1, kernel=1)] if expand > 1 else []),
            _conv(mid, mid, stride, kernel, groups=mid),
            nn.Conv2d(mid, cout, 1, bias=False),
            nn.BatchNorm2d(cout),
        )
        self.skip = stride == 1 and cin == cout

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.body(x)
        return x + y if self.skip else y


def tiny_blocks() -> list[nn.Module]:
    """About 0.45 M parameters: small enough to train from nothing in a minute on a CPU."""
    plan = [(16, 24, 2), (24, 24, 1), (24, 40, 2), (40, 40, 1), (40, 80, 2), (80, 80, 1), (80, 112, 2)]
    return [_conv(3, 16, 2), *(_Separable(*row) for row in plan)]


class _Residual(nn.Module):
    """x + conv(x)."""

    def __init__(self, width: int):
        super().__init__()
        self.body = _conv(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + self.body(x)
        return y


def plain_blocks() -> list[nn.Module]:
    """One block per stride, 2 to 32, of plain 3 x 3 convolutions.

    Depthwise layers would save multiplications and cost time: at equal GMACs this runs three times as fast on a CPU,
    in PyTorch and in ONNX Runtime.
    """
    return _strides(12, 24, 48, 96, 160)


def narrow_blocks() -> list[nn.Module]:
    """`plain_blocks` of half the multiplications."""
    return _strides(8, 16, 32, 64, 128)


def _strides(*widths: int) -> list[nn.Module]:
    """One block per stride of these widths; those of stride 8 and more have a residual layer."""
    blocks: list[nn.Module] = [_conv(3, widths[0], 2)]
    for number, (cin, cout) in enumerate(pairwise(widths)):
        blocks.append(nn.Sequential(_conv(cin, cout, 2), *([_Residual(cout)] if number else [])))
    return blocks


def lite_blocks() -> list[nn.Module]:
    """Stem and stages of EfficientNet-Lite0 (Apache-2.0), symmetric padding; weights load from its files by order."""
    plan = [  # expansion, kernel, stride, channels, repeats
        (1, 3, 1, 16, 1),
        (6, 3, 2, 24, 2),
        (6, 5, 2, 40, 2),
        (6, 3, 2, 80, 3),
        (6, 5, 1, 112, 3),
        (6, 5, 2, 192, 4),
        (6, 3, 1, 320, 1),
    ]
    blocks: list[nn.Module] = [_conv(3, 32, 2)]
    width = 32
    for expand, kernel, stride, channels, repeats in plan:
        stage = [_Separable(width, channels, stride, expand, kernel)]
        stage += [_Separable(channels, channels, 1, expand, kernel) for _ in range(repeats - 1)]
        blocks.append(nn.Sequential(*stage))
        width = channels
    return blocks


_WIDTHS = (16, 24, 48, 96, 160)  # channels of the stem and the four stages
PYRAMID = 48  # channels of the feature pyramid and the heads


class DemoBackbone(nn.Module):
    """Five strided stages of residual blocks and a feature pyramid over the last three.

    Forward takes (B, 3, H, W) and returns three maps of 48 channels at strides 8, 16 and 32.
    """

    def __init__(self) -> None:
        super().__init__()
        self.out_channels = PYRAMID
        self.stem = Conv2dNormActivation(3, _WIDTHS[0], kernel_size=3, stride=2)
        self.stage2 = _stage(_WIDTHS[0], _WIDTHS[1], 1)
        self.stage3 = _stage(_WIDTHS[1], _WIDTHS[2], 2)
        self.stage4 = _stage(_WIDTHS[2], _WIDTHS[3], 2)
        self.stage5 = _stage(_WIDTHS[3], _WIDTHS[4], 1)
        self.fpn = FeaturePyramidNetwork(list(_WIDTHS[2:]), PYRAMID)

    def stages(self) -> list[nn.Module]:
        """The stem and the stages in forward order, without the pyramid: what the demo's router looks through."""
        return [self.stem, self.stage2, self.stage3, self.stage4, self.stage5]

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Maps of the pyramid.

        Args:
            images: (B, 3, H, W), normalised.

        Returns:
            `p3`, `p4` and `p5`: (B, 48, H / s, W / s) at strides s of 8, 16 and 32.
        """
        x = self.stage2(self.stem(images))
        maps = OrderedDict[str, Tensor]()
        for name, stage in (("p3", self.stage3), ("p4", self.stage4), ("p5", self.stage5)):
            x = stage(x)
            maps[name] = x
        pyramid: dict[str, Tensor] = self.fpn(maps)
        return pyramid


def _stage(inputs: int, outputs: int, blocks: int) -> nn.Sequential:
    """Residual blocks, the first of which halves the resolution."""
    shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride=2, bias=False), nn.BatchNorm2d(outputs))
    first = BasicBlock(inputs, outputs, stride=2, downsample=shortcut)
    return nn.Sequential(first, *(BasicBlock(outputs, outputs) for _ in range(blocks - 1)))
