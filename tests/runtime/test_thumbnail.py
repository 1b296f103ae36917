"""Thumbnails from bytes, and files that take them as an input."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dualres_plugin.common.card import Card, Postprocess, Preprocess
from dualres_plugin.common.errors import DualResError
from dualres_plugin.common.images.decode import read_image
from dualres_plugin.common.resize import make_thumbnails
from dualres_plugin.common.types import RouterImages
from dualres_plugin.router.network import ResolutionRouter
from dualres_plugin.runtime.photo import make_frame, resize
from dualres_plugin.runtime.session import DualResSession
from dualres_plugin.runtime.thumbnail import content_bytes, make_thumbnail
from dualres_plugin.train.ranks import spearman
from tests.shared import require_shared
from tests.small_models import pictures, same

FORMS = ["cond", "resize", "branches", "pair"]
RATES = np.linspace(0.05, 0.95, 19)
MOST = 120  # photos of a set
SETS = [("coco_mini", "val2017"), ("coco_mini", "train2017"), ("plates", "val"), ("logos27", "val")]


def eager_thumbnail(photo: np.ndarray, size: int) -> np.ndarray:
    """As PyTorch makes it, (1, 3, size, size)."""
    h, w = photo.shape[:2]
    images = torch.from_numpy(photo.copy()).permute(2, 0, 1)[None].float() / 255
    return make_thumbnails(RouterImages(images, [(0, 0, w, h)]), size).numpy()


@pytest.mark.parametrize("library", ["cv2", "PIL"])
@pytest.mark.parametrize("shape", [(480, 640), (427, 640), (96, 96), (50, 70), (33, 640), (1, 1), (900, 900)])
def test_a_thumbnail_is_that_of_pytorch(library: str, shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    if library == "PIL":
        monkeypatch.setitem(sys.modules, "cv2", None)
    first = min(require_shared("data", "coco_mini", "images", "val2017").iterdir())
    photo = resize(read_image(first), shape)
    found = make_thumbnail(photo, 96)
    assert found.shape == (1, 3, 96, 96) and found.dtype == np.float32
    apart = np.abs(found - eager_thumbnail(photo, 96))
    assert apart.mean() < 1.5 / 255 and np.percentile(apart, 99) < 6 / 255


@pytest.mark.parametrize(("library", "size"), [("cv2", 160), ("PIL", 160), ("cv2", 112), ("cv2", 64)])
@pytest.mark.parametrize("split", SETS, ids="-".join)
def test_scores_and_routes_are_those_of_pytorch(
    library: str, size: int, split: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tolerance that docs/deployment.md states, at every share of the default router's calibration."""
    if library == "PIL":
        monkeypatch.setitem(sys.modules, "cv2", None)
    router = ResolutionRouter.from_pretrained("default")
    router.config = replace(router.config, input_size=size)
    card = Card("cond", "test", 640, 0.5, 32, 0.0, "0", Preprocess(), Postprocess(), thumbnail=size)
    files = sorted(require_shared("data", split[0], "images", split[1]).iterdir())[:MOST]
    photos = [read_image(path) for path in files]
    frames = [make_frame(photo, card) for photo in photos]
    with torch.no_grad():
        ours = router(torch.cat([torch.from_numpy(frame.thumbnail) for frame in frames])).numpy()
    theirs = torch.cat([router.score(RouterImages(torch.from_numpy(f.images), [f.content])) for f in frames]).numpy()
    assert spearman(ours, theirs) > 0.999
    router.calibrate(theirs)
    changed = [float(np.mean((ours > t) != (theirs > t))) for t in map(router.threshold_for, RATES)]
    assert np.mean(changed) < (0.005 if size == 160 else 0.01)  # the head was fitted at 160 px: elsewhere it is rough


@pytest.mark.parametrize("form", FORMS)
def test_a_file_with_its_thumbnail_outside_routes_as_one_with_it_inside(
    models: dict[str, Path], outside_models: dict[str, Path], parts: dict[str, Any], form: str
) -> None:
    photos = pictures(9)
    inside, outside = DualResSession(models[form]), DualResSession(outside_models[form])
    assert (inside.card.thumbnail, outside.card.thumbnail) == (None, 32)
    for a, b in zip(inside.predict(photos, threshold=-1e9), outside.predict(photos, threshold=-1e9), strict=True):
        assert same(a, b) and a.score == pytest.approx(b.score, abs=0.02)
    middle = float(np.median([r.score for r in outside.predict(photos)]))
    one_by_one, batch = outside.predict(photos, threshold=middle), outside.predict_batch(photos, threshold=middle)
    assert all(same(a, b) for a, b in zip(one_by_one, batch, strict=True))
    assert {r.route for r in batch} == {"high", "low"}


@pytest.mark.parametrize("form", FORMS)
def test_the_graph_holds_nothing_antialiased_and_takes_what_it_says(outside_models: dict[str, Path], form: str) -> None:
    import onnx

    from dualres_plugin.export.graph import attribute, walk

    path = outside_models[form]
    graph = onnx.load(str(path / "router.onnx" if form == "pair" else path)).graph
    assert not [n for n in walk(graph) if n.op_type == "Resize" and attribute(n, "antialias", 0)]
    images = [] if form == "pair" else ["images"]
    assert [i.name for i in graph.input] == [*images, "thumbnail", "threshold"]


def test_the_bare_graph_makes_its_thumbnail_or_takes_one(outside_models: dict[str, Path]) -> None:
    session = DualResSession(outside_models["cond"])
    images = np.random.default_rng(0).random((1, 3, 160, 160), dtype=np.float32)
    content = (10, 20, 150, 140)
    thumbnail = make_thumbnail(content_bytes(images, content), 32)
    assert session.run(images, content)[2] == session.run(images, thumbnail=thumbnail)[2] != session.run(images)[2]
    for wrong in (thumbnail[0], thumbnail.astype(np.float64), thumbnail[..., :31]):
        with pytest.raises(DualResError, match=r"`thumbnail` must be \(1, 3, 32, 32\) float32"):
            session.run(images, thumbnail=wrong)
    with pytest.raises(DualResError, match=r"content \(5, 5, 5, 9\) holds nothing"):
        session.run(images, (5, 5, 5, 9))
    with pytest.raises(DualResError, match="thumbnail outside: give `thumbnail`"):
        session.engine.run(images, None, (0.0,))
