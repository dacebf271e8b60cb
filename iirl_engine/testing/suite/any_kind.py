"""What every offer has to fulfil, whatever its kind."""

from __future__ import annotations

import importlib
import inspect
import os
import pickle
import re
import subprocess
import sys
import tomllib

import attrs

from iirl_engine.errors import PluginError
from iirl_engine.options import NoOptions, build_options, dump_options
from iirl_engine.plugins import Plugin
from iirl_engine.testing.kit import (
    CheckFailed,
    NotApplicable,
    Subject,
    check,
    plugin_check,
    require,
)

HEAVY = (
    "torch",
    "scipy",
    "numpy",
    "sklearn",
    "pandas",
    "matplotlib",
    "gymnasium",
    "mujoco",
    "jax",
    "tensorflow",
    "transformers",
)
_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")


@check("any")
def name_is_kebab_case(subject: Subject) -> None:
    """Names in chain files are lower case, with hyphens."""
    name = subject.entry.offer.name
    require(_NAME.fullmatch(name), f"the name {name!r} is not kebab-case")


@check("any")
def summary_is_one_line(subject: Subject) -> None:
    """`iirl plugins show` prints a summary of one line."""
    summary = subject.entry.offer.summary
    require(summary.strip() and "\n" not in summary, f"the summary {summary!r} is not one line")


@plugin_check
def hook_module_is_light(plugin: Plugin) -> None:
    """`iirl plugins list` imports every hook module, so these import nothing heavy."""
    _check_light(plugin.module)


@plugin_check
def options_modules_are_light(plugin: Plugin) -> None:
    """Options are shown and checked before a chain is run, so their modules are light too."""
    places = {offer.options_at for offers in plugin.offers.values() for offer in offers}
    for module in sorted({place.partition(":")[0] for place in places if place}):
        _check_light(module)


@plugin_check
def hooks_are_plain_functions(plugin: Plugin) -> None:
    """A hook implementation has no default arguments: the engine always passes what it names."""
    module = importlib.import_module(plugin.module)
    for name, function in inspect.getmembers(module, inspect.isfunction):
        if name.startswith("iirl_"):
            defaults = function.__defaults__ or function.__kwdefaults__
            require(not defaults, f"{name} has default arguments")


@check("any")
def target_is_of_its_kind(subject: Subject) -> None:
    """The target is a concrete subclass of its kind's base class."""
    try:
        subject.entry.load()
    except PluginError as error:
        raise CheckFailed(f"{error.what}: {error.got}") from error


@check("any")
def options_are_documented(subject: Subject) -> None:
    """Every option is made by `iirl_engine.option`, with its help."""
    try:
        options = subject.entry.offer.options
    except PluginError as error:
        raise CheckFailed(f"{error.what}: {error.got}") from error
    for field in attrs.fields(options):
        require(field.metadata.get("help"), f"option {field.name} has no help")


@check("any")
def options_survive_toml(subject: Subject) -> None:
    """Whatever options a chain file may hold come back unchanged from `chain.toml`."""
    import tomli_w

    cls = subject.options_class()
    if cls is NoOptions:
        return
    try:
        from hypothesis import HealthCheck, Phase, given, settings
    except ImportError:
        raise NotApplicable("install hypothesis, or iirl-engine[testing]") from None

    from iirl_engine.testing.strategies import option_tables

    @settings(
        max_examples=30,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(option_tables(cls))
    def survives(table: dict[str, object]) -> None:
        first = build_options(cls, table, "options", [], None)
        if first is None:
            return  # the options contradict each other, which only the class can tell
        for name, value in table.items():
            kept = getattr(first, name)
            kept = list(kept) if isinstance(kept, tuple) else kept
            require(kept == value, f"option {name} became {kept!r} from {value!r}")
        text = tomli_w.dumps(dump_options(first))
        second = build_options(cls, tomllib.loads(text), "options", [], None)
        require(second == first, f"{first} became {second}")

    try:
        survives()
    except CheckFailed:
        raise
    except BaseExceptionGroup as several:
        raise CheckFailed(str(several.exceptions[0])) from several


@check("any")
def strategy_can_be_pickled(subject: Subject) -> None:
    """An executor may ship a strategy to another process."""
    try:
        again = pickle.loads(pickle.dumps(subject.build()))
    except (pickle.PicklingError, TypeError, AttributeError) as error:
        raise CheckFailed(f"it cannot be pickled: {error}") from error
    require(type(again) is type(subject.build()), "it comes back as something else")


def _check_light(module: str) -> None:
    code = (
        f"import sys; before = set(sys.modules); import {module}; "
        f"print('\\n', *sorted((set({HEAVY!r}) & sys.modules.keys()) - before))"
    )
    # The path of this process, so that a plugin found here is found there.
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise CheckFailed(f"{module} cannot be imported in a process of its own: {last}")
    heavy = done.stdout.splitlines()[-1].split()
    require(not heavy, f"{module} imports {', '.join(heavy)}")
