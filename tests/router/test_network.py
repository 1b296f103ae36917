"""The router: canonical input, Eq. 3, calibration, and its checkpoint."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import nn

from dualres_plugin.common.errors import DualResError
from dualres_plugin.common.images import router_images_of
from dualres_plugin.common.resize import make_thumbnails
from dualres_plugin.common.types import RouterImages
from dualres_plugin.router.backbones import build_backbone, load_backbone_weights
from dualres_plugin.router.config import RouterConfig
from dualres_plugin.router.network import ResolutionRouter
from tests.fakes import photo


def tiny(seed: int = 0, **settings: Any) -> ResolutionRouter:
    torch.manual_seed(seed)
    return ResolutionRouter(**{"backbone": "tiny", "input_size": 32, **settings}).eval()


def loud(router: ResolutionRouter) -> ResolutionRouter:
    """A random network scores every photo alike: spread the scores."""
    with torch.no_grad():
        router.head[-1].weight.mul_(1000)
    return router


# -- input ------------------------------------------------------


def test_padding_never_reaches_the_router() -> None:
    picture = router_images_of([photo(1)])
    padded = torch.full((1, 3, 100, 120), 114 / 255)
    padded[0, :, 20:68, 30:94] = picture.images[0]
    router = tiny()
    inside = RouterImages(padded, [(30, 20, 94, 68)])
    assert torch.equal(router.score(inside), router.score(picture))
    assert not torch.equal(router.score(RouterImages(padded, [(0, 0, 120, 100)])), router.score(picture))


def test_thumbnails_match_what_an_image_library_makes() -> None:
    picture = photo(2, (120, 90))
    expected = np.asarray(Image.fromarray(picture).resize((32, 32), Image.Resampling.BILINEAR))
    made = make_thumbnails(router_images_of([picture]), 32)[0].permute(1, 2, 0).numpy() * 255
    assert np.abs(made - expected).max() < 1.5


def test_thumbnails_of_different_shapes_share_a_batch_and_stay_in_range() -> None:
    pictures = [photo(i, size) for i, size in enumerate([(40, 64), (64, 40), (1, 50), (17, 17)])]
    made = make_thumbnails(router_images_of(pictures), 24)
    assert made.shape == (4, 3, 24, 24)
    assert made.min() >= 0 and made.max() <= 1
    one_by_one = torch.cat([make_thumbnails(router_images_of([p]), 24) for p in pictures])
    assert torch.equal(made, one_by_one)


def test_an_empty_batch_has_no_scores() -> None:
    empty = RouterImages(torch.zeros(0, 3, 64, 64), [])
    assert tiny().score(empty).shape == (0,)
    assert tiny().decide(empty, 0.0).rate == 0.0
    assert make_thumbnails(empty, 32).shape == (0, 3, 32, 32)


# -- score, route, calibration ------------------------------------------------------


def test_scores_do_not_depend_on_the_rest_of_the_batch_nor_on_the_mode() -> None:
    router = loud(tiny()).train()
    batch = router_images_of([photo(i) for i in range(4)])
    scores = router.score(batch)
    assert router.training, "scoring leaves the mode as it was"
    single = torch.cat([router.score(router_images_of([photo(i)])) for i in range(4)])
    assert torch.allclose(scores, single, atol=1e-4)
    assert not scores.requires_grad


def test_high_is_strictly_above_the_threshold() -> None:
    router = loud(tiny())
    batch = router_images_of([photo(i) for i in range(5)])
    scores = router.score(batch)
    middle = float(scores.sort().values[2])
    decision = router.decide(batch, middle)
    assert decision.high.tolist() == [float(s) > middle for s in scores]
    assert int(decision.high.sum()) == 2
    assert decision.of(0).route == ("high" if decision.high[0] else "low")
    assert decision.of(0).score == float(scores[0])


@given(st.lists(st.floats(-10, 10), min_size=1, max_size=60), st.floats(0, 1), st.floats(0, 1))
def test_a_larger_rate_never_has_a_higher_threshold(scores: list[float], a: float, b: float) -> None:
    ROUTER.calibrate(scores)
    less, more = sorted((a, b))
    assert ROUTER.threshold_for(less) >= ROUTER.threshold_for(more)


@given(st.integers(20, 300), st.floats(0, 1), st.integers(0, 50))
def test_the_calibrated_threshold_gives_the_wanted_rate(count: int, rate: float, seed: int) -> None:
    scores = np.random.default_rng(seed).normal(size=count)
    ROUTER.calibrate(scores)
    got = float((scores > ROUTER.threshold_for(rate)).mean())
    assert abs(got - rate) <= 1 / count + 0.011  # quantiles are kept for every hundredth


ROUTER = tiny()


def test_rates_0_and_1_are_exact_even_beyond_the_calibration_images_and_without_any() -> None:
    router = loud(tiny())
    batch = router_images_of([photo(i) for i in range(4)])
    assert not router.decide(batch, router.threshold_for(0.0)).high.any()
    assert router.decide(batch, router.threshold_for(1.0)).high.all()


@pytest.mark.parametrize("rate", [-0.01, 1.01, 50, float("nan")])
def test_impossible_rates(rate: float) -> None:
    router = tiny()
    router.calibrate([0.0, 1.0])
    with pytest.raises(DualResError, match="must lie between 0"):
        router.threshold_for(rate)


def test_a_rate_needs_calibration() -> None:
    with pytest.raises(DualResError, match="no calibration"):
        tiny().threshold_for(0.3)


@pytest.mark.parametrize("scores", [[], [0.0, float("nan")], [float("inf")]])
def test_calibration_needs_finite_scores(scores: list[float]) -> None:
    with pytest.raises(DualResError, match="finite scores"):
        tiny().calibrate(scores)


# -- construction ------------------------------------------------------


def test_the_papers_router_by_default() -> None:
    router = ResolutionRouter()
    assert router.config.backbone == "mobilenet_v3_large" and router.config.input_size == 128
    assert isinstance(router.head[0], nn.Linear) and len(router.head) == 1
    assert router.gmacs() == pytest.approx(0.071, abs=0.004)


def test_more_pixels_cost_more() -> None:
    costs = [tiny(input_size=size).gmacs() for size in (32, 64, 128)]
    assert 0 < costs[0] < costs[1] < costs[2]


def test_bad_settings_are_named() -> None:
    with pytest.raises(DualResError, match="input_sise"):
        ResolutionRouter(input_sise=64)
    with pytest.raises(DualResError, match="too small"):
        ResolutionRouter(input_size=8)
    with pytest.raises(DualResError, match="unknown router backbone 'mobilnet'"):
        ResolutionRouter(backbone="mobilnet")
    with pytest.raises(DualResError, match=r"no `.features`"):
        ResolutionRouter(backbone="resnet18")
    with pytest.raises(DualResError, match=r"'@N' takes 1 to 8"):
        ResolutionRouter(backbone="tiny@99")


def test_a_shorter_backbone_costs_less_and_pools_more_blocks() -> None:
    assert tiny(backbone="tiny@4").gmacs() < tiny().gmacs()
    both = build_backbone("tiny", pool=[3, 7])
    image = torch.rand(2, 3, 32, 32)
    alone = [build_backbone("tiny", pool=[i])(image).shape[1] for i in (3, 7)]
    assert both(image).shape == (2, sum(alone))


def test_the_projects_own_bodies() -> None:
    """One pooled block per stride; `lite` takes the tensors of EfficientNet-Lite0 in their order."""
    image = torch.rand(2, 3, 160, 160)
    assert build_backbone("plain", pool=[1, 2, 3, 4])(image).shape == (2, 24 + 48 + 96 + 160)
    lite = build_backbone("lite", pool=[2, 3, 5, 7])
    assert lite(image).shape == (2, 24 + 40 + 112 + 320)
    assert sum(p.numel() for p in lite.parameters()) == 2_958_848, "Lite0's own count without conv_head and classifier"


def test_backbone_weights_of_a_whole_classifier_fit(tmp_path: Path) -> None:
    from torchvision.models import mobilenet_v3_small

    torch.manual_seed(1)
    model = mobilenet_v3_small(weights=None).eval()
    torch.save(model.state_dict(), tmp_path / "classifier.pth")
    router = ResolutionRouter(backbone="mobilenet_v3_small", input_size=32, weights=tmp_path / "classifier.pth").eval()
    image = torch.rand(1, 3, 32, 32)
    expected = model.features((image - router.mean) / router.std).mean(dim=(2, 3))
    assert torch.allclose(router.features(image), expected, atol=1e-5)


def test_weights_that_do_not_fit(tmp_path: Path) -> None:
    with pytest.raises(DualResError, match="do not exist"):
        tiny(weights=tmp_path / "none.pth")
    torch.save({"a": torch.zeros(3)}, tmp_path / "other.pth")
    with pytest.raises(DualResError, match="do not fit"):
        tiny(weights=tmp_path / "other.pth")
    (tmp_path / "junk.pth").write_bytes(b"junk")
    with pytest.raises(DualResError, match="cannot be read"):
        tiny(weights=tmp_path / "junk.pth")
    with pytest.raises(DualResError, match="holds more than tensors"):
        load_backbone_weights(tiny().backbone, _pickle_bomb(tmp_path / "bomb.pth", tmp_path / "hit"))
    assert not (tmp_path / "hit").exists()


# -- checkpoint ------------------------------------------------------


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


class _Bomb:
    def __init__(self, target: str):
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.target,)


def _pickle_bomb(path: Path, target: Path) -> Path:
    path.write_bytes(pickle.dumps(_Bomb(str(target))))
    return path


def test_a_pickle_in_disguise_is_not_executed(tmp_path: Path) -> None:
    folder = tiny().save(tmp_path / "router")
    _pickle_bomb(folder / "router.safetensors", tmp_path / "hit")
    with pytest.raises(DualResError, match="damaged"):
        ResolutionRouter.from_pretrained(folder)
    assert not (tmp_path / "hit").exists()
    pickle.loads((folder / "router.safetensors").read_bytes())
    assert (tmp_path / "hit").exists(), "the bomb works, so the test above means something"


def test_a_failed_save_leaves_the_old_router(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = tiny(0)
    folder = old.save(tmp_path / "router")

    def fail(*_: Any) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("dualres_plugin.router.checkpoint.write_json", fail)
    with pytest.raises(OSError, match="disk full"):
        tiny(1).save(folder)
    monkeypatch.undo()
    loaded = ResolutionRouter.from_pretrained(folder)
    assert all(torch.equal(a, b) for a, b in zip(loaded.state_dict().values(), old.state_dict().values()))
    assert len(list(tmp_path.iterdir())) == 1


def test_config_and_keywords_agree() -> None:
    config = RouterConfig(backbone="tiny", input_size=48)
    assert ResolutionRouter(config).config == tiny(input_size=48).config
    assert ResolutionRouter(config, input_size=64).config.input_size == 64


def test_scoring_and_counting_leave_frozen_parts_frozen() -> None:
    router = tiny().train()
    router.backbone.eval()
    router.score(RouterImages(torch.rand(1, 3, 40, 40), [(0, 0, 40, 40)]))
    router.gmacs()
    assert router.training and not any(part.training for part in router.backbone.modules())


# -- the shipped router -------------------------------------------------------------------------------------


def test_the_shipped_router_is_small_calibrated_and_says_what_it_learned_from() -> None:
    from dualres_plugin.router.checkpoint import DEFAULT_FOLDER

    router = ResolutionRouter.from_pretrained("default")
    assert sum(f.stat().st_size for f in DEFAULT_FOLDER.iterdir()) <= 4_000_000
    assert router.gmacs() <= 0.08 and len(router.quantiles) == 101 and not router.training
    assert "COCO" in router.info["summary"] and router.info["trained_on"]
    assert router.threshold_for(0.2) > router.threshold_for(0.8)


def test_a_busy_scene_scores_above_an_empty_one_by_the_shipped_router() -> None:
    """Generated scenes, unlike anything it saw: many small objects gain more than a plain background."""
    from dualres_plugin.common.images import router_images_of
    from dualres_plugin.demo.scenes import generate_scene

    router = ResolutionRouter.from_pretrained("default")
    empty = [np.full((240, 320, 3), shade, np.uint8) for shade in (40, 120, 200)]
    busy = [generate_scene(0, i).image for i in range(12)]
    assert router.score(router_images_of(busy)).mean() > router.score(router_images_of(empty)).mean()
