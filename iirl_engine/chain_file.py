"""What a chain file may hold: its tables, what they default to, and those that name no strategy."""

from __future__ import annotations

import math
import tomllib
from pathlib import Path
from typing import Any, Literal

import attrs

from iirl_engine.errors import UsageError
from iirl_engine.options import option

# Table of the chain file -> kind of strategy. One table each, then one array of tables each.
SINGLE = {
    "source": "source",
    "encoder": "encoder",
    "mapping": "mapping",
    "schedule": "schedule",
    "triage": "triage",
    "executor": "executor",
}
MANY = {
    "norm": "norm",
    "audit": "auditor",
    "refine": "refiner",
    "gate": "gate",
    "report": "reporter",
}
# What a chain that does not say otherwise gets: all of it the core's own.
DEFAULTS: dict[str, Any] = {
    "schedule": {"use": "constant"},
    "triage": {"use": "severity"},
    "executor": {"use": "local"},
    "gate": [{"use": "known-good"}, {"use": "closure"}],
    "report": [{"use": "html"}],
}
REQUIRED = ("source", "encoder", "mapping", "norm", "audit")
ID = "^[A-Za-z0-9][A-Za-z0-9_-]*$"


@attrs.frozen(kw_only=True)
class Settings:
    """The table `[flywheel]`."""

    rounds: int = option(8, ge=0, help="rounds at most; fewer when a round confirms no flaw")
    seed: int = option(0, ge=0, le=2**63 - 1, help="the one seed of the run")
    floor: float = option(0.01, ge=0.0, lt=1.0, help="a reward above this is an endorsement")
    good_floor: float = option(
        0.0, ge=0.0, le=1.0, help="a known-good state with less reward than this is a miss"
    )
    held_out: float = option(
        0.0, ge=0.0, lt=1.0, help="share of the demonstrations that nothing is fitted on"
    )
    approval: Literal["auto"] = option(
        "auto", help="who gives verdicts and approves releases: the norms and gates alone"
    )
    disable: tuple[str, ...] = option((), help="plugin distributions that are not imported")
    require: tuple[str, ...] = option((), help='plugin distributions, such as "acme-audit>=2"')


@attrs.frozen(kw_only=True)
class Box:
    """The table `[domain]`."""

    low: tuple[float, ...] = option(help="lowest value of each feature")
    high: tuple[float, ...] = option(help="highest value of each feature")

    def __attrs_post_init__(self) -> None:
        if len(self.low) != len(self.high) or not self.low:
            raise ValueError(
                f"low and high need one number per feature, got {len(self.low)} and "
                f"{len(self.high)}"
            )
        for index, (low, high) in enumerate(zip(self.low, self.high, strict=True)):
            if not low < high:
                raise ValueError(f"low[{index}] must be below high[{index}], got {low} and {high}")
            if math.isinf(high - low):
                raise ValueError(f"low[{index}] and high[{index}] are too far apart")


def read_toml(file: Path) -> dict[str, Any]:
    """Return the tables of a file.

    Raises
    ------
    UsageError
        When it cannot be read or is no TOML.
    """
    try:
        return tomllib.loads(file.read_bytes().decode("utf-8-sig"))
    except FileNotFoundError:
        raise UsageError("there is no such chain file", where=file) from None
    except OSError as error:
        raise UsageError("the chain file cannot be read", where=file, got=error) from error
    except UnicodeDecodeError as error:
        raise UsageError(
            "the chain file is no UTF-8 text",
            where=file,
            got=f"byte {error.object[error.start]:#x} at offset {error.start}",
            next_step="save it as UTF-8",
        ) from error
    except (ValueError, RecursionError) as error:  # too long a number and too deep a nesting too
        raise UsageError(
            "the chain file is no TOML",
            where=file,
            got=error,
            next_step="the format is described at https://toml.io",
        ) from error
