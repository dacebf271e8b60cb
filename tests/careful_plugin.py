"""The careful plugin of `careful/`, offering what a test asks for, and what the kit says of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from iirl_engine.hookspecs import KINDS
from iirl_engine.testing import CheckFailed, checks, fake_dist
from iirl_engine.testing.kit import NotApplicable

CAREFUL = Path(__file__).parent / "careful"
OFFERED = tuple(kind for kind in KINDS if kind != "command")
OPTIONS = {"auditor": "AuditorOptions", "norm": "NormOptions", "executor": "ExecutorOptions"}


def files(kinds: Iterable[str], file: str = "", old: str = "", new: str = "") -> dict[str, str]:
    """Return the modules of the careful plugin, offering these kinds, spoilt in one place."""
    texts = {"hooks": hooks(kinds)}
    for name in ("__init__", "options", "strategies"):
        texts[name] = (CAREFUL / f"{name}.py").read_text()
    if file:
        texts[file] = swapped(texts[file], old, new)
    return {f"{name}.py": text for name, text in texts.items()}


def swapped(text: str, old: str, new: str) -> str:
    """Return a text with one line, which is there once, replaced by others as deeply indented."""
    assert text.count(old) == 1, old
    line = next(line for line in text.splitlines() if old.splitlines()[0] in line)
    indent = " " * (len(line) - len(line.lstrip()))
    return text.replace(old, new.replace("\n", "\n" + indent))


def hooks(kinds: Iterable[str]) -> str:
    lines = ["from iirl_engine import Offer, hookimpl"]
    lines += ["IIRL_API = 1"]
    for kind in kinds:
        options = f'"careful.options:{OPTIONS[kind]}", ' if kind in OPTIONS else ""
        target = f"careful.strategies:{kind.capitalize()}"
        lines += ["@hookimpl", f"def {KINDS[kind][0]}():"]
        lines += [
            f'    yield Offer("good-{kind}", "{target}", {options}summary="a careful {kind}")'
        ]
    return "\n".join(lines) + "\n"


@contextmanager
def installed(folder: Path, contents: dict[str, str]) -> Iterator[str]:
    named = {f"careful/{name}": text for name, text in contents.items()}
    with fake_dist(folder, "acme-careful", named, module="careful.hooks"):
        yield "acme-careful"


def verdicts(plugin: str) -> dict[str, str]:
    """Return the name of each check that fails or cannot be made -> why."""
    found = {}
    for one in checks(plugin):
        try:
            one()
        except (CheckFailed, NotApplicable) as said:
            found[f"{one} ({type(said).__name__})"] = str(said)
    return found


def failing(found: dict[str, str]) -> set[str]:
    return {name.rpartition(": ")[2].split()[0] for name in found if name.endswith("(CheckFailed)")}
