"""`DualResWrapper`: a frozen detector behind a router, in the host's own types."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dualres_plugin.budget.controller import BudgetController
from dualres_plugin.common.errors import DualResError
from dualres_plugin.common.resize import check_scale
from dualres_plugin.common.types import Decision
from dualres_plugin.hosts.contract import HostAdapter
from dualres_plugin.hosts.registry import adapt, load_detector
from dualres_plugin.hosts.routing import run_routed
from dualres_plugin.router.gate import Gate, RouteLog
from dualres_plugin.router.network import ResolutionRouter

logger = logging.getLogger("dualres")


class DualResWrapper:
    """Routes each image of a frozen detector to its high or its low resolution.

    Args:
        detector: a `YOLO`, a torchvision detection model, or any object with an installed adapter.
        router: a `ResolutionRouter`, the folder of one, or "default"; None is the default router, with a message,
            unless `fit` comes first.
        low: the low size, as a ratio of the high one (0.5) or in pixels (320); None is half, or the size that
            `low_detector` was built for where its host knows one.
        high: the high size in pixels; None is the detector's own default.
        target_high_rate: wanted share of images at high; the threshold is read from the router's calibration.
        threshold: score above which an image goes high; overrides `target_high_rate`.
        hold_rate: keep the share at high on target when the content drifts, by moving the threshold
            (`controller.BudgetController`; its state is `wrapper.controller.state`).
        low_detector: a second network for the low size (pair mode).

    Raises:
        DualResError: If the detector has no adapter, the router does not load, or a size or rate is impossible.

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
        target_high_rate: float = 0.5,
        threshold: float | None = None,
        hold_rate: bool = False,
        low_detector: Any | None = None,
    ):
        if isinstance(detector, (str, Path)):
            detector = load_detector(str(detector))
        if isinstance(low_detector, (str, Path)):
            low_detector = load_detector(str(low_detector))
        self.adapter: HostAdapter[Any] = adapt(detector, low_detector)
        self.detector = self.adapter.detector
        self.high = int(high or self.adapter.default_size)
        low = self.adapter.default_scale if low is None else low
        self.scale = check_scale(low / self.high if low > 1 else low)
        self.log = RouteLog()
        self._target_high_rate = target_high_rate
        self._threshold = threshold
        self._hold_rate = hold_rate
        self.controller: BudgetController | None = None
        self._gate: Gate | None = None
        self._router: ResolutionRouter | None = None
        self._wrapped: Any | None = None
        if router is not None:
            self.set_router(router)

    # -- the router and its operating point --------------------------------------------------------------

    @property
    def router(self) -> ResolutionRouter:
        """The router; the shipped default, with a message, where none was given or fitted."""
        if self._router is None:
            from dualres_plugin.router.network import load_default_router

            self.set_router(load_default_router())
        assert self._router is not None
        return self._router

    def set_router(self, router: ResolutionRouter | Path | str) -> None:
        """Plug a router in; one trained on another detector serves too."""
        loaded = router if isinstance(router, ResolutionRouter) else ResolutionRouter.from_pretrained(router)
        if self._threshold is None:
            loaded.threshold_for(self._target_high_rate)  # fails here, not at the first image
        self._router = loaded.eval()
        self._wrapped = self._gate = None

    @property
    def threshold(self) -> float:
        """The score above which an image goes high."""
        if self._threshold is not None:
            return self._threshold
        return self.router.threshold_for(self._target_high_rate)

    def set_operating_point(self, *, target_high_rate: float | None = None, threshold: float | None = None) -> None:
        """Change the budget; takes effect with the next image."""
        if (target_high_rate is None) == (threshold is None):
            raise DualResError("give either target_high_rate or threshold.")
        if target_high_rate is not None:
            self.router.threshold_for(target_high_rate)
            self._target_high_rate = target_high_rate
        self._threshold = threshold
        self._wrapped = self._gate = None

    # -- running ---------------------------------------------------------------------------------------------

    @property
    def host(self) -> Any:
        """The host's own object with the routing inside; the detector that was given is untouched."""
        if self._wrapped is None:
            self._wrapped = self.adapter.wrap(self.gate, self.scale, self.log)
        return self._wrapped

    @property
    def gate(self) -> Gate:
        """The router at its operating point."""
        if self._gate is None:
            if self._hold_rate:
                self.controller = BudgetController(self._target_high_rate, self.router.quantiles)
            self._gate = Gate(self.router, self.threshold, self.controller)
        return self._gate

    def predict(self, source: Any, **kwargs: Any) -> Any:
        """Detect on whatever the host's users pass as a source; results in the host's own types.

        Each result carries `.dualres` (route, score, threshold) and `.to_supervision()`.

        Args:
            source: image, folder, glob, video, array, or a list; what else the host takes.
            **kwargs: of the host's own predict. With `stream=True` every host gives its results one by one, and memory
                does not grow with the source.
        """
        return self.adapter.predict_source(self.host, source, **self._with_size(kwargs))

    __call__ = predict

    def forward(self, batch: Any) -> Any:
        """Run one of the host's own batches and return the host's raw output."""
        return run_routed(self.adapter, batch, self.gate, self.scale, self.log)

    def decide(self, images: Sequence[np.ndarray]) -> Decision:
        """Routes of RGB uint8 (H, W, 3) images, without running the detector."""
        from dualres_plugin.common.images import router_images_of

        return self.router.decide(router_images_of(images), self.threshold)

    def _with_size(self, kwargs: dict[str, Any]) -> dict[str, Any]:
        return {**self.adapter.size_options(self.high), **kwargs}

    def __getattr__(self, name: str) -> Any:
        # val, track, names, … are the host's own. Only called for names that this class does not define.
        if name.startswith("_") or name in ("adapter", "detector", "high", "scale", "log", "controller"):
            raise AttributeError(name)
        value = getattr(self.host, name)
        if name in self.adapter.sized_methods:
            return lambda *args, **kwargs: value(*args, **self._with_size(kwargs))
        return value

    # -- deployment --------------------------------------------------------------------------------------------

    def export(self, out: Path | str, form: str = "cond", **options: Any) -> Path:
        """Write detector, router and threshold as ONNX, checked against PyTorch on real photos.

        Args:
            out: the `.onnx` file; a folder for the form "pair".
            form: "cond", "resize", "branches" or "pair", see `export.export_model`.
            **options: `nms`, `images`, `photos` of `export.export_model`.

        Returns:
            What was written.
        """
        from dualres_plugin.export.build import export_model

        options = {"high": self.high, "scale": self.scale, "threshold": self.threshold, **options}
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
        """
        from dualres_plugin.train.fit import fit_router

        self.set_router(fit_router(self.adapter, data, images, high=self.high, scale=self.scale, **options))
        return self
