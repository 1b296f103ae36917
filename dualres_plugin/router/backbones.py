"""Feature extractors for the router, by name, without any download.

A name is one of these, and `@N` behind it keeps the first N blocks only:
- `plain`, `narrow` and `tiny`, small networks of this project; the first two are the bodies of the shipped routers
- `lite`, the layout of EfficientNet-Lite0, for which weights are easily found
- `demo`, the body of the demo's detector
- `mobilenet_v3_large` or any other torchvision classifier that has `.features`
- `timm:NAME`
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dualres_plugin.common.errors import DualResError
from dualres_plugin.common.weights import check_finite, read_state_dict
from dualres_plugin.router.blocks import DemoBackbone, lite_blocks, narrow_blocks, plain_blocks, tiny_blocks
from dualres_plugin.router.config import RouterConfig


class PooledStages(nn.Module):
    """Runs blocks one after another and returns the globally averaged features of chosen ones.

    Args:
        blocks: run in order.
        pool: indices of the blocks whose output is averaged; the last block alone is the paper's router.

    Raises:
        DualResError: If there is no such block.
    """

    def __init__(self, blocks: Sequence[nn.Module], pool: Sequence[int] | None = None):
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        count = len(self.blocks)
        wanted = pool or [count - 1]
        if not all(-count <= p < count for p in wanted):
            raise DualResError(f"router pool={list(wanted)}: this backbone has {count} blocks, 0 to {count - 1}.")
        self.pool = sorted({p % count for p in wanted})
        # Blocks after the last pooled one would cost compute and change nothing.
        del self.blocks[self.pool[-1] + 1 :]

    def forward(self, images: Tensor) -> Tensor:
        """Pooled features.

        Args:
            images: (B, 3, S, S), normalised.

        Returns:
            (B, C), C the sum of the pooled blocks' channels.
        """
        pooled = []
        x = images
        for i, block in enumerate(self.blocks):
            x = block(x)
            if i in self.pool:
                pooled.append(x.mean(dim=(2, 3)))
        return torch.cat(pooled, dim=1) if len(pooled) > 1 else pooled[0]


def _torchvision_blocks(name: str) -> list[nn.Module]:
    from torchvision import models

    # Of classifiers alone: `get_model` of a detector would fetch weights for the body in it.
    if name not in models.list_models(module=models):
        raise DualResError(
            f"unknown router backbone '{name}'. Use 'plain', 'narrow', 'tiny', a torchvision classifier such as "
            "'mobilenet_v3_large', or 'timm:NAME'."
        )
    model = models.get_model(name, weights=None)
    features = getattr(model, "features", None)
    if not isinstance(features, nn.Sequential):
        raise DualResError(
            f"router backbone '{name}' has no `.features` sequence. Use a MobileNet, EfficientNet, ConvNeXt, VGG or "
            "DenseNet of torchvision, or 'timm:NAME'."
        )
    return list(features.children())


def _timm_blocks(name: str) -> list[nn.Module]:
    try:
        import timm
    except ImportError:
        raise DualResError(
            f"router backbone 'timm:{name}' needs timm. Install it with: pip install \"dualres-plugin[timm]\""
        ) from None
    # A bare name of timm's own list: `hf-hub:` and `local-dir:` in front of one would open a hub or a folder.
    if not re.fullmatch(r"[A-Za-z0-9_.]+", name) or not timm.is_model(name):
        raise DualResError(f"router backbone 'timm:{name}': timm has no model of that name.")
    try:
        model: Any = timm.create_model(name, pretrained=False, num_classes=0)
    except (RuntimeError, ValueError, TypeError) as error:
        raise DualResError(f"router backbone 'timm:{name}': {error}") from None
    if hasattr(model, "conv_stem") and hasattr(model, "blocks"):
        # EfficientNet and MobileNet families: their parts in forward order, the classifier's conv_head left out.
        stem = nn.Sequential(model.conv_stem, model.bn1, getattr(model, "act1", nn.Identity()))
        return [stem, *model.blocks.children()]
    return [_ForwardFeatures(model)]


class _ForwardFeatures(nn.Module):
    """Any timm network as one block."""

    def __init__(self, model: Any):
        super().__init__()
        self.model: Any = model

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.model.forward_features(x)
        if y.ndim != 4:
            raise DualResError("this timm backbone gives tokens, not a feature map: choose a convolutional one.")
        return y


def build_backbone(name: str, pool: Sequence[int] | None = None) -> PooledStages:
    """Build a backbone with random weights.

    Args:
        name: see the module docstring.
        pool: blocks to average, see `PooledStages`.

    Raises:
        DualResError: If the name is unknown or its package is missing.
    """
    base, _, keep = name.partition("@")
    if base == "tiny":
        blocks = tiny_blocks()
    elif base == "plain":
        blocks = plain_blocks()
    elif base == "narrow":
        blocks = narrow_blocks()
    elif base == "lite":
        blocks = lite_blocks()
    elif base == "demo":
        blocks = DemoBackbone().stages()
    elif base.startswith("timm:"):
        blocks = _timm_blocks(base.removeprefix("timm:"))
    else:
        blocks = _torchvision_blocks(base)
    if keep:
        if not keep.isdecimal() or not 1 <= int(keep) <= len(blocks):
            raise DualResError(f"router backbone '{name}': '@N' takes 1 to {len(blocks)} blocks.")
        blocks = blocks[: int(keep)]
    return PooledStages(blocks, pool)


def load_backbone_weights(backbone: nn.Module, path: Path | str) -> int:
    """Copy a local weights file into a backbone.

    Reads safetensors, and PyTorch files with `weights_only=True` (no pickled code is run). Tensors are matched by
    order and shape, not by name, so a timm or torchvision state dict of the same network fits, classifier and all,
    and so does the body of a torchvision detector.

    Args:
        backbone: changed in place.
        path: the file.

    Returns:
        How many tensors matched.

    Raises:
        DualResError: If the file is missing, unreadable, or belongs to another network.
    """
    tensors = list(read_state_dict(path, "backbone weights").values())
    own = backbone.state_dict()
    # Both networks list their tensors in forward order, so the wanted ones are a contiguous run of the file:
    # slide along the file until every shape agrees.
    wanted = [t.shape for t in own.values()]
    for start in range(len(tensors) - len(wanted) + 1):
        run = tensors[start : start + len(wanted)]
        if all(t.shape == shape for t, shape in zip(run, wanted)):
            check_finite(dict(zip(own, run)), f"backbone weights '{path}'")
            backbone.load_state_dict({k: t.to(own[k].dtype) for k, t in zip(own, run)})
            return len(run)
    raise DualResError(
        f"backbone weights '{path}' hold {len(tensors)} tensors that do not fit the {len(wanted)} of this backbone. "
        "Use a file of the same network (timm or torchvision parameter names)."
    )


def named_backbone(config: RouterConfig) -> nn.Module:
    """The body that a configuration names, with random weights: one of ours, a package's, or a detector's own.

    Args:
        config: its `backbone`, `pool` and `description` count.

    Raises:
        DualResError: If the name is unknown or its package is missing.
    """
    if config.description:
        from dualres_plugin.hosts.registry import adapter_class

        with torch.device("cpu"):  # the host is imported here, perhaps on the meta device: what it makes must be real
            host = adapter_class(config.backbone)
        return PooledStages(host.build_backbone(config.description), config.pool)
    return build_backbone(config.backbone, config.pool)
