"""Two effdet networks by name, for the command line."""

from __future__ import annotations

from typing import Any

from dualres_plugin.adapters.effdet.adapter import EffdetAdapter
from dualres_plugin.adapters.effdet.models import build_bench
from dualres_plugin.common.errors import DualResError


class EffdetPairAdapter(EffdetAdapter):
    """Two networks for the command line: `effdet-pair:HIGH,LOW,high_checkpoint=…,low_checkpoint=…`."""

    @classmethod
    def accepts(cls, detector: Any) -> bool:
        """Nothing: a detector in hand is `EffdetAdapter`'s."""
        return False

    @classmethod
    def from_spec(cls, spec: str, **options: str) -> EffdetPairAdapter:
        """`HIGH,LOW`, with `checkpoint` and `image_size` as `high_…` and `low_…`, `num_classes` for both.

        Raises:
            DualResError: If there are not two names, or one cannot be built; see `models.build_bench`.
        """
        names = spec.split(",")
        if len(names) != 2:
            raise DualResError(
                "write effdet-pair:HIGH,LOW,high_checkpoint=FILE,low_checkpoint=FILE, such as "
                "effdet-pair:tf_efficientdet_d2,tf_efficientdet_d1,high_checkpoint=d2.pth,low_checkpoint=d1.pth"
            )
        shared = {k: v for k, v in options.items() if not k.startswith(("high_", "low_"))}
        high, low = (
            build_bench(n, **shared, **{k.removeprefix(p): v for k, v in options.items() if k.startswith(p)})
            for n, p in zip(names, ("high_", "low_"))
        )
        return cls(high, low)
