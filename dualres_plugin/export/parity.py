"""Does the exported file do what eager PyTorch does? Whole path: photo in, boxes out, both routes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dualres_plugin.common.errors import DualResError
from dualres_plugin.common.types import Decision, Detections, RouterImages
from dualres_plugin.hosts.contract import HostAdapter
from dualres_plugin.hosts.routing import run_routed
from dualres_plugin.router.network import ResolutionRouter
from dualres_plugin.runtime.photo import make_frame
from dualres_plugin.runtime.session import DualResSession

BOX_LIMIT, SCORE_LIMIT = 0.5, 1e-3  # network pixels; detection score
ROUTER_LIMIT = 1e-2  # of the spread of a router's scores, which are logits of any scale
FLOOR = 0.05  # weaker detections are noise, and NMS may flip among them


@dataclass
class Parity:
    """The largest differences between a file and eager PyTorch.

    Attributes:
        images: photos compared.
        box: network pixels.
        score: of a detection.
        router: of the router's score.
        routes: photos whose route differs at the file's threshold.
        detections: how many were compared.
    """

    images: int = 0
    box: float = 0.0
    score: float = 0.0
    router: float = 0.0
    routes: int = 0
    detections: int = 0

    def to_dict(self) -> dict[str, float]:
        return {k: float(v) for k, v in vars(self).items()}

    @classmethod
    def from_dict(cls, values: dict[str, float]) -> Parity:
        images, routes, detections = (int(values[name]) for name in ("images", "routes", "detections"))
        return cls(images, values["box"], values["score"], values["router"], routes, detections)

    def __str__(self) -> str:
        return (
            f"{self.images} photos, both routes, {self.detections} detections: boxes within {self.box:.2g} px, scores "
            f"within {self.score:.2g}, router within {self.router:.2g}, {self.routes} routes differ"
        )


class ParityError(DualResError):
    """The file does not compute what PyTorch computes."""


def check_parity(
    session: DualResSession, adapter: HostAdapter[Any], router: ResolutionRouter, photos: Sequence[np.ndarray]
) -> Parity:
    """Compare on real photos.

    Raises:
        ParityError: If any detection, score or route differs by more than the limits above.
    """
    report = Parity()
    for number, photo in enumerate(photos):
        where = f"photo {number}"
        batch = adapter.export_batch(photo, session.card.high, session.card.static is not None)
        score = float(router.score(_on_device(adapter.router_images(batch), router))[0])
        for high in (True, False):
            limit = float("-inf") if high else float("inf")
            conf = max(FLOOR, session.card.postprocess.floor)
            expected = _eager(adapter, batch, session.card.scale, high)
            result = session.predict(photo, threshold=limit, conf=conf / 2)[0]
            gain = max(make_frame(photo, session.card).gain)
            found = Detections(result.boxes, result.scores, result.labels)
            # Where the host stops counting, the last ones may change places.
            cut = session.card.postprocess.max_det
            weakest = max((float(d.scores[cut - 1]) for d in (expected, found) if len(d) >= cut), default=0.0)
            _compare(
                report, expected, found, gain, max(conf, weakest + SCORE_LIMIT), f"{where}, {'high' if high else 'low'}"
            )
            report.router = max(report.router, abs(result.score - score))
        spread = _spread(session)
        if report.router > ROUTER_LIMIT * spread:
            raise ParityError(f"{where}: the router scores {score:.4f} in PyTorch and {result.score:.4f} in the file.")
        near = abs(score - session.threshold) <= 1e-3 * spread
        if (score > session.threshold) != (result.score > session.threshold):
            report.routes += 1
            if not near:
                raise ParityError(f"{where}: PyTorch and the file choose different routes.")
        report.images += 1
    return report


def _spread(session: DualResSession) -> float:
    q = session.card.quantiles
    return max(q[90] - q[10], 1e-3) if len(q) == 101 else 1.0


def _on_device(images: RouterImages, router: ResolutionRouter) -> RouterImages:
    device = router.mean.device
    given = images.images
    moved = given.to(device) if isinstance(given, torch.Tensor) else [image.to(device) for image in given]
    return RouterImages(moved, images.content)


def _eager(adapter: HostAdapter[Any], batch: Any, scale: float, high: bool) -> Detections:
    def decide(images: RouterImages) -> Decision:
        count = len(images.content)
        return Decision(torch.zeros(count), torch.full((count,), high), 0.0)

    return adapter.detections(run_routed(adapter, batch, decide, scale), batch)[0]


def _compare(report: Parity, expected: Detections, found: Detections, gain: float, conf: float, where: str) -> None:
    for one, other, side in ((expected, found, "file"), (found, expected, "PyTorch")):
        for box, score, label in zip(one.boxes, one.scores, one.labels):
            if score < conf + SCORE_LIMIT:
                continue
            same = (other.labels == label) & (np.abs(other.scores - score) <= SCORE_LIMIT)
            apart = np.abs(other.boxes[same] - box).max(axis=1) * gain if same.any() else np.array([np.inf])
            if apart.min() > BOX_LIMIT:
                raise ParityError(
                    f"{where}: a detection (label {label}, score {score:.3f}, box {np.round(box, 1).tolist()}) has no "
                    f"match from the {side} within {BOX_LIMIT} px and {SCORE_LIMIT} of score."
                )
            report.box = max(report.box, float(apart.min()))
            nearest = np.abs(other.scores[same] - score)[apart.argmin()]
            report.score = max(report.score, float(nearest))
            report.detections += side == "file"


def sample_photos(images: Path | str | None, limit: int) -> list[np.ndarray]:
    """Photos to check with: the first of a folder or glob, or a real one that comes with matplotlib, in several crops.

    Raises:
        DualResError: If the folder holds no image.
    """
    from dualres_plugin.common.images import iter_source, read_image

    if images is not None:
        photos = []
        for image in iter_source(str(images), on_skip=lambda message: None):
            photos.append(image.pixels)
            if len(photos) == limit:
                break
        if not photos:
            raise DualResError(f"'{images}' holds no readable image to check the export with.")
        return photos
    import matplotlib

    whole = read_image(Path(matplotlib.get_data_path(), "sample_data", "grace_hopper.jpg"))
    h, w = whole.shape[:2]
    return [whole, np.ascontiguousarray(whole[: h // 2]), np.ascontiguousarray(whole[:, w // 4 :])][:limit]
