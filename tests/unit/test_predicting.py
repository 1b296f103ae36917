"""`predict` on a host-free stand-in: order, output files, and nothing lost."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from dualres_plugin.drawing import draw
from dualres_plugin.errors import DualResError
from dualres_plugin.images import iter_source
from dualres_plugin.policy import Budget
from dualres_plugin.predicting import Predictor, Summary, choose_threshold, save_predictions
from dualres_plugin.router import ResolutionRouter
from dualres_plugin.timing import measure_ms
from dualres_plugin.types import Detections
from tests.fakes import FakeAdapter, photo, write_photos


@pytest.fixture
def router() -> ResolutionRouter:
    torch.manual_seed(0)
    net = ResolutionRouter(backbone="tiny@3", input_size=16).eval()
    with torch.no_grad():
        net.head[0].weight.mul_(1000)
    scores = torch.cat(
        [net.score(FakeAdapter().router_images(FakeAdapter().collate([photo(i)], 64))) for i in range(6)]
    )
    net.calibrate(scores)
    return net


def predictor(router: ResolutionRouter, host: FakeAdapter | None = None, **options: Any) -> Predictor:
    return Predictor(host or FakeAdapter(), router, router.threshold_for(0.5), 64, 0.5, **options)


def run(router: ResolutionRouter, source: Path | str, out: Path, host: FakeAdapter | None = None, **o: Any) -> Summary:
    return save_predictions(predictor(router, host, **o), str(source), out, 0.0, True, echo=print)


def routes(out: Path) -> list[list[str]]:
    return list(csv.reader((out / "routes.csv").read_text().splitlines()))[1:]


@pytest.mark.parametrize("batch", [1, 3, 50])
def test_any_batch_size_gives_the_same_in_order(router: ResolutionRouter, tmp_path: Path, batch: int) -> None:
    write_photos(tmp_path, 7)
    expected = list(predictor(router).stream(iter_source(tmp_path)))
    got = list(predictor(router, batch=batch).stream(iter_source(tmp_path)))
    assert [p.image.name for p in got] == [f"{i}.png" for i in range(7)]
    assert {p.route.route for p in got} == {"high", "low"}
    for a, b in zip(got, expected):
        assert a.route.route == b.route.route and a.route.score == pytest.approx(b.route.score, abs=1e-3)
        assert np.allclose(a.found.boxes, b.found.boxes, atol=1e-3)


def test_a_stream_is_read_as_it_is_used(router: ResolutionRouter) -> None:
    taken = 0

    def endless() -> Any:
        nonlocal taken
        while True:
            taken += 1
            yield from iter_source(photo(taken))

    stream = predictor(router, batch=2).stream(endless())
    for _ in range(6):
        next(stream)
    assert taken <= 8


def test_files_that_are_written(router: ResolutionRouter, tmp_path: Path) -> None:
    write_photos(tmp_path / "in", 4)
    summary = run(router, tmp_path / "in", tmp_path / "out")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        *(f"{i}.jpg" for i in range(4)),
        "detections.json",
        "routes.csv",
    ]
    table = routes(tmp_path / "out")
    assert [row[0] for row in table] == [f"{i}.png" for i in range(4)]
    assert summary.high == sum(row[1] == "high" for row in table) and summary.images == 4
    assert f"4 images, {summary.high} at high ({summary.high / 4:.1%})" in str(summary)
    found = json.loads((tmp_path / "out" / "detections.json").read_text())
    assert {row["image_id"] for row in found} == {0, 1, 2, 3}, "numbered files keep their number"
    first = next(iter(predictor(router).stream(iter_source(tmp_path / "in"))))
    rows = [row for row in found if row["image_id"] == 0]
    assert np.allclose([r["score"] for r in rows], first.found.scores, atol=1e-4)
    x0, y0, x1, y1 = first.found.boxes[0]
    assert np.allclose(rows[0]["bbox"], [x0, y0, x1 - x0, y1 - y0], atol=0.01)
    assert rows[0]["category_name"] in ("square", "disc")


def test_the_least_score_and_no_drawings(router: ResolutionRouter, tmp_path: Path) -> None:
    write_photos(tmp_path / "in", 2)
    save_predictions(predictor(router), str(tmp_path / "in"), tmp_path / "out", 0.99, False, echo=print)
    assert json.loads((tmp_path / "out" / "detections.json").read_text()) == []
    assert len(list((tmp_path / "out").iterdir())) == 2


def test_unreadable_and_rejected_images_are_counted(router: ResolutionRouter, tmp_path: Path) -> None:
    paths = write_photos(tmp_path / "in", 6)
    paths[1].write_bytes(b"")

    class Picky(FakeAdapter):
        def collate(self, images: Sequence[np.ndarray], size: int, targets: Any = None) -> Any:
            if any(np.array_equal(image, photo(4)) for image in images):
                raise RuntimeError("cannot do this one")
            return super().collate(images, size, targets)

    summary = run(router, tmp_path / "in", tmp_path / "out", Picky(), batch=4)
    assert (summary.images, summary.left_out) == (4, 2) and "2 unreadable files left out" in str(summary)
    assert [row[0] for row in routes(tmp_path / "out")] == ["0.png", "2.png", "3.png", "5.png"]
    with pytest.raises(RuntimeError, match="cannot do this one"):
        list(predictor(router, Picky()).stream(iter_source(photo(4))))


def test_files_of_equal_name_keep_a_drawing_each(router: ResolutionRouter, tmp_path: Path) -> None:
    for folder in ("a", "b"):
        write_photos(tmp_path / "in" / folder, 1)
    Image.fromarray(photo(9)).save(tmp_path / "in" / "a" / "0.bmp")
    run(router, tmp_path / "in", tmp_path / "out")
    assert sorted(p.name for p in (tmp_path / "out").glob("*.jpg")) == ["0.jpg", "0_2.jpg", "0_3.jpg"]
    found = json.loads((tmp_path / "out" / "detections.json").read_text())
    assert {row["image_id"] for row in found} == {1, 2, 3}, "names that are not unique are no numbers"


def test_photos_are_never_drawn_over(router: ResolutionRouter, tmp_path: Path) -> None:
    (path,) = write_photos(tmp_path, 1)
    before = path.read_bytes()
    for source in (tmp_path, path):
        with pytest.raises(DualResError, match="choose another --out"):
            run(router, source, tmp_path)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_a_video_becomes_a_video(router: ResolutionRouter, tmp_path: Path) -> None:
    cv2 = pytest.importorskip("cv2")
    writer = cv2.VideoWriter(str(tmp_path / "v.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 5, (64, 48))
    for i in range(5):
        writer.write(photo(i)[..., ::-1])
    writer.release()
    summary = run(router, tmp_path / "v.avi", tmp_path / "out")
    assert summary.images == 5 and len(routes(tmp_path / "out")) == 5
    assert len(list(iter_source(tmp_path / "out" / "v.mp4"))) == 5
    write_photos(tmp_path, 1)
    (tmp_path / "list.txt").write_text("v.avi\n0.png\n")
    with pytest.raises(DualResError, match="a video has to be the only source"):
        run(router, tmp_path / "list.txt", tmp_path / "out2")


def test_an_output_that_cannot_be_written(router: ResolutionRouter, tmp_path: Path) -> None:
    write_photos(tmp_path / "in", 1)
    (tmp_path / "file").write_text("x")
    with pytest.raises(DualResError, match="cannot write to"):
        run(router, tmp_path / "in", tmp_path / "file" / "out")


def test_a_budget_in_milliseconds(
    router: ResolutionRouter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    write_photos(tmp_path, 3)
    measured = measure_ms(FakeAdapter(), router, [photo(i) for i in range(2)], 64, 0.5, repeats=1)
    assert set(measured) == {"t_router", "t_low", "t_high"} and all(v > 0 for v in measured.values())
    seen: list[int] = []

    def measure(adapter: Any, router: Any, images: Sequence[Any], size: int, scale: float) -> dict[str, float]:
        seen.append(len(images))
        return {"t_router": 1.0, "t_low": 10.0, "t_high": 30.0}

    monkeypatch.setattr("dualres_plugin.predicting.measure_ms", measure)
    caplog.set_level("INFO", "dualres")
    got = choose_threshold(router, FakeAdapter(), 64, 0.5, str(tmp_path), Budget(ms=16))
    assert got == pytest.approx(router.threshold_for(0.25)) and seen == [3]
    assert "25 % of the images may go high" in caplog.text
    with pytest.raises(DualResError, match="below the cheapest point, all low with the router: 11 ms"):
        choose_threshold(router, FakeAdapter(), 64, 0.5, str(tmp_path), Budget(ms=9))


def test_thresholds_of_every_budget(router: ResolutionRouter, tmp_path: Path) -> None:
    paths = write_photos(tmp_path, 3)

    def choose(rate: float | None = None, threshold: float | None = None, gmacs: float | None = None) -> float:
        return choose_threshold(router, FakeAdapter(), 64, 0.5, str(tmp_path), Budget(rate, threshold, gmacs))

    assert choose() == router.threshold_for(0.5)
    assert choose(rate=0.2) == router.threshold_for(0.2)
    assert choose(threshold=7.0) == 7.0
    low, high = 32 * 32 / 1e4, 64 * 64 / 1e4
    budget = router.gmacs() + low + 0.3 * (high - low)
    assert choose(gmacs=budget) == pytest.approx(router.threshold_for(0.3))
    assert choose(gmacs=100) == float("-inf")
    with pytest.raises(DualResError, match="below the cheapest point"):
        choose(gmacs=0.01)
    paths[0].write_bytes(b"")
    assert choose(gmacs=budget) == pytest.approx(router.threshold_for(0.3)), (
        "a damaged first image is no reason to stop"
    )
    for path in paths:
        path.write_bytes(b"")
    with pytest.raises(DualResError, match="holds no readable image"):
        choose(gmacs=budget)


def test_drawing_changes_the_picture_but_not_the_array() -> None:
    picture = np.full((60, 80, 3), 128, np.uint8)
    found = Detections.from_arrays([[10, 10, 40, 40], [5, 5, 9, 9]], [0.9, 0.1], [0, 1])
    made = np.asarray(draw(picture, found, {0: "cat"}, "low", 0.25))
    assert made.shape == picture.shape and (picture == 128).all()
    assert tuple(made[39, 25]) == (0, 114, 178), "the first colour along the lower edge"
    assert (made[5:9, 60:80] == 128).all()
    assert (np.asarray(draw(picture, Detections.empty(), None)) == 128).all()
    tiny = draw(np.zeros((1, 40, 3), np.uint8), Detections.from_arrays([[0, 0, 40, 1]], [0.9], [0]), None, "low")
    assert tiny.size == (40, 1)
