"""The `dualres` key of an mmdet config: what it makes, what it leaves alone, and what it refuses."""

from __future__ import annotations

import copy
import json
import pickle
from pathlib import Path

import pytest
import torch

pytest.importorskip("mmdet")

from mmengine.config import Config

from dualres_plugin.adapters import mmcv_ext
from dualres_plugin.adapters.mmdet import DualResDetector
from dualres_plugin.common.errors import DualResError
from tests.adapters.mmdet.helpers import Project, build, run_python, run_tool


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return Project(tmp_path_factory.mktemp("project"))


def write(project: Project, text: str, name: str = "case.py") -> Path:
    path = project.folder / name
    imports = "custom_imports = dict(imports=['dualres_plugin.adapters.mmdet'], allow_failed_imports=False)\n"
    path.write_text(f"_base_ = ['base.py']\n{imports}{text}\n")
    return path


def test_the_key_and_the_explicit_form_give_the_same_model(project: Project) -> None:
    short = Config.fromfile(project.config(low=0.4, target_high_rate=0.3))
    settings = f"router=r'{project.router}', low=0.4, target_high_rate=0.3"
    explicit = Config.fromfile(
        write(project, f"model = dict(_delete_=True, type='DualResDetector', detector=_base_.model, {settings})")
    )
    a, b = build(short.model), build(explicit.model)
    assert isinstance(a, DualResDetector) and type(a) is type(b)
    assert str(a) == str(b)
    assert (a.scale, a.target_high_rate, a.gamma) == (b.scale, b.target_high_rate, b.gamma) == (0.4, 0.3, a.gamma)
    torch.testing.assert_close(dict(a.state_dict()), dict(b.state_dict()), rtol=0, atol=0, equal_nan=True)
    assert a.current_threshold() == b.current_threshold()


def test_nothing_else_changes(project: Project) -> None:
    routed, plain = Config.fromfile(project.config()), Config.fromfile(project.base)
    assert routed.model.detector == plain.model
    for key in plain:
        if key not in ("model", "custom_hooks"):
            assert routed[key] == plain[key], key
    assert [hook.type for hook in routed.custom_hooks] == ["DualResHook"]
    assert "dualres" not in plain and plain.model.type == "YOLOX"  # the adapter is imported by now


def test_command_line_options_reach_the_detector_and_the_key(project: Project) -> None:
    cfg = Config.fromfile(project.config())
    cfg.merge_from_dict({"model.test_cfg.score_thr": 0.25, "dualres.target_high_rate": 0.1, "work_dir": "x"})
    assert cfg.model.type == "DualResDetector" and cfg.model.dualres.target_high_rate == 0.1
    assert cfg.model.detector.test_cfg.score_thr == 0.25 and cfg.work_dir == "x"
    assert len(cfg.custom_hooks) == 1
    with pytest.raises(DualResError, match="did you mean 'target_high_rate'"):
        cfg.merge_from_dict({"dualres.target_rate_high": 0.2})


def test_saved_copied_and_inherited_configs(project: Project) -> None:
    cfg = Config.fromfile(project.config(threshold=0.0))
    dumped = project.folder / "dumped.py"
    cfg.dump(dumped)
    for other in (Config.fromfile(dumped), pickle.loads(pickle.dumps(cfg)), Config.fromstring(cfg.pretty_text, ".py")):
        assert other.model == cfg.model and len(other.custom_hooks) == 1
    child = project.folder / "child.py"
    child.write_text("_base_ = ['routed.py']\ndualres = dict(low=0.75)\nmodel = dict(test_cfg=dict(score_thr=0.5))\n")
    inherited = Config.fromfile(child)
    assert inherited.model.dualres.low == 0.75 and inherited.model.dualres.threshold == 0.0
    assert inherited.model.detector.test_cfg.score_thr == 0.5
    child.write_text("_base_ = ['routed.py']\ndualres = None\n")
    assert Config.fromfile(child).model.type == "YOLOX"


def test_what_inherits_from_a_dumped_config(project: Project) -> None:
    Config.fromfile(project.config(threshold=0.0)).dump(project.folder / "dumped.py")
    child = project.folder / "of_a_dump.py"
    child.write_text("_base_ = ['dumped.py']\ndualres = None\n")
    off = Config.fromfile(child)
    assert off.model == Config.fromfile(project.base).model and not off.custom_hooks
    child.write_text("_base_ = ['dumped.py']\nmodel = dict(test_cfg=dict(score_thr=0.5))\n")
    changed = Config.fromfile(child)
    assert changed.model.detector.test_cfg.score_thr == 0.5 and changed.model.detector.test_cfg.max_per_img == 20
    assert build(changed.model).detector.test_cfg.score_thr == 0.5


def test_what_is_set_after_loading_counts(project: Project) -> None:
    cfg = copy.deepcopy(Config.fromfile(project.config()))  # the runner copies it, too
    cfg.dualres.target_high_rate = 0.125
    assert build(cfg.model).target_high_rate == 0.125
    cfg.dualres = {"router": str(project.router), "low": 0.25}
    assert build(cfg.model).scale == 0.25
    with pytest.raises(DualResError, match="did you mean 'router'"):
        cfg.dualres = {"ruoter": "x"}
    cfg["dualres"] = None
    assert cfg.model.type == "YOLOX" and not cfg.custom_hooks
    cfg.dualres = {"router": str(project.router)}
    cfg.model = Config.fromfile(project.base).model
    assert cfg.model.type == "DualResDetector" and len(cfg.custom_hooks) == 1


def test_the_explicit_form_logs_its_routes_too(project: Project) -> None:
    text = f"model = dict(_delete_=True, type='DualResDetector', detector=_base_.model, router=r'{project.router}')"
    assert [hook.type for hook in Config.fromfile(write(project, text)).custom_hooks] == ["DualResHook"]


def test_a_relative_router_lies_beside_its_config(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert build(Config.fromfile(project.config("beside.py", router="router")).model)
    cfg = Config.fromfile(project.config("beside.py", router="elsewhere"))
    assert cfg.dualres.router == "elsewhere"  # not there: of the working directory


NEW_STYLE = "from mmengine.config import read_base\nwith read_base():\n    from .plain import *\n"


def new_style(project: Project, text: str, name: str) -> Path:
    """A config with `read_base()`, as in mmdet/configs, which the wheel of mmdet leaves out."""
    Config.fromfile(project.base).dump(project.folder / "plain.py")
    path = project.folder / name
    path.write_text(NEW_STYLE + text)
    return path


def test_a_config_with_read_base_routes_in_its_explicit_form(project: Project) -> None:
    """Nothing has imported the adapter when the host's script reads the config."""
    text = (
        "from dualres_plugin.adapters.mmdet import DualResDetector, DualResHook\n"
        f"model = dict(type=DualResDetector, detector=model, router=r'{project.router}', threshold=0.0)\n"
        "custom_hooks.append(dict(type=DualResHook))\n"
    )
    file = new_style(project, text, "explicit.py")
    printed = run_tool("test.py", file.name, "plain.pth", "--work-dir", "new_style", cwd=project.folder)
    assert "of 8 images at high" in printed


def test_a_key_that_nobody_followed_is_told_by_the_hook(project: Project) -> None:
    """On mmcv-lite it is told before, when the config is read."""
    text = (
        "from dualres_plugin.adapters.mmdet import DualResHook\n"
        f"dualres = dict(router=r'{project.router}')\ncustom_hooks.append(dict(type=DualResHook))\n"
    )
    file = new_style(project, text, "unfollowed.py")
    with pytest.raises(AssertionError, match=r"its model is not routed|would be ignored"):
        run_tool("test.py", file.name, "plain.pth", "--work-dir", "unfollowed", cwd=project.folder)


IMPORT = "__import__('dualres_plugin.adapters.mmdet')\n"


@pytest.mark.parametrize("tool", ["test.py", "train.py"])
def test_a_config_with_read_base_routes_by_the_key_and_the_import(project: Project, tool: str) -> None:
    """As a user types it: nothing has imported the adapter when the host's script reads the config."""
    text = f"{IMPORT}dualres = dict(router=r'{project.router}', target_high_rate=0.5)\nload_from = 'plain.pth'\n"
    file = new_style(project, text, f"imported_{tool}")
    checkpoint = ["plain.pth"] if tool == "test.py" else []
    printed = run_tool(tool, file.name, *checkpoint, "--work-dir", f"imported_{tool}s", cwd=project.folder)
    assert "of 8 images at high" in printed and "bbox_mAP" in printed
    (written,) = (project.folder / f"imported_{tool}s").glob(
        "imported_*.py"
    )  # as the host writes it beside its checkpoints
    again = run_tool("test.py", written, "plain.pth", "--work-dir", f"again_{tool}s", cwd=project.folder)
    assert "of 8 images at high" in again


OLD_STYLE = "_base_ = ['base.py']\n"
LINES = {
    "bare": (NEW_STYLE, ""),
    "custom_imports": (NEW_STYLE, "custom_imports = dict(imports=['dualres_plugin.adapters.mmdet'])\n"),
    "a promise": (NEW_STYLE, "import dualres_plugin.adapters.mmdet\n"),
    "old style": (OLD_STYLE, ""),
}
PROGRAMS = {
    "test.py": "",
    "train.py": "",
    "init_detector": "from mmdet.apis import init_detector; init_detector('{file}', 'plain.pth', device='cpu')",
    "DetInferencer": "from mmdet.apis import DetInferencer; DetInferencer('{file}', 'plain.pth', device='cpu')",
}


@pytest.mark.skipif(not mmcv_ext.install(), reason="with compiled mmcv nothing of this package is loaded")
@pytest.mark.parametrize(
    ("line", "program"), [*((line, "test.py") for line in LINES), *(("bare", p) for p in PROGRAMS if p != "test.py")]
)
def test_a_key_that_would_be_ignored_is_refused(project: Project, line: str, program: str) -> None:
    style, imports = LINES[line]
    new_style(project, "", "refused.py")
    (project.folder / "refused.py").write_text(f"{style}{imports}dualres = dict(router=r'{project.router}')\n")
    with pytest.raises(AssertionError, match=r"the dualres key of the config .*refused.py' would be ignored"):
        if PROGRAMS[program]:
            run_python("-c", PROGRAMS[program].format(file="refused.py"), cwd=project.folder)
        else:
            checkpoint = ["plain.pth"] if program == "test.py" else []
            run_tool(program, "refused.py", *checkpoint, "--work-dir", "refused", cwd=project.folder)


def test_the_key_in_a_config_with_read_base(project: Project) -> None:
    """It works where the adapter is imported before the config is read."""
    cfg = Config.fromfile(new_style(project, f"dualres = dict(router=r'{project.router}')\n", "key.py"))
    assert isinstance(build(cfg.model), DualResDetector)
    cfg.dump(project.folder / "key_dumped.py")
    assert Config.fromfile(project.folder / "key_dumped.py").model.type == "DualResDetector"


MISTAKES = {
    "dualres = dict(ruoter='x')": "unknown key 'ruoter' .did you mean 'router'",
    "dualres = dict(router='x', low=0.5, foo=1)": "unknown key 'foo'.*known keys: router, low",
    "dual_res = dict(router='x')": "key 'dual_res': did you mean 'dualres'",
    "dualres = 'runs/router'": "must be dict",
    "dualres = dict(router='x', stream=dict(memory=True, skips=3))": "unknown key 'skips' in the stream.*known keys: "
    "memory, skip, still, slow, hysteresis, hold_rate, fps",
    "dualres = dict(router='x', stream=dict(fps=0))": "fps=0",
    "dualres = dict(router='x', stream=True)": "must be dict.memory=True",
    "dualres = dict(router='x', stream=dict(skip=-1))": "skip=-1",
    "dualres = dict(router='x', stream=dict(hold_rate=1))": "hold_rate=1 must be True or False",
}


@pytest.mark.parametrize("text", MISTAKES)
def test_a_mistake_is_told_when_the_config_is_read(project: Project, text: str) -> None:
    with pytest.raises(DualResError, match=MISTAKES[text]):
        Config.fromfile(write(project, text))


BUILD_MISTAKES = {
    "dualres = dict(router='no/such/router')": "router 'no/such/router' does not exist",
    "dualres = dict(low=0.5)": "need a router",
    "dualres = dict(router=dict(backbone='mobilenet_v9'))": "mobilenet_v9",
    "dualres = dict(router=r'{router}', low=320)": "ratio between 0 and 1",
    "dualres = dict(router=r'{router}', target_high_rate=40)": "between 0 .all low. and 1",
    "dualres = dict(router=r'{router}', shares=[0.5, 0.5])": "belong to sizes",
    "dualres = dict(router=r'{router}', sizes=[1, 0.8, 0.7], low=0.4)": "either sizes .* or low",
    "dualres = dict(router=r'{router}', sizes=[448, 512, 640])": "low=512: the low size must be smaller",
    "dualres = dict(router=r'{router}', sizes=[1, 0.8, 0.7], thresholds=[0.1])": "3 sizes need 2 thresholds",
    "dualres = dict(router=r'{router}', threshold=0.1, stream=dict(hold_rate=True))": "threshold=0.1 cannot hold too",
    "dualres = dict(router=r'{router}', stream=dict(memory=True))": "stream",
}


@pytest.mark.parametrize("text", BUILD_MISTAKES)
def test_a_mistake_is_told_when_the_model_is_built(project: Project, text: str) -> None:
    cfg = Config.fromfile(write(project, text.replace("{router}", str(project.router))))
    with pytest.raises(DualResError, match=BUILD_MISTAKES[text]):
        build(cfg.model)


def test_a_router_of_another_version(project: Project, tmp_path: Path) -> None:
    for file in project.router.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    description = json.loads((tmp_path / "router.json").read_text())
    (tmp_path / "router.json").write_text(json.dumps({**description, "format_version": 99}))
    with pytest.raises(DualResError, match="format version 99"):
        build(Config.fromfile(project.config("version.py", router=str(tmp_path))).model)


def test_an_uncalibrated_router_needs_a_threshold(project: Project) -> None:
    settings = {"backbone": "mobilenet_v3_small", "input_size": 32}
    model = build(Config.fromfile(project.config("fresh.py", router=settings)).model)
    with pytest.raises(DualResError, match="calibration"):
        model.current_threshold()
    with_threshold = Config.fromfile(project.config("fresh.py", router=settings, threshold=0.25))
    assert build(with_threshold.model).current_threshold() == 0.25


# -- checkpoints --------------------------------------------------------------------------------------------------


def test_plain_checkpoints_fill_the_detector_and_leave_the_router(project: Project) -> None:
    from mmengine.runner import load_checkpoint

    for load in ("host", "torch"):
        model = build(Config.fromfile(project.config()).model, seed=9)
        router = {k: v.clone() for k, v in model.router.state_dict().items()}
        if load == "host":
            load_checkpoint(model, str(project.plain), strict=True)
        else:
            model.load_state_dict(torch.load(project.plain)["state_dict"])
        expected = project.detector.state_dict()
        assert all(torch.equal(v, expected[k]) for k, v in model.detector.state_dict().items())
        assert all(torch.equal(v, router[k]) for k, v in model.router.state_dict().items())


def test_wrapped_checkpoints_keep_router_and_calibration(project: Project) -> None:
    trained = build(Config.fromfile(project.config()).model, seed=1)
    settings = {**trained.router.config.to_dict()}
    other = build(Config.fromfile(project.config("again.py", router=settings)).model, seed=2)
    other.load_state_dict(trained.state_dict())
    assert other.current_threshold() == trained.current_threshold()
    assert torch.equal(other.router.head[-1].weight, trained.router.head[-1].weight)


def test_a_checkpoint_of_another_router_is_refused(project: Project) -> None:
    from mmengine.runner import load_checkpoint

    trained = build(Config.fromfile(project.config()).model)
    file = project.folder / "wrapped.pth"
    torch.save({"state_dict": trained.state_dict()}, file)
    other = build(Config.fromfile(project.config("wide.py", router={"hidden": 8, "input_size": 32})).model)
    with pytest.raises(DualResError, match="does not fit this config's router"):
        load_checkpoint(other, str(file))


def test_a_checkpoint_of_another_detector_is_refused(project: Project) -> None:
    from mmengine.runner import load_checkpoint

    model = build(Config.fromfile(project.config()).model)
    narrow = {key: value.flatten()[:1] for key, value in project.detector.state_dict().items()}
    file = project.folder / "narrow.pth"
    torch.save({"state_dict": narrow}, file)
    with pytest.raises(DualResError, match="do not fit the config"):
        load_checkpoint(model, str(file))


def test_what_a_stream_is_decided_with(project: Project) -> None:
    """Every setting arrives; a held rate alone remembers nothing and takes batches; `--cfg-options` reach inside."""
    stream = {"skip": 3, "still": 0.01, "slow": 0.02, "hysteresis": 0.3}
    cfg = Config.fromfile(project.config("stream.py", stream=stream))
    cfg.merge_from_dict({"dualres.stream.skip": 2})
    made = build(cfg.model).streams.streams.options
    assert made.head is None and (made.skip, made.still, made.slow, made.hysteresis) == (2, 0.01, 0.02, 0.3)
    held = build(Config.fromfile(project.config("held.py", stream={"hold_rate": True}, target_high_rate=0.25)).model)
    assert held.streams is None and held.controller.target == 0.25
    batch = held.adapter.collate(project.pictures[:4], 128)
    held.predict(batch.inputs, batch.samples)
    assert held.controller.state.images == 4
    held.train()
    assert held.controller.state.images == 0, "another calibration, another controller"
    paced = build(Config.fromfile(project.config("paced.py", stream={"fps": 5, "skip": 1})).model)
    assert paced.controller.pace.fps == 5 and paced.streams is not None
    frame = paced.adapter.collate(project.pictures[:1], 128)
    for _ in range(3):
        paced.predict(frame.inputs, frame.samples)
    assert paced.controller.state.images == 3
    assert build(Config.fromfile(project.config("plain.py")).model).controller is None


def test_a_batch_of_one_stream_is_refused(project: Project) -> None:
    model = build(Config.fromfile(project.config("skip.py", stream={"skip": 1})).model)
    batch = model.adapter.collate(project.pictures[:2], 128)
    with pytest.raises(DualResError, match="batch of 2 images for 1 streams"):
        model.predict(batch.inputs, batch.samples)


def test_a_relative_head_lies_beside_the_config(project: Project) -> None:
    (project.folder / "heads").mkdir()
    cfg = Config.fromfile(project.config("head.py", stream={"memory": "heads"}))
    assert cfg.dualres.stream.memory == str(project.folder / "heads")
