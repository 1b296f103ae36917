"""Sessions: sources, order, threads, rates; without torch and without a host."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dualres_plugin.common.errors import DualResError
from dualres_plugin.runtime.photo import make_frame
from dualres_plugin.runtime.session import DualResSession
from tests.shared import ROOT
from tests.small_models import pictures, same


@pytest.mark.parametrize("form", ["cond", "pair"])
def test_threads_that_share_a_session_get_the_results_of_serial_runs(models: dict[str, Path], form: str) -> None:
    photos = pictures(10)
    session = DualResSession(models[form], threads=1)
    session.threshold = float(np.median([r.score for r in session.predict(photos)]))
    serial = session.predict(photos)
    assert {r.route for r in serial} == {"high", "low"}
    wrong: list[int] = []

    def work(start: int) -> None:
        for i in range(start, start + 125):
            if not same(session.predict(photos[i % 10])[0], serial[i % 10]):
                wrong.append(i)

    workers = [threading.Thread(target=work, args=(7 * i,)) for i in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong


@pytest.mark.parametrize("form", ["cond", "pair"])
def test_a_batch_keeps_its_order(models: dict[str, Path], form: str) -> None:
    photos = pictures(9)
    session = DualResSession(models[form])
    middle = float(np.median([r.score for r in session.predict(photos)]))
    one_by_one = session.predict(photos, threshold=middle)
    together = session.predict_batch(photos, threshold=middle)
    assert all(same(a, b) for a, b in zip(one_by_one, together)) and len(together) == 9


def test_every_call_takes_every_source_and_says_which_photo_a_result_is_of(
    models: dict[str, Path], tmp_path: Path
) -> None:
    photos = pictures(3)
    files = [tmp_path / f"{name}.png" for name in "abc"]
    for file, pixels in zip(files, photos):
        Image.fromarray(pixels).save(file)
    session = DualResSession(models["cond"])
    expected = session.predict(photos)
    assert [r.image for r in expected] == ["image0", "image1", "image2"]
    for call in (session.predict, session.stream, session.predict_batch):
        for source in (tmp_path, str(tmp_path), [str(f) for f in files], iter(files)):
            found = list(call(source))
            assert [r.image for r in found] == ["a.png", "b.png", "c.png"]
            assert all(same(a, b) for a, b in zip(found, expected))
        assert [r.image for r in call(iter(photos))] == ["image0", "image1", "image2"]
        with pytest.raises(DualResError, match="nowhere"):
            list(call(tmp_path / "nowhere.jpg"))


def test_a_stream_reads_no_further_than_it_is_read(models: dict[str, Path]) -> None:
    def camera() -> Iterator[np.ndarray]:
        yield from pictures(2)
        raise AssertionError("read ahead")

    results = DualResSession(models["cond"]).stream(camera())
    assert [next(results).image, next(results).image] == ["image0", "image1"]


def test_a_session_holds_a_rate_where_the_calibration_is_off(models: dict[str, Path], tmp_path: Path) -> None:
    from dualres_plugin.export.files import write_card

    photos = pictures(40) * 3
    copy = tmp_path / "m.onnx"
    copy.write_bytes(models["cond"].read_bytes())
    card = DualResSession(copy).card
    top = max(r.score for r in DualResSession(copy).predict(photos[:40]))
    write_card(copy, replace(card, quantiles=np.linspace(top + 1, top + 2, 101).tolist()))  # of other photos
    assert not any(r.route == "high" for r in DualResSession(copy, target_high_rate=0.3).predict(photos))
    for method in ("predict", "predict_batch"):
        session = DualResSession(copy, target_high_rate=0.3, hold_rate=True)
        results = getattr(session, method)(photos)
        assert session.controller is not None and session.controller.state.images == len(photos)
        assert np.mean([r.route == "high" for r in results]) == pytest.approx(0.3, abs=0.04)
        before = session.controller.state
        for call in (session.predict, session.predict_batch):
            with pytest.raises(DualResError, match="give target_high_rate, not threshold"):
                call(photos[0], threshold=float("inf"))
        assert session.controller.state == before
        frame = make_frame(photos[0], session.card)
        _, high, score = session.run(frame.images, frame.content)
        assert session.controller.state.images == len(photos) + 1 and high == (score > before.threshold)
    with pytest.raises(DualResError, match="give target_high_rate"):
        DualResSession(copy, hold_rate=True)
    for rate in (None, 0.3):
        with pytest.raises(DualResError, match="give target_high_rate, not threshold"):
            DualResSession(copy, hold_rate=True, threshold=0.0, target_high_rate=rate)
    with pytest.raises(DualResError, match="calibrated"):
        DualResSession(models["cond"], hold_rate=True, target_high_rate=1.0)


def test_a_session_holds_frames_per_second(models: dict[str, Path], tmp_path: Path) -> None:
    """Without torch, by times of its own; a photo that `run` gets counts as one of the stream."""
    from dualres_plugin.budget.pace import PacedController
    from dualres_plugin.export.files import write_card

    photos = pictures(40) * 3
    copy = tmp_path / "m.onnx"
    copy.write_bytes(models["cond"].read_bytes())
    scores = [r.score for r in DualResSession(copy).predict(photos[:40])]
    write_card(copy, replace(DualResSession(copy).card, quantiles=np.quantile(scores, np.linspace(0, 1, 101)).tolist()))
    for fps, high in ((0.1, True), (1e6, False)):
        session = DualResSession(copy, fps=fps)
        routes = [result.route for result in session.stream(iter(photos))]
        assert set(routes[60:]) == {"high" if high else "low"}
        assert isinstance(session.controller, PacedController) and session.controller.pace.missed is not high
        frame = make_frame(photos[0], session.card)
        session.run(frame.images, frame.content)
        assert session.controller.state.images == len(photos) + 1 and session.expected_shares is None
        assert f"{fps:g} frames a second held" in repr(session)
    with pytest.raises(DualResError, match="or fps"):
        DualResSession(copy, fps=5, target_high_rate=0.3)


def test_a_rate_becomes_a_threshold(models: dict[str, Path], tmp_path: Path) -> None:
    from dualres_plugin.export.files import write_card

    photos = pictures(20)
    scores = [r.score for r in DualResSession(models["cond"]).predict(photos)]
    copy = tmp_path / "m.onnx"
    copy.write_bytes(models["cond"].read_bytes())
    card = DualResSession(copy).card
    write_card(copy, replace(card, quantiles=[float(q) for q in np.quantile(scores, np.linspace(0, 1, 101))]))
    for rate in (0.0, 0.3, 0.7, 1.0):
        results = DualResSession(copy, target_high_rate=rate).predict(photos)
        assert np.mean([r.route == "high" for r in results]) == pytest.approx(rate, abs=0.051)
    with pytest.raises(DualResError, match="no calibration"):
        DualResSession(models["cond"], target_high_rate=0.5)
    with pytest.raises(DualResError, match="between 0"):
        DualResSession(copy, target_high_rate=1.5)
    with pytest.raises(DualResError, match="either"):
        DualResSession(copy, target_high_rate=0.5, threshold=0.0)


def test_the_runtime_loads_neither_torch_nor_a_host(models: dict[str, Path]) -> None:
    code = (
        "import sys, numpy as np\n"
        "from dualres_plugin.runtime.session import DualResSession\n"
        f"session = DualResSession({str(models['cond'])!r})\n"
        "assert session.predict(np.zeros((50, 60, 3), np.uint8))[0].route in ('high', 'low')\n"
        "print(sorted({'torch', 'torchvision', 'ultralytics', 'mmdet', 'onnx'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, env={**os.environ, "PYTHONPATH": ""}
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("options", [{"conf": float("nan")}, {"conf": -0.1}, {"iou": 1.5}, {"threshold": float("nan")}])
def test_numbers_out_of_range_are_refused(models: dict[str, Path], options: dict[str, float]) -> None:
    session = DualResSession(models["cond"], warm_up=False)
    blank = np.zeros((32, 32, 3), dtype=np.uint8)
    for run in (session.predict, session.predict_batch):
        with pytest.raises(DualResError, match=r"must lie between 0 and 1|not a number"):
            run(blank, **options)
    with pytest.raises(DualResError, match="threads=0 must be at least 1"):
        DualResSession(models["cond"], threads=0)


def test_a_session_shows_what_it_runs_and_promises(models: dict[str, Path]) -> None:
    session = DualResSession(models["cond"], threshold=0.7)
    assert session.expected_rate is None, "exported without a calibration"
    session.card = replace(session.card, quantiles=[0.0, 0.5, 1.0])
    shown = repr(session).splitlines()
    assert len(shown) == 2 and shown[0].startswith("DualResSession(form cond, high ")
    assert session.expected_rate == pytest.approx(0.3) and shown[1] == "  threshold +0.7000, 30% at high expected"


def test_a_tensor_of_whole_numbers_is_not_read_as_white(models: dict[str, Path]) -> None:
    import torch

    session = DualResSession(models["cond"])
    (picture,) = pictures(1)
    whole = torch.from_numpy(picture).permute(2, 0, 1)
    with pytest.raises(DualResError, match=r"floating, RGB in \[0, 1\]"):
        session.predict(whole)
    assert same(session.predict(whole / 255)[0], session.predict(picture)[0])
