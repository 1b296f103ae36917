"""Router folders: they come back as they were, and damage is one clear error."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from dualres_plugin.common.errors import DualResError
from dualres_plugin.common.files.shipped import SHIPPED, router_folder
from dualres_plugin.common.images.photo import router_images_of
from dualres_plugin.common.weights import halved
from dualres_plugin.router.network import ResolutionRouter
from tests.fakes import photo
from tests.router.helpers import loud, pickle_bomb, tiny


def test_round_trip(tmp_path: Path) -> None:
    router = loud(tiny(hidden=8, pool=[2, 7], mean=(0.5, 0.5, 0.5), std=(0.5, 0.4, 0.3)))
    batch = router_images_of([photo(i) for i in range(6)])
    router.calibrate(router.score(batch))
    router.info = {"trained_on": [{"host": "fake"}], "metrics": {"holdout_spearman": 0.4}}
    folder = router.save(tmp_path / "router")
    assert sorted(p.name for p in folder.iterdir()) == ["router.json", "router.safetensors"]
    for path in (folder, folder / "router.json", str(folder)):
        again = ResolutionRouter.from_pretrained(path)
        assert torch.equal(again.score(batch), router.score(batch))
        assert again.quantiles == router.quantiles
        assert again.threshold_for(0.37) == router.threshold_for(0.37)
        assert again.config == router.config and again.info == router.info
        assert not again.training


def test_saving_again_replaces_both_files(tmp_path: Path) -> None:
    tiny(0).save(tmp_path / "router")
    second = tiny(1)
    second.save(tmp_path / "router")
    loaded = ResolutionRouter.from_pretrained(tmp_path / "router")
    assert all(torch.equal(a, b) for a, b in zip(loaded.state_dict().values(), second.state_dict().values()))
    assert len(list(tmp_path.iterdir())) == 1, "no temporary files stay behind"


def test_a_backbone_given_by_object_comes_back_with_it(tmp_path: Path) -> None:
    def backbone() -> nn.Module:
        return nn.Sequential(nn.Conv2d(3, 5, 3, 2), nn.BatchNorm2d(5), nn.ReLU())

    router = ResolutionRouter(backbone=backbone(), input_size=32).eval()
    router.save(tmp_path / "router")
    batch = router_images_of([photo(0)])
    assert torch.equal(
        ResolutionRouter.from_pretrained(tmp_path / "router", backbone()).score(batch), router.score(batch)
    )
    with pytest.raises(DualResError, match="backbone=module"):
        ResolutionRouter.from_pretrained(tmp_path / "router")


def _edit_meta(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        meta = json.loads((folder / "router.json").read_text())
        change(meta)
        (folder / "router.json").write_text(json.dumps(meta))

    return edit


def _edit_tensors(change: Callable[[dict[str, torch.Tensor]], Any]) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        tensors = load_file(str(folder / "router.safetensors"))
        change(tensors)
        save_file(tensors, str(folder / "router.safetensors"))

    return edit


def _truncate(name: str) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(data[: len(data) // 2])

    return edit


DAMAGE: dict[str, tuple[Callable[[Path], Any], str]] = {
    "newer version": (_edit_meta(lambda m: m.update(format_version=99)), "version 99.*reads version 1"),
    "no version": (_edit_meta(lambda m: m.pop("format_version")), "version None"),
    "another kind": (_edit_meta(lambda m: m.update(kind="cat")), "does not describe a router"),
    "no config": (_edit_meta(lambda m: m.pop("config")), "incomplete or edited.*config"),
    "config of a wrong type": (_edit_meta(lambda m: m.update(config=[1])), "incomplete or edited.*config"),
    "unknown setting": (_edit_meta(lambda m: m["config"].update(colour=1)), "incomplete or edited.*colour"),
    "lost setting": (_edit_meta(lambda m: m["config"].pop("input_size")), "incomplete or edited.*input_size"),
    "setting of a wrong type": (_edit_meta(lambda m: m["config"].update(input_size="96")), "edited"),
    "mean of a wrong type": (_edit_meta(lambda m: m["config"].update(mean=None)), "edited"),
    "no quantiles": (_edit_meta(lambda m: m.pop("score_quantiles")), "incomplete or edited.*score_quantiles"),
    "quantiles of a wrong type": (_edit_meta(lambda m: m.update(score_quantiles=[None])), "edited"),
    "not an object": (lambda f: (f / "router.json").write_text("[]"), "does not describe a router"),
    "half a description": (_truncate("router.json"), "not valid JSON"),
    "no description": (lambda f: (f / "router.json").unlink(), "does not exist"),
    "missing tensor": (
        _edit_tensors(lambda t: t.pop("head.0.bias")),
        "do not fit 'tiny': missing head.0.bias",
    ),
    "surplus tensor": (_edit_tensors(lambda t: t.update(extra=torch.zeros(1))), "surplus extra"),
    "misshapen tensor": (
        _edit_tensors(lambda t: t.update({"head.0.bias": torch.zeros(7)})),
        r"head.0.bias is \(7,\), not \(1,\)",
    ),
    "half the tensors": (_truncate("router.safetensors"), "damaged"),
    "no bytes": (lambda f: (f / "router.safetensors").write_bytes(b""), "damaged"),
    "no tensors": (lambda f: (f / "router.safetensors").unlink(), "missing: copy the whole"),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_a_damaged_checkpoint_gives_one_clear_error(case: str, tmp_path: Path) -> None:
    damage, message = DAMAGE[case]
    router = tiny()
    router.calibrate([0.0, 1.0])
    folder = router.save(tmp_path / "router")
    damage(folder)
    with pytest.raises(DualResError, match=message) as caught:
        ResolutionRouter.from_pretrained(folder)
    assert str(folder) in str(caught.value), "the error says where"


def test_what_is_no_folder(tmp_path: Path) -> None:
    with pytest.raises(DualResError, match="does not exist"):
        ResolutionRouter.from_pretrained(tmp_path / "nothing")
    (tmp_path / "file").write_text("x")
    with pytest.raises(DualResError, match="does not exist"):
        ResolutionRouter.from_pretrained(tmp_path / "file")
    with pytest.raises(DualResError, match="that is a file"):
        tiny().save(tmp_path / "file")
    with pytest.raises(DualResError, match="cannot write"):
        tiny().save(tmp_path / "file" / "router")


def test_a_pickle_in_disguise_is_not_executed(tmp_path: Path) -> None:
    folder = tiny().save(tmp_path / "router")
    pickle_bomb(folder / "router.safetensors", tmp_path / "hit")
    with pytest.raises(DualResError, match="damaged"):
        ResolutionRouter.from_pretrained(folder)
    assert not (tmp_path / "hit").exists()
    pickle.loads((folder / "router.safetensors").read_bytes())
    assert (tmp_path / "hit").exists(), "the bomb works, so the test above means something"


def test_a_failed_save_leaves_the_old_router(tmp_path: Path) -> None:
    old = tiny(0)
    folder = old.save(tmp_path / "router")
    broken = tiny(1)
    broken.info = {"no JSON": object()}  # the tensors are written first
    with pytest.raises(TypeError, match="not JSON serializable"):
        broken.save(folder)
    loaded = ResolutionRouter.from_pretrained(folder)
    assert all(torch.equal(a, b) for a, b in zip(loaded.state_dict().values(), old.state_dict().values()))
    assert len(list(tmp_path.iterdir())) == 1


# -- the shipped routers -----------------------------------------------------


@pytest.mark.parametrize(("name", "megabytes", "gmacs"), [("default", 1.2, 0.041), ("small", 0.7, 0.006)])
def test_a_shipped_router_is_small_calibrated_and_says_what_it_learned_from(
    name: str, megabytes: float, gmacs: float
) -> None:
    router = ResolutionRouter.from_pretrained(name)
    assert (router_folder(name) / "router.safetensors").stat().st_size <= 1e6 * megabytes
    assert router.gmacs() <= gmacs and len(router.quantiles) == 101 and not router.training
    assert "COCO" in router.info["summary"] and router.info["trained_on"]
    assert router.threshold_for(0.2) > router.threshold_for(0.8)


@pytest.mark.parametrize("name", SHIPPED)
def test_a_busy_scene_scores_above_an_empty_one_by_a_shipped_router(name: str) -> None:
    """Generated scenes, unlike anything it saw: many small objects gain more than a plain background."""
    from dualres_plugin.common.images.photo import router_images_of
    from dualres_plugin.demo.scenes import generate_scene

    router = ResolutionRouter.from_pretrained(name)
    empty = [np.full((240, 320, 3), shade, np.uint8) for shade in (40, 120, 200)]
    busy = [generate_scene(0, i).image for i in range(12)]
    assert router.score(router_images_of(busy)).mean() > router.score(router_images_of(empty)).mean()


def test_a_folder_of_a_shipped_routers_name_is_named_with_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    mine = tiny()
    mine.save("small")
    assert ResolutionRouter.from_pretrained("small").config != mine.config
    for mine_at in ("./small", tmp_path / "small"):
        assert ResolutionRouter.from_pretrained(mine_at).config == mine.config


def test_tensors_of_zeros_are_refused(tmp_path: Path) -> None:
    folder = tiny().save(tmp_path / "router")
    tensors = load_file(folder / "router.safetensors")
    save_file({name: torch.zeros_like(tensor) for name, tensor in tensors.items()}, folder / "router.safetensors")
    with pytest.raises(DualResError, match="only zeros"):
        ResolutionRouter.from_pretrained(folder)


def test_a_calibration_of_one_score_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    router = tiny()
    router.calibrate([0.25] * 9)
    ResolutionRouter.from_pretrained(router.save(tmp_path / "same"))
    assert "the same score" in caplog.text
    caplog.clear()
    router.calibrate([0.25, 0.5])
    ResolutionRouter.from_pretrained(router.save(tmp_path / "two"))
    assert not caplog.text


def test_half_of_the_bytes_and_nearly_the_same_scores(tmp_path: Path) -> None:
    router = ResolutionRouter(backbone="plain", input_size=64, pool=[1, 2, 3, 4]).eval()
    batch = router_images_of([photo(i) for i in range(6)])
    whole, half = router.save(tmp_path / "whole"), router.save(tmp_path / "half", half=True)
    sizes = [(folder / "router.safetensors").stat().st_size for folder in (whole, half)]
    assert sizes[1] < 0.55 * sizes[0]
    again = ResolutionRouter.from_pretrained(half)
    assert {p.dtype for p in again.parameters()} == {torch.float32}
    torch.testing.assert_close(again.score(batch), router.score(batch), atol=1e-3, rtol=0)


def test_what_16_bits_cannot_hold_stays_in_32(tmp_path: Path) -> None:
    large, small = torch.full((1 << 15,), 1e6), torch.full((4, 4), 0.1)
    found = halved({"large": large, "small": small, "count": torch.ones(1 << 15, dtype=torch.int64)})
    assert torch.equal(found["large"], large) and torch.equal(found["small"], small)
    assert found["count"].dtype == torch.int64
    assert halved({"weight": torch.ones(1 << 15)})["weight"].dtype == torch.float16
