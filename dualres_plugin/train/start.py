"""The router that a training starts from."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from dualres_plugin.common.errors import DualResError
from dualres_plugin.common.files.shipped import SHIPPED
from dualres_plugin.hosts.contract import HostAdapter
from dualres_plugin.hosts.registry import load_detector
from dualres_plugin.router.config import RouterConfig
from dualres_plugin.router.network import ResolutionRouter
from dualres_plugin.train.config import TrainConfig


def own_backbone_router(adapter: HostAdapter[Any], input_size: int = 128) -> ResolutionRouter:
    """A router whose frozen features are the detector's own backbone at thumbnail size, every stage pooled.

    Args:
        adapter: of the detector.
        input_size: side of the router's thumbnails in pixels.

    Returns:
        The router, with the detector's weights in its body and a head that is still to be fitted.

    Raises:
        DualResError: If the detector's adapter does not offer its backbone.
    """
    blocks, description = adapter.router_backbone()
    # Early stages see texture and small things, late ones objects. A list of stages is pooled after each of them but
    # the stem, a list of single layers (twice as long) at every other one.
    step = 1 if len(blocks) <= 6 else 2
    pool = sorted({*range(step, len(blocks), step), len(blocks) - 1})
    config = RouterConfig(adapter.name, input_size, pool, 0, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), description)
    router = ResolutionRouter(config)
    for own, given in zip(router.backbone.blocks, blocks):  # type: ignore[arg-type]
        own.load_state_dict(given.state_dict())
    return router


def new_router(config: TrainConfig) -> ResolutionRouter:
    """The router that the settings describe, before any training.

    Args:
        config: `backbone`, `weights`, `input_size`, `pool` and `hidden`.

    Returns:
        The router.

    Raises:
        DualResError: If the backbone is unknown, its detector or weights cannot be loaded, or weights are given for
            one that brings its own.
    """
    if config.weights is not None and (config.backbone in SHIPPED or config.backbone.startswith("detector:")):
        raise DualResError(
            f"weights '{config.weights}' are of no use with backbone '{config.backbone}', which brings its own: leave "
            "one of them out."
        )
    if config.backbone.startswith("detector:"):
        return own_backbone_router(load_detector(config.backbone.removeprefix("detector:")), config.input_size or 128)
    if config.backbone in SHIPPED:
        return shipped_body_router(config.backbone, config.input_size)
    architecture = RouterConfig(config.backbone, config.input_size or 128, list(config.pool), config.hidden)
    return ResolutionRouter(architecture, weights=config.weights)


def shipped_body_router(name: str, input_size: int | None = None) -> ResolutionRouter:
    """The body of a router that ships, with a new head.

    Args:
        name: "default" or "small".
        input_size: side of the thumbnails in pixels; None is that router's own.

    Returns:
        The router; its head is still to be fitted.
    """
    shipped = ResolutionRouter.from_pretrained(name)
    router = ResolutionRouter(replace(shipped.config, input_size=input_size or shipped.config.input_size))
    router.backbone.load_state_dict(shipped.backbone.state_dict())
    return router
