"""From a profile and scores to a trade-off curve, its AUC-Policy, baselines and intervals. No detector runs here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from tqdm import tqdm

from dualres_plugin.common.errors import DualResError
from dualres_plugin.evaluate.auc_policy import auc_policy
from dualres_plugin.evaluate.scoring import score_profile
from dualres_plugin.profile.coco_ap import MixedAP
from dualres_plugin.profile.gains import compute_gain
from dualres_plugin.profile.table import Profile
from dualres_plugin.router.network import ResolutionRouter

POINTS = 101  # operating points of a curve, β = 0, .01, …, 1
COARSE = 21  # and of each resample or permutation: AUC-Policy moves by less than .003 between the two


@dataclass(frozen=True)
class Curve:
    """A trade-off curve.

    Attributes:
        name: which policy.
        beta: (P,) share of images at high.
        gmacs: (P,) mean compute per image, the policy's own cost included.
        ap: (P,) AP@[.5:.95] in [0, 1].
        extra_gmacs: what deciding costs per image.
    """

    name: str
    beta: np.ndarray
    gmacs: np.ndarray
    ap: np.ndarray
    extra_gmacs: float = 0.0

    @property
    def auc_policy(self) -> float:
        """Eq. 10 on this curve's points."""
        return auc_policy(self.gmacs, self.ap)

    def points(self) -> list[dict[str, float]]:
        return [
            {"beta": float(b), "gmacs": float(g), "ap": float(a)} for b, g, a in zip(self.beta, self.gmacs, self.ap)
        ]

    def ap_at(self, gmacs: float) -> float:
        """AP at a compute budget, by linear interpolation."""
        return float(np.interp(gmacs, self.gmacs, self.ap))


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


def sweep(
    mixed: MixedAP, order: np.ndarray, points: int = POINTS, weights: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """(β, AP) when the images go high in the given order, most wanted first.

    Args:
        order: (n,) image numbers.
        points: operating points between β = 0 and β = 1.
        weights: (n,) how often each image counts; β is then the weighted share.
    """
    w = np.ones(mixed.n) if weights is None else weights
    total = w.sum()
    share = np.concatenate([[0.0], np.cumsum(w[order]) / total])
    # The number of images at high that comes nearest to each wanted rate; duplicates say nothing new.
    counts = np.unique([int(np.argmin(np.abs(share - b))) for b in np.linspace(0, 1, points)])
    high = np.zeros(mixed.n, dtype=bool)
    done, aps = 0, []
    for count in counts:
        high[order[done:count]] = True
        done = count
        aps.append(mixed.ap(high, weights))
    return share[counts], np.array(aps)


def descending(scores: np.ndarray) -> np.ndarray:
    """Image numbers by score, highest first; NaN last."""
    order: np.ndarray = np.argsort(-np.nan_to_num(scores, nan=-np.inf), kind="stable")
    return order


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
    """Evaluate any scores, one per original image of the profile."""
    rows = profile.originals
    mixed = MixedAP(profile)
    low, high = profile.gmacs
    rng = np.random.default_rng(seed)
    ap_low, ap_high = mixed.ends()
    if ap_low == ap_high == 0:
        raise DualResError(
            f"AP is 0 at both sizes: not one detection in '{profile.path}' fits a label. Do the classes of the labels "
            "belong to this detector, and is it trained?"
        )

    def curve(name: str, order: np.ndarray, extra: float) -> Curve:
        beta, ap = sweep(mixed, order)
        return Curve(name, beta, extra + low + beta * (high - low), ap, extra)

    router = curve("router", descending(scores), router_gmacs)
    gain = compute_gain("ap", profile, rows)
    oracle = curve("oracle", descending(gain), 0.0)
    cascade = curve("cascade", descending(cascade_uncertainty(profile, rows)), 0.0)
    # Every image runs low first; those that escalate run high on top.
    cascade = Curve("cascade", cascade.beta, low + cascade.beta * high, cascade.ap, 0.0)
    sweeps = [
        sweep(mixed, rng.permutation(mixed.n), COARSE)
        for _ in tqdm(range(max(1, permutations)), desc="random", disable=not progress, leave=False)
    ]
    share, aps = sweeps[0][0], np.mean([ap for _, ap in sweeps], axis=0)
    random = Curve("random", share, low + share * (high - low), aps)
    randoms = [_auc(*points) for points in sweeps]
    interval = bootstrap_auc(mixed, scores, bootstrap, rng, progress)
    at_half = int(np.argmin(np.abs(router.beta - 0.5)))
    return Evaluation(
        n=mixed.n,
        router=router,
        oracle=oracle,
        random=random,
        random_auc=float(np.mean(randoms)),
        random_sd=float(np.std(randoms)),
        ci95=interval,
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
        others=[cascade],
        notes=_notes(mixed.n, ap_low, ap_high),
    )


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


def _auc(beta: np.ndarray, ap: np.ndarray) -> float:
    return auc_policy(beta, ap)


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
            values.append(_auc(beta, ap))
        except DualResError:  # a resample in which high and low have the same AP
            continue
    if not values:
        return float("nan"), float("nan")
    lower, upper = np.percentile(values, [2.5, 97.5])
    return float(lower), float(upper)
