"""AP against cost on clips: the stream head, the thumbnail alone, fixed sizes, and every k-th frame.

    python scripts/make_clips.py --data train.json --images train2017/ --clips 100 --seed 1 --out runs/clips/train
    python scripts/make_clips.py --data val.json --images val2017/ --clips 60 --seed 2 --out runs/clips/val
    dualres profile yolo11n.pt --data runs/clips/train/annotations.json --images runs/clips/train/images \\
        --sizes 640,448,320 --no-host-sizes --out runs/clips/train-profile                # and the same of val
    python scripts/stream_study.py runs/clips/train-profile runs/clips/val-profile

Heads are fitted on the first profile, everything is measured on the second, whose clips show other photos. Differences
have 95 % intervals from random halves of the clips. The thumbnail router gets thresholds read off the measured frames
themselves, and exactly as many frames at high as the stream head took: it is compared at its best.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dualres_plugin.budget.ladder import thresholds_for
from dualres_plugin.budget.stream.head import StreamHead
from dualres_plugin.budget.stream.stream import Stream, StreamOptions
from dualres_plugin.common.card import SKIP
from dualres_plugin.common.errors import one_message
from dualres_plugin.common.types import Detections
from dualres_plugin.evaluate.ladder.paired import PairedAP, halves
from dualres_plugin.profile.coco_ap import MixedAP
from dualres_plugin.profile.passes import HIGH, LOW
from dualres_plugin.profile.table import Profile
from dualres_plugin.router.network import ResolutionRouter
from dualres_plugin.train.stream import Clips, train_stream

SHARES = (0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9)


class Renamed(Profile):
    """A profile with one of its passes in the place of low, and with passes that were made up of others.

    Attributes:
        low: name of the pass that stands for low.
        made: detections of each row, by name.
    """

    def __init__(self, profile: Profile, low: str):
        super().__init__(profile.meta, profile._rows, profile.path)
        self.low = low
        self.made: dict[str, list[Detections]] = {}

    def detections(self, which: str, row: int) -> Detections:
        """As of `Profile`."""
        if which in self.made:
            return self.made[which][row]
        return super().detections(self.low if which == LOW else which, row)


@dataclass(frozen=True)
class Policy:
    """One way to run the clips.

    Attributes:
        name: for the table.
        route: (n,) number of the pass of each frame.
        cost: (n,) GMACs.
        like: its rival at the same cost, a name; "" for none.
    """

    name: str
    route: np.ndarray
    cost: np.ndarray
    like: str = ""


class Study:
    """The measured clips at two sizes.

    Args:
        profile: of the clips.
        router: scores them.
        low: name of the smaller pass.
    """

    def __init__(self, profile: Profile, router: ResolutionRouter, low: str):
        self.profile = Renamed(profile, low)
        self.clips = Clips(self.profile, router)
        self.passes = [LOW, HIGH]
        size = (self.profile.column(name)[self.clips.rows] for name in ("width", "height"))
        self.size = np.stack([*size] * 2, axis=1).astype(np.float32)
        gmacs = (self.profile.column(f"gmacs_{low}"), self.profile.column("gmacs_high"))
        self.gmacs = np.stack([column[self.clips.rows] for column in gmacs])
        self.deciding = router.gmacs()
        self.found = {step: self.clips.found(name) for step, name in ((0, HIGH), (1, LOW))}
        low_size = next(p.size for p in profile.passes if p.name == low)
        self.name = f"{self.profile.meta['high']}/{low_size}"

    def fixed(self, step: int) -> Policy:
        """All frames at one size, without a router."""
        number = 1 - step
        return Policy(f"all {(HIGH, LOW)[step]}", np.full(len(self.clips), number), self.gmacs[number])

    def by_route(self, name: str, high: np.ndarray, deciding: bool = True) -> Policy:
        """Frames by a (n,) bool."""
        cost = np.where(high, self.gmacs[1], self.gmacs[0]) + self.deciding * deciding
        return Policy(name, high.astype(np.int64), cost)

    def thumbnail(self, high: int) -> Policy:
        """The frames with the best scores at high, as many as asked."""
        order = np.argsort(-self.clips.scores, kind="stable")
        chosen = np.zeros(len(self.clips), dtype=bool)
        chosen[order[:high]] = True
        return self.by_route(f"thumbnail {high}", chosen)

    def made(self, name: str, found: list[Detections], cost: np.ndarray, like: str = "") -> Policy:
        """A policy with detections of its own, in the order of the clips, boxes as shares."""
        rows: list[Detections] = [Detections.empty()] * len(found)
        for row, d, size in zip(self.clips.rows, found, self.size):
            rows[int(row)] = Detections(d.boxes * size, d.scores, d.labels)
        self.profile.made[name] = rows
        self.passes.append(name)
        return Policy(name, np.full(len(found), len(self.passes) - 1), cost, like)

    def stream(self, options: StreamOptions, quantiles: Sequence[float], limits: tuple[float, ...]) -> list[int]:
        """The step of each frame, and what skipped ones show in `self.shown`."""
        steps, self.shown = [], []
        for begin, end in zip(self.clips.starts, self.clips.starts[1:]):
            stream = Stream(options, quantiles)
            for i in range(begin, end):
                stream.memory.arrive(self.clips.sketches[i])
                if stream.may_skip:
                    kept = stream.skip()
                    steps.append(SKIP)
                    self.shown.append(Detections(kept.boxes, kept.scores, kept.labels))
                    continue
                score = stream.score(float(self.clips.scores[i]))
                steps.append(stream.decide(score, limits))
                seen = self.found[steps[-1]][i]
                stream.memory.saw(steps[-1], seen.boxes, seen.scores, seen.labels, score)
                self.shown.append(seen)
        return steps

    def every(self, k: int, reuse: bool) -> Policy:
        """Every k-th frame of a clip at high; the others at low, or reuse its boxes at constant velocity."""
        place = np.concatenate([np.arange(n) for n in np.diff(self.clips.starts)])
        high = place % k == 0
        if not reuse:
            return self.by_route(f"every {k}th high, others low", high, deciding=False)
        found: list[Detections] = []
        for begin, end in zip(self.clips.starts, self.clips.starts[1:]):
            memory = Stream(StreamOptions(), []).memory
            for i in range(begin, end):
                memory.arrive(self.clips.sketches[i])
                seen = self.found[0][i]
                if high[i]:
                    memory.saw(0, seen.boxes, seen.scores, seen.labels)
                    found.append(seen)
                else:
                    kept = memory.recalled() if memory.known else None  # not even at a cut does it look
                    found.append(Detections(kept.boxes, kept.scores, kept.labels) if kept else Detections.empty())
        return self.made(f"every {k}th high, others reuse", found, np.where(high, self.gmacs[1], 0.0))

    def policies(self, head: StreamHead) -> list[Policy]:
        """All that is compared."""
        found = [self.fixed(0), self.fixed(1)]
        found += [self.every(k, reuse) for k in (2, 3, 5) for reuse in (False, True)]
        for share in SHARES:
            limits = thresholds_for((share, 1 - share), head.score_quantiles)
            steps = np.array(self.stream(StreamOptions(head), head.score_quantiles, limits))
            rival = self.thumbnail(int((steps == 0).sum()))
            cost = self.by_route("", steps == 0).cost
            found += [rival, Policy(f"last frame, {share:.2f}", 1 - steps, cost, rival.name)]
            for skip in (3,):
                steps = np.array(self.stream(StreamOptions(head, skip), head.score_quantiles, limits))
                ran = np.where(steps == 0, self.gmacs[1], self.gmacs[0]) + self.deciding
                cost = np.where(steps == SKIP, 0.0, ran)
                found.append(self.made(f"last frame, {share:.2f}, skip {skip}", self.shown, cost, "all high"))
        for skip in (1, 3):
            steps = np.array(self.stream(StreamOptions(None, skip), [0.0, 1.0], (-np.inf,)))
            cost = np.where(steps == SKIP, 0.0, self.gmacs[1])
            found.append(self.made(f"all high, skip {skip}", self.shown, cost, "all high"))
        return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("train", help="profile of the clips that heads are fitted on")
    parser.add_argument("measured", help="profile of other clips, with labels")
    parser.add_argument("--router", default="default")
    parser.add_argument("--low", action="append", help="pass that is low, such as s448; repeatable (all by default)")
    parser.add_argument("--draws", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("stream_study.csv"))
    args = parser.parse_args()

    router = ResolutionRouter.from_pretrained(args.router).eval()
    train, measured = Profile.load(args.train), Profile.load(args.measured)
    lows = args.low or [p.name for p in measured.passes[:0:-1]]
    with args.out.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["sizes", "policy", "GMACs", "share of all high", "AP", "against", "difference", "from", "to"])
        for low in lows:
            head = train_stream(Renamed(train, low), router, seed=args.seed)
            study = Study(measured, router, low)
            for row in compared(study, study.policies(head), args.draws, args.seed):
                table.writerow(row)
                print("  ".join(map(str, row)), flush=True)
            print(f"{study.name}: head {head.info}")


def compared(study: Study, policies: list[Policy], draws: int, seed: int) -> list[list[object]]:
    """A row a policy; differences in AP points with the spread over random halves of the clips."""
    mixed = MixedAP(study.profile, rows=study.clips.rows, passes=study.passes)
    weights = halves(mixed.n, draws, np.random.default_rng(seed), study.clips.clip)
    resampled = PairedAP(mixed).resampled(np.stack([p.route for p in policies]), weights)
    exact = [mixed.ap(p.route) for p in policies]
    place = {p.name: i for i, p in enumerate(policies)}
    rows: list[list[object]] = []
    for i, p in enumerate(policies):
        row = [study.name, p.name, f"{p.cost.mean():.3f}", f"{p.cost.mean() / study.gmacs[1].mean():.3f}"]
        rows.append([*row, f"{100 * exact[i]:.2f}"])
        if p.like:
            other = place[p.like]
            spread = 1.96 * np.std(resampled[i] - resampled[other])
            difference = exact[i] - exact[other]
            shown = (difference, difference - spread, difference + spread)
            rows[-1] += [p.like, *(f"{100 * value:+.2f}" for value in shown)]
    return rows


if __name__ == "__main__":
    with one_message():
        main()
