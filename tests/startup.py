"""Many small plugins on a path, to see what each costs at the start."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.distributions import write_installed

COUNT = 20
OPTIONS = {
    "auditors": """
    @attrs.frozen(kw_only=True)
    class AuditorsOptions:
        budget: int = option(1024, ge=1, help="reward queries per round")
        spread: float = option(0.5, gt=0, le=1, help="share of the domain that is searched")
    """,
    "encoders": """
    @attrs.frozen(kw_only=True)
    class EncodersOptions:
        width: int = option(16, ge=1, help="features of the code")
        steps: int = option(200, ge=1, help="steps of the optimiser")
        rate: float = option(1e-3, gt=0, help="its learning rate")
    """,
    "norms": """
    @attrs.frozen(kw_only=True)
    class NormsOptions:
        features: tuple[str, ...] = option((), help="names of the features it looks at")
        limit: float = option(1.0, help="what they may not exceed")
    """,
}


def write_plugins(
    folder: Path, heavy: Mapping[int, str] | None = None, kinds: Sequence[str] = tuple(OPTIONS)
) -> tuple[str, ...]:
    """Write the distributions, two offers and an options class for each of the kinds.

    `heavy` is what some of their hook modules import too.
    """
    options = "import attrs\n\nfrom iirl_engine import option\n"
    options += "".join(textwrap.dedent(OPTIONS[kind]) for kind in kinds)
    names = tuple(f"acme-{number:02}" for number in range(COUNT))
    for number, name in enumerate(names):
        first = (heavy or {}).get(number, "")
        files = {"hooks.py": _hooks(name.replace("-", "_"), first, kinds), "options.py": options}
        write_installed(folder, name, files=files)
    return names


def _hooks(package: str, first: str, kinds: Sequence[str]) -> str:
    lines = [first, "from iirl_engine import Offer, hookimpl"]
    lines += ["IIRL_API = 1"]
    short = package.replace("_", "-")
    for kind in kinds:
        strategy = kind.removesuffix("s")
        lines += ["@hookimpl", f"def iirl_{kind}():"]
        lines += [
            f'    yield Offer("{short}-{which}", "{package}.thing:{which.capitalize()}", '
            f'"{package}.options:{kind.capitalize()}Options", "the {which} {strategy}")'
            for which in ("quick", "thorough")
        ]
    return "\n".join(lines) + "\n"
