"""effdet: one bench at two sizes, or two benches."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dualres_plugin.common.lazy import lazy

if TYPE_CHECKING:
    from dualres_plugin.adapters.effdet.adapter import EffdetAdapter, EffdetPairAdapter

_HOME = {
    "EffdetAdapter": "adapter",
    "EffdetPairAdapter": "adapter",
}
__all__ = ["EffdetAdapter", "EffdetPairAdapter"]
__getattr__ = lazy(__name__, _HOME)
