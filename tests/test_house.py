"""The layout: packages in the order the data flows, imports downwards only, small folders."""

from __future__ import annotations

import ast
from functools import cache
from graphlib import CycleError, TopologicalSorter
from importlib.util import resolve_name
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
    {"predict", "serve"},
    {"demo"},
    {"cli"},
]
MOST_ENTRIES = 13
NO_ROOMS = {"__init__.py", "__main__.py", "__pycache__", "py.typed"}
LOADERS = {"import_module", "importlib.import_module", "__import__"}


def modules(root: Path = ROOT) -> dict[str, Path]:
    """Dotted name -> file, of the core and of the adapters."""
    found = {}
    for folder, prefix in ((root / "dualres_plugin", ""), (root / "adapters", "adapters")):
        for path in folder.rglob("*.py"):
            parts = [prefix, *path.relative_to(folder).with_suffix("").parts]
            found[".".join(p for p in ("dualres_plugin", *parts) if p and p != "__init__")] = path
    return found


KNOWN = modules()


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def homes(face: str, path: Path) -> dict[str, str]:
    """The names that a package loads on first use (`_HOME` of its `__init__`) -> the modules that define them."""
    for node in tree_of(path).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "_HOME":
            return {name: f"{face}.{home}" for name, home in ast.literal_eval(node.value).items()}
    return {}


def home_of(source: str, name: str, known: dict[str, Path]) -> str:
    """What `from source import name` needs: a module of that name, the one it is loaded from, or the source."""
    if f"{source}.{name}" in known:
        return f"{source}.{name}"
    return homes(source, known[source]).get(name, source) if source in known else source


def imports(name: str, known: dict[str, Path]) -> set[str]:
    """The project's own modules that a module imports anywhere: at the top, in functions, for types, lazily."""
    package = name if known[name].name == "__init__.py" else name.rpartition(".")[0]
    found = set(homes(name, known[name]).values())
    for node in ast.walk(tree_of(known[name])):
        if isinstance(node, ast.ImportFrom):
            source = resolve_name("." * node.level + (node.module or ""), package)
            found |= {home_of(source, alias.name, known) for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in LOADERS:
            found |= {resolve_name(a.value, package) for a in node.args[:1] if isinstance(a, ast.Constant)}
    return (found & known.keys()) - {name}


def package_of(name: str) -> str:
    return [*name.split("."), ""][1]


def floor_of(name: str) -> int | None:
    return next((i for i, floor in enumerate(FLOORS) if package_of(name) in floor), None)


def not_below(name: str, known: dict[str, Path]) -> set[str]:
    """What a module imports that stands no lower than its own package; the package's face may import all."""
    own = floor_of(name)
    if own is None:
        return set()
    others = {o for o in imports(name, known) if package_of(o) != package_of(name)}
    floors = {other: floor_of(other) for other in others}
    return {other for other, floor in floors.items() if floor is None or floor >= own}


def circle(known: dict[str, Path]) -> list[str]:
    """One circle of imports, empty where there is none."""
    faces = {n for n, p in known.items() if p.name == "__init__.py"}  # they hand names on, on first use
    graph = {n: imports(n, known) - faces for n in known.keys() - faces}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def crowded(root: Path) -> dict[str, int]:
    """Folders with too many rooms -> how many."""
    found = {}
    for top in (root / "dualres_plugin", root / "adapters"):
        for folder in (top, *(p for p in top.rglob("*") if p.is_dir() and p.name != "__pycache__")):
            rooms = {p.name for p in folder.iterdir()} - NO_ROOMS
            if folder == root / "dualres_plugin":
                rooms -= {"adapters.py"}  # stands for the folder beside the package
            if len(rooms) > MOST_ENTRIES:
                found[folder.relative_to(root).as_posix()] = len(rooms)
    return found


# -- the project ------------------------------------------------------------------------------------------


def test_every_package_has_its_floor() -> None:
    assert {package_of(name) for name in KNOWN if name.count(".") > 1} == set.union(*FLOORS)


@pytest.mark.parametrize("name", sorted(KNOWN))
def test_imports_run_downwards(name: str) -> None:
    assert not not_below(name, KNOWN), f"{name} imports what stands no lower"


def test_there_is_no_circle() -> None:
    assert not circle(KNOWN)


def test_no_folder_is_crowded() -> None:
    assert crowded(ROOT) == {}


# -- that it would be seen ----------------------------------------------------------------------------------


def house(root: Path, **sources: str) -> dict[str, Path]:
    """A small project; `a__b="..."` is the source of dualres_plugin/a/b.py."""
    for name, source in sources.items():
        path = root / "dualres_plugin" / f"{name.replace('__', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)
        (path.parent / "__init__.py").touch()
    face = root / "dualres_plugin" / "__init__.py"
    face.write_text('_HOME = {"Wrapper": "predict.wrapper"}\n')
    return modules(root)


@pytest.mark.parametrize(
    "source",
    [
        "import dualres_plugin.predict.wrapper",
        "from dualres_plugin.predict.wrapper import Wrapper",
        "from dualres_plugin.predict import wrapper",
        "from dualres_plugin import Wrapper",
        "from dualres_plugin.common import errors\nfrom dualres_plugin import Wrapper",
        "from ..predict import wrapper",
        "from ..predict.wrapper import Wrapper",
        "def late():\n    from dualres_plugin.predict.wrapper import Wrapper",
        "if TYPE_CHECKING:\n    from dualres_plugin.predict.wrapper import Wrapper",
        "importlib.import_module('dualres_plugin.predict.wrapper')",
        "import_module('..predict.wrapper', __package__)",
    ],
)
def test_an_import_upwards_is_seen(tmp_path: Path, source: str) -> None:
    known = house(tmp_path, common__errors="", predict__wrapper="", router__network=source)
    assert not_below("dualres_plugin.router.network", known) == {"dualres_plugin.predict.wrapper"}


def test_a_neighbour_and_the_face_are_no_lower_but_the_ground_is(tmp_path: Path) -> None:
    lines = ("from . import network", "from dualres_plugin import __version__", "import dualres_plugin.common.errors")
    source = "\n".join((*lines, "from dualres_plugin.profile import table"))
    known = house(tmp_path, common__errors="", profile__table="", router__network="", router__gate=source)
    assert not_below("dualres_plugin.router.gate", known) == {"dualres_plugin", "dualres_plugin.profile.table"}


def test_a_circle_is_seen_through_a_name_that_is_loaded_late(tmp_path: Path) -> None:
    one, other = "from dualres_plugin.predict import saving", "def late():\n    from dualres_plugin import Wrapper"
    assert not circle(house(tmp_path, predict__wrapper=one, predict__saving=""))
    tree_of.cache_clear()
    found = circle(house(tmp_path, predict__wrapper=one, predict__saving=other))
    assert set(found) == {"dualres_plugin.predict.wrapper", "dualres_plugin.predict.saving"}


def test_a_crowded_folder_is_seen(tmp_path: Path) -> None:
    (tmp_path / "adapters").mkdir()
    house(tmp_path, **{f"common__room{i}": "" for i in range(MOST_ENTRIES)})
    assert crowded(tmp_path) == {}
    house(tmp_path, common__one_more="")
    assert crowded(tmp_path) == {"dualres_plugin/common": MOST_ENTRIES + 1}
