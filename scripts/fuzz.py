"""Damaged inputs for as long as wanted: `make fuzz`, an hour; FUZZ_SECONDS=60 make fuzz, a minute.

Every format and every command in turn, each round from another seed. A case that ends in a traceback, a hang, a wrong
exit status or a left file is printed, and written to tests/fuzz/corpus/, which `make test` runs. Status 1 if any did.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

# As in tests/conftest.py: before any host is imported.
os.environ.update(YOLO_OFFLINE="1", YOLO_AUTOINSTALL="0", HF_HUB_OFFLINE="1", MPLBACKEND="Agg", TQDM_DISABLE="1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.strategies import SearchStrategy

from tests.fuzz.formats import COMMANDS, FORMATS
from tests.fuzz.run import Case, Failure, check
from tests.fuzz.strategies import options
from tests.fuzz.world import build_world

EACH = 10  # cases of a format before the next has its turn
SEPARATE = 200  # one case in so many runs in a process of its own


class Fuzzer:
    """Counts what ran, and keeps the smallest case of every kind of failure.

    Args:
        world: of `build_world`.
        until: `time.monotonic` at which to stop.
    """

    def __init__(self, world: Path, until: float):
        self.world = world
        self.until = until
        self.ran: Counter[str] = Counter()
        self.failed: dict[str, Failure] = {}

    def run(self, case: Case) -> None:
        """One case; a failure is noted, not raised, so that the others go on."""
        if time.monotonic() > self.until:
            return
        self.ran[case.name] += 1
        # The tests' own detector is known in this process only.
        separate = self.ran.total() % SEPARATE == 0 and "fake:" not in case.arguments
        try:
            check(self.world, case, separate)
        except Failure as failure:
            seen = self.failed.get(failure.signature)
            if seen is None or len(failure.case.data) < len(seen.case.data):
                self.failed[failure.signature] = failure
                print(f"{'smaller' if seen else 'FAILED'}: {failure.signature}: {failure.keep().name}\n{failure}\n")

    def round(self, number: int) -> None:
        """Some cases of every format and command.

        Args:
            number: of the round: its seed.
        """
        for name, kind in FORMATS.items():
            lines = [tuple(shlex.split(line)) for line in kind.commands]
            mutated = kind.mutated((self.world / kind.file).read_bytes())
            line = lines[number % len(lines)]
            self.draw(mutated.map(lambda data, n=name, a=line, f=kind.file: Case(n, a, f, data)), number)
        for line in COMMANDS.values():
            command, *valid = shlex.split(line)
            odd = options.mutated(command, valid)
            self.draw(odd.map(lambda words, c=command: Case(f"options-{c}", (c, *words))), number)

    def draw(self, cases: SearchStrategy[Case], number: int) -> None:
        """Run a few of a strategy's cases.

        Args:
            cases: the strategy.
            number: the seed.
        """
        few = settings(
            max_examples=EACH,
            phases=(Phase.generate,),
            suppress_health_check=list(HealthCheck),
            deadline=None,
            database=None,
        )
        if time.monotonic() < self.until:
            seed(number)(few(given(cases)(self.run)))()


def main() -> None:
    """Fuzz, and say what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3600)
    parser.add_argument("--seed", type=int, default=0, help="of the first round")
    given_options = parser.parse_args()
    begun = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="dualres-fuzz-"))
    try:
        fuzzer = Fuzzer(build_world(folder / "world"), begun + given_options.seconds)
        number = given_options.seed
        while time.monotonic() < fuzzer.until:
            fuzzer.round(number)
            number += 1
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print("  ".join(f"{name} {count}" for name, count in sorted(fuzzer.ran.items())))
    took = time.monotonic() - begun
    print(f"{fuzzer.ran.total()} cases in {took:.0f} s, {len(fuzzer.failed)} kinds of failure")
    sys.exit(1 if fuzzer.failed else 0)


if __name__ == "__main__":
    main()
