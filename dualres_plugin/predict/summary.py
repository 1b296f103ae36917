"""What a run of `dualres predict` did, in numbers and in words."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from dualres_plugin.budget.share import off_target, routes_text
from dualres_plugin.common.card import SKIPPED
from dualres_plugin.common.errors import one_line
from dualres_plugin.common.types import ImageDecision

logger = logging.getLogger("dualres")


@dataclass
class Summary:
    """What a run of predict did.

    Attributes:
        out: folder of the results.
        shares: of the images at each size, largest first, that the calibration promises; None where there is none.
        held: a controller moves the threshold to keep them.
        routes: how many were predicted by each route.
        high: how many of them at the largest size.
        left_out: how many were not, because they cannot be read or the detector rejects them.
        rejected: how many of these the detector rejects.
        first_problem: why the first of them was left out.
        pace: of frames per second that are held, in words.
    """

    out: Path
    shares: tuple[float, ...] | None = None
    held: bool = False
    routes: Counter[str] = field(default_factory=Counter)
    high: int = 0
    left_out: int = 0
    rejected: int = 0
    first_problem: str = ""
    pace: str = ""

    def count(self, route: ImageDecision) -> None:
        """One more image, by its route."""
        self.routes[route.route] += 1
        self.high += route.step == 0

    @property
    def images(self) -> int:
        """How many were predicted."""
        return self.routes.total()

    @property
    def target(self) -> float | None:
        """The share at the largest size that the calibration promises."""
        return None if self.shares is None else self.shares[0]

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
        text = routes_text(self.routes)
        if self.shares is not None:
            wanted = self.shares[:1] if len(self.shares) == 2 else self.shares
            text += f", target {' / '.join(f'{share:.0%}' for share in wanted)}"
        text += f"; {self.pace}" if self.pace else ""
        text += f"; results in {self.out}"
        unreadable = self.left_out - self.rejected
        text += f"; {unreadable} unreadable files left out" if unreadable else ""
        text += f"; {self.rejected} images that the detector rejects left out" if self.rejected else ""
        return text + (f"\n{self.hint}" if self.hint else "")

    @property
    def hint(self) -> str:
        """What to do where the share is too far from its target to be chance; empty where it is not."""
        ran = self.images - self.routes[SKIPPED]
        if self.target is None or self.held or not ran or not off_target(self.target, self.high, ran):
            return ""
        return (
            f"The share at high is far from the target of {self.target:.0%}: these images are not like those that the "
            "router was calibrated on. `dualres swap` calibrates it on images of yours; --hold keeps the share."
        )
