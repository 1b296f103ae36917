"""Nothing of a run of predict is lost, and nothing of the user's is replaced, whatever happens."""

from __future__ import annotations

import csv
import json
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dualres_plugin.budget.controller import BudgetController
from dualres_plugin.common.errors import DualResError
from dualres_plugin.common.files.lock import locked
from dualres_plugin.common.images.sources import iter_source
from dualres_plugin.predict.journal import JOURNAL
from dualres_plugin.predict.predictor import Predictor
from dualres_plugin.predict.saving import Outputs, save_predictions
from dualres_plugin.predict.summary import Summary
from dualres_plugin.router.gate import Gate
from dualres_plugin.router.network import ResolutionRouter
from tests.fakes import FakeAdapter, photo, write_photos
from tests.predict.test_saving import write_video
from tests.predicting_case import make_router, predictor

EVERYTHING = Outputs(conf=0.0, routes=True, text=True, text_conf=True)


class Stop(BaseException):
    """As Ctrl-C is in the command line."""


class Stopping(FakeAdapter):
    """Ends, in whatever way, when it sees the image of that number."""

    def __init__(self, number: int, error: BaseException):
        super().__init__()
        self.number = number
        self.error = error

    def collate(self, images: Sequence[np.ndarray], size: int, targets: Any = None) -> Any:
        if self.images_seen >= self.number:
            raise self.error
        return super().collate(images, size, targets)


@pytest.fixture
def router() -> ResolutionRouter:
    return make_router()


def held(router: ResolutionRouter, host: FakeAdapter | None = None) -> Predictor:
    return Predictor(host or FakeAdapter(), Gate(router, controller=BudgetController(0.4, router.quantiles)), 64, 0.5)


def save(made: Predictor, source: Path, out: Path, outputs: Outputs = EVERYTHING, **options: Any) -> Summary:
    return save_predictions(made, str(source), out, outputs, **options)


def everything_in(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def rows(out: Path) -> list[list[str]]:
    with (out / "routes.csv").open(newline="") as file:
        return list(csv.reader(file))[1:]


@pytest.mark.parametrize("error", [Stop(), DualResError("no space left")])
@pytest.mark.parametrize("hold", [False, True])
def test_what_was_done_is_written_and_the_run_goes_on(
    router: ResolutionRouter, tmp_path: Path, error: BaseException, hold: bool
) -> None:
    make = held if hold else predictor
    write_photos(tmp_path / "in", 9)
    save(make(router), tmp_path / "in", tmp_path / "whole")
    with pytest.raises(type(error)):
        save(make(router, Stopping(4, error)), tmp_path / "in", tmp_path / "out")
    found = everything_in(tmp_path / "out")
    assert [row[0] for row in rows(tmp_path / "out")] == [f"{i}.png" for i in range(4)]
    assert {d["image_id"] for d in json.loads(found["detections.json"])} == set(range(4))
    assert {"3.jpg", "labels/3.txt", "contact_sheet.jpg", JOURNAL} <= found.keys() and "4.jpg" not in found
    host = FakeAdapter()
    summary = save(make(router, host), tmp_path / "in", tmp_path / "out")
    assert (summary.images, host.images_seen) == (9, 5), "what is done is not done again"
    assert everything_in(tmp_path / "out") == everything_in(tmp_path / "whole")


@pytest.mark.parametrize("share", [1.0, 0.67, 0.33])
def test_a_killed_process_leaves_a_torn_line_at_most(router: ResolutionRouter, tmp_path: Path, share: float) -> None:
    write_photos(tmp_path / "in", 6)
    save(predictor(router), tmp_path / "in", tmp_path / "whole")
    with pytest.raises(Stop):
        save(predictor(router, Stopping(5, Stop())), tmp_path / "in", tmp_path / "out")
    for name in ("routes.csv", "detections.json", "contact_sheet.jpg"):  # a killed run does not come to them
        (tmp_path / "out" / name).unlink()
    journal = (tmp_path / "out" / JOURNAL).read_bytes()
    kept = journal[: int(len(journal) * share) - 1]
    (tmp_path / "out" / JOURNAL).write_bytes(kept)
    for file in [*(tmp_path / "out").glob("?.jpg"), *(tmp_path / "out" / "labels").iterdir()]:
        if f'"{file.relative_to(tmp_path / "out")}"'.encode() not in kept:  # files are announced before they are there
            file.unlink()
    assert save(predictor(router), tmp_path / "in", tmp_path / "out").images == 6
    assert everything_in(tmp_path / "out") == everything_in(tmp_path / "whole")


def test_a_journal_without_a_whole_line_is_no_run(router: ResolutionRouter, tmp_path: Path) -> None:
    write_photos(tmp_path / "in", 2)
    (tmp_path / "out").mkdir()
    for torn in (b"", b'{"version": 1, "set'):
        (tmp_path / "out" / JOURNAL).write_bytes(torn)
        assert save(predictor(router), tmp_path / "in", tmp_path / "out").images == 2
    (tmp_path / "out" / JOURNAL).write_text("[1]\n{}\n")
    assert save(predictor(router), tmp_path / "in", tmp_path / "out").images == 2
    (tmp_path / "out" / JOURNAL).write_text('{"mine": 1}\n')
    with pytest.raises(DualResError, match="no unfinished run of this version"):
        save(predictor(router), tmp_path / "in", tmp_path / "out")


def test_other_settings_do_not_mix(router: ResolutionRouter, tmp_path: Path) -> None:
    write_photos(tmp_path / "in", 4)
    with pytest.raises(Stop):
        save(predictor(router, Stopping(2, Stop())), tmp_path / "in", tmp_path / "out", settings={"router": "a"})
    before = everything_in(tmp_path / "out")
    for settings, outputs in (({"router": "b"}, EVERYTHING), ({"router": "a"}, Outputs(conf=0.9))):
        with pytest.raises(DualResError, match="unfinished run with other settings"):
            save(predictor(router), tmp_path / "in", tmp_path / "out", outputs, settings=settings)
    assert everything_in(tmp_path / "out") == before


def test_a_run_that_is_stopped_at_once_leaves_an_earlier_one_alone(router: ResolutionRouter, tmp_path: Path) -> None:
    write_photos(tmp_path / "in", 3)
    save(predictor(router), tmp_path / "in", tmp_path / "out")
    before = everything_in(tmp_path / "out")
    with pytest.raises(Stop):
        save(predictor(router, Stopping(0, Stop())), tmp_path / "in", tmp_path / "out")
    assert everything_in(tmp_path / "out") == before


def test_a_second_run_replaces_what_the_first_one_drew(router: ResolutionRouter, tmp_path: Path) -> None:
    write_photos(tmp_path / "in", 3)
    save(predictor(router), tmp_path / "in", tmp_path / "out")
    before = everything_in(tmp_path / "out")
    with pytest.raises(Stop):
        save(predictor(router, Stopping(1, Stop())), tmp_path / "in", tmp_path / "out")
    save(predictor(router), tmp_path / "in", tmp_path / "out")
    assert everything_in(tmp_path / "out") == before


def test_a_stopped_video_can_be_played_and_begins_anew(router: ResolutionRouter, tmp_path: Path) -> None:
    write_video(tmp_path / "v.avi", 6)
    with pytest.raises(Stop):
        save(predictor(router, Stopping(4, Stop())), tmp_path / "v.avi", tmp_path / "out", Outputs(conf=0.0))
    assert len(list(iter_source(tmp_path / "out" / "v.mp4"))) == len(rows(tmp_path / "out")) == 4
    assert save(predictor(router), tmp_path / "v.avi", tmp_path / "out", Outputs(conf=0.0)).images == 6
    assert len(list(iter_source(tmp_path / "out" / "v.mp4"))) == len(rows(tmp_path / "out")) == 6
    written = ["detections.json", "routes.csv", "timeline.html", "timeline.png", "v.mp4"]
    assert sorted(everything_in(tmp_path / "out")) == written


def test_a_video_that_lacks_frames_does_not_get_its_name(router: ResolutionRouter, tmp_path: Path) -> None:
    cv2 = pytest.importorskip("cv2")
    write_video(tmp_path / "v.avi", 4)
    (tmp_path / "out").mkdir()

    class Full:  # as OpenCV's writer on a full disk: says nothing
        fourcc = staticmethod(cv2.VideoWriter.fourcc)

        def __init__(self, *_: object) -> None: ...
        def write(self, frame: object) -> None: ...
        def release(self) -> None: ...

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cv2, "VideoWriter", Full)
        with pytest.raises(DualResError, match=r"0 of 4 frames. Is the disk full"):
            save(predictor(router), tmp_path / "v.avi", tmp_path / "out")
    assert "v.mp4" not in everything_in(tmp_path / "out")
    assert not [name for name in everything_in(tmp_path / "out") if name.startswith(".")]


def test_a_damaged_video_says_that_it_ends_early(
    router: ResolutionRouter, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_video(tmp_path / "v.avi", 40)
    data = (tmp_path / "v.avi").read_bytes()
    (tmp_path / "cut.avi").write_bytes(data[: len(data) // 2])
    with caplog.at_level(logging.WARNING, "dualres"):
        whole = save(predictor(router), tmp_path / "v.avi", tmp_path / "a", Outputs(drawings=False))
        assert whole.images == 40 and not caplog.messages
        cut = save(predictor(router), tmp_path / "cut.avi", tmp_path / "b", Outputs(drawings=False))
    assert 0 < cut.images < 40 and f"ends early: only {cut.images} of its 40 frames" in caplog.text


# -- files that are not predict's ----------------------------------------------------------------------------------


def test_photos_of_the_user_are_never_replaced(router: ResolutionRouter, tmp_path: Path) -> None:
    (real,) = write_photos(tmp_path / "album", 1)
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "0.png").symlink_to(real)
    for source, out in ((tmp_path / "links", tmp_path / "album"), (tmp_path / "links", tmp_path / "links")):
        with pytest.raises(DualResError, match="choose another --out"):
            save(predictor(router), source, out)
    Image.fromarray(photo(7)).save(tmp_path / "0.jpg")  # beside the folder of the source
    (tmp_path / "0_2.jpg").symlink_to(tmp_path / "nowhere")
    before = (tmp_path / "0.jpg").read_bytes()
    for _ in range(2):
        save(predictor(router), tmp_path / "album", tmp_path, Outputs(conf=0.0))
        assert (tmp_path / "0.jpg").read_bytes() == before and (tmp_path / "0_2.jpg").is_symlink()
        assert rows(tmp_path)[0][3] == "0_3.jpg"
    assert not (tmp_path / "0_4.jpg").exists()


@pytest.mark.parametrize("name", ["labels/1.txt", "detections.json", "routes.csv", "contact_sheet.jpg"])
def test_other_files_of_the_user_stop_the_run_at_once(router: ResolutionRouter, tmp_path: Path, name: str) -> None:
    write_photos(tmp_path / "in", 2)
    (tmp_path / "out" / "labels").mkdir(parents=True)
    (tmp_path / "out" / name).write_text("mine")
    host = FakeAdapter()
    with pytest.raises(DualResError, match=f"{name}' was not written by predict"):
        save(predictor(router, host), tmp_path / "in", tmp_path / "out")
    assert everything_in(tmp_path / "out") == {name: b"mine"} and host.images_seen == 0


def test_two_runs_on_one_folder(router: ResolutionRouter, tmp_path: Path) -> None:
    write_photos(tmp_path / "in", 1)
    with locked(tmp_path / "out"), pytest.raises(DualResError, match="another dualres process"):
        save(predictor(router), tmp_path / "in", tmp_path / "out")


# -- odd names and odd sources -------------------------------------------------------------------------------------


def test_odd_file_names(router: ResolutionRouter, tmp_path: Path) -> None:
    names = ["a\nb.png", "²³.png", "$x$ $y.png", "=1+1.png", "n" * 251 + ".png", "\udce9.png", "9" * 40 + ".png"]
    (tmp_path / "in").mkdir()
    for i, name in enumerate(names):
        with open(os.fsencode(tmp_path / "in") + b"/" + os.fsencode(name), "wb") as file:  # noqa: PTH123 - bytes
            Image.fromarray(photo(i)).save(file, "png")
    (tmp_path / "in" / "b").mkdir()
    Image.fromarray(photo(9)).save(tmp_path / "in" / "b" / ("n" * 251 + ".png"))
    (tmp_path / "in" / "itself.png").symlink_to(tmp_path / "in" / "itself.png")
    summary = save(predictor(router), tmp_path / "in", tmp_path / "out")
    assert (summary.images, summary.left_out) == (8, 1) and len(rows(tmp_path / "out")) == 8
    assert len(list((tmp_path / "out").glob("*.jpg"))) == 9 and len(list((tmp_path / "out/labels").iterdir())) == 8


def test_not_one_usable_image_is_an_error(router: ResolutionRouter, tmp_path: Path) -> None:
    for path in write_photos(tmp_path / "in", 2):
        path.write_bytes(b"no image")
    with pytest.raises(DualResError, match=r"not one image of the source can be used; the first problem: '.*0.png'"):
        save(predictor(router), tmp_path / "in", tmp_path / "out")
    assert everything_in(tmp_path / "out") == {}


@pytest.mark.parametrize("conf", [float("nan"), -0.1, 2.0])
def test_a_least_score_that_is_none(router: ResolutionRouter, tmp_path: Path, conf: float) -> None:
    write_photos(tmp_path / "in", 1)
    with pytest.raises(DualResError, match="conf="):
        save(predictor(router), tmp_path / "in", tmp_path / "out", Outputs(conf=conf))


@pytest.mark.parametrize("error", [Stop(), KeyboardInterrupt(), RuntimeError("the GPU is lost")])
def test_with_photos_read_ahead_in_batches_a_stop_loses_nothing(
    router: ResolutionRouter, tmp_path: Path, error: BaseException
) -> None:
    """Whole files, the order of the photos, and the answers of a run that nobody stops and that reads one by one."""
    write_photos(tmp_path / "photos", 30)
    source, out = str(tmp_path / "photos"), tmp_path / "stopped"
    save_predictions(held(router), source, tmp_path / "whole", EVERYTHING)
    try:
        stopped = Predictor(Stopping(14, error), held(router).gate, 64, 0.5, batch=4)
        save_predictions(stopped, source, out, EVERYTHING, {}, workers=3)
    except BaseException as end:
        assert end is error or isinstance(end, DualResError)
    rows = list(csv.DictReader((out / "routes.csv").open()))
    whole = list(csv.DictReader((tmp_path / "whole" / "routes.csv").open()))
    assert 0 < len(rows) < 30 and [r["file"] for r in rows] == [r["file"] for r in whole[: len(rows)]]
    for file in out.glob("*.jpg"):
        Image.open(file).load()
    again = Predictor(FakeAdapter(), held(router).gate, 64, 0.5, batch=4)
    save_predictions(again, source, out, EVERYTHING, {}, workers=3)
    done = list(csv.DictReader((out / "routes.csv").open()))
    assert [(r["file"], r["route"]) for r in done] == [(r["file"], r["route"]) for r in whole]
    assert not (out / JOURNAL).exists()
