"""`DualResWrapper`: a frozen detector behind a router, in the host's own types."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial, wraps
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from dualres_plugin.budget.controller import BudgetController, refuse_threshold
from dualres_plugin.budget.cost import Budget
from dualres_plugin.budget.ladder import thresholds_for
from dualres_plugin.budget.stream.head import StreamHead
from dualres_plugin.common.errors import DualResError, check_number
from dualres_plugin.common.images.photo import router_images_of
from dualres_plugin.common.types import Decision
from dualres_plugin.hosts.contract import HostAdapter
from dualres_plugin.hosts.probe import check_sizes
from dualres_plugin.hosts.registry import adapt, load_detector
from dualres_plugin.hosts.routing import run_routed
from dualres_plugin.hosts.sizes import ask_sizes, size_costs
from dualres_plugin.router.gate import Gate, RouteLog, given_point, make_gate
from dualres_plugin.router.network import ResolutionRouter, load_default_router
from dualres_plugin.router.stream_gate import StreamGate, make_stream_gate, stream_options


class DualResWrapper:
    """Routes each image of a frozen detector to one of its sizes: high or low, or more.

    Args:
        detector: a `YOLO`, a torchvision detection model, or any object with an installed adapter.
        router: a `ResolutionRouter`, the folder of one, "default" or "small"; None is the default router, with a
            message, unless `fit` comes first.
        low: the low size, as a ratio of the high one (0.5) or in pixels (320); None is half, or the size that
            `low_detector` was built for where its host knows one.
        high: the high size in pixels; None is what the host runs the detector at, such as the `imgsz` of its training.
        sizes: instead of these two, any number of sizes, largest first: (640, 512, 448), or ratios of the first, which
            may be 1 for the host's own: (1, 0.8, 0.7).
        target_high_rate: wanted share of images at high; the threshold is read from the router's calibration.
        threshold: score above which an image goes high; overrides `target_high_rate`.
        shares: of `sizes`, the wanted share of images at each, largest first; None is as many at each.
        thresholds: of `sizes`, the scores between them, descending, as `dualres advise` gives them.
        hold_rate: keep the share at high on target when the content drifts, by moving the threshold
            (`controller.BudgetController`; its state is `wrapper.controller.state`); of more than two sizes the mean
            GMACs. A threshold beside it is refused.
        low_detector: a second network for the low size (pair mode).
        memory: of frames of a video or camera: also read what was found in the last frame, see docs/streams.md. True
            takes the stream head beside the router, as `dualres train-stream` puts it there; or give its folder.
        skip: the most frames in a row that may reuse the last boxes while nothing stirs; 0 runs the detector on each.
        fps: instead of a rate: mean frames per second of a video or camera, held by what frames take while they run
            (`pace.PacedController`; `wrapper.controller.pace` tells).

    Raises:
        DualResError: If the detector has no adapter, the router does not load, a size or rate is impossible, or a
            threshold is given beside `hold_rate`.

    Examples:
        >>> model = DualResWrapper(YOLO("yolov6n.pt"), router="runs/router", low=0.5)  # doctest: +SKIP
        >>> model.predict("bus.jpg")[0].dualres.route  # doctest: +SKIP
        'low'
    """

    def __init__(
        self,
        detector: Any,
        router: ResolutionRouter | Path | str | None = None,
        *,
        low: float | None = None,
        high: int | None = None,
        sizes: Sequence[float] | None = None,
        target_high_rate: float | None = None,
        threshold: float | None = None,
        shares: Sequence[float] | None = None,
        thresholds: Sequence[float] | None = None,
        hold_rate: bool = False,
        low_detector: Any | None = None,
        memory: bool | StreamHead | Path | str = False,
        skip: int = 0,
        fps: float | None = None,
    ):
        if isinstance(detector, (str, Path)):
            detector = load_detector(str(detector))
        if isinstance(low_detector, (str, Path)):
            low_detector = load_detector(str(low_detector))
        self.adapter: HostAdapter[Any] = adapt(detector, low_detector)
        self.detector = self.adapter.detector
        self.high, self.ladder = ask_sizes(self.adapter, low, high, sizes)
        self.low = self.ladder.lower[-1]
        self.scale = self.low.ratio
        self.log = RouteLog()
        self._point = given_point(target_high_rate, threshold, shares, thresholds, fps)
        self._hold_rate = hold_rate
        self._stream = stream_options(memory, skip, router)
        self._gate: Gate | None = None
        self._wrapped: Any | None = None
        self._check_point(self._point)
        if router is not None:
            self.set_router(router)

    # -- the router and its operating point --------------------------------------------------------------

    @property
    def gate(self) -> Gate:
        """The router at its operating point; the shipped router, with a message, where none was given or fitted."""
        if self._gate is None:
            self.set_router(load_default_router())
        assert self._gate is not None
        return self._gate

    @property
    def router(self) -> ResolutionRouter:
        """The router in use."""
        return self.gate.router

    @property
    def sizes(self) -> tuple[int, ...]:
        """What images run at, in pixels and in the host's own meaning of size, largest first."""
        return self.ladder.pixels(self.adapter.host_size(self.high)) or ()

    @property
    def threshold(self) -> float:
        """The score above which an image goes to the largest size, see `thresholds`."""
        return self.thresholds[0]

    @property
    def thresholds(self) -> tuple[float, ...]:
        """The scores between the sizes, descending; with `hold_rate` what the calibration gives, where they start."""
        gate = self.gate
        if gate.controller is None:
            return gate.thresholds
        return thresholds_for(self._point.wanted_shares(len(self.ladder)), gate.quantiles)

    @property
    def controller(self) -> BudgetController | None:
        """What holds the rate, with `hold_rate`; it begins anew with another router or operating point."""
        return None if self._gate is None else self._gate.controller

    @property
    def streams(self) -> StreamGate | None:
        """With `memory` or `skip`, what each stream remembers; `saved` and `resume` keep it over a restart."""
        gate = self.gate
        return gate if isinstance(gate, StreamGate) else None

    def set_router(self, router: ResolutionRouter | Path | str) -> None:
        """Plug a router in; one trained on another detector serves too.

        Args:
            router: a `ResolutionRouter`, the folder of one, "default" or "small".

        Raises:
            DualResError: If it does not load, or has no calibration where a rate is wanted.
        """
        loaded = router if isinstance(router, ResolutionRouter) else ResolutionRouter.from_pretrained(router)
        self._set_gate(loaded.eval(), self._point)

    def set_operating_point(
        self,
        *,
        target_high_rate: float | None = None,
        threshold: float | None = None,
        shares: Sequence[float] | None = None,
        thresholds: Sequence[float] | None = None,
        fps: float | None = None,
    ) -> None:
        """Change the budget; takes effect with the next image.

        Args:
            target_high_rate: wanted share of images at high, 0 to 1.
            threshold: instead: score above which an image goes high.
            shares: of several sizes: the share of images at each, largest first.
            thresholds: of several sizes: the scores between them, descending.
            fps: instead: mean frames per second.

        Raises:
            DualResError: If not exactly one is given, it is impossible, or a threshold comes with `hold_rate`.
        """
        given = (target_high_rate, threshold, shares, thresholds, fps)
        if sum(value is not None for value in given) != 1:
            raise DualResError(
                "give either target_high_rate or threshold, or fps; of several sizes, shares or thresholds."
            )
        point = given_point(*given)
        self._check_point(point)
        self._set_gate(self.router, point)

    def _check_point(self, point: Budget) -> None:
        """Refuse at once what no router can do."""
        thresholds = point.fixed_thresholds(len(self.ladder))
        if self._hold_rate:
            refuse_threshold(thresholds)
        if thresholds is None:
            point.wanted_shares(len(self.ladder))

    def _set_gate(self, router: ResolutionRouter, point: Budget) -> None:
        """Build the gate first, so that what is impossible fails here, not at the first image, and changes nothing."""
        costs = partial(size_costs, self.adapter, self.high, self.ladder)
        setup = point, len(self.ladder), self._hold_rate, costs
        stream = self._stream
        gate = make_gate(router, *setup) if stream is None else make_stream_gate(router, stream, *setup)
        self._gate, self._point = gate, point
        self._wrapped = None

    # -- running ---------------------------------------------------------------------------------------------

    @property
    def host(self) -> Any:
        """The host's own object with the routing inside; the detector that was given is untouched."""
        if self._wrapped is None:
            check_sizes(self.adapter, self.high, self.ladder)
            self._wrapped = self.adapter.wrap_at(self.high, self.gate, self.ladder, self.log)
        return self._wrapped

    def predict(self, source: Any, **kwargs: Any) -> Any:
        """Detect on whatever the host's users pass as a source; results in the host's own types.

        Each result carries `.dualres` (route, score, threshold) and `.to_supervision()`.

        Args:
            source: image, folder, glob, video, array, or a list; what else the host takes.
            **kwargs: of the host's own predict. With `stream=True` every host gives its results one by one, and memory
                does not grow with the source.

        Raises:
            DualResError: If the source or an option is none that the host takes.
        """
        return self.adapter.predict_source(self.host, source, **self._with_size(kwargs))

    __call__ = predict

    def forward(self, batch: Any) -> Any:
        """Run one of the host's own batches.

        Args:
            batch: at the high size, as the host's own pipeline makes it.

        Returns:
            The host's raw output, in the batch's order and in high-resolution coordinates.
        """
        return run_routed(self.adapter, batch, self.gate, self.ladder, self.log)

    def decide(self, images: Sequence[np.ndarray]) -> Decision:
        """Route images without running the detector. With `hold_rate` they count as images of the stream.

        Args:
            images: (H, W, 3) RGB uint8 each.
        """
        decision: Decision = self.gate(router_images_of(images))
        return replace(decision, sizes=self.sizes)

    def _with_size(self, kwargs: dict[str, Any]) -> dict[str, Any]:
        if isinstance(kwargs.get("conf"), float):  # a NaN would let through nothing, or everything
            check_number("conf", kwargs["conf"], 0, 1)
        one = {} if self._stream is None else {"batch": 1}  # each frame waits for what was found in the last
        return {**self.adapter.size_options(self.high), **one, **kwargs}

    def __getattr__(self, name: str) -> Any:
        # val, track, names, … are the host's own. Only called for names that this class does not define.
        if name.startswith("_") or name in (
            "adapter",
            "detector",
            "high",
            "low",
            "ladder",
            "scale",
            "log",
            "controller",
        ):
            raise AttributeError(name)
        value = getattr(self.host, name)
        if name not in self.adapter.sized_methods:
            return value

        @wraps(value)
        def sized(*args: Any, **kwargs: Any) -> Any:
            return value(*args, **self._with_size(kwargs))

        return sized

    def __dir__(self) -> list[str]:
        """With the host's public names, which are reached through this object; what any module has is left out."""
        kind = type(self.detector)
        public = [name for name in dir(kind) if not name.startswith("_")]
        hosts = {name for name in public if getattr(kind, name, None) is not getattr(nn.Module, name, None)}
        return sorted({*super().__dir__(), *hosts, *self.adapter.sized_methods})

    def __repr__(self) -> str:
        head = f"DualResWrapper({type(self.detector).__name__} of {self.adapter.name}, high {self.high} px, "
        head += f"low {self.ladder}" if len(self.ladder) == 2 else f"then {self.ladder}"
        if self.adapter.low_detector is not None:
            head += ", a pair"
        if self._gate is None:
            return f"{head})\n  router: none yet; the default router on first use"
        found = ", ".join(f"{t:+.4f}" for t in self.thresholds)
        return f"{head})\n  router: {self.router}\n  threshold {found} ({self._asked()}); so far {self.log}"

    def _asked(self) -> str:
        count = len(self.ladder)
        if self._point.fixed_thresholds(count) is not None:
            return "given"
        if self._point.fps is not None:
            return f"moves to hold {self._point.fps:g} frames a second"
        shares = self._point.wanted_shares(count)
        wanted = f"{shares[0]:.0%}" if count == 2 else " / ".join(f"{share:.0%}" for share in shares)
        return f"{'held at' if self._hold_rate else 'target'} {wanted}"

    # -- deployment --------------------------------------------------------------------------------------------

    def export(self, out: Path | str | None = None, form: str = "cond", **options: Any) -> Path:
        """Write detector, router and thresholds as ONNX, at all sizes, checked against PyTorch on real photos.

        Args:
            out: the `.onnx` file; a folder for the form "pair".
            form: "cond", "resize", "branches" or "pair", see `export.export_model`.
            **options: `nms`, `thumbnail`, `images`, `photos` of `export.export_model`.

        Returns:
            What was written.

        Raises:
            DualResError: If there is no name, the form does not suit the detector, or the file computes anything else
                than PyTorch.
        """
        from dualres_plugin.export.build import export_model

        if out is None or "format" in options:
            raise DualResError(
                "export writes detector and router as ONNX: export('model.onnx'), or export('folder', form='pair'). "
                "For another format of the host's, export the plain detector."
            )
        options = {"high": self.high, "scale": self.ladder, "threshold": self.thresholds, **options}
        return export_model(self.adapter, self.router, out, form=form, **options)

    # -- fitting -----------------------------------------------------------------------------------------------

    def fit(self, data: Any, images: Path | str | None = None, **options: Any) -> DualResWrapper:
        """Profile the detector on a dataset, train a router, calibrate it; then the wrapper is ready.

        Args:
            data: COCO annotations (.json), an Ultralytics `data.yaml`, or None to learn without labels.
            images: the image folder (not needed with a `data.yaml`).
            **options: `views`, `out` (folder for the profile and router), `config`, `seed`, `batch`.

        Returns:
            This wrapper.

        Raises:
            DualResError: If data is missing or unusable.
        """
        from dualres_plugin.train.fit import fit_router

        self.set_router(fit_router(self.adapter, data, images, high=self.high, scale=self.scale, **options))
        return self
