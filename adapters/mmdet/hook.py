"""What the host's runner does around a routed detector: logging, and calibration before a checkpoint is written."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

from mmdet.registry import HOOKS
from mmengine.dist import all_gather_object
from mmengine.hooks import CheckpointHook, Hook
from mmengine.model import is_model_wrapper

from dualres_plugin.adapters.mmdet.pipeline import never_trained
from dualres_plugin.budget.share import routes_text
from dualres_plugin.common.errors import DualResError

CONSTANT = 1e-4  # deviation of the scores of a router that says the same of every image
FAR = 0.15  # from the asked share at high, beyond what the number of images explains


@HOOKS.register_module()
class DualResHook(Hook):
    """Logs the routing of every training iteration to the host's visualiser, and the high rate of every test.

    After an epoch, and before a checkpoint by iterations, it calibrates the threshold on the epoch's last images. It
    warns where the router says the same of every image, and where a test's share at high is far from the asked one.

    `dualres/high_rate` (share of the batch at high), `dualres/p` (mean probability of high),
    `dualres/gamma_term` (γ·(high_rate - θ)²), `dualres/gmacs` (per image, router included) and
    `dualres/temperature`.

    Args:
        interval: iterations between two entries.
    """

    priority = "NORMAL"

    def __init__(self, interval: int = 1):
        self.interval = interval
        self._routes: list[str] = []

    def before_run(self, runner: Any) -> None:
        """Refuse a `dualres` key that nobody followed, as in a config with `read_base()`.

        Raises:
            DualResError: If the config has the key and the model is not routed.
        """
        model = _unwrapped(runner.model)
        model = getattr(model, "module", model)  # of test-time augmentation
        if runner.cfg.get("dualres") is not None and not hasattr(model, "routing"):
            raise DualResError(
                "the config has a dualres key, but its model is not routed: mmengine runs no custom_imports in a "
                "config with read_base(). Write __import__('dualres_plugin.adapters.mmdet') there."
            )

    def before_train(self, runner: Any) -> None:
        """Refuse a detector without weights: it is frozen.

        Raises:
            DualResError: If it was never trained.
        """
        detector = getattr(_unwrapped(runner.model), "detector", None)
        if detector is not None and never_trained(detector):
            raise DualResError(
                "the detector is frozen and its weights are random, so there is nothing to learn from it: give its "
                "checkpoint, load_from='FILE.pth' (--cfg-options load_from=FILE.pth)."
            )

    def before_train_epoch(self, runner: Any) -> None:
        """Calibrate on the images of one epoch, also in a run that starts here."""
        if hasattr(_unwrapped(runner.model), "forget_thumbnails"):
            _unwrapped(runner.model).forget_thumbnails()

    def after_train_epoch(self, runner: Any) -> None:
        """Calibrate; the host validates and writes its checkpoints after this."""
        self._calibrate(runner)

    def _calibrate(self, runner: Any) -> None:
        model = _unwrapped(runner.model)
        spread = model.calibrate() if hasattr(model, "calibrate") else None
        if spread is not None and spread < CONSTANT:
            runner.logger.warning(
                f"dualres: the router scores all training images alike (deviation {spread:.1e}), so no share at high "
                "can be met. Start it from trained weights (router='default'), with norm_eval=True."
            )

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Log the routing of the iteration."""
        state = getattr(_unwrapped(runner.model), "training_state", None)
        if state and self.every_n_train_iters(runner, self.interval):
            runner.visualizer.add_scalars({f"dualres/{k}": v for k, v in state.items()}, step=runner.iter + 1)
        saves = (hook for hook in runner.hooks if isinstance(hook, CheckpointHook) and not hook.by_epoch)
        if any(self.every_n_train_iters(runner, hook.interval) or self.is_last_train_iter(runner) for hook in saves):
            self._calibrate(runner)

    def after_test_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Note the routes of a batch of samples."""
        self._routes += [sample.route for sample in outputs or [] if "route" in sample]

    after_val_iter = after_test_iter

    def after_test_epoch(self, runner: Any, metrics: dict[str, float] | None = None) -> None:
        """Log the share at high, or at each of several sizes, of the samples of all processes."""
        routes = Counter(route for part in all_gather_object(self._routes) for route in part)  # of all processes
        images, high = routes.total(), routes["high"]
        if set(routes) - {"high", "low"}:
            runner.logger.info(f"dualres: {routes_text(routes)}")
        elif images:
            runner.logger.info(f"dualres: {high} of {images} images at high ({high / images:.1%})")
            self._warn_if_far(runner, high / images, images)
        self._routes = []

    after_val_epoch = after_test_epoch

    def _warn_if_far(self, runner: Any, rate: float, images: int) -> None:
        model = _unwrapped(runner.model)
        if getattr(model, "threshold", None) is not None:
            return
        asked = getattr(model, "target_high_rate", rate)
        if abs(rate - asked) > FAR + 1 / math.sqrt(images):  # two deviations of a share
            runner.logger.warning(
                f"dualres: {asked:.0%} at high were asked for. The router was calibrated on other images: adapt it, "
                "dualres swap ROUTER --detector ... --images ... --out ..., or set dualres.threshold."
            )


def _unwrapped(model: Any) -> Any:
    return model.module if is_model_wrapper(model) else model
