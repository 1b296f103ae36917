"""Five hundred damaged inputs: each ends in a result or in one message, and leaves nothing behind.

`make fuzz` runs the same for an hour. What fails is kept in `corpus/` and runs here ever after.
"""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from hypothesis import HealthCheck, Phase, given, settings

from tests.fuzz.formats import COMMANDS, FORMATS
from tests.fuzz.run import CORPUS, Case, Failure, check
from tests.fuzz.strategies import options
from tests.fuzz.world import build_world

# Names of corpus files whose defect is not mended yet, one a line. Should be empty.
OPEN = set((CORPUS / "open.txt").read_text().split())
EXAMPLES = 24  # of each format
OPTION_EXAMPLES = 14  # of each command
quick = settings(
    max_examples=EXAMPLES, phases=(Phase.generate,), suppress_health_check=list(HealthCheck), deadline=None
)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_world(tmp_path_factory.mktemp("fuzz") / "world")


def run(world: Path, case: Case) -> None:
    try:
        check(world, case)
    except Failure as failure:
        if failure.name in OPEN:
            return
        print(f"kept as {failure.keep()}")
        raise


@pytest.mark.parametrize("name", FORMATS)
def test_a_damaged_file_is_one_message(world: Path, name: str) -> None:
    kind = FORMATS[name]
    lines = [tuple(shlex.split(line)) for line in kind.commands]
    turn = 0

    @quick
    @given(kind.mutated((world / kind.file).read_bytes()))
    def cases(data: bytes) -> None:
        nonlocal turn
        turn += 1
        run(world, Case(name, lines[turn % len(lines)], kind.file, data))

    cases()


@pytest.mark.parametrize("name", COMMANDS)
def test_odd_options_are_one_message(world: Path, name: str) -> None:
    command, *valid = shlex.split(COMMANDS[name])

    @settings(quick, max_examples=OPTION_EXAMPLES)
    @given(options.mutated(command, valid))
    def cases(arguments: list[str]) -> None:
        run(world, Case(f"options-{name}", (command, *arguments)))

    cases()


@pytest.mark.parametrize("line", sorted({*COMMANDS.values(), *(c for f in FORMATS.values() for c in f.commands)}))
def test_what_is_damaged_was_valid(world: Path, line: str) -> None:
    if line.startswith(("export", "bench")):
        pytest.skip("the fake host cannot be exported: its options are only ever refused")
    assert check(world, Case("valid", tuple(shlex.split(line)))) == 0


@pytest.mark.parametrize("path", sorted(CORPUS.glob("*.json")), ids=lambda path: path.stem)
def test_what_failed_once_does_not_again(world: Path, path: Path, request: pytest.FixtureRequest) -> None:
    if path.stem in OPEN:
        request.applymarker(pytest.mark.xfail(reason="open, see corpus/open.txt"))
    check(world, Case.from_json(path.read_text()))


@pytest.mark.parametrize("name", ["card", "manifest", "settings", "points"])
def test_a_process_of_its_own_ends_as_well(world: Path, name: str) -> None:
    kind = FORMATS[name]
    data = kind.mutated((world / kind.file).read_bytes())

    @settings(quick, max_examples=2)
    @given(data)
    def cases(data: bytes) -> None:
        check(world, Case(name, tuple(shlex.split(kind.commands[0])), kind.file, data), separate=True)

    cases()
