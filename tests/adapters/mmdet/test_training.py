"""Training the router in mmdet's own runner: what moves, what is logged, resuming, several processes, exporting."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

pytest.importorskip("mmdet")

from mmengine.config import Config

from dualres_plugin.adapters.mmdet import MMDetAdapter, MMDetBatch, export_router
from dualres_plugin.common.errors import DualResError
from dualres_plugin.router.network import ResolutionRouter
from tests.adapters.mmdet.helpers import Project, build, environment, mim_folder, run_tool, run_tool_here

FRESH = {"backbone": "mobilenet_v3_small", "input_size": 32}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return Project(tmp_path_factory.mktemp("training"))


@pytest.fixture(scope="module")
def trained(project: Project) -> Path:
    """Two epochs from the plain detector's weights, by the host's script; returns the work folder."""
    config = project.config("train.py", router=FRESH, target_high_rate=0.5, gamma=2.0, temperature=(5.0, 0.5))
    run_tool(
        "train.py", config, "--work-dir", "work", "--cfg-options", f"load_from={project.plain}", cwd=project.folder
    )
    return project.folder / "work"


def state(file: Path) -> dict[str, torch.Tensor]:
    return torch.load(file, map_location="cpu", weights_only=True)["state_dict"]


def test_only_the_router_moves(project: Project, trained: Path) -> None:
    first, last = state(trained / "epoch_1.pth"), state(trained / "epoch_2.pth")
    plain = project.detector.state_dict()
    detector = {key[len("detector.") :]: value for key, value in last.items() if key.startswith("detector.")}
    assert detector.keys() == plain.keys()
    assert all(torch.equal(detector[key], plain[key]) for key in plain)
    moved = [key for key in last if key.startswith("router.") and not torch.equal(first[key], last[key])]
    assert any("head" in key for key in moved) and any("backbone" in key for key in moved)
    assert not any("running" in key for key in moved)  # batch norms keep their statistics
    assert int(last["step"]) == 4 and int(first["step"]) == 2


def test_every_iteration_is_logged(trained: Path) -> None:
    log = sorted(trained.rglob("vis_data/scalars.json"))[-1]
    entries = [json.loads(line) for line in log.read_text().splitlines()]
    routing = [entry for entry in entries if "dualres/high_rate" in entry]
    assert [entry["step"] for entry in routing] == [1, 2, 3, 4]
    for entry in routing:
        assert 0 <= entry["dualres/high_rate"] <= 1 and 0 < entry["dualres/p"] < 1, entry
        assert entry["dualres/gamma_term"] == pytest.approx(2.0 * (entry["dualres/high_rate"] - 0.5) ** 2, abs=1e-6)
    temperatures = [entry["dualres/temperature"] for entry in routing]
    assert temperatures == sorted(temperatures, reverse=True) and temperatures[0] > temperatures[-1]
    assert any("loss_expected" in entry for entry in entries)
    assert any("coco/bbox_mAP" in entry for entry in entries)  # it also validated after each epoch


def test_logged_compute_is_the_expected_cost(project: Project, trained: Path) -> None:
    log = sorted(trained.rglob("vis_data/scalars.json"))[-1]
    entry = next(e for e in map(json.loads, log.read_text().splitlines()) if "dualres/gmacs" in e)
    adapter = MMDetAdapter(project.detector)
    high, low = adapter.macs((128, 128)), adapter.macs((64, 64))
    rate = entry["dualres/high_rate"]
    expected = rate * high + (1 - rate) * low + ResolutionRouter(**FRESH).gmacs()
    assert entry["dualres/gmacs"] == pytest.approx(expected, rel=1e-3)


def test_the_trained_checkpoint_tests_and_its_threshold_is_calibrated(project: Project, trained: Path) -> None:
    printed = run_tool_here("test.py", "train.py", "work/epoch_2.pth", "--work-dir", "tested", cwd=project.folder)
    assert "bbox_mAP" in printed and "images at high" in printed
    quantiles = state(trained / "epoch_2.pth")["score_quantiles"]
    assert quantiles.isfinite().all() and (quantiles.diff() >= 0).all()


def test_resuming_ends_where_one_run_ends(project: Project, trained: Path) -> None:
    run_tool_here(
        "train.py", "train.py", "--work-dir", "resumed", "--resume", trained / "epoch_1.pth", cwd=project.folder
    )
    resumed, straight = state(project.folder / "resumed" / "epoch_2.pth"), state(trained / "epoch_2.pth")
    assert all(torch.allclose(resumed[key], straight[key], atol=1e-6, equal_nan=True) for key in straight)


def test_two_processes_train_as_one(tmp_path: Path) -> None:
    """Batches of 4 on one process, of 2 on each of two: the same images, noise, gradients and checkpoint."""
    one, two = Project(tmp_path / "one", batch=4, epochs=2), Project(tmp_path / "two", batch=2, epochs=2)
    options = ["--cfg-options", "model_wrapper_cfg.device_ids=None"]
    router = str(ResolutionRouter(**FRESH).save(tmp_path / "start"))
    for project in (one, two):
        project.config("train.py", router=router, target_high_rate=0.3, gamma=5.0)
    printed = run_tool_here(
        "train.py", "train.py", "--work-dir", "work", *options, f"load_from={one.plain}", cwd=one.folder
    )
    # The host's launcher insists on a GPU; a process group that is there already is used as it is.
    script = two.folder / "launch.py"
    tool = mim_folder() / "tools" / "train.py"
    script.write_text(
        "import os, runpy, sys, torch\ntorch.distributed.init_process_group('gloo')\n"
        f"runpy.run_path({str(tool)!r}, run_name='__main__')\n"
        # Now and then torch's threads abort while Python tears itself down; all is written by then.
        "torch.distributed.barrier()\nsys.stdout.flush(), sys.stderr.flush(), os._exit(0)\n"
    )
    launch = ["-m", "torch.distributed.run", "--nproc_per_node=2", "--master_port=29511", str(script)]
    arguments = ["train.py", "--launcher", "pytorch", "--work-dir", "work", *options, f"load_from={one.plain}"]
    done = subprocess.run(
        [sys.executable, *launch, *arguments],
        cwd=two.folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    single, double = (state(p.folder / "work" / "epoch_2.pth") for p in (one, two))
    start = ResolutionRouter.from_pretrained(router).state_dict()
    assert single.keys() == double.keys()
    for key, value in single.items():
        torch.testing.assert_close(double[key], value, rtol=1e-4, atol=1e-5, equal_nan=True)
    moved = (single["router.head.0.weight"] - start["head.0.weight"]).abs().max()
    assert moved > 1e-3  # far more than the tolerance: equality says something
    # Both validated on all 8 photos after each epoch. A fresh router scores them almost alike, so that which are above
    # its threshold hangs on the last bits.
    counts = [re.findall(r"\d+ of 8 images at high", text) for text in (printed, done.stdout + done.stderr)]
    assert [len(found) for found in counts] == [2, 2]


def test_a_router_folder_comes_out_of_a_checkpoint(project: Project, trained: Path, tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "dualres_plugin.adapters.mmdet",
        str(trained / "epoch_2.pth"),
        str(tmp_path / "out"),
    ]
    subprocess.run(command, check=True, env=environment(), capture_output=True, timeout=120)
    router = ResolutionRouter.from_pretrained(tmp_path / "out")
    stored = state(trained / "epoch_2.pth")
    assert all(torch.equal(value, stored[f"router.{key}"]) for key, value in router.state_dict().items())
    assert router.quantiles == pytest.approx(stored["score_quantiles"].tolist())


def test_export_says_what_is_wrong(project: Project, trained: Path, tmp_path: Path) -> None:
    with pytest.raises(DualResError, match="does not exist"):
        export_router(tmp_path / "none.pth", tmp_path)
    with pytest.raises(DualResError, match="holds no router"):
        export_router(project.plain, tmp_path)
    with pytest.raises(DualResError, match="no dualres key"):
        export_router(trained / "epoch_2.pth", tmp_path, project.base)


# -- the objective ------------------------------------------------------------------------------------------------


def test_the_loss_is_equation_5(project: Project) -> None:
    model = build(Config.fromfile(project.config("loss.py", gamma=3.0, target_high_rate=0.2)).model)
    model.train()
    assert not any(module.training for module in model.detector.modules())
    batch = training_batch(project, model)
    losses = model.loss(batch.inputs, batch.samples)
    adapter = model.adapter
    high = adapter.losses(batch)
    low = adapter.losses(adapter.resize(batch, torch.arange(4), 0.5))
    rate = model.training_state["high_rate"]
    # Which images went high is drawn, so the expectation is one of the mixes of the two constants.
    mixes = {
        round(float(torch.where(torch.tensor([bool(i >> k & 1) for k in range(4)]), high, low).mean()), 3)
        for i in range(16)
        if bin(i).count("1") == round(rate * 4)
    }
    assert round(float(losses["loss_expected"]), 3) in mixes
    assert float(losses["loss_rate"]) == pytest.approx(3.0 * (rate - 0.2) ** 2, abs=1e-6)
    assert not any(m.training for m in model.router.modules() if isinstance(m, torch.nn.BatchNorm2d))
    sum(losses.values()).backward()
    assert all(p.grad is None for p in model.detector.parameters())
    assert model.router.head[-1].weight.grad.abs().sum() > 0


def training_batch(project: Project, model) -> MMDetBatch:
    from mmengine.runner import Runner

    loader = Runner.build_dataloader(Config.fromfile(project.base).train_dataloader, seed=0)
    data = model.data_preprocessor(next(iter(loader)), True)
    return MMDetBatch(data["inputs"], data["data_samples"], targets=True)


def test_batch_norms_of_the_router_can_train(project: Project) -> None:
    frozen = build(Config.fromfile(project.config("frozen.py")).model).train()
    free = build(Config.fromfile(project.config("free.py", norm_eval=False)).model).train()
    norms = [[m for m in model.router.modules() if isinstance(m, torch.nn.BatchNorm2d)] for model in (frozen, free)]
    assert not any(m.training for m in norms[0]) and all(m.training for m in norms[1])


def test_training_scores_calibrate_the_threshold(project: Project) -> None:
    model = build(Config.fromfile(project.config("calibrate.py")).model)
    before = model.current_threshold()
    model._collect(torch.linspace(10, 20, 101))
    assert model.current_threshold() == pytest.approx(15.0, abs=0.2) and before < 10


def test_an_epoch_ends_with_a_calibration_of_the_router_as_it_is(project: Project) -> None:
    """In eval, with the weights of now: not the scores that training saw."""
    model = build(Config.fromfile(project.config("end.py", norm_eval=False)).model).train()
    batch = training_batch(project, model)
    model.loss(batch.inputs, batch.samples)
    with torch.no_grad():
        model.router.head[-1].bias += 5
    spread = model.calibrate()
    thumbnails = model.router.thumbnails(model.adapter.router_images(batch))
    expected = model.router.score_thumbnails((thumbnails * 255).round().to(torch.uint8))
    assert model.score_quantiles[[0, -1]].tolist() == pytest.approx([float(expected.min()), float(expected.max())])
    assert spread == pytest.approx(float(expected.std(correction=0)), rel=1e-5)
    assert all(m.training for m in model.router.modules() if isinstance(m, torch.nn.BatchNorm2d))
    model.forget_thumbnails()
    assert model.calibrate() is None


def test_thumbnails_do_not_pile_up(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dualres_plugin.adapters.mmdet.detector.KEPT", 10)
    model = build(Config.fromfile(project.config("kept.py")).model)
    for _ in range(9):
        model._keep(torch.rand(4, 3, 8, 8))
    assert sum(map(len, model._thumbnails)) == 12  # whole batches, at least 10


def test_a_router_that_says_the_same_of_every_image_is_told(project: Project) -> None:
    router = {"backbone": "mobilenet_v3_small", "input_size": 32}
    project.config("constant.py", router=router, norm_eval=True)
    work = ["--work-dir", "constant"]
    options = ["--cfg-options", f"load_from={project.plain}", "train_cfg.max_epochs=1"]
    assert "scores all training images alike" in run_tool_here(
        "train.py", "constant.py", *work, *options, cwd=project.folder
    )


def test_a_share_far_from_the_asked_one_is_told(project: Project) -> None:
    router = ResolutionRouter.from_pretrained(project.router)
    router.calibrate([5.0, 6.0])  # far above all scores of these photos
    folder = router.save(project.folder / "elsewhere")
    project.config("far.py", router=str(folder), target_high_rate=0.9)
    printed = run_tool_here("test.py", "far.py", "plain.pth", "--work-dir", "far", cwd=project.folder)
    assert "0 of 8 images at high" in printed and "90% at high were asked for" in printed


def test_a_detector_without_weights_is_not_trained_on(project: Project) -> None:
    project.config("random.py", router=FRESH)
    with pytest.raises(DualResError, match="frozen and its weights are random"):
        run_tool_here("train.py", "random.py", "--work-dir", "random", cwd=project.folder)
