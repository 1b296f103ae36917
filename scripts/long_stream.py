"""Twenty thousand frames with four cuts: is the budget held in every minute, is memory flat, is the state kept?

    python scripts/long_stream.py runs/clips/val-profile --target 0.3

The frames are those of a profile of clips, played to and fro: their thumbnails are scored by the router and their
stored detections are what "runs", so that hours of video take a minute. Half-way the state goes through JSON into a new
gate, which has to decide the rest as the old one would.
"""

from __future__ import annotations

import argparse
import json
import resource
from collections.abc import Iterator

import numpy as np

from dualres_plugin.budget.controller import BudgetController
from dualres_plugin.budget.stream.head import StreamHead
from dualres_plugin.budget.stream.memory import StreamMemory
from dualres_plugin.budget.stream.stream import WATCH, Stream, StreamOptions
from dualres_plugin.common.card import SKIP
from dualres_plugin.common.errors import one_message
from dualres_plugin.profile.passes import HIGH, LOW
from dualres_plugin.profile.table import Profile
from dualres_plugin.router.network import ResolutionRouter
from dualres_plugin.train.stream import Clips

RATE = 25  # frames per second


class Run:
    """A stream with its controller over the frames of a profile."""

    def __init__(self, clips: Clips, head: StreamHead, target: float, skip: int):
        self.clips = clips
        self.found = clips.found(HIGH), clips.found(LOW)
        self.low, self.high = clips.profile.gmacs
        self.controller = BudgetController(target, head.score_quantiles, watch=WATCH)
        self.stream = Stream(StreamOptions(head, skip), head.score_quantiles)

    def frame(self, i: int) -> int:
        """The step of the frame that looks like row `i`."""
        stream, memory = self.stream, self.stream.memory
        memory.arrive(self.clips.sketches[i])
        if stream.may_skip:
            stream.skip(-self.low / (self.high - self.low), self.controller)
            return SKIP
        score = stream.score(float(self.clips.scores[i]))
        step = stream.decide(score, self.controller.thresholds, self.controller)
        seen = self.found[step][i]
        memory.saw(step, seen.boxes, seen.scores, seen.labels, score)
        return step

    def through_a_file(self, head: StreamHead, target: float, skip: int) -> Run:
        """Another run, with all that this one remembers."""
        text = json.dumps({"memory": self.stream.memory.to_dict(), "controller": self.controller.saved()})
        again, saved = Run(self.clips, head, target, skip), json.loads(text)
        again.stream.memory = StreamMemory.from_dict(saved["memory"])
        again.controller.resume(saved["controller"])
        return again


def played(clips: Clips, frames: int, scenes: int, rng: np.random.Generator) -> Iterator[int]:
    """Row numbers: clips without a cut of their own, each to and fro for its share of the time."""
    whole = [c for c in rng.permutation(len(clips.starts) - 1) if _one_scene(clips, c)]
    for clip in whole[:scenes]:
        rows = np.arange(clips.starts[clip], clips.starts[clip + 1])
        there_and_back = np.concatenate([rows, rows[-2:0:-1]])
        yield from np.resize(there_and_back, frames // scenes).tolist()


def _one_scene(clips: Clips, clip: int) -> bool:
    memory = StreamMemory()
    return sum(memory.arrive(clips.sketches[i]) for i in range(clips.starts[clip], clips.starts[clip + 1])) == 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("profile")
    parser.add_argument("--router", default="default")
    parser.add_argument("--target", type=float, default=0.3)
    parser.add_argument("--skip", type=int, default=0)
    parser.add_argument("--frames", type=int, default=20_000)
    parser.add_argument("--scenes", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    router = ResolutionRouter.from_pretrained(args.router).eval()
    head = StreamHead.load(args.router)
    clips = Clips(Profile.load(args.profile), router)
    order = list(played(clips, args.frames, args.scenes, np.random.default_rng(args.seed)))
    run = Run(clips, head, args.target, args.skip)
    half, steps, used = len(order) // 2, [], []
    for number, i in enumerate(order):
        if number == half:
            run = run.through_a_file(head, args.target, args.skip)
        steps.append(run.frame(i))
        if number in (1000, len(order) - 1):
            used.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    straight = Run(clips, head, args.target, args.skip)
    same = steps == [straight.frame(i) for i in order]
    level = np.select([np.array(steps) == 0, np.array(steps) == SKIP], [1.0, -run.low / (run.high - run.low)], 0.0)
    minutes = level[: len(level) // (60 * RATE) * 60 * RATE].reshape(-1, 60 * RATE).mean(axis=1)
    changes = np.mean(np.array(steps[1:]) != np.array(steps[:-1]))
    print(f"{len(steps)} frames, {np.mean(np.array(steps) == SKIP):.1%} skipped, {changes:.1%} change their route")
    print(f"mean cost level {level.mean():.4f} for {args.target}, in the {len(minutes)} minutes "
          f"{minutes.min():.4f} to {minutes.max():.4f}")  # fmt: skip
    print(f"peak memory {used[0]:.0f} MB after 1,000 frames, {used[1]:.0f} MB at the end")
    print(f"through a file half-way: {'the same decisions' if same else 'OTHER DECISIONS'}; {run.controller.state}")


if __name__ == "__main__":
    with one_message():
        main()
