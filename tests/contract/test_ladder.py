"""More than two sizes: the plain host at the largest, each image at its own size, the order kept. Of every adapter."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from dualres_plugin import DualResWrapper
from dualres_plugin.common.types import Decision, RouterImages
from dualres_plugin.hosts.contract import HostAdapter
from dualres_plugin.hosts.ladder import Ladder
from dualres_plugin.hosts.routing import run_routed
from tests.contract.helpers import same
from tests.contract.hosts import Host, identical, pictures, shared_adapter
from tests.fakes import lively_router

RATIOS = (0.75, 0.5)
STEPS = [1, 0, 2, 1]


def largest(host: Host) -> int:
    """A size whose three quarters are another input: effdet's are multiples of 128."""
    return 512 if host.package == "effdet" else host.size


def given(steps: Sequence[int]) -> Callable[[RouterImages], Decision]:
    """A decision maker with given sizes."""

    def decide(images: RouterImages) -> Decision:
        chosen = torch.tensor(list(steps)[: len(images.content)])
        return Decision(-chosen.float(), chosen, (-0.5, -1.5))

    return decide


@pytest.fixture
def batch(host: Host, adapter: HostAdapter[Any]) -> Any:
    return adapter.collate(pictures(), largest(host))


def test_all_at_the_largest_is_the_plain_host_bit_for_bit(host: Host, adapter: HostAdapter[Any], batch: Any) -> None:
    routed = run_routed(adapter, batch, given([0] * 4), Ladder.of(RATIOS))
    if host.package == "effdet":  # its plain bench runs at the size that it was built for
        assert identical(routed, adapter.predict(batch))
    else:
        assert identical(routed, host.plain(adapter.detector, batch))


@pytest.mark.parametrize("steps", [STEPS, [2, 1, 1, 2], [1, 1, 1, 1]])
def test_each_image_runs_at_its_size_and_keeps_its_place(
    steps: list[int], host: Host, adapter: HostAdapter[Any], batch: Any
) -> None:
    mixed = adapter.detections(run_routed(adapter, batch, given(steps), Ladder.of(RATIOS)), batch)
    for step in set(steps):  # images that share a pass share padding too, so that they are compared together
        index = torch.tensor([i for i, other in enumerate(steps) if other == step])
        part = adapter.resize(batch, index, RATIOS[step - 1]) if step else adapter.select(batch, index)
        for i, alone in zip(index.tolist(), adapter.detections(adapter.predict(part), part)):
            assert len(mixed[i]) and same(mixed[i], alone), f"image {i} at step {step}"
    at_one = adapter.detections(run_routed(adapter, batch, given([0] * 4), Ladder.of(RATIOS)), batch)
    assert not all(same(mixed[i], at_one[i], 1e-6) for i, step in enumerate(steps) if step), "the sizes differ"


def test_the_wrapper_says_the_size_of_each_image(host: Host, tmp_path: Path) -> None:
    size = largest(host)
    photos = [str(tmp_path / f"{i}.png") for i in range(4)]
    for path, picture in zip(photos, pictures(seed=40)):
        Image.fromarray(picture).save(path)
    router = lively_router(pictures(seed=40))
    model = DualResWrapper(shared_adapter(host.name), router, sizes=(size, *RATIOS), shares=(0.25, 0.5, 0.25))
    options = {"conf": 0.001, "verbose": False} if host.package == "ultralytics" else {"batch": 4}
    results = model.predict(photos, **options)
    sizes = [size, round(size * 0.75), size // 2]
    assert model.sizes == tuple(sizes)
    scores = [r.dualres.score for r in results]
    by_score = [results[i].dualres.size for i in np.argsort(scores)[::-1]]
    assert by_score == [sizes[0], sizes[1], sizes[1], sizes[2]]
    assert {r.dualres.route for r in results} == {str(s) for s in sizes}
    assert model.log.routes == {str(sizes[0]): 1, str(sizes[1]): 2, str(sizes[2]): 1}
