"""What every host's results promise: the route, one by one on request, and supervision's format."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dualres_plugin import DualResWrapper
from dualres_plugin.common.errors import DualResError
from tests.budget.stream.test_stream import head
from tests.contract.hosts import Host, identical, pictures, shared_adapter
from tests.fakes import lively_router

COUNT = 4


@pytest.fixture
def photos(tmp_path: Path) -> list[str]:
    paths = [tmp_path / f"{i}.png" for i in range(COUNT)]
    for path, picture in zip(paths, pictures(seed=40)):
        Image.fromarray(picture).save(path)
    return [str(path) for path in paths]


def wrapped(host: Host, rate: float = 0.5) -> DualResWrapper:
    router = lively_router(pictures(seed=40))
    return DualResWrapper(shared_adapter(host.name), router, high=host.size, target_high_rate=rate)


def options(host: Host) -> dict[str, Any]:
    return {"conf": 0.001, "verbose": False} if host.package == "ultralytics" else {"batch": 1}


def fields(result: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Boxes, scores and labels, read as the host's users read them."""
    if hasattr(result, "boxes"):
        found = (result.boxes.xyxy, result.boxes.conf, result.boxes.cls)
    elif hasattr(result, "pred_instances"):
        found = (result.pred_instances.bboxes, result.pred_instances.scores, result.pred_instances.labels)
    elif isinstance(result, dict):
        found = (result["boxes"], result["scores"], result["labels"])
    else:
        rows = result[result[:, 4] > 0]
        found = (rows[:, :4], rows[:, 4], rows[:, 5])
    return tuple(np.asarray(value.detach().cpu()) for value in found)  # type: ignore[return-value]


def same(a: Any, b: Any) -> bool:
    return identical(a.boxes.data, b.boxes.data) if hasattr(a, "boxes") else identical(a, b)


def test_a_stream_gives_the_same_results_one_by_one(host: Host, photos: list[str]) -> None:
    model = wrapped(host)
    listed = model.predict(photos, **options(host))
    assert isinstance(listed, list) and {r.dualres.route for r in listed} == {"high", "low"}
    stream = model.predict(photos, stream=True, **options(host))
    assert isinstance(stream, Iterator)
    for one, expected in zip(stream, listed, strict=True):
        assert one.dualres.route == expected.dualres.route and same(one, expected)


def test_a_stream_in_batches_gives_what_one_by_one_gives(host: Host) -> None:
    """Photos of two shapes in turn, in batches of three: each with its own route and boxes, in its place."""
    photos = [picture[..., ::-1].copy() for seed in (40, 41, 42) for picture in pictures(seed=seed)]
    model = wrapped(host)
    alone = [model.predict(photo, **options(host))[0] for photo in photos]
    before = model.log.images
    waited = list(model.predict(photos, stream=True, **{**options(host), "batch": 3}))
    assert model.log.images == before + len(photos) and {r.dualres.route for r in waited} == {"high", "low"}
    for one, expected in zip(waited, alone, strict=True):
        assert one.dualres.score == pytest.approx(expected.dualres.score, rel=1e-3)
        assert one.dualres.route == expected.dualres.route
        found, wanted = fields(one), fields(expected)
        count = min(len(found[0]), len(wanted[0]), 5)
        assert count and np.allclose(found[1][:count], wanted[1][:count], atol=1e-3)


def test_a_stream_reads_only_what_is_asked_for(host: Host, photos: list[str]) -> None:
    """The last photo is damaged: the ones before it come all the same."""
    Path(photos[-1]).write_bytes(b"")
    folder = str(Path(photos[0]).parent)
    stream = wrapped(host).predict(folder, stream=True, **options(host))
    for _ in range(COUNT - 1):
        next(stream)


@pytest.mark.parametrize("rate", [0.0, 0.5])
def test_results_as_supervision_detections(rate: float, host: Host, photos: list[str]) -> None:
    sv = pytest.importorskip("supervision")
    adapter = shared_adapter(host.name)
    converted = []
    for result in wrapped(host, rate).predict(photos, **options(host)):
        found = result.to_supervision()
        boxes, scores, labels = fields(result)
        assert isinstance(found, sv.Detections) and len(found) == len(boxes)
        assert np.allclose(found.xyxy, boxes, atol=1e-3) and np.allclose(found.confidence, scores)
        assert np.array_equal(found.class_id, labels.astype(int))
        if adapter.class_names:
            assert found.data["class_name"].tolist() == [adapter.class_names[int(i)] for i in labels]
        assert found.data["route"].tolist() == [result.dualres.route] * len(boxes)
        assert np.allclose(found.data["route_score"], result.dualres.score)
        converted.append(found)
    assert len(sv.Detections.merge(converted)) == sum(map(len, converted)) > 0, "images of both routes go together"


def test_without_supervision_the_error_says_what_to_install(
    host: Host, photos: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (result,) = wrapped(host).predict(photos[:1], **options(host))
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(DualResError, match=r"pip install .dualres-plugin\[supervision\]"):
        result.to_supervision()


def test_a_still_scene_shows_its_last_boxes_again_in_every_hosts_own_results(host: Host, photos: list[str]) -> None:
    """`skip` and `memory` through the host's own object, which tells by itself what it found."""
    router = lively_router(pictures(seed=40))
    model = DualResWrapper(shared_adapter(host.name), router, high=host.size, threshold=0.3, memory=head(), skip=2)
    frames = [photos[0]] * 6 + [photos[3]] * 2
    found = [model.predict(frame, **options(host))[0] for frame in frames]
    skipped = [r.dualres.route == "skip" for r in found]
    assert sum(skipped) and not any(skipped[i] for i in (0, 1, 6, 7)), "two looks at a scene first, and at a cut"
    for before, now in pairwise(found[:6]):
        if now.dualres.route == "skip":
            (_, scores, labels), (_, known, classes) = fields(now), fields(before)
            assert len(labels) and set(labels.tolist()) <= set(classes.tolist())
            assert np.isin(scores.round(3), known.round(3)).mean() > 0.9
    assert found[1].dualres.score == pytest.approx(0.25, abs=0.26), "the head's: 0.25, or 0.5 where both were seen"
