"""`DualResDetector`: the routed detector of a config, with the training of its router."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from mmdet.registry import MODELS
from mmengine.dist import all_gather_object, get_rank, get_world_size
from mmengine.logging import MessageHub
from torch import Tensor, nn

from dualres_plugin.adapters.mmdet.adapter import MMDetAdapter
from dualres_plugin.adapters.mmdet.batch import MMDetBatch, check_boxes_follow
from dualres_plugin.adapters.mmdet.pipeline import check_fit, resize_scale, test_pipeline
from dualres_plugin.adapters.mmdet.routed import RoutedDetector
from dualres_plugin.adapters.mmdet.settings import Settings, build_router, settings_of
from dualres_plugin.adapters.mmdet.streams import Held, Remembered, stream_settings
from dualres_plugin.budget.controller import BudgetController
from dualres_plugin.budget.cost import Budget
from dualres_plugin.common.errors import DualResError
from dualres_plugin.common.types import Decision, RouterImages
from dualres_plugin.common.weights import check_finite
from dualres_plugin.hosts.ladder import Ladder
from dualres_plugin.hosts.routing import Routing
from dualres_plugin.hosts.sizes import ask_sizes, size_costs
from dualres_plugin.router.gate import Gate, make_gate
from dualres_plugin.router.stream_gate import StreamGate, make_stream_gate
from dualres_plugin.train.gating import dualres_loss, gumbel_gate, temperature_at

QUANTILES = 101  # of the calibration scores, as in ResolutionRouter.calibrate
RECENT = 2048  # training scores that the threshold is calibrated on until an epoch ends
KEPT = 1024  # thumbnails that the threshold is calibrated on then: 79 MB at 160 px


@MODELS.register_module()
class DualResDetector(RoutedDetector):
    """A frozen detector behind a resolution router, built from a config; see `examples/mmdet.md`.

    Args:
        detector: config of the detector, or a built one.
        router: folder of a trained router, a dict of `ResolutionRouter` settings (`weights` may name a local
            file) for one that this config trains, or a built router.
        dualres: settings in one dict, as the key of a config has them.
        backbone: ignored; `init_detector` looks for it.
        data_preprocessor: ignored unless given: the detector's own is used.
        init_cfg: ignored; the host's registry may give it.
        **settings: the same by name, `low` to `seed`: see `settings.Settings`. Anything else is refused.

    Raises:
        DualResError: If the router does not load, or a size, rate or key is wrong.
    """

    adapter: MMDetAdapter
    score_quantiles: Tensor
    recent_scores: Tensor
    step: Tensor

    def __init__(
        self,
        detector: Any,
        router: Any = None,
        *,
        dualres: Mapping[str, Any] | None = None,
        backbone: Any = None,
        data_preprocessor: Any = None,
        init_cfg: Any = None,
        **settings: Any,
    ):
        given = {**(dualres or {}), **settings}
        chosen = settings_of(given if router is None else {**given, "router": router})
        built = detector if isinstance(detector, nn.Module) else MODELS.build(detector)
        adapter = MMDetAdapter(built)
        check_boxes_follow(built)
        ladder = _ladder(adapter, chosen)
        super().__init__(adapter, Routing(self._decide, ladder))
        self.point = _point(chosen, len(ladder))
        if data_preprocessor is not None:
            self.data_preprocessor = self.adapter.preprocessor = MODELS.build(data_preprocessor)
        # Random batch sizes are for training detectors. The router's high size is that of the pipeline.
        self.data_preprocessor.batch_augments = None
        self.router = build_router(chosen.router)
        self._held = self._follow(chosen, ladder)
        self.target_high_rate, self.threshold = float(chosen.target_high_rate), chosen.threshold
        self.gamma, self.seed, self.norm_eval = float(chosen.gamma), int(chosen.seed), chosen.norm_eval
        self.temperature = (float(chosen.temperature[0]), float(chosen.temperature[1]))
        self.register_buffer("score_quantiles", _as_quantiles(self.router.quantiles))
        self.register_buffer("recent_scores", torch.full((RECENT,), math.nan))
        self.register_buffer("step", torch.zeros((), dtype=torch.long))
        self.training_state: dict[str, float] = {}
        self._thumbnails: list[Tensor] = []
        self.detector.requires_grad_(False)
        self.detector.eval()

    # -- prediction ------------------------------------------------------------------------------------------

    def _decide(self, images: RouterImages) -> Decision:
        return self.router.decide(images, self.current_thresholds())

    def _follow(self, chosen: Settings, ladder: Ladder) -> Held | None:
        """Let what a config says of streams decide, if it says something."""
        stream = stream_settings(chosen.stream)
        if stream is None:
            return None
        options = stream.options(chosen.router)

        def costs() -> list[float]:
            size = min(resize_scale(test_pipeline(self)))  # the host sets a model's config when all is built
            return size_costs(self.adapter, size, ladder)

        setup = chosen.wanted(), len(ladder), stream.hold_rate, costs

        def make() -> Gate:
            self.router.quantiles = _from_quantiles(self.score_quantiles)
            return make_gate(self.router, *setup) if options is None else make_stream_gate(self.router, options, *setup)

        held = Held(make) if options is None else Remembered(make)
        self.routing.decide = held
        return held

    @property
    def streams(self) -> StreamGate | None:
        """With `stream`, what the frames so far left behind; `saved` and `resume` keep it over a restart."""
        gate = None if self._held is None else self._held.gate
        return gate if isinstance(gate, StreamGate) else None

    @property
    def controller(self) -> BudgetController | None:
        """What holds the rate, with `stream=dict(hold_rate=True)`."""
        return None if self._held is None else self._held.gate.controller

    def current_thresholds(self) -> tuple[float, ...]:
        """The scores between the sizes, descending; one, of two sizes.

        Raises:
            DualResError: If the router was never calibrated and no threshold is given.
        """
        if len(self.routing.ladder) == 2:
            return (self.current_threshold(),)
        fixed = self.point.fixed_thresholds(len(self.routing.ladder))
        if fixed is not None:
            return fixed
        self.router.quantiles = _from_quantiles(self.score_quantiles)
        return self.router.thresholds_for(self.point.wanted_shares(len(self.routing.ladder)))

    def current_threshold(self) -> float:
        """Of two sizes, the score above which an image goes high.

        Raises:
            DualResError: If the router was never calibrated and no threshold is given.
        """
        if self.threshold is not None:
            return float(self.threshold)
        self.router.quantiles = _from_quantiles(self.score_quantiles)
        return self.router.threshold_for(self.target_high_rate)

    def save_router(self, path: Path | str) -> Path:
        """Write the router folder that every other host can load; returns it."""
        self.router.quantiles = _from_quantiles(self.score_quantiles)
        return self.router.save(path)

    # -- training --------------------------------------------------------------------------------------------

    def train(self, mode: bool = True) -> DualResDetector:
        """The router alone trains; the frozen detector stays in eval."""
        self.training = mode
        self.router.train(mode)
        if mode and self._held is not None:
            self._held.forget()
        if mode and self.norm_eval:
            for module in self.router.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()
        return self

    def loss(self, batch_inputs: Tensor, batch_data_samples: Sequence[Any]) -> dict[str, Tensor]:
        """Eq. 5 for the router: the detector's own per-image losses at both sizes are constants.

        Args:
            batch_inputs: (B, 3, H, W) from the data preprocessor, at the high size.
            batch_data_samples: B `DetDataSample` with ground truth.

        Returns:
            `loss_expected` and `loss_rate`, whose sum is minimised.
        """
        batch = MMDetBatch(batch_inputs, list(batch_data_samples), targets=True)
        everything = torch.arange(len(batch.samples), device=batch_inputs.device)
        low = self.adapter.resize(batch, everything, self.scale)
        loss_low, loss_high = self.adapter.losses(low), self.adapter.losses(batch)
        thumbnails = self.router.thumbnails(self.adapter.router_images(batch))
        self._keep(thumbnails)
        scores = self.router(thumbnails)
        gates, own = self._gates(scores)
        expected = dualres_loss(
            gates[own], loss_low=loss_low, loss_high=loss_high, gamma=0.0, target_high_rate=self.target_high_rate
        )
        rate = gates.mean()
        # Launchers average gradients over processes, and each sees only its own share of the mean gate.
        spread = rate.detach() + (rate - rate.detach()) * get_world_size()
        penalty = self.gamma * (spread - self.target_high_rate) ** 2
        self._note(rate, scores, penalty, low, batch)
        return {"loss_expected": expected, "loss_rate": penalty}

    def _gates(self, scores: Tensor) -> tuple[Tensor, Tensor]:
        """Gates of the images of all processes, gradients on this one's; and where this one's images are.

        The noise depends on the step and on an image's place in the whole batch, so that a launch on several
        processes draws what a single process would.
        """
        everyone: list[list[float]] = all_gather_object(scores.detach().double().cpu().tolist())
        places = _places([len(part) for part in everyone])
        total = scores.new_zeros(sum(len(part) for part in everyone))
        for part, place in zip(everyone, places):
            total[place.to(scores.device)] = scores.new_tensor(part)
        own = places[get_rank()].to(scores.device)
        total = total.index_copy(0, own, scores)
        self._collect(total.detach())
        generator = torch.Generator(device=scores.device).manual_seed(self.seed * 1_000_003 + int(self.step))
        gates = gumbel_gate(total, self.current_temperature(), generator=generator)
        self.step += 1
        return gates, own

    def current_temperature(self) -> float:
        """τ at this step of the host's training loop."""
        steps = MessageHub.get_current_instance().get_info("max_iters", 1) or 1
        return temperature_at(int(self.step), int(steps), *self.temperature)

    def _collect(self, scores: Tensor) -> None:
        """Calibrate the threshold on the last training scores of all processes."""
        scores = scores[-RECENT:].to(self.recent_scores)
        self.recent_scores.copy_(torch.cat([self.recent_scores, scores])[-RECENT:])
        # At every step, not after training: the host writes its checkpoints whenever it likes.
        self._set_quantiles(self.recent_scores[~self.recent_scores.isnan()])

    def _keep(self, thumbnails: Tensor) -> None:
        """Remember this process's last thumbnails, (B, 3, S, S), as bytes."""
        self._thumbnails.append((thumbnails * 255).round().to(torch.uint8).cpu())
        while sum(map(len, self._thumbnails[1:])) >= -(-KEPT // get_world_size()):
            del self._thumbnails[0]

    def forget_thumbnails(self) -> None:
        """Drop what `calibrate` uses: a resumed run, which has none, must end like one that never stopped."""
        self._thumbnails = []

    def calibrate(self) -> float | None:
        """Calibrate the threshold on the last training images, as the router scores them now and in eval.

        Every process has to call it. Scores taken during training are of older weights and, with `norm_eval=False`,
        of another network: batch statistics instead of the stored ones.

        Returns:
            The standard deviation of the scores; None where nothing was trained since `forget_thumbnails`.
        """
        own = self.router.score_thumbnails(torch.cat(self._thumbnails)).tolist() if self._thumbnails else []
        scores = [score for part in all_gather_object(own) for score in part]
        if not scores:
            return None
        self._set_quantiles(torch.tensor(scores))
        return float(torch.tensor(scores).std(correction=0))

    def _set_quantiles(self, scores: Tensor) -> None:
        self.router.calibrate(scores.cpu())
        self.score_quantiles.copy_(_as_quantiles(self.router.quantiles))

    def _note(self, rate: Tensor, scores: Tensor, penalty: Tensor, low: MMDetBatch, high: MMDetBatch) -> None:
        share = float(rate.detach())
        cost = share * self.adapter.macs(high.shape) + (1 - share) * self.adapter.macs(low.shape)
        self.training_state = {
            "high_rate": share,
            "p": float(torch.sigmoid(scores.detach()).mean()),
            "gamma_term": float(penalty.detach()),
            "gmacs": cost + self._router_gmacs(),
            "temperature": self.current_temperature(),
        }

    def _router_gmacs(self) -> float:
        if not hasattr(self, "_gmacs_of_router"):
            # On a copy: counting would put the batch norms back to training with the rest.
            self._gmacs_of_router = copy.deepcopy(self.router).gmacs()
        return self._gmacs_of_router

    # -- checkpoints -----------------------------------------------------------------------------------------

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, local_metadata: Any, strict: bool, *rest: Any
    ) -> None:
        own = [key for key in state_dict if key.startswith(prefix)]
        if not any(key.startswith(f"{prefix}router.") for key in own):
            # A plain checkpoint of the detector: it says nothing about the router, which stays as it is.
            for key in own:
                state_dict[f"{prefix}detector.{key[len(prefix) :]}"] = state_dict.pop(key)
            for key, value in self.state_dict().items():
                if not key.startswith("detector."):
                    state_dict[prefix + key] = value
        self._check_router(state_dict, f"{prefix}router.")
        self._check_detector(state_dict, f"{prefix}detector.")
        super()._load_from_state_dict(state_dict, prefix, local_metadata, strict, *rest)
        if self._held is not None:
            self._held.forget()

    def _check_detector(self, state_dict: dict[str, Any], prefix: str) -> None:
        given = {key[len(prefix) :]: value.shape for key, value in state_dict.items() if key.startswith(prefix)}
        if given:  # else it is a router's alone
            check_fit({k: v.shape for k, v in self.detector.named_parameters()}, given, "checkpoint's weights")

    def _check_router(self, state_dict: dict[str, Any], prefix: str) -> None:
        # mmengine only logs keys that do not fit, which would leave a random router behind.
        theirs = {key[len(prefix) :]: value.shape for key, value in state_dict.items() if key.startswith(prefix)}
        ours = {key: value.shape for key, value in self.router.state_dict().items()}
        check_finite({k: v for k, v in state_dict.items() if k.startswith(prefix)}, "the checkpoint's router")
        wrong = sorted(key for key in theirs.keys() | ours.keys() if theirs.get(key) != ours.get(key))
        if wrong:
            raise DualResError(
                f"the checkpoint's router does not fit this config's router ({self.router.config.backbone}): "
                f"{len(wrong)} tensors differ, first '{wrong[0]}'. Use the router it was trained with."
            )


def _ladder(adapter: MMDetAdapter, chosen: Settings) -> Ladder:
    """The sizes of a config; a batch's largest is that of its pipeline, which is not known here.

    Raises:
        DualResError: If a size cannot be.
    """
    return Ladder.of(chosen.low) if chosen.sizes is None else ask_sizes(adapter, None, None, chosen.sizes)[1]


def _point(chosen: Settings, count: int) -> Budget:
    point = chosen.point()
    if point.fixed_thresholds(count) is None:
        point.wanted_shares(count)  # refuses what cannot be, now
    return point


def _as_quantiles(values: Sequence[float]) -> Tensor:
    return torch.tensor(values if len(values) else [math.nan] * QUANTILES, dtype=torch.float64)


def _from_quantiles(values: Tensor) -> list[float]:
    return [] if bool(values.isnan().any()) else [float(v) for v in values]


def _places(sizes: Sequence[int]) -> list[Tensor]:
    """Where each process's images lie in the whole batch: the host's sampler deals them out in turn."""
    if len(set(sizes)) == 1:
        return [torch.arange(rank, sizes[0] * len(sizes), len(sizes)) for rank in range(len(sizes))]
    starts = [sum(sizes[:rank]) for rank in range(len(sizes))]
    return [torch.arange(start, start + size) for start, size in zip(starts, sizes)]
