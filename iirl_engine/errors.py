"""What can go wrong, said once: what, where, got, known, next step, and the exit code.

Every error that reaches a user is an `IirlError`. The command line prints it without a
traceback and exits with its `exit_code`.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from typing import ClassVar

import attrs

_WIDTH = 96


class IirlError(Exception):
    """An error written for the person who has to act on it.

    Parameters
    ----------
    what
        What is wrong, in one sentence.
    where
        File, option path or object it concerns.
    got
        The offending value.
    known
        What would have been accepted.
    next_step
        What to do now.
    """

    exit_code: ClassVar[int] = 1

    def __init__(
        self,
        what: str,
        *,
        where: object = None,
        got: object = None,
        known: Iterable[object] = (),
        next_step: str = "",
    ) -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.got = got
        self.known = tuple(known)
        self.next_step = next_step

    def __str__(self) -> str:
        lines = [_plain(self.what)]
        if self.where is not None:
            lines.append(_wrapped(f"  where: {self.where}", 9))
        if self.got is not None:
            lines.append(_wrapped(f"  got:   {self.got}", 9))
        if self.known:
            lines.append(_wrapped(f"  known: {', '.join(map(str, self.known))}", 9))
        if self.next_step:
            lines.append(_wrapped(f"  next:  {self.next_step}", 9))
        return "\n".join(lines)


class UsageError(IirlError):
    """A command or call that cannot be carried out as asked (exit code 2)."""

    exit_code = 2


class DataError(IirlError):
    """Demonstrations or states that cannot be used (exit code 2)."""

    exit_code = 2


@attrs.frozen
class Problem:
    """One thing wrong with a chain file: where it stands, what it is, what to do."""

    path: str
    message: str
    hint: str = ""

    def __str__(self) -> str:
        line = f"{self.path}: {self.message}"
        return f"{line}; {self.hint}" if self.hint else line


class ChainError(IirlError):
    """Every problem of a chain file, in one message (exit code 2)."""

    exit_code = 2

    def __init__(self, problems: Sequence[Problem], *, where: object) -> None:
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        super().__init__(f"{count} in {where}", where=where)
        self.problems = tuple(problems)

    def __str__(self) -> str:
        lines = [_plain(self.what)]
        for problem in self.problems:
            lines.append(_wrapped(f"  - {problem.path}: {problem.message}", 6))
            for hint in problem.hint.splitlines():
                lines.append(_wrapped(f"      {hint.strip()}", 6))
        return "\n".join(lines)


class ArtifactError(IirlError):
    """A release that is missing, damaged or unverifiable (exit code 3)."""

    exit_code = 3


class KnowledgeError(IirlError):
    """A knowledge base that is busy or corrupt (exit code 4)."""

    exit_code = 4


class PluginError(IirlError):
    """A plugin that failed while the engine depended on it (exit code 5)."""

    exit_code = 5


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return `did you mean 'x'?` for the closest known word, or an empty string."""
    import difflib

    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"did you mean {close[0]!r}?" if close else ""


def told(error: BaseException) -> str:
    """Return an exception as one line that any file can hold, even if it cannot tell itself."""
    try:
        text = str(error)
    except Exception:
        text = "it cannot be told"
    line = " ".join(f"{type(error).__name__}: {text}".split())
    return line.encode("utf-8", "backslashreplace").decode()


def _wrapped(line: str, indent: int) -> str:
    """Break a line between words, where it is too long; further lines are indented."""
    return textwrap.fill(
        _plain(line),
        _WIDTH,
        subsequent_indent=" " * indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _plain(text: str) -> str:
    """Return text on one line that no terminal takes for commands, whoever wrote it."""
    return "".join(
        c if c.isprintable() else " " if c.isspace() else c.encode("unicode_escape").decode()
        for c in text
    )
