"""From a profile and scores to a trade-off curve, its AUC-Policy, baselines and intervals. No detector runs here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dualres_plugin.common.errors import DualResError
from dualres_plugin.evaluate.baselines import (
    as_ladder,
    bootstrap_auc,
    cascade_curve,
    fixed_size_curve,
    random_curve,
    routed_curve,
)
from dualres_plugin.evaluate.caution import cautions
from dualres_plugin.evaluate.curve import Curve, descending
from dualres_plugin.evaluate.proof import Proof, prove
from dualres_plugin.evaluate.scoring import score_profile
from dualres_plugin.profile.coco_ap import MixedAP
from dualres_plugin.profile.gains import compute_gain
from dualres_plugin.profile.table import Profile
from dualres_plugin.router.network import ResolutionRouter

AREA_RESAMPLES = 200  # of AUC-Policy: each is a whole curve, evaluated exactly
LEAST_STEP = 0.02  # AP between low and high: dividing by less is dividing by noise
SCALED = "the fixed sizes are the frame at high, scaled down by us as routing does it; the host's own imgsz differs."


@dataclass
class Evaluation:
    """Everything that an evaluation says; `metrics()` is what goes into metrics.json.

    Attributes:
        n: how many images.
        router: the curve of the router's order.
        oracle: that of the true AP gain.
        random: the mean of random orders.
        random_auc: mean AUC-Policy of random orders.
        random_sd: its standard deviation.
        ci95: 95 % interval of the router's AUC-Policy; NaNs where it was not asked for.
        ap_low: AP@[.5:.95] with all images at low, in [0, 1].
        ap_high: the same at high.
        router_gmacs: what deciding costs per image, in GMACs.
        low_gmacs: mean GMACs per image at low, without the router.
        high_gmacs: the same at high.
        routed: the operating point: "beta", "ap" and "gmacs", and of a calibrated router also "target_high_rate" and
            "threshold".
        scores: (n,) the scores, in the order of the profile's original images.
        others: further curves.
        notes: what to know before believing the numbers.
        extra: further entries for metrics.json.
        warnings: why the numbers may be worthless; shown before everything else.
        proof: paired differences at the operating point; None where they were not asked for.
    """

    n: int
    router: Curve
    oracle: Curve
    random: Curve
    random_auc: float
    random_sd: float
    ci95: tuple[float, float]
    ap_low: float
    ap_high: float
    router_gmacs: float
    low_gmacs: float
    high_gmacs: float
    routed: dict[str, float]
    scores: np.ndarray
    others: list[Curve] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    extra: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    proof: Proof | None = None

    def metrics(self) -> dict[str, Any]:
        """The documented content of metrics.json.

        Returns:
            Plain JSON types, but for NaN.
        """
        return {
            "auc_policy": self.router.auc_policy,
            "auc_policy_ci95": list(self.ci95),
            "n_images": self.n,
            "ap_low": self.ap_low,
            "ap_high": self.ap_high,
            "ap_span": self.ap_high - self.ap_low,
            "ap_routed": self.routed["ap"],
            "routed": self.routed,
            "router_gmacs": self.router_gmacs,
            "low_gmacs": self.low_gmacs,
            "high_gmacs": self.high_gmacs,
            "points": self.router.points(),
            "random": {"auc_policy": self.random_auc, "sd": self.random_sd, "points": self.random.points()},
            "oracle": {"auc_policy": self.oracle.auc_policy, "points": self.oracle.points()},
            "baselines": {
                c.name: {"auc_policy": c.auc_policy, "extra_gmacs": c.extra_gmacs, "points": c.points()}
                for c in self.others
            },
            **({} if self.proof is None else self._proven(self.proof)),
            "warnings": self.warnings,
            "notes": self.notes,
            **self.extra,
        }

    def _proven(self, proof: Proof) -> dict[str, Any]:
        gap, lower, upper = proof.above_random
        return {
            "paired": {"beta": self.routed["beta"], **proof.to_dict()},
            "auc_policy_above_random": {"mean": gap, "ci95": [lower, upper]},
        }


def evaluate(
    profile: Profile,
    router: ResolutionRouter,
    *,
    target_high_rate: float = 0.5,
    bootstrap: int = 1000,
    permutations: int = 20,
    seed: int = 0,
    progress: bool = False,
    other_sizes: Sequence[Profile] = (),
    margin: float = 0.5,
    groups: np.ndarray | None = None,
) -> Evaluation:
    """Evaluate a router on a labelled profile of images that trained, selected and calibrated nothing.

    Args:
        profile: a labelled profile.
        router: the router to judge.
        target_high_rate: share at high that the calibrated threshold of the operating point aims at, 0 to 1.
        bootstrap: resamples of the images for the paired differences at the operating point; the interval of AUC-Policy
            takes at most 200 of them. 0 for neither.
        permutations: random orders for the random baseline.
        seed: of the random orders and the resamples.
        progress: show progress bars.
        other_sizes: profiles of the same detector on the same images at sizes in between: what one fixed size gives for
            the same compute.
        margin: AP that may be lost against all high, in points of 100.
        groups: (n,) number of the group of each image, such as its video: whole groups are drawn.

    Returns:
        Curves, baselines, intervals, the operating point, and what it is proven to be better than.

    Raises:
        DualResError: If the profile has no labels, high and low have the same AP, or another profile does not belong.
    """
    rows = profile.originals
    scores = score_profile(router, profile, rows)
    result = evaluate_scores(
        profile, scores, router.gmacs(), bootstrap=min(bootstrap, AREA_RESAMPLES), permutations=permutations, seed=seed,
        progress=progress, groups=groups,
    )  # fmt: skip
    result.warnings += cautions(router.info, profile)
    if other_sizes:
        result.others.append(fixed_size_curve(profile, other_sizes))
        result.notes.append(SCALED)
    if router.quantiles:
        result.routed = _operating_point(profile, scores, router, result, target_high_rate)
    if bootstrap:
        result.proof = prove(
            as_ladder(profile, other_sizes), scores, _goes_high(scores, result.routed), result.router_gmacs,
            (result.router.auc_policy, result.random_auc), margin=margin, resamples=bootstrap, seed=seed, groups=groups,
            progress=progress,
        )  # fmt: skip
    return result


def evaluate_scores(
    profile: Profile,
    scores: np.ndarray,
    router_gmacs: float,
    *,
    bootstrap: int = 200,
    permutations: int = 20,
    seed: int = 0,
    progress: bool = False,
    groups: np.ndarray | None = None,
) -> Evaluation:
    """Evaluate any scores.

    Args:
        profile: a labelled profile.
        scores: (n,) one per original image of the profile; higher goes high first.
        router_gmacs: what scoring costs per image, in GMACs.
        bootstrap: resamples of the images for the 95 % interval; 0 for none.
        permutations: random orders for the random baseline.
        seed: of the random orders and the resamples.
        progress: show progress bars.
        groups: (n,) number of the group of each image, such as its video: whole groups are drawn.

    Returns:
        Curves, baselines and intervals; its operating point is β = 0.5.

    Raises:
        DualResError: If the profile has no labels, or AP is 0 or the same at both sizes.
    """
    mixed = MixedAP(profile)
    low, high = profile.gmacs
    rng = np.random.default_rng(seed)
    ap_low, ap_high = mixed.ends()
    if ap_low == ap_high == 0:
        raise DualResError(
            f"AP is 0 at both sizes: not one detection in '{profile.path}' fits a label. Do the classes of the labels "
            "belong to this detector, and is it trained?"
        )
    router = routed_curve("router", mixed, profile, scores, router_gmacs)
    random, random_areas = random_curve(mixed, profile, permutations, rng, progress)
    return Evaluation(
        n=mixed.n,
        router=router,
        oracle=routed_curve("oracle", mixed, profile, compute_gain("ap", profile, profile.originals)),
        random=random,
        random_auc=float(np.mean(random_areas)),
        random_sd=float(np.std(random_areas)),
        ci95=bootstrap_auc(mixed, scores, bootstrap, rng, progress, groups),
        ap_low=ap_low,
        ap_high=ap_high,
        router_gmacs=router_gmacs,
        low_gmacs=low,
        high_gmacs=high,
        routed=_middle(router),
        scores=scores,
        others=[cascade_curve(mixed, profile)],
        notes=_notes(mixed.n, ap_low, ap_high),
    )


def _middle(curve: Curve) -> dict[str, float]:
    """The point nearest to β = 0.5, for routers without a calibration."""
    at_half = int(np.argmin(np.abs(curve.beta - 0.5)))
    point = curve.points()[at_half]
    return {key: point[key] for key in ("beta", "ap", "gmacs")}


def _goes_high(scores: np.ndarray, routed: dict[str, float]) -> np.ndarray:
    """(n,) bool: above the calibrated threshold, or the first so many without one."""
    if "threshold" in routed:
        return np.asarray(scores > routed["threshold"])
    high = np.zeros(len(scores), dtype=bool)
    high[descending(scores)[: round(routed["beta"] * len(scores))]] = True
    return high


def _notes(n: int, ap_low: float, ap_high: float) -> list[str]:
    notes = []
    if n < 500:
        notes.append(f"{n} images are few: read AUC-Policy with its interval.")
    span = 100 * (ap_high - ap_low)
    if span < 0:
        notes.append(
            f"high is {-span:.1f} AP below low: run low. AUC-Policy is upside down here, less would be better."
        )
    elif span < 100 * LEAST_STEP:
        notes.append(f"high is only {span:.1f} AP above low: AUC-Policy divides by that span and is noisy.")
    return notes


def _operating_point(
    profile: Profile, scores: np.ndarray, router: ResolutionRouter, result: Evaluation, rate: float
) -> dict[str, float]:
    """Where the threshold that was calibrated for `rate` lands on these images."""
    threshold = router.threshold_for(rate)
    high = scores > threshold
    beta = float(high.mean())
    ap = MixedAP(profile).ap(high)
    gmacs = result.router_gmacs + result.low_gmacs + beta * (result.high_gmacs - result.low_gmacs)
    return {"target_high_rate": rate, "threshold": threshold, "beta": beta, "ap": ap, "gmacs": gmacs}


def summary(result: Evaluation) -> str:
    """The result in a few lines, for people.

    Args:
        result: the evaluation.

    Returns:
        Lines of text.
    """
    low, high, routed = result.ap_low, result.ap_high, result.routed
    saved = round(1 - routed["gmacs"] / result.high_gmacs, 2)
    spent = f"{abs(saved):.0%} {'more' if saved < 0 else 'less'} than high"
    lower, upper = result.ci95
    lines = [
        f"AP low {100 * low:.1f}   high {100 * high:.1f}   "
        f"routed {100 * routed['ap']:.1f} at {routed['beta']:.0%} high",
        f"GMACs low {result.low_gmacs:.2f}   high {result.high_gmacs:.2f}   router {result.router_gmacs:.3f}   "
        f"routed {routed['gmacs']:.2f} ({spent})",
        f"AUC-Policy {result.router.auc_policy:.3f} [{lower:.3f}, {upper:.3f}]   random {result.random_auc:.3f} ± "
        f"{result.random_sd:.3f}   oracle {result.oracle.auc_policy:.3f}   n = {result.n}",
    ]
    lines += [
        f"  {curve.name}: AUC-Policy {curve.auc_policy:.3f}, {curve.gmacs[0]:.2f} to {curve.gmacs[-1]:.2f} GMACs"
        for curve in result.others
    ]
    lines += result.proof.lines() if result.proof else []
    warnings = [f"WARNING: {text}" for text in result.warnings]
    return "\n".join(warnings + lines + [f"note: {note}" for note in result.notes])
