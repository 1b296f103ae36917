"""Curves of a profile: a router's order, and what it is to be compared with."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from tqdm.auto import tqdm

from dualres_plugin.common.errors import DualResError
from dualres_plugin.evaluate.auc_policy import auc_policy
from dualres_plugin.evaluate.curve import COARSE, Curve, descending, sweep
from dualres_plugin.evaluate.ladder.paired import draw
from dualres_plugin.profile.coco_ap import MixedAP
from dualres_plugin.profile.passes import LOW
from dualres_plugin.profile.table import Profile


def routed_curve(name: str, mixed: MixedAP, profile: Profile, scores: np.ndarray, extra: float = 0.0) -> Curve:
    """Images go high in the order of their scores, and each runs once.

    Args:
        name: of the policy.
        mixed: the profile's original images.
        profile: a labelled profile.
        scores: (n,) one per original image; higher goes high first.
        extra: what deciding costs per image, in GMACs.

    Returns:
        A curve with up to 101 points.
    """
    low, high = profile.gmacs
    beta, ap = sweep(mixed, descending(scores))
    return Curve(name, beta, extra + low + beta * (high - low), ap, extra)


def cascade_curve(mixed: MixedAP, profile: Profile) -> Curve:
    """Every image runs low first; those about which low is unsure run high on top.

    Args:
        mixed: the profile's original images.
        profile: a labelled profile.

    Returns:
        A curve with up to 101 points.
    """
    low, high = profile.gmacs
    beta, ap = sweep(mixed, descending(cascade_uncertainty(profile, profile.originals)))
    return Curve("cascade", beta, low + beta * high, ap, 0.0)


def random_curve(
    mixed: MixedAP, profile: Profile, permutations: int, rng: np.random.Generator, progress: bool
) -> tuple[Curve, list[float]]:
    """The mean of random orders.

    Args:
        mixed: the profile's original images.
        profile: a labelled profile.
        permutations: how many orders, at least 1.
        rng: source of the orders.
        progress: show a progress bar.

    Returns:
        The mean curve, and the AUC-Policy of each order.
    """
    low, high = profile.gmacs
    sweeps = [
        sweep(mixed, rng.permutation(mixed.n), COARSE)
        for _ in tqdm(range(max(1, permutations)), desc="random", disable=not progress, leave=False)
    ]
    share, aps = sweeps[0][0], np.mean([ap for _, ap in sweeps], axis=0)
    return Curve("random", share, low + share * (high - low), aps), [auc_policy(*points) for points in sweeps]


def _refuse_other_weights(profile: Profile, other: Profile) -> None:
    """Two detectors may have one name, as every `best.pt`: the fingerprints tell them apart, where both are known."""
    known = {str(p.meta.get("detector_fingerprint") or "") for p in (profile, other)} - {""}
    if len(known) > 1 and other.meta["detector"] == profile.meta["detector"]:
        raise DualResError(
            f"the {other.meta['detector']} of profile '{other.path}' has other weights than that of '{profile.path}', "
            "so its sizes are not those of this detector: profile this one at the other sizes."
        )


def fixed_size_curve(profile: Profile, others: Sequence[Profile]) -> Curve:
    """All images at one size, for each size that was profiled; `beta` is its compute between low's and high's.

    Args:
        profile: a labelled profile at the two sizes that are routed.
        others: profiles of the same detector on the same images at other sizes.

    Returns:
        A curve with a point for each size between low and high.

    Raises:
        DualResError: If a profile is of another detector or other images.
    """
    for other in others:
        _refuse_other_weights(profile, other)
    low, high = profile.gmacs
    points = dict(zip((low, high), MixedAP(profile).ends()))
    for other in others:
        _check_same(profile, other)
        points.update(zip(other.gmacs, MixedAP(other).ends()))
    gmacs = np.array(sorted(g for g in points if low <= g <= high))
    beta = (gmacs - low) / (high - low)
    return Curve("fixed size", beta, gmacs, np.array([points[g] for g in gmacs]))


def _check_same(profile: Profile, other: Profile) -> None:
    images, theirs = (p.column("image_id")[p.originals].tolist() for p in (profile, other))
    if other.meta["detector"] != profile.meta["detector"] or theirs != images:
        raise DualResError(
            f"'{other.path}' is a profile of {other.meta['detector']} on {len(theirs)} images, not of "
            f"{profile.meta['detector']} on the {len(images)} images of '{profile.path}'."
        )


def as_ladder(profile: Profile, others: Sequence[Profile]) -> Profile:
    """One profile with the low sizes of others between its own, as if all had been profiled at once.

    Args:
        profile: at the two sizes that are routed.
        others: of the same detector on the same images.

    Returns:
        The images themselves at every size; `profile` where nothing is added.
    """
    between = {p.size for p in profile.passes[1:-1]}
    added: dict[int, Profile] = {}
    for other in others:
        _check_same(profile, other)
        size = other.passes[-1].size
        if size not in between and profile.passes[-1].size < size < profile.passes[0].size:
            added.setdefault(size, other)
    if not added:
        return profile
    table = profile.table.take(profile.originals)
    for size, other in added.items():
        rows = other.table.take(other.originals)
        for column in ("gmacs_low", "low_boxes", "low_scores", "low_categories"):
            table = table.append_column(column.replace(LOW, f"s{size}"), rows.column(column))
    return Profile({**profile.meta, "between": sorted({*between, *added}, reverse=True)}, table, profile.path)


def cascade_uncertainty(profile: Profile, rows: Sequence[int] | np.ndarray) -> np.ndarray:
    """How unsure low's detections are: the number of objects it half sees, each counting p(1-p).

    Args:
        profile: the detector's results.
        rows: (n,) row numbers.

    Returns:
        (n,) at least 0.
    """
    return np.array([float((s * (1 - s)).sum()) for s in (profile.detections("low", int(r)).scores for r in rows)])


def bootstrap_auc(
    mixed: MixedAP,
    scores: np.ndarray,
    resamples: int,
    rng: np.random.Generator,
    progress: bool = False,
    groups: np.ndarray | None = None,
) -> tuple[float, float]:
    """95 % interval of AUC-Policy over resampled images (percentile bootstrap).

    Args:
        mixed: n images.
        scores: (n,) router scores.
        resamples: how many.
        rng: source of the resamples.
        progress: show a progress bar.
        groups: (n,) number of the group of each image, for resampling by group.

    Returns:
        Lower and upper end; NaNs without resamples.
    """
    order = descending(scores)
    values = []
    for _ in tqdm(range(resamples), desc="bootstrap", disable=not progress, leave=False):
        weights = draw(mixed.n, 1, rng, groups)[0]  # one at a time: all of them are as large as a small profile
        beta, ap = sweep(mixed, order, COARSE, weights.astype(float))
        try:
            values.append(auc_policy(beta, ap))
        except DualResError:  # a resample in which high and low have the same AP
            continue
    if not values:
        return float("nan"), float("nan")
    lower, upper = np.percentile(values, [2.5, 97.5])
    return float(lower), float(upper)
