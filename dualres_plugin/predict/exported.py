"""An exported model in the place of a detector with its router: `dualres predict model.onnx photos/`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dualres_plugin.budget.controller import BudgetController
from dualres_plugin.common.errors import DualResError, at_hand
from dualres_plugin.common.images.photo import SourceImage
from dualres_plugin.common.types import Detections, ImageDecision
from dualres_plugin.predict.predictor import Prediction
from dualres_plugin.runtime.engines import MANIFEST
from dualres_plugin.runtime.session import DualResSession


@dataclass(frozen=True)
class ExportedClasses:
    """What the outputs ask a detector for: its classes, as the exported file knows them."""

    class_names: dict[int, str] | None
    label_ids: list[int] | None = None


class ExportedPredictor:
    """Runs an exported model over images, in the interface of `Predictor`.

    Args:
        session: the loaded model, with its thresholds.
        conf: detections below this score are left out.
    """

    def __init__(self, session: DualResSession, conf: float):
        self.session = session
        self.conf = conf
        self.adapter = ExportedClasses(session.card.names or None)

    def settings(self) -> dict[str, Any]:
        """What the predictions depend on, as plain values."""
        return {"form": self.session.card.form, "least score": self.conf, **self._point()}

    def _point(self) -> dict[str, Any]:
        session, two = self.session, len(self.session.sizes) == 2
        if session.controller is not None:
            return {"held": session.controller.target if two else session.controller.shares}
        return {"threshold": session.threshold} if two else {"thresholds": session.thresholds}

    @property
    def size(self) -> int:
        """High size in pixels."""
        return self.session.sizes[0]

    @property
    def sizes(self) -> Sequence[float]:
        """In pixels, largest first."""
        return self.session.sizes

    @property
    def expected_shares(self) -> tuple[float, ...] | None:
        """As of `Predictor`."""
        return self.session.expected_shares

    @property
    def controller(self) -> BudgetController | None:
        """As of `Predictor`."""
        return self.session.controller

    @property
    def held(self) -> bool:
        """As of `Predictor`."""
        return self.session.controller is not None

    def replay(self, score: float) -> None:
        """As of `Predictor`."""
        if self.session.controller is not None:
            self.session.controller.replay(score)

    def stream(
        self, images: Iterator[SourceImage], on_skip: Callable[[str], None] | None = None
    ) -> Iterator[Prediction]:
        """Predictions in the order of the images, one at a time.

        Args:
            on_skip: told of each image that is rejected, which is then left out; without it the error is raised.
        """
        for image in images:
            threshold = self.session.next_threshold
            try:
                with at_hand(image.path or image.name):
                    (found,) = self.session.stream(image, conf=self.conf)
            except DualResError as error:
                if on_skip is None:
                    raise
                on_skip(f"'{image.name}': {error}")
                continue
            decision = ImageDecision(found.route, found.score, threshold, found.step, found.size)
            yield Prediction(image, Detections(found.boxes, found.scores, found.labels), decision)


def is_exported(detector: str) -> bool:
    """Is this the file of `dualres export`, or the folder or manifest of a pair?

    Args:
        detector: what stands in the detector's place on the command line.
    """
    path = Path(detector)
    return path.suffix == ".onnx" or path.name == MANIFEST or (path / MANIFEST).is_file()
