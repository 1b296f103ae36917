"""From a profile and scores to a trade-off curve, its AUC-Policy, baselines and intervals. No detector runs here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from tqdm import tqdm

from dualres_plugin.common.errors import DualResError
from dualres_plugin.evaluate.auc_policy import auc_policy
from dualres_plugin.evaluate.curve import COARSE, Curve, descending, sweep
from dualres_plugin.evaluate.scoring import score_profile
from dualres_plugin.profile.coco_ap import MixedAP
from dualres_plugin.profile.gains import compute_gain
from dualres_plugin.profile.table import Profile
from dualres_plugin.router.network import ResolutionRouter


@dataclass
class Evaluation:
    """Everything that an evaluation says; `metrics()` is what goes into metrics.json."""

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

    def metrics(self) -> dict[str, Any]:
        """The documented content of metrics.json."""
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
            "notes": self.notes,
            **self.extra,
        }


def evaluate(
    profile: Profile,
    router: ResolutionRouter,
    *,
    target_high_rate: float = 0.5,
    bootstrap: int = 200,
    permutations: int = 20,
    seed: int = 0,
    progress: bool = False,
    other_sizes: Sequence[Profile] = (),
) -> Evaluation:
    """Evaluate a router on a labelled profile of images that trained, selected and calibrated nothing.

    Args:
        target_high_rate: share at high that the calibrated threshold of the operating point aims at, 0 to 1.
        bootstrap: resamples of the images for the 95 % interval.
        permutations: random orders for the random baseline.
        other_sizes: profiles of the same detector on the same images at sizes in between: what one fixed size gives
            for the same compute.

    Raises:
        DualResError: If the profile has no labels, high and low have the same AP, or another profile does not belong.
    """
    rows = profile.originals
    scores = score_profile(router, profile, rows)
    result = evaluate_scores(
        profile, scores, router.gmacs(), bootstrap=bootstrap, permutations=permutations, seed=seed, progress=progress
    )
    if other_sizes:
        result.others.append(fixed_size_curve(profile, other_sizes, result))
    if router.quantiles:
        result.routed = _operating_point(profile, scores, router, result, target_high_rate)
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
) -> Evaluation:
    """Evaluate any scores."""
    mixed = MixedAP(profile)
    low, high = profile.gmacs
    rng = np.random.default_rng(seed)
    ap_low, ap_high = mixed.ends()
    if ap_low == ap_high == 0:
        raise DualResError(
            f"AP is 0 at both sizes: not one detection in '{profile.path}' fits a label. Do the classes of the labels "
            "belong to this detector, and is it trained?"
        )
    router = _routed_curve("router", mixed, profile, scores, router_gmacs)
    random, random_areas = _random_curve(mixed, profile, permutations, rng, progress)
    at_half = int(np.argmin(np.abs(router.beta - 0.5)))
    return Evaluation(
        n=mixed.n,
        router=router,
        oracle=_routed_curve("oracle", mixed, profile, compute_gain("ap", profile, profile.originals)),
        random=random,
        random_auc=float(np.mean(random_areas)),
        random_sd=float(np.std(random_areas)),
        ci95=bootstrap_auc(mixed, scores, bootstrap, rng, progress),
        ap_low=ap_low,
        ap_high=ap_high,
        router_gmacs=router_gmacs,
        low_gmacs=low,
        high_gmacs=high,
        routed={
            "beta": float(router.beta[at_half]),
            "ap": float(router.ap[at_half]),
            "gmacs": float(router.gmacs[at_half]),
        },
        scores=scores,
        others=[_cascade_curve(mixed, profile)],
        notes=_notes(mixed.n, ap_low, ap_high),
    )


def _routed_curve(name: str, mixed: MixedAP, profile: Profile, scores: np.ndarray, extra: float = 0.0) -> Curve:
    """Images go high in the order of their scores; each costs one pass, and `extra` GMACs to decide."""
    low, high = profile.gmacs
    beta, ap = sweep(mixed, descending(scores))
    return Curve(name, beta, extra + low + beta * (high - low), ap, extra)


def _cascade_curve(mixed: MixedAP, profile: Profile) -> Curve:
    """Every image runs low first; those that escalate run high on top."""
    low, high = profile.gmacs
    beta, ap = sweep(mixed, descending(cascade_uncertainty(profile, profile.originals)))
    return Curve("cascade", beta, low + beta * high, ap, 0.0)


def _random_curve(
    mixed: MixedAP, profile: Profile, permutations: int, rng: np.random.Generator, progress: bool
) -> tuple[Curve, list[float]]:
    """The mean curve of random orders, and the AUC-Policy of each."""
    low, high = profile.gmacs
    sweeps = [
        sweep(mixed, rng.permutation(mixed.n), COARSE)
        for _ in tqdm(range(max(1, permutations)), desc="random", disable=not progress, leave=False)
    ]
    share, aps = sweeps[0][0], np.mean([ap for _, ap in sweeps], axis=0)
    return Curve("random", share, low + share * (high - low), aps), [auc_policy(*points) for points in sweeps]


def fixed_size_curve(profile: Profile, others: Sequence[Profile], result: Evaluation) -> Curve:
    """All images at one size, for each size that was profiled; `beta` is its compute between low's and high's.

    Raises:
        DualResError: If a profile is of another detector or other images.
    """
    points = {result.low_gmacs: result.ap_low, result.high_gmacs: result.ap_high}
    images = profile.column("image_id")[profile.originals].tolist()
    for other in others:
        theirs = other.column("image_id")[other.originals].tolist()
        if other.meta["detector"] != profile.meta["detector"] or theirs != images:
            raise DualResError(
                f"'{other.path}' is a profile of {other.meta['detector']} on {len(theirs)} images, not of "
                f"{profile.meta['detector']} on the {len(images)} images of '{profile.path}'."
            )
        points.update(zip(other.gmacs, MixedAP(other).ends()))
    gmacs = np.array(sorted(g for g in points if result.low_gmacs <= g <= result.high_gmacs))
    beta = (gmacs - result.low_gmacs) / (result.high_gmacs - result.low_gmacs)
    return Curve("fixed size", beta, gmacs, np.array([points[g] for g in gmacs]))


def _notes(n: int, ap_low: float, ap_high: float) -> list[str]:
    notes = []
    if n < 500:
        notes.append(f"{n} images are few: read AUC-Policy with its interval.")
    span = 100 * (ap_high - ap_low)
    if span < 0:
        notes.append(
            f"high is {-span:.1f} AP below low: run low. AUC-Policy is upside down here, less would be better."
        )
    elif span < 2:
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


def cascade_uncertainty(profile: Profile, rows: Sequence[int] | np.ndarray) -> np.ndarray:
    """(n,) how unsure low's detections are: the number of objects it half sees, each counting p(1-p)."""
    return np.array([float((s * (1 - s)).sum()) for s in (profile.detections("low", int(r)).scores for r in rows)])


def bootstrap_auc(
    mixed: MixedAP, scores: np.ndarray, resamples: int, rng: np.random.Generator, progress: bool = False
) -> tuple[float, float]:
    """95 % interval of AUC-Policy over resampled images (percentile bootstrap); NaNs without resamples."""
    order = descending(scores)
    values = []
    for _ in tqdm(range(resamples), desc="bootstrap", disable=not progress, leave=False):
        weights = rng.multinomial(mixed.n, np.full(mixed.n, 1 / mixed.n)).astype(float)
        beta, ap = sweep(mixed, order, COARSE, weights)
        try:
            values.append(auc_policy(beta, ap))
        except DualResError:  # a resample in which high and low have the same AP
            continue
    if not values:
        return float("nan"), float("nan")
    lower, upper = np.percentile(values, [2.5, 97.5])
    return float(lower), float(upper)


def summary(result: Evaluation) -> str:
    """The result in a few lines, for people."""
    low, high, routed = result.ap_low, result.ap_high, result.routed
    saved = 1 - routed["gmacs"] / result.high_gmacs
    lower, upper = result.ci95
    lines = [
        f"AP low {100 * low:.1f}   high {100 * high:.1f}   "
        f"routed {100 * routed['ap']:.1f} at {routed['beta']:.0%} high",
        f"GMACs low {result.low_gmacs:.2f}   high {result.high_gmacs:.2f}   router {result.router_gmacs:.3f}   "
        f"routed {routed['gmacs']:.2f} ({saved:.0%} saved)",
        f"AUC-Policy {result.router.auc_policy:.3f} [{lower:.3f}, {upper:.3f}]   random {result.random_auc:.3f} ± "
        f"{result.random_sd:.3f}   oracle {result.oracle.auc_policy:.3f}   n = {result.n}",
    ]
    lines += [
        f"  {curve.name}: AUC-Policy {curve.auc_policy:.3f}, {curve.gmacs[0]:.2f} to {curve.gmacs[-1]:.2f} GMACs"
        for curve in result.others
    ]
    return "\n".join(lines + [f"note: {note}" for note in result.notes])
