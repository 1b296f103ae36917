"""effdet: one bench at two sizes, or two benches."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dualres_plugin.common.lazy import lazy

if TYPE_CHECKING:
    from dualres_plugin.adapters.effdet.adapter import EffdetAdapter
    from dualres_plugin.adapters.effdet.pair import EffdetPairAdapter

_HOME = {
    "EffdetAdapter": "adapter",
    "EffdetPairAdapter": "pair",
}
__all__ = ["EffdetAdapter", "EffdetPairAdapter"]
__getattr__ = lazy(__name__, _HOME)
