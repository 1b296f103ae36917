"""How often 95 % intervals of a difference of APs hold the truth, by simulation.

The photos of a profile are taken for the whole world: the truth is their difference, known exactly. From it, samples of
n photos are drawn with replacement, as if each were a new photo; each sample gives an interval as `dualres evaluate`
and `dualres advise` do, from what it sees alone. An honest 95 % interval holds the truth in about 95 of 100 samples.

AP of few photos is biased (it is no mean over photos), so two truths are told apart: the difference of the whole world,
and the mean difference of samples of n photos, which is what n photos measure without error.

    python scripts/interval_coverage.py runs/ladder --router default --n 164 343 --samples 400
"""

from __future__ import annotations

import argparse

import numpy as np

from dualres_plugin.evaluate.ladder.paired import PairedAP, draw, halves
from dualres_plugin.evaluate.scoring import score_profile
from dualres_plugin.profile.coco_ap import MixedAP
from dualres_plugin.profile.passes import HIGH, LOW
from dualres_plugin.profile.table import Profile
from dualres_plugin.router.network import ResolutionRouter

METHODS = ("half samples", "bootstrap", "percentiles of it")


def intervals(exact: float, half: np.ndarray, drawn: np.ndarray) -> list[tuple[float, float]]:
    """Ends by each of `METHODS`; the first as `difference.interval`, the second the same with a bootstrap.

    Args:
        exact: the difference on the sample.
        half: (B,) on its random halves.
        drawn: (B,) on its bootstrap draws.
    """
    ends = [exact + np.percentile(part - part.mean(), [2.5, 97.5]) for part in (half, drawn)]
    return [(float(low), float(high)) for low, high in (*ends, np.percentile(drawn, [2.5, 97.5]))]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("profile", help="folder of a labelled profile: the world")
    parser.add_argument("--router", default="default")
    parser.add_argument("--n", type=int, nargs="+", default=[164, 343], help="photos of a sample")
    parser.add_argument("--samples", type=int, default=400)
    parser.add_argument("--resamples", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    profile = Profile.load(args.profile)
    names = [LOW, HIGH, *(p.name for p in profile.passes[1:2] if p.name != LOW)]
    mixed = MixedAP(profile, passes=names)
    scores = score_profile(ResolutionRouter.from_pretrained(args.router), profile, mixed.rows)
    routed = (scores > np.median(scores)).astype(int)
    chance = np.random.default_rng(args.seed).permutation(routed)
    rivals = {"all high": np.ones(mixed.n, int), "a random mix": chance, "all low": np.zeros(mixed.n, int)}
    if len(names) > 2:
        rivals[f"one size, {profile.passes[1].size} px"] = np.full(mixed.n, 2)
    routes = np.stack([routed, *rivals.values()])
    for n in args.n:
        report(PairedAP(mixed), routes, list(rivals), n, args)


def report(paired: PairedAP, routes: np.ndarray, rivals: list[str], n: int, args: argparse.Namespace) -> None:
    """One table: coverage of each method for each difference."""
    rng = np.random.default_rng(args.seed)
    size = routes.shape[1]
    whole = paired.resampled(routes, np.ones((1, size), dtype=np.float32))[:, 0]
    samples = rng.multinomial(n, np.full(size, 1 / size), size=args.samples)
    seen = paired.resampled(routes, samples.astype(np.float32))
    ends = np.array([one(paired, routes, sample, s, args.resamples, rng) for sample, s in zip(samples, seen.T)])
    print(f"n = {n}, {args.samples} samples of {size} photos, {args.resamples} resamples each")
    print(f"{'routed minus':22s}{'truth':>8s}{'mean':>8s}" + "".join(f"{name:>26s}" for name in METHODS))
    for number, name in enumerate(rivals, 1):
        truth, exact = whole[0] - whole[number], seen[0] - seen[number]
        cells = []
        for low, high in ends[:, number - 1].transpose(1, 2, 0):
            held = [np.mean((low <= aim) & (aim <= high)) for aim in (truth, exact.mean())]
            cells.append(f"{held[0]:.1%} {held[1]:.1%} ({100 * (high - low).mean():.1f})".rjust(26))
        print(f"{name:22s}{100 * truth:8.2f}{100 * exact.mean():8.2f}" + "".join(cells), flush=True)


def one(
    paired: PairedAP, routes: np.ndarray, sample: np.ndarray, seen: np.ndarray, resamples: int, rng: np.random.Generator
) -> np.ndarray:
    """The intervals of one sample, (rivals, methods, 2).

    Args:
        paired: the world.
        routes: (R, N), the routed detector first.
        sample: (N,) how often each photo of the world is in the sample.
        seen: (R,) AP on it.
        resamples: of each kind.
        rng: source of the resamples.
    """
    places = np.repeat(np.arange(len(sample)), sample)  # a photo that was drawn twice is two photos of the sample
    drawn = []
    for kind in (halves, draw):
        weights = np.zeros((resamples, len(sample)), dtype=np.float32)
        for row, counts in zip(weights, kind(len(places), resamples, rng)):
            np.add.at(row, places, counts)
        drawn.append(paired.resampled(routes, weights))
    half, bootstrap = (part[0] - part[1:] for part in drawn)
    return np.array([intervals(e, h, b) for e, h, b in zip(seen[0] - seen[1:], half, bootstrap)])


if __name__ == "__main__":
    main()
