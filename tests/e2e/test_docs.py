"""What README and docs say: commands parse, snippets compile and import what exists, links and settings are real.

Nothing runs but the parser of the command line, and no host is imported.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import shlex
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
import yaml

from dualres_plugin.cli.app import app
from dualres_plugin.train.config import TrainConfig
from tests.shared import ROOT

PAGES = sorted(
    [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").glob("*.md")]
)
GIVEN_BY_READER = {"tools/test.py", "tools/train.py", "tools/analysis_tools/get_flops.py"}  # mmdet's, not ours
FENCE = re.compile(r"^(?P<indent>[ ]*)```(?P<language>\w*)[^\n]*\n(?P<text>.*?)^(?P=indent)```[ ]*$", re.M | re.S)
LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#{1,6} +(.+?) *$", re.M)


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: Path
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


@cache
def blocks() -> list[Block]:
    found = []
    for page in PAGES:
        text = page.read_text()
        for match in FENCE.finditer(text):
            line = text.count("\n", 0, match.start()) + 1
            found.append(Block(page, line, match["language"], textwrap.dedent(match["text"])))
    return found


def prose(page: Path) -> str:
    """A page without its fenced blocks."""
    return FENCE.sub("", page.read_text())


def shell_lines(block: Block) -> Iterator[list[str]]:
    """The commands of a shell block as words: continuation lines joined, comments and `$ ` taken off."""
    for line in re.sub(r"\\\n\s*", " ", block.text).splitlines():
        if block.language == "console" and not line.startswith("$ "):
            continue  # what a command printed
        words = shlex.split(line.removeprefix("$ "), comments=True)
        if words:
            yield words


SHELL = [
    (block, words) for block in blocks() if block.language in ("bash", "sh", "console") for words in shell_lines(block)
]
PYTHON = [block for block in blocks() if block.language == "python"]


def ids(cases: list[Any]) -> list[str]:
    return [str(case[0] if isinstance(case, tuple) else case) for case in cases]


def test_there_is_something_to_check() -> None:
    assert len(PAGES) > 15
    assert len([words for _, words in SHELL if words[0] == "dualres"]) > 30
    assert len(PYTHON) > 15


# -- commands ------------------------------------------------------------------------------------------------


@cache
def group() -> Any:
    return typer.main.get_command(app)


def commands() -> dict[str, Any]:
    return dict(group().commands)


def parse(words: list[str]) -> None:
    """Let the command line parse a `dualres …` line as it would before running it."""
    rest = words[1:]
    while rest and rest[0] in ("-q", "--quiet", "-h", "--help"):
        rest = rest[1:]
    assert rest and rest[0] in commands(), f"unknown command in: {' '.join(words)}"
    command = commands()[rest[0]]
    with group().make_context("dualres", [rest[0]]) as parent:
        command.make_context(rest[0], list(rest[1:]), parent=parent)


OURS = [(block, words) for block, words in SHELL if words[0] == "dualres"]


@pytest.mark.parametrize(("block", "words"), OURS, ids=ids(OURS))
def test_commands_parse(block: Block, words: list[str]) -> None:
    try:
        parse(words)
    except AssertionError:
        raise
    except Exception as error:  # click's own errors, whatever package they come from
        pytest.fail(f"{block}: {' '.join(words)}: {getattr(error, 'message', None) or error!r}")


def test_a_wrong_option_is_found() -> None:
    with pytest.raises(Exception, match="nonsense"):
        parse(["dualres", "train", "runs/train", "--out", "runs/router", "--nonsense", "1"])
    with pytest.raises(Exception, match=r"(?i)out"):
        parse(["dualres", "train", "runs/train"])
    with pytest.raises(AssertionError, match="unknown command"):
        parse(["dualres", "improve"])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_in_prose_exist(page: Path) -> None:
    """`dualres train --gain x` in running text: the command and each of its options."""
    for text in re.findall(r"`(dualres [^`]+)`", prose(page)):
        words = text.replace("\n", " ").split()
        name = next((word for word in words[1:] if not word.startswith("-")), "")
        if not re.fullmatch(r"[a-z]+", name):
            continue  # `dualres …`, `dualres COMMAND`
        assert name in commands(), f"{page.name}: `{text}`"
        known = {
            option for parameter in commands()[name].params for option in parameter.opts + parameter.secondary_opts
        }
        unknown = {word.split("=")[0] for word in words if word.startswith("--")} - known - {"--help"}
        assert not unknown, f"{page.name}: `{text}`: {unknown} is no option of {name}"


def test_options_in_prose_exist() -> None:
    """`--hold` alone in the guide must be an option of some command, of an example, or of a tool that is named here."""
    known = {option for command in commands().values() for p in command.params for option in p.opts + p.secondary_opts}
    known |= {"--help", "--quiet", "--debug", "--cfg-options", "--resume"}
    for script in (ROOT / "examples").glob("*.py"):
        known |= set(re.findall(r'"(--[a-z-]+)"', script.read_text()))
    for page in (ROOT / "docs").rglob("*.md"):
        for text in re.findall(r"`(--[^`]+)`", prose(page)):
            assert text.split()[0].split("=")[0] in known, f"{page.name}: `{text}`"


SCRIPTS = [(block, words) for block, words in SHELL if words[0] in ("python", "python3") and words[1].endswith(".py")]


@pytest.mark.parametrize(("block", "words"), SCRIPTS, ids=ids(SCRIPTS))
def test_scripts_and_their_options_exist(block: Block, words: list[str]) -> None:
    if words[1] in GIVEN_BY_READER:
        for word in words[2:]:
            assert not word.startswith("configs/") or (ROOT / word).is_file(), f"{block}: {word}"
        return
    path = ROOT / words[1]
    assert path.is_file(), f"{block}: {words[1]} does not exist"
    source = path.read_text()
    for option in (word.split("=")[0] for word in words[2:] if word.startswith("--")):
        assert f'"{option}"' in source, f"{block}: {words[1]} has no {option}"


def test_make_targets_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    for page in PAGES:
        for name in re.findall(r"`make ([a-z-]+)`", prose(page)):
            assert name in targets, f"{page.name}: make {name}"
    for block, words in SHELL:
        assert words[0] != "make" or words[1] in targets, f"{block}: make {words[1]}"


def test_extras_exist() -> None:
    extras = project_settings()["optional-dependencies"]
    for page in PAGES:
        for names in re.findall(r"(?:\.|dualres-plugin)\[([a-z,]+)\]", page.read_text()):
            for name in names.split(","):
                assert name in extras, f"{page.name}: extra {name}"


def project_settings() -> dict[str, Any]:
    tomllib = pytest.importorskip("tomllib", reason="Python 3.11 reads pyproject.toml")
    settings: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return settings


# -- Python --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("block", PYTHON, ids=ids(PYTHON))
def test_snippets_compile_and_fit_the_api(block: Block) -> None:
    tree = ast.parse(block.text, str(block))
    names = dict(imported(tree, block))
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call) and isinstance(node.targets[0], ast.Name):
            made = names.get(dotted(node.value.func))
            if inspect.isclass(made):  # model = DualResWrapper(…): its methods are known too
                variable = node.targets[0].id
                names |= {f"{variable}.{name}": value for name, value in inspect.getmembers(made, callable)}
                names[f"{variable} is"] = made
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            check_call(node, names, block)


def imported(tree: ast.AST, block: Block) -> Iterator[tuple[str, Any]]:
    """What a snippet imports from this project, by the name that it uses; fails for what is not there."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.partition(".")[0] == "dualres_plugin":
                    assert source_of(alias.name), f"{block}: no module {alias.name}"
        if not isinstance(node, ast.ImportFrom) or not (node.module or "").startswith("dualres_plugin"):
            continue
        assert node.module and source_of(node.module), f"{block}: no module {node.module}"
        for alias in node.names:
            if node.module.startswith("dualres_plugin.adapters"):  # importing it would import its host
                assert alias.name in names_in(node.module), f"{block}: no {alias.name} in {node.module}"
                continue
            module = importlib.import_module(node.module)
            assert hasattr(module, alias.name), f"{block}: no {alias.name} in {node.module}"
            value = getattr(module, alias.name)
            yield alias.asname or alias.name, value
            if inspect.isclass(value):
                prefix = alias.asname or alias.name
                yield from ((f"{prefix}.{name}", member) for name, member in inspect.getmembers(value, callable))


def source_of(module: str) -> Path | None:
    """The file of a module of this project, without importing it."""
    parts = module.split(".")
    base = ROOT / "adapters" if parts[1:2] == ["adapters"] else ROOT / "dualres_plugin"
    path = base.joinpath(*parts[2 if base.name == "adapters" else 1 :])
    return next((file for file in (path.with_suffix(".py"), path / "__init__.py") if file.is_file()), None)


def names_in(module: str) -> set[str]:
    """Names that a module of this project defines or imports at its top."""
    source = source_of(module)
    assert source
    found: set[str] = set()
    for node in ast.parse(source.read_text()).body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            found.add(node.name)
        elif isinstance(node, (ast.ImportFrom, ast.Import)):
            found |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.Assign):
            found |= {target.id for target in node.targets if isinstance(target, ast.Name)}
            if "__all__" in found and isinstance(node.value, ast.List):  # names that a package loads on first use
                found |= set(ast.literal_eval(node.value))
    return found


def dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def check_call(node: ast.Call, names: dict[str, Any], block: Block) -> None:
    name = dotted(node.func)
    variable, _, attribute = name.rpartition(".")
    made = names.get(f"{variable} is")
    if made is not None and name not in names:
        # The wrapper hands unknown names to its host; everything else must have them.
        assert hasattr(made, "__getattr__") or hasattr(made, attribute), f"{block}: {made.__name__} has no {attribute}"
    function = names.get(name)
    if function is None:
        return
    try:
        parameters = inspect.signature(function).parameters
    except ValueError:
        return
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        parameters = dict(parameters) | OPTIONS.get(name.rpartition(".")[2], {})
        if name.rpartition(".")[2] not in OPTIONS:
            return
    for keyword in node.keywords:
        assert keyword.arg is None or keyword.arg in parameters, f"{block}: {name} has no argument {keyword.arg}"


def _fit_options() -> dict[str, Any]:
    from dualres_plugin.train.fit import fit_router

    return dict(inspect.signature(fit_router).parameters)


OPTIONS = {"fit": _fit_options()}  # `fit(**options)` hands these on


def test_a_wrong_argument_is_found() -> None:
    wrong = "from dualres_plugin import DualResWrapper\nm = DualResWrapper(x, low=0.5)\n"
    with pytest.raises(AssertionError, match="no argument treshold"):
        test_snippets_compile_and_fit_the_api(Block(ROOT / "a.md", 1, "python", wrong.replace("low", "treshold")))
    with pytest.raises(AssertionError, match="no argument wievs"):
        test_snippets_compile_and_fit_the_api(Block(ROOT / "a.md", 1, "python", wrong + "m.fit(None, wievs=2)\n"))
    with pytest.raises(AssertionError, match="no Nothing"):
        test_snippets_compile_and_fit_the_api(Block(ROOT / "a.md", 1, "python", "from dualres_plugin import Nothing"))


# -- settings ------------------------------------------------------------------------------------------------


def test_training_settings_of_yaml_blocks_load(tmp_path: Path) -> None:
    found = [block for block in blocks() if block.language == "yaml" and block.page.name == "training.md"]
    assert found
    for block in found:
        path = tmp_path / "config.yaml"
        path.write_text(block.text)
        TrainConfig.load(path)


def test_the_table_of_training_settings_is_complete() -> None:
    text = (ROOT / "docs" / "training.md").read_text()
    section = text.split("## The settings file")[1].split("\n## ")[0]
    rows = dict(re.findall(r"^\| `(\w+)` \| ([^|]+) \|", section, re.M))
    defaults = {f.name: getattr(TrainConfig(), f.name) for f in fields(TrainConfig)}
    assert rows.keys() == defaults.keys()
    for name, value in defaults.items():
        shown = rows[name].strip().strip("`")
        if isinstance(value, (bool, int, float, str)) and value != "":
            assert shown == (str(value).lower() if isinstance(value, bool) else str(value)), name


def test_gains_commands_and_hosts_are_documented() -> None:
    from dualres_plugin.profile.gains import GAINS

    training = (ROOT / "docs" / "training.md").read_text()
    ours = {name for name, function in GAINS.items() if function.__module__ == "dualres_plugin.profile.gains"}
    assert set(re.findall(r"^\| `(\w+)` \| .*\| (?:yes|no) \|$", training, re.M)) == ours
    table = (ROOT / "docs" / "commands.md").read_text()
    assert set(re.findall(r"^\| `dualres ([\w-]+)` \|", table, re.M)) == commands().keys()
    for name in project_settings()["entry-points"]["dualres_plugin.adapters"]:
        assert f"{name}:" in table, name
        assert (ROOT / "docs" / "quickstart" / f"{name.removesuffix('-pair')}.md").is_file(), name


def test_the_window_of_the_controller_is_as_documented() -> None:
    from dualres_plugin.budget.controller import BudgetController

    defaults = {name: p.default for name, p in inspect.signature(BudgetController).parameters.items()}
    streams = (ROOT / "docs" / "streams.md").read_text()
    assert f"The last {defaults['window']} scores" in streams
    assert f"window={defaults['window']}, band={defaults['band']}" in streams
    assert set(re.findall(r"last (\d+) images", streams)) == {str(2 * defaults["window"])}


def test_keys_of_the_mmdet_config_exist() -> None:
    from dualres_plugin.adapters.mmdet.settings import SETTINGS

    seen = 0
    for block in PYTHON:
        for node in ast.walk(ast.parse(block.text)):
            if (
                isinstance(node, ast.Assign)
                and isinstance(node.targets[0], ast.Name)
                and node.targets[0].id == "dualres"
                and isinstance(node.value, ast.Call)
            ):
                seen += 1
                assert {keyword.arg for keyword in node.value.keywords} <= set(SETTINGS), str(block)
    assert seen
    for page in PAGES:
        for key in re.findall(r"\bdualres\.(\w+)=", page.read_text()):
            assert key in SETTINGS, f"{page.name}: dualres.{key}"
    listed = re.search(r"Keys of `dualres`: ([^.]+)\.", (ROOT / "docs" / "quickstart" / "mmdet.md").read_text())
    assert listed and set(re.findall(r"`(\w+)`", listed[1])) == set(SETTINGS)


def test_keys_of_metrics_json_exist() -> None:
    from dualres_plugin.evaluate.curve import Curve
    from dualres_plugin.evaluate.evaluation import Evaluation

    axis = np.array([0.0, 1.0])
    curve = Curve("a", axis, axis, axis)
    routed = {"beta": 0.5, "ap": 0.5, "gmacs": 0.5}
    made = Evaluation(
        2, curve, curve, curve, 0.5, 0.0, (0.4, 0.6), 0.0, 1.0, 0.1, 1.0, 2.0, routed, scores=axis
    ).metrics()
    section = (ROOT / "docs" / "commands.md").read_text().split("## metrics.json")[1]
    documented = {key for row in re.findall(r"^\| (`[^|]+`) \|", section, re.M) for key in re.findall(r"`(\w+)`", row)}
    later = {"by_size", "timings_ms", "run", "paired", "auc_policy_above_random"}  # with the report, and with a proof
    assert documented == made.keys() | later


# -- links and pages -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in LINK.findall(prose(page)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{page.name}: {target}"
        if anchor:
            slugs = {slug(heading) for heading in HEADING.findall(prose(file))}
            assert anchor in slugs, f"{page.name}: {target}; headings there: {sorted(slugs)}"


def slug(heading: str) -> str:
    plain = re.sub(r"[^\w\s-]", "", heading.replace("`", "")).strip().lower()
    return re.sub(r"[\s-]+", "-", plain)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_files_that_pages_name_exist(page: Path) -> None:
    named = re.findall(r"`((?:docs|examples|configs|tests|scripts|adapters|dualres_plugin)/[\w./-]*\w)`", prose(page))
    for path in named:
        assert (ROOT / path).exists(), f"{page.name}: {path}"


def test_every_page_is_in_the_navigation() -> None:
    settings = yaml.safe_load((ROOT / "mkdocs.yml").read_text())

    def files(entry: Any) -> Iterator[str]:
        if isinstance(entry, str):
            yield entry
        else:
            for part in entry.values() if isinstance(entry, dict) else entry:
                yield from files(part)

    listed = list(files(settings["nav"]))
    pages = {str(page.relative_to(ROOT / "docs")) for page in (ROOT / "docs").rglob("*.md")}
    assert sorted(listed) == sorted(pages)


def test_api_pages_name_what_exists() -> None:
    for page in (ROOT / "docs" / "api").glob("*.md"):
        for name in re.findall(r"^::: ([\w.]+)", page.read_text(), re.M):
            module, _, attribute = name.rpartition(".")
            if name.startswith("adapters."):
                assert attribute in names_in(f"dualres_plugin.{module}"), f"{page.name}: {name}"
            elif source_of(name) is None:
                assert attribute in names_in(module), f"{page.name}: {name}"


def test_pages_tell_nothing_about_the_machine_they_were_written_on() -> None:
    for page in [*PAGES, ROOT / "mkdocs.yml", ROOT / "CITATION.cff", ROOT / ".pre-commit-config.yaml"]:
        assert not re.search(r"/(?:work|tmp|home|root)/", page.read_text()), page.name
