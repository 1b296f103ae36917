"""What a run of `dualres predict` did, in numbers and in words."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from dualres_plugin.budget.share import off_target, share_text
from dualres_plugin.common.errors import one_line

logger = logging.getLogger("dualres")


@dataclass
class Summary:
    """What a run of predict did.

    Attributes:
        out: folder of the results.
        target: the share at high that the calibration promises; None where there is none.
        held: a controller moves the threshold to keep it.
        images, high: how many were predicted, and how many of them at high.
        left_out: how many were not, because they cannot be read or the detector rejects them.
        rejected: how many of these the detector rejects.
        first_problem: why the first of them was left out.
    """

    out: Path
    target: float | None = None
    held: bool = False
    images: int = 0
    high: int = 0
    left_out: int = 0
    rejected: int = 0
    first_problem: str = ""

    def count(self, route: str) -> None:
        """One more image."""
        self.images += 1
        self.high += route == "high"

    def skip(self, message: str) -> None:
        """One that cannot be used.

        Args:
            message: says why.
        """
        self.left_out += 1
        self.first_problem = self.first_problem or message
        logger.warning("left out: %s", one_line(message))

    def reject(self, message: str) -> None:
        """One that can be read, but not predicted.

        Args:
            message: says why.
        """
        self.rejected += 1
        self.skip(message)

    @property
    def share(self) -> float:
        """Share of the images so far that went high."""
        return self.high / self.images if self.images else 0.0

    def __str__(self) -> str:
        text = share_text(self.high, self.images)
        text += f", target {self.target:.0%}" if self.target is not None else ""
        text += f"; results in {self.out}"
        unreadable = self.left_out - self.rejected
        text += f"; {unreadable} unreadable files left out" if unreadable else ""
        text += f"; {self.rejected} images that the detector rejects left out" if self.rejected else ""
        return text + (f"\n{self.hint}" if self.hint else "")

    @property
    def hint(self) -> str:
        """What to do where the share is too far from its target to be chance; empty where it is not."""
        if self.target is None or self.held or not self.images or not off_target(self.target, self.high, self.images):
            return ""
        return (
            f"The share at high is far from the target of {self.target:.0%}: these images are not like those that the "
            "router was calibrated on. `dualres swap` calibrates it on images of yours; --hold keeps the share."
        )
