"""Small random routers, and a file that must never be unpickled."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import torch

from dualres_plugin.router.network import ResolutionRouter


def tiny(seed: int = 0, **settings: Any) -> ResolutionRouter:
    torch.manual_seed(seed)
    return ResolutionRouter(**{"backbone": "tiny", "input_size": 32, **settings}).eval()


def loud(router: ResolutionRouter) -> ResolutionRouter:
    """A random network scores every photo alike: spread the scores."""
    with torch.no_grad():
        router.head[-1].weight.mul_(1000)
    return router


class _Bomb:
    def __init__(self, target: str):
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.target,)


def pickle_bomb(path: Path, target: Path) -> Path:
    path.write_bytes(pickle.dumps(_Bomb(str(target))))
    return path
