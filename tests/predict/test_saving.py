"""What `dualres predict` writes, on a host-free stand-in."""

from __future__ import annotations

import csv
import gc
import json
import tarfile
import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from dualres_plugin.common.errors import DualResError
from dualres_plugin.common.images.decode import read_image
from dualres_plugin.common.images.sources import iter_source
from dualres_plugin.common.images.video import video_rate
from dualres_plugin.predict.saving import Outputs, save_predictions
from dualres_plugin.predict.summary import Summary
from dualres_plugin.router.network import ResolutionRouter
from tests.fakes import CATEGORIES, FakeAdapter, FakeBatch, photo, write_coco, write_photos
from tests.predicting_case import make_router, predictor

ALL = Outputs(conf=0.0)


@pytest.fixture
def router() -> ResolutionRouter:
    return make_router()


def run(
    router: ResolutionRouter,
    source: Path | str,
    out: Path,
    host: FakeAdapter | None = None,
    outputs: Outputs = ALL,
    **o: Any,
) -> Summary:
    return save_predictions(predictor(router, host, **o), str(source), out, outputs)


def routes(out: Path) -> list[list[str]]:
    return list(csv.reader((out / "routes.csv").read_text().splitlines()))[1:]


def write_video(path: Path, frames: int, size: tuple[int, int] = (64, 48), rate: float = 5) -> None:
    cv2 = pytest.importorskip("cv2")
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), rate, size)
    pictures = [photo(i, size[::-1])[..., ::-1] for i in range(min(frames, 50))]
    for i in range(frames):
        writer.write(pictures[i % len(pictures)])
    writer.release()


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
    run(router, tmp_path / "in", tmp_path / "out", outputs=Outputs(conf=0.99, drawings=False))
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
    assert (summary.images, summary.left_out) == (4, 2)
    assert "1 unreadable files left out; 1 images that the detector rejects left out" in str(summary)
    assert [row[0] for row in routes(tmp_path / "out")] == ["0.png", "2.png", "3.png", "5.png"]


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
    write_video(tmp_path / "v.avi", 5)
    summary = run(router, tmp_path / "v.avi", tmp_path / "out")
    assert summary.images == 5 and len(routes(tmp_path / "out")) == 5
    frames = [image.pixels for image in iter_source(tmp_path / "out" / "v.mp4")]
    assert len(frames) == 5 and video_rate(tmp_path / "out" / "v.mp4") == 5, "as fast as the original"
    originals = [image.pixels for image in iter_source(tmp_path / "v.avi")]
    for made, original in zip(frames, originals):
        assert np.abs(made[:10].astype(int) - original[:10]).max() > 60, "the route is written on top"
    with Image.open(tmp_path / "out" / "timeline.png") as drawn:
        assert drawn.size[0] > 500, "size, score and cost over time"
    run(router, tmp_path / "v.avi", tmp_path / "out")  # its own files may be written again
    write_photos(tmp_path, 1)
    (tmp_path / "list.txt").write_text("v.avi\n0.png\n")
    with pytest.raises(DualResError, match="a video has to be the only source"):
        run(router, tmp_path / "list.txt", tmp_path / "out2")


def test_an_output_that_cannot_be_written(router: ResolutionRouter, tmp_path: Path) -> None:
    write_photos(tmp_path / "in", 1)
    (tmp_path / "file").write_text("x")
    with pytest.raises(DualResError, match="cannot write to"):
        run(router, tmp_path / "in", tmp_path / "file" / "out")


# -- label files -------------------------------------------------------------------------------------------------


def test_label_files_give_the_boxes_back(router: ResolutionRouter, tmp_path: Path) -> None:
    write_photos(tmp_path / "in", 3)
    outputs = Outputs(conf=0.0, drawings=False, text=True, text_conf=True)
    run(router, tmp_path / "in", tmp_path / "out", outputs=outputs)
    assert sorted(p.name for p in (tmp_path / "out" / "labels").iterdir()) == ["0.txt", "1.txt", "2.txt"]
    for p in predictor(router).stream(iter_source(tmp_path / "in")):
        lines = (tmp_path / "out" / "labels" / f"{Path(p.image.name).stem}.txt").read_text().splitlines()
        values = np.array([[float(v) for v in line.split()] for line in lines])
        h, w = p.image.pixels.shape[:2]
        assert values[:, 0].tolist() == p.found.labels.tolist()
        corners = np.c_[values[:, 1:3] - values[:, 3:5] / 2, values[:, 1:3] + values[:, 3:5] / 2] * [w, h, w, h]
        assert np.allclose(corners, p.found.boxes, atol=0.01) and np.allclose(values[:, 5], p.found.scores, atol=1e-5)


def test_label_files_without_scores_and_without_objects(router: ResolutionRouter, tmp_path: Path) -> None:
    write_photos(tmp_path / "in", 2)
    (tmp_path / "in" / "0.png").rename(tmp_path / "in" / "a.png")
    outputs = Outputs(conf=0.0, drawings=False, text=True)
    run(router, tmp_path / "in", tmp_path / "out", outputs=outputs)
    assert {len(line.split()) for line in (tmp_path / "out/labels/a.txt").read_text().splitlines()} == {5}
    run(router, tmp_path / "in", tmp_path / "out", outputs=Outputs(conf=0.999, text=True))
    assert list((tmp_path / "out" / "labels").iterdir()) == [], "labels of an earlier run do not stay behind"


# -- COCO ids ----------------------------------------------------------------------------------------------------


def test_ids_of_an_annotation_file_suit_pycocotools(
    router: ResolutionRouter, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from pycocotools.coco import COCO

    file, images = write_coco(tmp_path, 3, categories={7: "disc", 40: "square"})
    Image.fromarray(photo(9)).save(images / "not_listed.png")
    run(router, images, tmp_path / "out", outputs=Outputs(conf=0.0, drawings=False, ids=file))
    truth = COCO(str(file))
    loaded = truth.loadRes(str(tmp_path / "out" / "detections.json"))  # fails for image ids that it does not know
    assert set(loaded.getImgIds()) == {1, 2, 3} and len(loaded.anns) == 6
    for row in loaded.dataset["annotations"]:
        assert row["category_id"] == {"disc": 7, "square": 40}[row["category_name"]]
    assert "leaves out what is found in or of 1 images" in caplog.text


def test_ids_that_do_not_fit(router: ResolutionRouter, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file, images = write_coco(tmp_path, 2, categories={7: "disc"})
    run(router, images, tmp_path / "out", outputs=Outputs(conf=0.0, drawings=False, ids=file))
    found = json.loads((tmp_path / "out" / "detections.json").read_text())
    assert {row["category_id"] for row in found} == {7} and "1 classes" in caplog.text
    file, images = write_coco(tmp_path / "other", 2, categories={1: "zebra"})
    with pytest.raises(DualResError, match="are none of the dataset's"):
        run(router, images, tmp_path / "out", outputs=Outputs(ids=file))
    file.write_text("[]")
    with pytest.raises(DualResError, match="not a COCO annotation file"):
        run(router, images, tmp_path / "out", outputs=Outputs(ids=file))
    with pytest.raises(DualResError, match="does not exist"):
        run(router, images, tmp_path / "out", outputs=Outputs(ids=tmp_path / "none.json"))


def test_category_ids_are_the_detectors_own_without_a_file(router: ResolutionRouter, tmp_path: Path) -> None:
    write_photos(tmp_path / "in", 1)
    run(router, tmp_path / "in", tmp_path / "out")
    found = json.loads((tmp_path / "out" / "detections.json").read_text())
    names = list(CATEGORIES.values())
    assert len(found) == 2 and all(names[row["category_id"]] == row["category_name"] for row in found)


# -- contact sheet -----------------------------------------------------------------------------------------------


def test_a_contact_sheet_on_request(router: ResolutionRouter, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "dualres")
    write_photos(tmp_path / "in", 4)
    (tmp_path / "in" / "0.png").rename(tmp_path / "in" / "contact_sheet.png")
    summary = run(router, tmp_path / "in", tmp_path / "out", outputs=Outputs(routes=True))
    sheet = read_image(tmp_path / "out" / "contact_sheet.jpg")
    assert sheet.shape[1] > 600, "not the drawing of the photo of that name"
    assert (tmp_path / "out" / "contact_sheet_2.jpg").is_file()
    assert f"{summary.high} of 4 images at high" in caplog.text


# -- long streams ------------------------------------------------------------------------------------------------


def test_memory_does_not_grow_with_the_stream(router: ResolutionRouter, tmp_path: Path) -> None:
    """10,000 frames: what Python holds after the first thousand is what it holds at the end."""
    frames, every = 10_000, 1_000
    write_video(tmp_path / "long.avi", frames, size=(32, 32), rate=25)
    held: list[int] = []

    class Watched(FakeAdapter):
        def collate(self, images: Sequence[np.ndarray], size: int, targets: Any = None) -> Any:
            if self.images_seen >= every * (1 + len(held)):
                gc.collect()
                held.append(tracemalloc.get_traced_memory()[0])
            pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255
            return FakeBatch(pixels, [image.shape[:2] for image in images])

    outputs = Outputs(conf=0.0, drawings=False, routes=True)
    tracemalloc.start()
    try:
        summary = run(router, tmp_path / "long.avi", tmp_path / "out", Watched(), outputs, batch=100)
    finally:
        tracemalloc.stop()
    assert summary.images == frames and len(held) == 9
    assert len(json.loads((tmp_path / "out" / "detections.json").read_text())) == 2 * frames
    # Keeping the rows of 8,000 frames would take 10 MB.
    assert held[-1] - held[0] < 300_000, held


def test_a_run_over_shards_goes_on_and_says_what_the_folder_says(router: ResolutionRouter, tmp_path: Path) -> None:
    photos = write_photos(tmp_path / "in", 6)
    with tarfile.open(tmp_path / "in.tar", "w") as tar:
        for file in photos:
            tar.add(file, f"a/{file.name}")
    run(router, tmp_path / "in", tmp_path / "folder")

    class Dies(FakeAdapter):
        def predict(self, batch: FakeBatch) -> Any:
            if self.images_seen > 3:
                raise KeyboardInterrupt
            return super().predict(batch)

    shown = Outputs(conf=0.0, routes=True)
    with pytest.raises(KeyboardInterrupt):
        run(router, tmp_path / "in.tar", tmp_path / "shard", Dies(), shown)
    assert 0 < len(routes(tmp_path / "shard")) < 6
    assert run(router, tmp_path / "in.tar", tmp_path / "shard", outputs=shown).images == 6
    assert routes(tmp_path / "shard") == routes(tmp_path / "folder")
    assert (tmp_path / "shard" / "contact_sheet.jpg").is_file()
    found = [json.loads((tmp_path / name / "detections.json").read_text()) for name in ("shard", "folder")]
    assert found[0] == found[1]
