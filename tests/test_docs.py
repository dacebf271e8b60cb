"""What README and docs say holds: names, recipes, commands, code and links, by running them."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import attrs
import click
import pytest
import torch

import iirl_engine
from iirl_engine import cli
from iirl_engine.hookspecs import KINDS, LIFECYCLE
from iirl_engine.release import load_release, read_manifest
from tests.pages import SHELL, blocks, prose

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
README = ROOT / "README.md"
RECIPES = ROOT / "contrib" / "recipes"
PAGES = [
    README,
    ROOT / "CHANGELOG.md",
    ROOT / "contrib" / "README.md",
    *sorted(DOCS.glob("*.md")),
    *sorted(ROOT.glob("plugins/*/README.md")),
    *sorted(ROOT.glob("contrib/iirl-*/README.md")),
]


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.fixture(scope="module")
def reference() -> ModuleType:
    """Return the Sphinx extension that writes the reference pages."""
    spec = importlib.util.spec_from_file_location("reference", DOCS / "_ext" / "reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def pages(reference: ModuleType) -> dict[str, str]:
    written: dict[str, str] = reference.pages()
    return written


def test_every_generated_page_is_included(pages: dict[str, str]) -> None:
    text = "\n".join(page.read_text() for page in DOCS.glob("*.md"))
    assert set(re.findall(r"\{include\} _generated/(\S+)", text)) == set(pages)


def test_every_page_is_in_the_table_of_contents() -> None:
    (tables,) = [DOCS.joinpath("index.md").read_text()]
    listed = re.findall(r"^([a-z-]+)$", tables, re.MULTILINE)
    assert sorted(listed) == sorted(p.stem for p in DOCS.glob("*.md") if p.stem != "index")


def test_every_hook_is_documented_with_an_example(pages: dict[str, str]) -> None:
    sections = dict(re.findall(r"^### `(\w+)`\n(.*?)(?=^##|\Z)", pages["hooks.md"], re.M | re.S))
    assert set(sections) == {hook for hook, _ in KINDS.values()} | set(LIFECYCLE)
    for hook, text in sections.items():
        assert f"```python\n@hookimpl\ndef {hook}(" in text
        assert len(text.split("```")[2].split()) > 10, f"{hook} is not explained"


@pytest.mark.parametrize("hook", [*(hook for hook, _ in KINDS.values()), *LIFECYCLE])
def test_every_hook_is_implemented_where_tests_run_it(hook: str) -> None:
    places = ("iirl_engine/builtin", "plugins/*/iirl_*", "contrib/*/iirl_*", "tests")
    files = [f for place in places for folder in ROOT.glob(place) for f in folder.rglob("*.py")]
    implemented = re.compile(rf"^@hookimpl\ndef {hook}\(", re.MULTILINE)
    assert any(implemented.search(file.read_text()) for file in files)


def test_every_strategy_of_every_first_party_distribution_is_documented(
    reference: ModuleType, pages: dict[str, str]
) -> None:
    entries = reference.first_party()
    assert {entry.dist for entry in entries} == set(reference.FIRST_PARTY)
    readme = README.read_text()
    for entry in entries:
        if entry.kind == "command":
            assert f"## `iirl {entry.offer.name}`" in pages["commands.md"]
        else:
            heading = f"#### {entry.kind} `{entry.offer.name}`\n\nFrom `{entry.dist}`"
            assert heading in pages["strategies.md"]
        rows = [line for line in readme.splitlines() if line.startswith(f"| {entry.kind} |")]
        row = next(line for line in rows if line.endswith(f"| {entry.dist} |"))
        assert f"`{entry.offer.name}`" in row
        if entry.dist != "iirl-engine":
            own = ROOT / "plugins" / entry.dist / "README.md"
            assert f"`{entry.offer.name}`" in own.read_text()


def test_every_option_of_every_strategy_is_documented(
    reference: ModuleType, pages: dict[str, str]
) -> None:
    for entry in reference.first_party():
        if entry.kind == "command":  # its options are in its help
            continue
        section = pages["strategies.md"].split(f"#### {entry.kind} `{entry.offer.name}`\n")[1]
        section = section.split("\n### ")[0].split("\n#### ")[0]
        for field in attrs.fields(entry.offer.options):
            assert f"| `{field.name}` |" in section
            assert field.metadata["help"].replace("|", r"\|") in section


def test_every_public_name_is_in_the_api_reference() -> None:
    text = (DOCS / "api.md").read_text()
    listed = set(re.findall(r"^\.\. (?:auto\w+|py:data):: iirl_engine\.(\w+)$", text, re.M))
    assert listed == set(iirl_engine.__all__)


def test_readme_shows_the_recipes_verbatim() -> None:
    recipes = {file.stem: file.read_text() for file in RECIPES.glob("*.toml")}
    shown = [block.text for block in blocks(README) if block.language == "toml"]
    assert recipes["figure1"] in shown
    for text in shown:
        assert any(text in recipe for recipe in recipes.values()), text
    for name in recipes:
        assert f"contrib/recipes/{name}.toml" in README.read_text()
        assert any(text in recipes[name] for text in shown)


def test_readme_shows_every_exit_code_that_errors_md_explains() -> None:
    codes = [re.findall(r"^\| (\d+) \|", p.read_text(), re.M) for p in (README, DOCS / "errors.md")]
    assert codes[0] == codes[1] == ["0", "1", "2", "3", "4", "5", "130"]


def shell_lines(page: Path) -> list[str]:
    """Return each `iirl ...` in the shell blocks of a page."""
    text = "\n".join(block.text for block in blocks(page) if block.language in SHELL)
    return [line for line in text.replace("\\\n", " ").splitlines() if line.startswith("iirl ")]


def spans(page: Path) -> list[str]:
    """Return each `iirl ...` in the text of a page."""
    return [" ".join(span.split()) for span in re.findall(r"`(iirl [^`]+)`", prose(page))]


def parse(arguments: list[str]) -> None:
    """Let click parse a command line; nothing is executed."""
    command: click.Command = cli.cli
    context: click.Context | None = None
    while isinstance(command, click.Group):
        assert arguments, "a group needs a command"
        name, *arguments = arguments
        if name.startswith("-"):
            assert any(name in option.opts for option in command.params), name
            continue
        context = click.Context(command, info_name=name, parent=context)
        inner = command.get_command(context, name)
        assert inner is not None, f"no command {name}"
        command = inner
        if not arguments and isinstance(command, click.Group):
            return
    command.make_context(command.name, arguments, parent=context)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_command_line_parses(page: Path) -> None:
    for line in shell_lines(page):
        parse(shlex.split(line, comments=True)[1:])
    for span in spans(page):
        # Text may speak of a command without its arguments.
        with contextlib.suppress(click.MissingParameter):
            parse(shlex.split(span)[1:])


def test_command_lines_are_found_and_wrong_ones_are_told() -> None:
    assert "iirl run flywheel.toml --out runs/first" in shell_lines(DOCS / "quickstart.md")
    assert "iirl plugins list" in spans(README)
    for wrong in ("rnu x", "run x --outt y", "plugins lst", "score runs/x", "--debgu run x"):
        with pytest.raises((click.ClickException, AssertionError)):
            parse(wrong.split())


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_internal_links_exist(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if target.startswith(("http://", "https://", "#")):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve()
        assert file.exists(), target
        if anchor:
            heads = re.findall(r"^#+ (.+)$", file.read_text(), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", h).lower().replace(" ", "-") for h in heads}


def run_iirl(line: str) -> int:
    with pytest.raises(SystemExit) as ended:
        cli.main(shlex.split(line, comments=True)[1:])
    return int(str(ended.value.code))


@pytest.fixture(scope="module")
def quickstart(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Do what the quickstart says, block by block; return the folder it was done in."""
    folder = tmp_path_factory.mktemp("quickstart")
    before, threads = Path.cwd(), torch.get_num_threads()
    os.chdir(folder)
    torch.set_num_threads(1)  # small matrices, and other tests run beside this one
    try:
        for block in blocks(DOCS / "quickstart.md"):
            if block.caption:
                Path(block.caption).write_text(block.text)
            elif block.language == "python":
                exec(compile(block.text, "quickstart.md", "exec"), {})
            elif block.language == "sh":
                for line in block.text.splitlines():
                    assert run_iirl(line) == 0, line
    finally:
        os.chdir(before)
        torch.set_num_threads(threads)
    return folder


def test_quickstart_makes_what_it_says(quickstart: Path) -> None:
    for run in ("first", "second"):
        model = load_release(quickstart / "runs" / run)
        assert set(model.norms) == {"support", "wet-floor"}
        assert len(model.corrections) == 2
    # The state that the text explains.
    why = load_release(quickstart / "runs" / "first").explain([[0.0, 0.84]])[0]
    assert why.reward == 0
    assert why.base > 0.5
    assert [name for name, _ in why.corrections] == ["r1-norm-mask-wet-floor"]
    assert [name for name, _ in why.violated] == ["wet-floor"]


def test_quickstart_gate_refuses_where_the_text_says_so(
    quickstart: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(quickstart)
    (line,) = [span for span in spans(DOCS / "quickstart.md") if "known-good" in span]
    assert run_iirl(f"{line} --out refused --set flywheel.rounds=1") == 1


def names_in(value: Any) -> Iterator[str]:
    """Yield the field names of a JSON document; numbers of gates and ids are data."""
    if isinstance(value, list):
        for item in value:
            yield from names_in(item)
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield name
            if name not in ("numbers", "options", "offers", "corrections", "violated"):
                yield from names_in(inner)


def test_json_fields_are_documented_each_under_its_command(
    quickstart: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(quickstart)
    parts = re.split(r"^## ", (DOCS / "json.md").read_text(), flags=re.MULTILINE)[1:]
    commands = {
        "iirl run --json": "iirl run flywheel.toml --out runs/first --resume",
        "iirl status --json": "iirl status runs/first",
        "iirl audit --json": "iirl audit runs/first",
        "iirl score --json": "iirl score runs/first states.csv",
        "iirl explain --json": "iirl explain runs/first states.csv",
        "iirl report --json": "iirl report runs/first",
        "iirl plugins list --json": "iirl plugins list",
        "iirl plugins show --json": "iirl plugins show pgd",
        "iirl plugins check --json": "iirl plugins check iirl-refiners",
        "iirl plugins freeze --json": "iirl plugins freeze",
    }
    for name, line in commands.items():
        (part,) = [part for part in parts if f"`{name}`" in part.splitlines()[0]]
        capsys.readouterr()
        assert run_iirl(f"{line} --json") == 0
        said = set(names_in(json.loads(capsys.readouterr().out)))
        rows = re.findall(r"^\| (`[^|]+) \|", part, re.MULTILINE)
        told = {field.strip("` ") for row in rows for field in row.split(",")}
        spoken = set(re.findall(r"`(\w+)`", part))
        assert said <= told | spoken, (name, said - told - spoken)
        assert told <= said, (name, told - said)


def test_manifest_fields_are_documented(quickstart: Path) -> None:
    part = (DOCS / "releases.md").read_text().split("Fields of `manifest.json`")[1]
    part = part.split("\n## ")[0]
    rows = re.findall(r"^\| (`[^|]+) \|", part, re.MULTILINE)
    told = {field.strip("` ") for row in rows for field in row.split(",")}
    manifest = read_manifest(quickstart / "runs" / "first" / "releases" / "0001")
    assert told == set(manifest)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_python_is_valid_and_imports_what_there_is(page: Path) -> None:
    for block in blocks(page):
        if block.language == "python":
            compile(block.text, page.name, "exec")
            for line in re.findall(r"^from iirl_engine.* import [\w, ]+$", block.text, re.M):
                exec(line, {})


def test_every_distribution_names_its_readme() -> None:
    for project in (ROOT, *ROOT.glob("plugins/*/"), *ROOT.glob("contrib/iirl-*/")):
        named = tomllib.loads((project / "pyproject.toml").read_text())["project"]["readme"]
        assert (project / named).stat().st_size > 400
