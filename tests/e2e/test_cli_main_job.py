"""The main job as a user types it: profile, train, evaluate, predict, swap; on real photos with a real detector."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dualres_plugin.profile.table import Profile
from dualres_plugin.router.network import ResolutionRouter
from tests.e2e.cli import Done, dualres, ok, subprocess_dualres
from tests.shared import ROOT, require_shared

pytest.importorskip("ultralytics")

TRAIN, VAL = 20, 14
SIZES = ("--high", 320, "--low", 160)


@dataclass
class Job:
    """A finished run in a folder, and what each command printed."""

    folder: Path
    detector: str
    photos: Path
    printed: dict[str, Done]


def subset(folder: Path, split: str, count: int) -> tuple[Path, Path]:
    """The annotations of the first photos of a split; the photos stay where they are."""
    images = require_shared("data", "coco_mini", "images", split)
    coco = json.loads(require_shared("data", "coco_mini", "annotations", f"instances_{split}.json").read_text())
    coco["images"] = sorted(coco["images"], key=lambda im: im["id"])[:count]
    kept = {im["id"] for im in coco["images"]}
    coco["annotations"] = [a for a in coco["annotations"] if a["image_id"] in kept]
    file = folder / f"{split}.json"
    file.write_text(json.dumps(coco))
    return file, images


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Job:
    folder = tmp_path_factory.mktemp("job")
    detector = str(require_shared("weights", "yolo11n.pt"))
    train, val = (subset(folder, split, n) for split, n in (("train2017", TRAIN), ("val2017", VAL)))
    photos = folder / "photos"
    photos.mkdir()
    for path in sorted(val[1].iterdir())[:5]:
        (photos / path.name).symlink_to(path)
    printed = {}
    for name, (data, images), views in (("train", train, 2), ("val", val, 1)):
        printed[f"profile {name}"] = ok(
            *("profile", detector, "--data", data, "--images", images, *SIZES, "--views", views),
            *("--batch", 4, "--out", folder / name),
        )
    printed["train"] = ok("train", folder / "train", "--input-size", 64, "--out", folder / "router")
    printed["evaluate"] = ok(
        *("evaluate", folder / "val", folder / "router", "--out", folder / "report"),
        *("--bootstrap", 10, "--permutations", 3),
    )
    printed["predict"] = ok(
        "predict", detector, photos, "--router", folder / "router", "--high", 320, "--out", folder / "predicted"
    )
    printed["swap"] = ok(
        *("swap", folder / "router", "--detector", "ultralytics:yolov8n.yaml", "--images", photos, "--high", 320),
        *("--out", folder / "swapped"),
    )
    return Job(folder, detector, photos, printed)


def test_profiles_hold_every_view(job: Job) -> None:
    train, val = (Profile.load(job.folder / name) for name in ("train", "val"))
    assert len(train) == 2 * TRAIN and len(train.originals) == TRAIN and len(val) == VAL
    assert np.isfinite(val.column("loss_high")).all() and (val.column("loss_low") > 0).all()
    low, high = val.gmacs
    assert high == pytest.approx(0.8 * 0.75, rel=0.2) and low < 0.4 * high  # YOLO11n: 0.8 at 320, photos are 4:3
    assert "40 views of 20 images" in job.printed["profile train"].out
    assert val.meta["detector"] == "yolo11n.pt" and val.meta["high"] == 320 and val.meta["scale"] == 0.5


def test_the_router_says_what_it_is(job: Job) -> None:
    router = ResolutionRouter.from_pretrained(job.folder / "router")
    assert router.config.input_size == 64 and len(router.quantiles) == 101
    assert router.info["trained_on"][0]["detector"] == "yolo11n.pt" and router.info["gain"] == "ap_objects"
    assert "rank correlation" in job.printed["train"].out and "next: dualres evaluate" in job.printed["train"].out


def test_the_report_and_its_numbers(job: Job) -> None:
    pytest.importorskip("dualres_plugin.evaluate.report.write")
    out = job.folder / "report"
    assert {"report.html", "metrics.json", "curve.csv", "curve.png"} <= {p.name for p in out.iterdir()}
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["n_images"] == VAL and metrics["ap_high"] > metrics["ap_low"] > 0.05
    points = metrics["points"]
    assert points[0]["beta"] == 0 and points[-1]["beta"] == 1
    assert points[0]["ap"] == metrics["ap_low"] and points[-1]["ap"] == metrics["ap_high"]
    assert metrics["auc_policy_ci95"][0] <= metrics["auc_policy"] <= metrics["auc_policy_ci95"][1]
    assert metrics["low_gmacs"] + metrics["router_gmacs"] == pytest.approx(points[0]["gmacs"])
    table = list(csv.reader((out / "curve.csv").read_text().splitlines()))
    assert len(table) > VAL
    Image.open(out / "curve.png").verify()
    assert "AUC-Policy" in job.printed["evaluate"].out and "few" in job.printed["evaluate"].out


def test_ap_of_the_ends_is_pycocotools_on_the_plain_host(job: Job) -> None:
    """The all-high end against `YOLO.predict` and pycocotools, without any code of ours in between."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval
    from ultralytics import YOLO

    from dualres_plugin.profile.coco_ap import MixedAP

    truth = COCO(str(job.folder / "val2017.json"))
    yolo = YOLO(job.detector)
    category = {c["name"]: c["id"] for c in truth.dataset["categories"]}
    results = []
    for image in truth.dataset["images"]:
        path = require_shared("data", "coco_mini", "images", "val2017", image["file_name"])
        (found,) = yolo.predict(path, imgsz=320, conf=0.001, iou=0.7, max_det=300, verbose=False)
        for x0, y0, x1, y1, score, label in found.boxes.data.tolist():
            box = [x0, y0, x1 - x0, y1 - y0]
            name = category[yolo.names[int(label)]]
            results.append({"image_id": image["id"], "category_id": name, "bbox": box, "score": score})
    evaluation = COCOeval(truth, truth.loadRes(results), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    _, high = MixedAP(Profile.load(job.folder / "val")).ends()
    assert high == pytest.approx(evaluation.stats[0], abs=0.003)


def test_predictions_are_drawn_and_listed(job: Job) -> None:
    out = job.folder / "predicted"
    drawn = sorted(p.name for p in out.glob("*.jpg"))
    assert drawn == sorted(p.name for p in job.photos.iterdir())
    table = list(csv.reader((out / "routes.csv").read_text().splitlines()))[1:]
    printed = job.printed["predict"].out
    for name, route, score, *_ in table:
        assert f"{name}: {route} (score {float(score):+.3f})" in printed
    high = sum(route == "high" for _, route, *_ in table)
    assert f"5 images, {high} at high" in printed
    found = json.loads((out / "detections.json").read_text())
    assert {row["image_id"] for row in found} <= {int(p.stem) for p in job.photos.iterdir()}
    assert all(row["score"] >= 0.25 and len(row["bbox"]) == 4 for row in found) and found
    assert {"person"} & {row["category_name"] for row in found}


@pytest.mark.parametrize(("option", "value", "high"), [("--target-high-rate", 1, 5), ("--threshold", 1e9, 0)])
def test_budgets_on_the_command_line(job: Job, tmp_path: Path, option: str, value: float, high: int) -> None:
    common = ("--router", job.folder / "router", "--high", 320, "--no-save", "--out", tmp_path)
    done = ok("predict", job.detector, job.photos, *common, option, value)
    assert f"5 images, {high} at high" in done.out
    assert sorted(p.name for p in tmp_path.iterdir()) == ["detections.json", "routes.csv"]


def test_a_budget_in_gmacs(job: Job, tmp_path: Path) -> None:
    common = ("--router", job.folder / "router", "--high", 320, "--no-save", "--out", tmp_path)
    assert "5 at high" in ok("predict", job.detector, job.photos, *common, "--gmacs", 50).out


def test_a_swap_keeps_the_weights_and_moves_the_thresholds(job: Job) -> None:
    old, new = (ResolutionRouter.from_pretrained(job.folder / name) for name in ("router", "swapped"))
    assert all(np.array_equal(a, b) for a, b in zip(old.state_dict().values(), new.state_dict().values()))
    assert new.quantiles != old.quantiles
    assert new.info["swapped_to"]["detector"] == "yolov8n.yaml" and new.info["swapped_to"]["high"] == 320
    assert "calibrated on 5 images for yolov8n.yaml" in job.printed["swap"].out
    assert new.info["trained_on"] == old.info["trained_on"]


def test_the_same_commands_again(job: Job, tmp_path: Path) -> None:
    """A finished profile is recognised, and the same seed trains the same router."""
    again = ok(
        *("profile", job.detector, "--data", job.folder / "train2017.json", *SIZES, "--views", 2, "--batch", 4),
        *("--images", require_shared("data", "coco_mini", "images", "train2017"), "--out", job.folder / "train"),
    )
    assert "complete already" in again.err
    ok("train", job.folder / "train", "--input-size", 64, "--out", tmp_path / "router")
    a, b = (ResolutionRouter.from_pretrained(p / "router") for p in (job.folder, tmp_path))
    assert a.quantiles == pytest.approx(b.quantiles, abs=1e-3), "the same but for the order of sums on several threads"


def test_the_papers_recipe_from_its_file(job: Job, tmp_path: Path) -> None:
    config = tmp_path / "paper.yaml"
    config.write_text("objective: paper\nbackbone: tiny@3\ninput_size: 32\nepochs: 1\noptimizer: sgd\nlr: 3.2e-4\n")
    ok("train", job.folder / "train", "--config", config, "--out", tmp_path / "router")
    assert ResolutionRouter.from_pretrained(tmp_path / "router").info["gain"] == "loss (Eq. 5)"


def test_a_data_yaml_and_no_labels_in_a_process_of_their_own(job: Job, tmp_path: Path) -> None:
    done = subprocess_dualres("profile", job.detector, "--images", job.photos, *SIZES, "--out", tmp_path / "blind")
    assert done.status == 0, done.err
    assert "5 views of 5 images" in done.out and "profile" in done.err, "a progress bar"
    assert not Profile.load(tmp_path / "blind").labelled
    ok("train", tmp_path / "blind", "--epochs", 1, "--input-size", 32, "--out", tmp_path / "router")
    assert ResolutionRouter.from_pretrained(tmp_path / "router").info["gain"] == "agreement"


def test_what_is_shared_names_no_folder_of_this_machine(job: Job, tmp_path: Path) -> None:
    exported = tmp_path / "yolo11n.onnx"
    words = ("--router", job.folder / "router", "--high", 320, "--photos", 1, "--images", job.photos)
    ok("export", job.detector, *words, "--out", exported)
    made = [exported]
    for folder in ("router", "swapped", "report"):
        made += [p for p in (job.folder / folder).rglob("*") if p.is_file()]
    assert {"router.json", "report.html", "metrics.json"} <= {p.name for p in made}
    # the job's own, the test's, that of the detector and that of the photos
    secrets = {str(place) for place in (job.folder, tmp_path, Path(job.detector).parent, ROOT)}
    secrets |= {str(p.resolve().parent) for p in job.photos.iterdir()}
    for path in made:
        told = [place for place in secrets if place.encode() in path.read_bytes()]
        assert not told, f"{path.name} names {told}"
    # A profile does name its photos, to draw them: in its table, not in its description.
    description = (job.folder / "val" / "profile.json").read_text()
    assert not any(place in description for place in secrets)


def test_times_of_another_detector_are_refused(job: Job, tmp_path: Path) -> None:
    words = ("evaluate", job.folder / "val", job.folder / "router", "--detector", "ultralytics:yolov8n.yaml")
    done = dualres(*words, "--bootstrap", 2, "--permutations", 2, "--out", tmp_path / "report")
    assert done.status == 2 and "has other weights than the detector of profile" in done.err
    assert not (tmp_path / "report" / "metrics.json").exists()


def test_sizes_of_a_namesake_with_other_weights_are_refused(job: Job, tmp_path: Path) -> None:
    """Every training leaves a `best.pt`."""
    from ultralytics import YOLO

    retrained = YOLO(job.detector)
    for parameter in retrained.model.parameters():
        parameter.data *= 1.01
    retrained.save(str(tmp_path / "yolo11n.pt"))
    data, images = subset(tmp_path, "val2017", VAL)
    words = ("--data", data, "--images", images, "--high", 320, "--low", 224, "--out", tmp_path / "between")
    ok("profile", tmp_path / "yolo11n.pt", *words)
    words = ("evaluate", job.folder / "val", job.folder / "router", "--sizes", tmp_path / "between")
    done = dualres(*words, "--bootstrap", 2, "--permutations", 2, "--out", tmp_path / "report")
    assert done.status == 2 and "has other weights than that of" in done.err
    assert not (tmp_path / "report" / "metrics.json").exists()
