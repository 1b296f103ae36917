"""What the host's runner does around a routed detector: logging, and the router out of a checkpoint."""

from __future__ import annotations

from typing import Any

from mmdet.registry import HOOKS
from mmengine.dist import all_gather_object
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper


@HOOKS.register_module()
class DualResHook(Hook):
    """Logs the routing of every training iteration to the host's visualiser, and the high rate of every test.

    `dualres/high_rate` (share of the batch at high), `dualres/p` (mean probability of high),
    `dualres/gamma_term` (γ·(high_rate - θ)²), `dualres/gmacs` (per image, router included) and
    `dualres/temperature`.

    Args:
        interval: iterations between two entries.
    """

    priority = "NORMAL"

    def __init__(self, interval: int = 1):
        self.interval = interval
        self._routes: list[bool] = []

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Log the routing of the iteration."""
        state = getattr(_unwrapped(runner.model), "training_state", None)
        if state and self.every_n_train_iters(runner, self.interval):
            runner.visualizer.add_scalars({f"dualres/{k}": v for k, v in state.items()}, step=runner.iter + 1)

    def after_test_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Note the routes of a batch of samples."""
        self._routes += [sample.route == "high" for sample in outputs or [] if "route" in sample]

    after_val_iter = after_test_iter

    def after_test_epoch(self, runner: Any, metrics: dict[str, float] | None = None) -> None:
        """Log the share at high, of the samples of all processes."""
        routes = [high for part in all_gather_object(self._routes) for high in part]  # of all processes
        if routes:
            high = sum(routes)
            runner.logger.info(f"dualres: {high} of {len(routes)} images at high ({high / len(routes):.1%})")
        self._routes = []

    after_val_epoch = after_test_epoch


def _unwrapped(model: Any) -> Any:
    return model.module if is_model_wrapper(model) else model
