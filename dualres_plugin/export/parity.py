"""Does the exported file do what eager PyTorch does? Whole path: photo in, boxes out, every route."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dualres_plugin.budget.calibration import POINTS, score_at
from dualres_plugin.budget.ladder import step_of
from dualres_plugin.common.card import Card
from dualres_plugin.common.errors import DualResError
from dualres_plugin.common.images.decode import read_image
from dualres_plugin.common.images.sources import iter_source
from dualres_plugin.common.types import Decision, Detections, RouterImages
from dualres_plugin.hosts.contract import HostAdapter
from dualres_plugin.hosts.ladder import Ladder
from dualres_plugin.hosts.routing import run_routed
from dualres_plugin.router.network import ResolutionRouter
from dualres_plugin.runtime.photo import make_frame
from dualres_plugin.runtime.result import SessionResult
from dualres_plugin.runtime.session import DualResSession


@dataclass(frozen=True)
class Limits:
    """How far a file may be from PyTorch.

    Attributes:
        box: network pixels.
        score: of a detection.
        router: of the router's score, as a share of the spread of its scores, which are logits of any scale.
        route: a route may differ where PyTorch's score is this close to a threshold between, in the same unit.
        thumbnail: how far a thumbnail that the session makes may move the router's score, in the same unit.
        floor: weaker detections are noise, and NMS may flip among them.
    """

    box: float = 0.5
    score: float = 1e-3
    router: float = 1e-2
    route: float = 1e-3
    thumbnail: float = 0.1
    floor: float = 0.05


@dataclass
class Parity:
    """The largest differences between a file and eager PyTorch.

    Attributes:
        images: photos compared.
        box: network pixels.
        score: of a detection.
        router: of the router's score.
        routes: photos whose route differs at the file's thresholds.
        detections: how many were compared.
        thumbnail: of the router's scores of the session's thumbnail and of PyTorch's, where the session makes it.
    """

    images: int = 0
    box: float = 0.0
    score: float = 0.0
    router: float = 0.0
    routes: int = 0
    detections: int = 0
    thumbnail: float | None = None

    def to_dict(self) -> dict[str, float]:
        """By name, for an exported file's metadata."""
        return {k: float(v) for k, v in vars(self).items() if v is not None}

    @classmethod
    def from_dict(cls, values: dict[str, float]) -> Parity:
        """What `to_dict` gave."""
        images, routes, detections = (int(values[name]) for name in ("images", "routes", "detections"))
        numbers = values["box"], values["score"], values["router"]
        return cls(images, *numbers, routes, detections, values.get("thumbnail"))

    def __str__(self) -> str:
        said = (
            f"{self.images} photos, every route, {self.detections} detections: boxes within {self.box:.2g} px, scores "
            f"within {self.score:.2g}, router within {self.router:.2g}, {self.routes} routes differ"
        )
        return said if self.thumbnail is None else f"{said}; its own thumbnail moves the router by {self.thumbnail:.2g}"


class ParityError(DualResError):
    """The file does not compute what PyTorch computes."""


def check_parity(
    session: DualResSession,
    adapter: HostAdapter[Any],
    router: ResolutionRouter,
    photos: Sequence[np.ndarray],
    limits: Limits | None = None,
) -> Parity:
    """Compare on real photos, with every route forced and with the file's own thresholds.

    Args:
        session: of the exported file.
        adapter, router: what it was exported from.
        photos: (H, W, 3) RGB uint8 each.
        limits: None is the default of `Limits`.

    Returns:
        The largest differences.

    Raises:
        ParityError: If any detection, score or route differs by more than the limits.
    """
    check = _Check(session, adapter, router, limits or Limits())
    for number, photo in enumerate(photos):
        check.photo(photo, f"photo {number}")
    return check.report


class _Check:
    """One comparison; `report` grows with every photo."""

    def __init__(
        self, session: DualResSession, adapter: HostAdapter[Any], router: ResolutionRouter, limits: Limits
    ) -> None:
        self.session = session
        self.adapter = adapter
        self.router = router
        self.limits = limits
        self.report = Parity()

    def photo(self, photo: np.ndarray, where: str) -> None:
        card = self.session.card
        batch = self.adapter.export_batch(photo, card.high, card.static is not None)
        score = float(self.router.score(_on_device(self.adapter.router_images(batch), self.router))[0])
        thumbnail = make_frame(photo, card).thumbnail
        if thumbnail is not None:
            score = self._own_thumbnail(thumbnail, score, where)
        for step, route in enumerate(card.routes):
            found = self._detections(photo, batch, step, f"{where}, {route}")
            self.report.router = max(self.report.router, abs(found.score - score))
        self._routing(score, self.session.predict(photo)[0], where)
        self.report.images += 1

    def _own_thumbnail(self, thumbnail: np.ndarray, eager: float, where: str) -> float:
        """PyTorch's score of the thumbnail that the session makes: the file's must equal it."""
        with torch.no_grad():
            score = float(self.router(torch.from_numpy(thumbnail).to(self.router.mean.device))[0])
        self.report.thumbnail = max(self.report.thumbnail or 0.0, abs(score - eager))
        if abs(score - eager) > self.limits.thumbnail * _spread(self.session):
            raise ParityError(
                f"{where}: the router scores {eager:.4f} by the thumbnail of PyTorch and {score:.4f} by that of the "
                "session: export with the thumbnail inside."
            )
        return score

    def _detections(self, photo: np.ndarray, batch: Any, step: int, where: str) -> SessionResult:
        """Run a photo both ways at one resolution and compare what was found; returns the file's result."""
        card = self.session.card
        conf = max(self.limits.floor, card.postprocess.floor)
        expected = _eager(self.adapter, batch, card, step)
        result = self.session.predict(photo, threshold=card.only(step), conf=conf / 2)[0]
        if result.step != step:
            raise ParityError(f"{where}: the file runs at its size number {result.step} whatever its thresholds say.")
        found = Detections(result.boxes, result.scores, result.labels)
        gain = max(make_frame(photo, card).gain)
        # Where the host stops counting, the last ones may change places.
        most = card.postprocess.max_det
        full = [float(d.scores[most - 1]) for d in (expected, found) if len(d) >= most]
        least = max(conf, max(full, default=0.0) + self.limits.score)
        self._match(expected, found, gain, least, where, "file")
        self._match(found, expected, gain, least, where, "PyTorch")
        return result

    def _match(self, one: Detections, other: Detections, gain: float, least: float, where: str, side: str) -> None:
        """Find every detection of `one` in `other`, which is the `side`'s; `gain` is network pixels per photo pixel."""
        limits, report = self.limits, self.report
        for box, score, label in zip(one.boxes, one.scores, one.labels):
            if score < least + limits.score:
                continue
            same = (other.labels == label) & (np.abs(other.scores - score) <= limits.score)
            apart = np.abs(other.boxes[same] - box).max(axis=1) * gain if same.any() else np.array([np.inf])
            if apart.min() > limits.box:
                raise ParityError(
                    f"{where}: a detection (label {label}, score {score:.3f}, box {np.round(box, 1).tolist()}) has no "
                    f"match from the {side} within {limits.box} px and {limits.score} of score."
                )
            nearest = np.abs(other.scores[same] - score)[apart.argmin()]
            report.box = max(report.box, float(apart.min()))
            report.score = max(report.score, float(nearest))
            report.detections += side == "file"

    def _routing(self, eager: float, found: SessionResult, where: str) -> None:
        """Compare the router's scores, and the routes at the file's thresholds."""
        spread = _spread(self.session)
        if self.report.router > self.limits.router * spread:
            raise ParityError(f"{where}: the router scores {eager:.4f} in PyTorch and {found.score:.4f} in the file.")
        thresholds = self.session.thresholds
        # The graph compares in single precision.
        if found.step != step_of(found.score, [float(np.float32(t)) for t in thresholds]):
            raise ParityError(f"{where}: the file takes another route than its score and its thresholds say.")
        between = [t for t in thresholds if (eager > t) != (found.score > t)]
        self.report.routes += bool(between)
        if any(abs(eager - t) > self.limits.route * spread for t in between):
            raise ParityError(f"{where}: PyTorch and the file choose different routes.")


def _spread(session: DualResSession) -> float:
    """Distance of the 10 % and 90 % quantiles of the router's scores; 1 without calibration."""
    quantiles = session.card.quantiles
    if len(quantiles) != POINTS:
        return 1.0
    low, high = score_at(np.array([0.1, 0.9]), quantiles)
    return max(float(high - low), 1e-3)


def _on_device(images: RouterImages, router: ResolutionRouter) -> RouterImages:
    device = router.mean.device
    given = images.images
    moved = given.to(device) if isinstance(given, torch.Tensor) else [image.to(device) for image in given]
    return RouterImages(moved, images.content)


def _eager(adapter: HostAdapter[Any], batch: Any, card: Card, step: int) -> Detections:
    def decide(images: RouterImages) -> Decision:
        count = len(images.content)
        return Decision(torch.zeros(count), torch.full((count,), step), card.only(step))

    return adapter.detections(run_routed(adapter, batch, decide, Ladder.of(card.scales)), batch)[0]


def sample_photos(images: Path | str | None, limit: int) -> list[np.ndarray]:
    """Photos to check with: the first of a folder or glob, or a real one that comes with matplotlib, in several crops.

    Args:
        images: folder or glob; None is matplotlib's.
        limit: take so many at most.

    Returns:
        (H, W, 3) RGB uint8 each.

    Raises:
        DualResError: If the folder holds no image.
    """
    if images is not None:
        photos = [image.pixels for image in islice(iter_source(str(images), on_skip=lambda message: None), limit)]
        if not photos:
            raise DualResError(f"'{images}' holds no readable image to check the export with.")
        return photos
    import matplotlib

    whole = read_image(Path(matplotlib.get_data_path(), "sample_data", "grace_hopper.jpg"))
    h, w = whole.shape[:2]
    return [whole, np.ascontiguousarray(whole[: h // 2]), np.ascontiguousarray(whole[:, w // 4 :])][:limit]
