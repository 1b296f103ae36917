"""The layout: packages in the order the data flows, imports downwards only, small folders."""

from __future__ import annotations

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from tests.shared import ROOT

# Each package may import from those before it; those in one row, not from one another.
FLOORS = [
    {"common"},
    {"budget", "hosts"},
    {"router", "profile", "runtime"},
    {"train", "evaluate", "export"},
    {"adapters"},
    {"predict"},
    {"demo"},
    {"cli"},
]
MOST_ENTRIES = 12
NO_ROOMS = {"__init__.py", "__main__.py", "__pycache__", "py.typed"}


def modules() -> dict[str, Path]:
    """Dotted name -> file, of the core and of the adapters."""
    found = {}
    for folder, prefix in ((ROOT / "dualres_plugin", ""), (ROOT / "adapters", "adapters")):
        for path in folder.rglob("*.py"):
            parts = [prefix, *path.relative_to(folder).with_suffix("").parts]
            found[".".join(p for p in ("dualres_plugin", *parts) if p and p != "__init__")] = path
    return found


def imports(name: str, known: dict[str, Path]) -> set[str]:
    """The project's own modules that a module imports anywhere: at the top, in functions, for types."""
    wanted: set[str] = set()
    for node in ast.walk(ast.parse(known[name].read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            wanted |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            wanted |= {alias.name for alias in node.names}
    # `from package import module` names both; the package is meant only where it gives the name itself.
    return {w for w in wanted & known.keys() if not any(o.startswith(w + ".") for o in wanted & known.keys())} - {name}


def floor_of(name: str) -> int | None:
    part = name.split(".")[1] if "." in name else ""
    return next((i for i, floor in enumerate(FLOORS) if part in floor), None)


def test_every_package_has_its_floor() -> None:
    names = {name.split(".")[1] for name in modules() if name.count(".") > 1}
    assert names == set.union(*FLOORS)


@pytest.mark.parametrize("name", sorted(modules()))
def test_imports_run_downwards(name: str) -> None:
    known = modules()
    own = floor_of(name)
    if own is None:  # the package's face
        return
    for other in imports(name, known):
        same = name.split(".")[1] == other.split(".")[1]
        floor = floor_of(other)
        assert same or (floor is not None and floor < own), f"{name} imports {other}, which stands no lower"


def test_there_is_no_circle() -> None:
    known = modules()
    faces = {n for n, p in known.items() if p.name == "__init__.py"}  # they hand names on, on first use
    graph = {n: imports(n, known) - faces for n in known.keys() - faces}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"a circle of imports: {' -> '.join(error.args[1])}")


def test_no_folder_is_crowded() -> None:
    for top in (ROOT / "dualres_plugin", ROOT / "adapters"):
        for folder in (top, *(p for p in top.rglob("*") if p.is_dir() and p.name != "__pycache__")):
            rooms = {p.name for p in folder.iterdir()} - NO_ROOMS
            if folder == ROOT / "dualres_plugin":
                rooms -= {"adapters.py"}  # stands for the folder beside the package
            assert len(rooms) <= MOST_ENTRIES, f"{folder.relative_to(ROOT)} has {len(rooms)}: {sorted(rooms)}"
