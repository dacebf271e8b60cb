"""One broken plugin never stops the others, and its status says what is wrong with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import pytest

from tests.distributions import (
    FIRST_PARTY,
    Done,
    Environment,
    hooks,
    write_chain,
    write_installed,
)

LIMIT = {"IIRL_IMPORT_LIMIT": "1.5"}
START = "from iirl_engine import Offer, hookimpl\n\nIIRL_API = 1\n\n\n"
OBSERVER = START + "@hookimpl\ndef iirl_round_finished(event):\n    pass\n"


def offering(*lines: str) -> str:
    """Return a hook module whose provider of auditors has these lines."""
    body = "".join(f"    {line}\n" for line in lines)
    return START + "@hookimpl\ndef iirl_auditors():\n" + body


@attrs.frozen
class Broken:
    """A way to be broken: the hook module, the status it leads to, and the defect's name."""

    hooks: str
    reason: str
    status: str = "broken"
    requires: Sequence[str] = ()
    entry_points: str | None = None
    metadata: bool = True
    files: Mapping[str, str] = attrs.field(factory=dict)


BROKEN = {
    "import-error": Broken(
        "from iirl_engine import NoSuchName\n",
        "import failed: ImportError: cannot import name 'NoSuchName' from 'iirl_engine'",
    ),
    "raises": Broken(
        "raise RuntimeError('two\\nlines')\n", "import failed: RuntimeError: two lines"
    ),
    "syntax-error": Broken("def iirl_auditors(:\n", "syntax error: "),
    "wrong-argument": Broken(
        OBSERVER.replace("(event)", "(events)"), "a hook does not fit its specification: "
    ),
    "misspelt-hook": Broken(
        offering("return ()").replace("iirl_auditors", "iirl_auditor"),
        "unknown hook 'iirl_auditor'; did you mean 'iirl_auditors'?",
    ),
    "unmarked": Broken(
        offering("return ()").replace("@hookimpl\n", ""),
        "function 'iirl_auditors' is not marked with @hookimpl",
    ),
    "wrapper": Broken(
        OBSERVER.replace("@hookimpl", "@hookimpl(wrapper=True)").replace("pass", "return (yield)"),
        "iirl_round_finished is a hook wrapper",
    ),
    "provider-raises": Broken(
        offering("yield Offer('thing', 'acme_provider_raises.thing:Thing')", "raise OSError('no')"),
        "iirl_auditors raised OSError: no",
    ),
    "provider-exits": Broken(
        offering("raise SystemExit(3)"), "iirl_auditors raised RuntimeError: sys.exit(3) was called"
    ),
    "provider-hangs": Broken(
        offering("import threading", "threading.Event().wait()"),
        "iirl_auditors did not answer within 1.5 s",
    ),
    "no-iterable": Broken(offering("pass"), "iirl_auditors raised TypeError: 'NoneType'"),
    "no-offer": Broken(
        offering("yield ('thing', 'acme_no_offer.thing:Thing')"),
        "iirl_auditors yielded ('thing', 'acme_no_offer.thing:Thing'), which is no Offer",
    ),
    "no-name": Broken(
        offering("yield Offer(None, 'acme_no_name.thing:Thing')"),
        "whose name, target or summary is no text",
    ),
    "no-target": Broken(
        offering("yield Offer('thing', 'acme_no_target.thing.Thing')"),
        "target 'acme_no_target.thing.Thing'; write package.module:Class",
    ),
    "future-api": Broken(
        OBSERVER.replace("IIRL_API = 1", "IIRL_API = 2"),
        "written for plugin API 2; this engine has API 1; upgrade iirl-engine",
        status="incompatible",
    ),
    "missing-api": Broken(
        OBSERVER.replace("IIRL_API = 1", ""),
        "acme_missing_api.hooks does not say IIRL_API = 1",
    ),
    "duplicate-name": Broken(
        hooks("acme_duplicate_name", "thing", "thing"),
        "iirl_auditors offers the name 'thing' twice",
    ),
    "duplicate-hook": Broken(
        offering("yield Offer('thing', 'acme_duplicate_hook.thing:Thing')")
        + "\n\n@hookimpl(specname='iirl_auditors')\ndef more():\n"
        "    yield Offer('thing', 'acme_duplicate_hook.thing:Other')\n",
        "iirl_auditors offers the name 'thing' twice",
    ),
    "missing-dependency": Broken(
        "import no_such_library\n",
        "missing dependency: no-such-library>=3 is not installed; pip install 'no-such-library>=3'",
        requires=["no-such-library-extra", "no-such-library>=3"],
    ),
    "unnamed-dependency": Broken(
        "import no_such_library.sub\n",
        "missing dependency: module 'no_such_library' is not installed",
    ),
    "missing-submodule": Broken(
        "import click.no_such_part\n",
        "import failed: ModuleNotFoundError: No module named 'click.no_such_part'",
        requires=["click"],
    ),
    "missing-hooks": Broken(
        "",
        "its entry point names the module 'acme_missing_hooks.hoks', which does not exist",
        entry_points="acme = acme_missing_hooks.hoks",
    ),
    "slow-import": Broken(
        "import time\n\ntime.sleep(3)\n" + OBSERVER,
        "slow import: a hook module imports nothing heavy; acme_slow_import.hooks was not imported "
        "within 1.5 s",
    ),
    "hanging-import": Broken(
        "import threading\n\nthreading.Event().wait()\n", "slow import: a hook module imports"
    ),
    "exit": Broken("import sys\n\nsys.exit(0)\n", "import failed: SystemExit: 0"),
    "no-attrs-class": Broken(
        offering("yield Offer('thing', 'acme_no_attrs_class.thing:Thing', dict)"),
        "iirl_auditors offers 'thing' with options that are no attrs class",
    ),
    "options-without-class": Broken(
        offering("yield Offer('thing', 'acme_x.thing:Thing', 'acme_x.options')"),
        "iirl_auditors offers 'thing' with options 'acme_x.options'; write package.module:Class",
    ),
    "odd-option": Broken(
        offering(
            "from acme_odd_option.options import ThingOptions; "
            "yield Offer('thing', 'acme_odd_option.thing:Thing', ThingOptions)"
        ),
        "iirl_auditors offers 'thing' with options of a type that a chain file cannot hold",
        files={
            "options.py": "import attrs\n\nfrom iirl_engine import option\n\n\n@attrs.frozen\n"
            "class ThingOptions:\n    budget: complex = option(1, help='complex')\n"
        },
    ),
    "two-entry-points": Broken(
        OBSERVER,
        "has more than one entry point in the group iirl_engine",
        entry_points="one = acme_two_entry_points.hooks\ntwo = acme_two_entry_points",
    ),
    "shared-module": Broken(
        OBSERVER,
        "its hook module iirl_auditors.hooks is that of iirl-auditors",
        entry_points="acme = iirl_auditors.hooks",
    ),
    "torn-entry-points": Broken(
        OBSERVER, "its entry_points.txt cannot be read", entry_points="no equals sign"
    ),
    "no-metadata": Broken(
        OBSERVER, "its METADATA has no name or no version; install it again", metadata=False
    ),
}
each_defect = pytest.mark.parametrize("defect", BROKEN)


def dist_of(defect: str) -> str:
    """Return the plugin's name; without metadata it goes by its package."""
    return f"acme-{defect}"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return the folder of each broken distribution."""
    parent = tmp_path_factory.mktemp("broken")
    return {
        defect: write_installed(
            parent / defect,
            dist_of(defect),
            files={"hooks.py": broken.hooks, **broken.files},
            requires=broken.requires,
            entry_points=broken.entry_points,
            metadata=broken.metadata,
        )
        for defect, broken in BROKEN.items()
    }


@pytest.fixture(scope="module")
def all_broken(tmp_path_factory: pytest.TempPathFactory, folders: dict[str, Path]) -> Environment:
    """An environment with every broken plugin at once, and with one that works."""
    healthy = write_installed(tmp_path_factory.mktemp("healthy"), "acme-healthy")
    return Environment(path=(*folders.values(), healthy), variables=LIMIT)


@pytest.fixture(scope="module")
def listed(all_broken: Environment) -> dict[str, dict[str, Any]]:
    done = all_broken.iirl("plugins", "list", "--json")
    assert done.code == 0, done.stderr
    assert done.stderr == ""
    return {plugin["dist"]: plugin for plugin in done.json()}


@pytest.fixture(scope="module")
def listed_as_text(all_broken: Environment) -> Done:
    return all_broken.iirl("plugins", "list")


@each_defect
def test_list_names_the_defect(
    defect: str, listed: dict[str, dict[str, Any]], listed_as_text: Done
) -> None:
    plugin, broken = listed[dist_of(defect)], BROKEN[defect]
    assert plugin["status"] == broken.status
    assert broken.reason in plugin["reason"]
    assert plugin["offers"] == {}
    assert plugin["hooks"] == []
    shown = f"{dist_of(defect)} {plugin['version']}: {broken.status} "
    assert shown + " ".join(plugin["reason"].split()) in listed_as_text.said
    assert "Traceback" not in listed_as_text.stderr


@each_defect
def test_chain_that_needs_it_fails_with_its_reason(
    defect: str, tmp_path: Path, folders: dict[str, Path], listed: dict[str, dict[str, Any]]
) -> None:
    environment = Environment(path=(folders[defect],), variables=LIMIT)
    use = f"{dist_of(defect)}:thing"
    chain = write_chain(tmp_path / "c.toml", use)
    done = environment.iirl("run", chain, "--out", tmp_path / "out")
    assert (done.code, done.out) == (2, "")
    state = f"{dist_of(defect)} is {BROKEN[defect].status} ({listed[dist_of(defect)]['reason']})"
    assert f"audit[0].use: auditor {use!r} is not available: {state}" in done.err
    assert f"iirl plugins show {dist_of(defect)}" in done.err
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_every_other_plugin_is_loaded(listed: dict[str, dict[str, Any]]) -> None:
    assert len(listed) == len(FIRST_PARTY) + len(BROKEN) + 1
    for dist in (*FIRST_PARTY, "acme-healthy"):
        assert (listed[dist]["status"], listed[dist]["reason"]) == ("loaded", "")
    alone = {
        plugin["dist"]: plugin for plugin in Environment().iirl("plugins", "list", "--json").json()
    }
    for dist in FIRST_PARTY:
        assert listed[dist]["offers"] == alone[dist]["offers"] != {}


def test_chain_that_needs_none_of_them_runs(tmp_path: Path, all_broken: Environment) -> None:
    chain = write_chain(tmp_path / "c.toml", "sobol", "thing", rounds=3)
    # Torch reads every entry point too, and does not stand a torn file.
    path = [folder for folder in all_broken.path if folder.name != "torn-entry-points"]
    environment = Environment(path=tuple(path), variables=LIMIT)
    done = environment.iirl("run", chain, "--out", tmp_path / "out", "--json")
    assert done.code == 0, done.stderr
    assert [audit["status"] for audit in done.json()["rounds"][0]["audits"]] == ["findings"] * 2
    dists = [plugin["dist"] for plugin in done.json()["plugins"]]
    assert "acme-healthy" in dists


def test_unknown_name_is_told_which_plugins_are_not_loaded(
    tmp_path: Path, folders: dict[str, Path]
) -> None:
    environment = Environment(path=(folders["raises"],))
    done = environment.iirl("run", write_chain(tmp_path / "c.toml", "thing"))
    assert done.code == 2
    assert "no auditor 'thing' among the installed plugins" in done.err
    assert f"may offer it: acme-raises is broken ({BROKEN['raises'].reason})" in done.err


def test_require_of_a_broken_plugin_gives_its_reason(
    tmp_path: Path, folders: dict[str, Path]
) -> None:
    environment = Environment(path=(folders["raises"],))
    chain = write_chain(tmp_path / "c.toml", "sobol", flywheel='require = ["acme-raises"]')
    done = environment.iirl("run", chain)
    assert done.code == 2
    assert f"plugin 'acme-raises' is broken: {BROKEN['raises'].reason}" in done.err


def test_show_and_check_of_a_broken_plugin_give_its_reason(folders: dict[str, Path]) -> None:
    environment = Environment(path=(folders["raises"],))
    shown = environment.iirl("plugins", "show", "acme-raises")
    assert shown.code == 0
    assert BROKEN["raises"].reason in shown.said
    checked = environment.iirl("plugins", "check", "acme-raises")
    assert checked.code == 5
    assert f"failed plugin acme-raises: loads broken: {BROKEN['raises'].reason}" in checked.said


def test_distribution_that_is_no_plugin_is_left_alone_however_damaged(tmp_path: Path) -> None:
    info = tmp_path / "stranger-1.0.dist-info"
    info.mkdir()
    (info / "entry_points.txt").write_text("[console_scripts]\nno equals sign\n")
    done = Environment(path=(tmp_path,)).iirl("plugins", "list", "--json")
    assert [plugin["dist"] for plugin in done.json()] == list(FIRST_PARTY)


def test_what_a_hook_module_prints_stays_out_of_the_results(tmp_path: Path) -> None:
    loud = 'print("imported")\n' + offering('print("asked")', "return ()")
    environment = Environment(
        path=(write_installed(tmp_path, "acme-loud", files={"hooks.py": loud}),)
    )
    done = environment.iirl("plugins", "list", "--json")
    assert {p["dist"]: p["status"] for p in done.json()}["acme-loud"] == "loaded"
    assert done.stderr.splitlines() == ["imported", "asked"]


@pytest.mark.parametrize("limit", ["soon", "0", "-1", "nan", "inf"])
def test_import_limit_that_is_no_number_of_seconds_is_a_usage_error(limit: str) -> None:
    done = Environment(variables={"IIRL_IMPORT_LIMIT": limit}).iirl("plugins", "list")
    assert (done.code, done.out) == (2, "")
    assert "IIRL_IMPORT_LIMIT is no number of seconds above 0" in done.err
    assert limit in done.err


class TestDisabled:
    """Disabling comes before import."""

    @pytest.fixture
    def witness(self, tmp_path: Path) -> Path:
        return tmp_path / "imported"

    @pytest.fixture
    def environment(self, tmp_path: Path, witness: Path) -> Environment:
        tell = f"open({str(witness)!r}, 'w').close()\n" + hooks("acme_witness", "thing")
        folder = write_installed(tmp_path / "site", "acme-witness", files={"hooks.py": tell})
        return Environment(path=(folder,))

    def test_not_disabled_it_is_imported(self, environment: Environment, witness: Path) -> None:
        assert environment.iirl("plugins", "list").code == 0
        assert witness.exists()

    @pytest.mark.parametrize(
        ("arguments", "flywheel", "variables"),
        [
            (("--disable", "Acme.Witness"), "", {}),
            ((), 'disable = ["acme_witness"]', {}),
            ((), "", {"IIRL_DISABLE": "acme-other, ACME-witness"}),
        ],
        ids=["option", "chain", "environment"],
    )
    def test_chain_fails_without_importing_it(
        self,
        tmp_path: Path,
        environment: Environment,
        witness: Path,
        arguments: tuple[str, ...],
        flywheel: str,
        variables: dict[str, str],
    ) -> None:
        chain = write_chain(tmp_path / "c.toml", "acme-witness:thing", flywheel=flywheel)
        environment = Environment(path=environment.path, variables=variables)
        done = environment.iirl("run", chain, "--out", tmp_path / "out", *arguments)
        assert (done.code, done.out) == (2, "")
        assert "acme-witness is disabled (disabled by configuration)" in done.err
        assert not witness.exists()

    def test_list_shows_it(self, environment: Environment, witness: Path) -> None:
        environment = Environment(path=environment.path, variables={"IIRL_DISABLE": "acme-witness"})
        assert "acme-witness 1.0: disabled disabled" in environment.iirl("plugins", "list").said
        assert not witness.exists()


def effective(environment: Environment, chain: Path) -> Done:
    """Check a chain, without running it, and print what it means."""
    code = f"from iirl_engine.chain import read_chain; print(read_chain({str(chain)!r}).dump())"
    return environment.execute("-c", code)


@pytest.fixture(scope="module")
def clashing(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """Two strangers that offer the same two names, one of them first-party."""
    folder = tmp_path_factory.mktemp("clash")
    for dist, package in (("acme-one", "acme_one"), ("acme-two", "acme_two")):
        write_installed(folder, dist, files={"hooks.py": hooks(package, "spiral", "sobol")})
    return Environment(path=(folder,))


class TestClash:
    """Two plugins that offer one name."""

    def test_bare_name_of_two_strangers_is_ambiguous(
        self, tmp_path: Path, clashing: Environment
    ) -> None:
        done = clashing.iirl("run", write_chain(tmp_path / "c.toml", "spiral"))
        assert (done.code, done.out) == (2, "")
        assert "audit[0].use: auditor 'spiral' is ambiguous" in done.err
        assert "write one of 'acme-one:spiral', 'acme-two:spiral'" in done.err

    def test_qualified_name_is_never_ambiguous(self, tmp_path: Path, clashing: Environment) -> None:
        names = ("acme-one:spiral", "acme-two:spiral", "Acme_Two:spiral", "acme-two:sobol")
        done = effective(clashing, write_chain(tmp_path / "c.toml", *names))
        assert done.code == 0, done.stderr
        for use in ("acme-one:spiral", "acme-two:spiral", "acme-two:sobol"):
            assert f'use = "{use}"' in done.out
        assert done.out.count('use = "acme-two:spiral"') == 2

    def test_first_party_name_wins(self, tmp_path: Path, clashing: Environment) -> None:
        done = effective(clashing, write_chain(tmp_path / "c.toml", "sobol"))
        assert done.code == 0, done.stderr
        assert 'use = "iirl-auditors:sobol"' in done.out

    def test_list_marks_the_shadowed_offer(self, clashing: Environment) -> None:
        marked = "auditor spiral, sobol (shadowed by iirl-auditors)"
        assert clashing.iirl("plugins", "list").said.count(marked) == 2
        found = {p["dist"]: p["offers"] for p in clashing.iirl("plugins", "list", "--json").json()}
        shadows = [(o["name"], o["shadowed_by"]) for o in found["acme-two"]["auditor"]]
        assert shadows == [("spiral", ""), ("sobol", "iirl-auditors")]
        assert all(o["shadowed_by"] == "" for o in found["iirl-auditors"]["auditor"])

    def test_qualified_name_that_the_plugin_does_not_offer(
        self, tmp_path: Path, clashing: Environment
    ) -> None:
        done = effective(clashing, write_chain(tmp_path / "c.toml", "acme-one:spirall"))
        assert "the plugin 'acme-one' offers no auditor 'spirall'" in done.err
        assert "did you mean 'spiral'?" in done.err


TARGETS = {
    "import": ("import no_such_library\n", "cannot be imported", "no_such_library"),
    "exit": ("import sys\n\nsys.exit(0)\n", "cannot be imported", "SystemExit: 0"),
    "attribute": ("", "cannot be imported", "has no attribute 'Thing'"),
    "base": ("class Thing:\n    pass\n", "is no iirl_engine.api:Auditor", "class"),
    "instance": (
        "from iirl_engine import Auditor\n\n\nclass A(Auditor):\n"
        "    def audit(self, target, context):\n        yield\n\n\nThing = A(None)\n",
        "is no iirl_engine.api:Auditor",
        "object",
    ),
    "abstract": (
        "from iirl_engine import Auditor\n\n\nclass Thing(Auditor):\n    pass\n",
        "does not implement audit",
        "class",
    ),
    "init": (
        "from iirl_engine import Auditor\n\n\nclass Thing(Auditor):\n"
        "    def __init__(self, options):\n        raise SystemExit(0)\n\n"
        "    def audit(self, target, context):\n        yield\n",
        "cannot be built",
        "SystemExit: 0",
    ),
}


def with_target(folder: Path, target: str) -> Environment:
    return Environment(path=(write_installed(folder, "acme-bad", files={"thing.py": target}),))


@pytest.mark.parametrize("target", ["import", "base", "init"])
def test_chain_whose_strategy_cannot_be_made_fails_as_a_plugin_failure(
    target: str, tmp_path: Path
) -> None:
    code, problem, got = TARGETS[target]
    environment = with_target(tmp_path / "site", code)
    done = environment.iirl(
        "run", write_chain(tmp_path / "c.toml", "thing"), "--out", tmp_path / "out"
    )
    assert (done.code, done.out) == (5, "")
    assert f"auditor acme-bad:thing {problem}" in done.err
    assert got in done.err
    assert "where: acme_bad.thing:Thing" in done.err
    assert "iirl plugins check acme-bad" in done.err
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("target", sorted(TARGETS.keys() - {"init"}))
def test_check_finds_a_target_that_does_not_fit(target: str, tmp_path: Path) -> None:
    code, problem, _ = TARGETS[target]
    checked = with_target(tmp_path, code).iirl("plugins", "check", "acme-bad")
    assert checked.code == 5
    assert "ok plugin acme-bad: loads" in checked.said
    fit = "failed auditor thing: target-is-of-its-kind"
    assert fit in checked.said
    assert problem in checked.said


# What an options module may hold, and what is said of it.
ODD = {
    "missing": ("", "AttributeError: module 'acme_bad.options' has no attribute 'ThingOptions'"),
    "import": ("import acme_gone\n", "ModuleNotFoundError: No module named 'acme_gone'"),
    "exit": ("import sys\n\nsys.exit(0)\n", "SystemExit: 0"),
    "plain-class": (
        "class ThingOptions:\n    budget = 1\n",
        "options that are no attrs class",
    ),
    "complex": (
        "import attrs\n\nfrom iirl_engine import option\n\n\n@attrs.frozen\n"
        "class ThingOptions:\n    budget: complex = option(1, help='complex')\n",
        "TypeError: options of a type that a chain file cannot hold",
    ),
}


@pytest.mark.parametrize("odd", ODD)
def test_options_that_cannot_be_used_are_told_where_they_are_needed(
    odd: str, tmp_path: Path
) -> None:
    code, reason = ODD[odd]
    site = write_installed(tmp_path / "site", "acme-bad", files={"options.py": code})
    environment = Environment(path=(site,))
    listed = {row["dist"]: row for row in environment.iirl("plugins", "list", "--json").json()}
    assert listed["acme-bad"]["status"] == "loaded"

    chain = write_chain(tmp_path / "c.toml", "thing")
    done = environment.iirl("run", chain, "--out", tmp_path / "out")
    assert (done.code, done.out) == (5, "")
    assert "the options of 'thing' cannot be used" in done.err
    assert "where: acme_bad.options:ThingOptions" in done.err
    assert reason in done.err
    assert "Traceback" not in done.stderr

    shown = environment.iirl("plugins", "show", "acme-bad")
    assert shown.code == 0
    assert reason in shown.said
    (strategy,) = environment.iirl("plugins", "show", "thing", "--json").json()["strategies"]
    assert strategy["options"] is None
    assert reason in strategy["reason"]

    checked = environment.iirl("plugins", "check", "acme-bad")
    assert checked.code == 5
    assert "failed auditor thing: options-are-documented" in checked.said
    assert reason in checked.said


def test_schema_leaves_out_only_what_cannot_be_used(tmp_path: Path) -> None:
    site = write_installed(tmp_path, "acme-bad", files={"options.py": ""})
    done = Environment(path=(site,)).iirl("schema")
    auditors = done.json()["properties"]["audit"]["items"]["oneOf"]
    names = [name for offered in auditors for name in offered["properties"]["use"]["enum"]]
    assert "sobol" in names
    assert "thing" not in names
    assert "auditor acme-bad:thing" in done.err


def test_options_may_be_the_class_itself(tmp_path: Path) -> None:
    code = hooks("acme_class", "thing").replace('"acme_class.options:ThingOptions"', "ThingOptions")
    code = "from acme_class.options import ThingOptions\n" + code
    site = write_installed(tmp_path, "acme-class", files={"hooks.py": code})
    environment = Environment(path=(site,))
    (strategy,) = environment.iirl("plugins", "show", "thing", "--json").json()["strategies"]
    assert strategy["options"]["properties"]["budget"]["default"] == 256
    assert environment.iirl("plugins", "check", "acme-class").code == 0


def test_check_names_a_heavy_import(tmp_path: Path) -> None:
    heavy = "import scipy\n" + hooks("acme_heavy", "thing")
    environment = Environment(
        path=(write_installed(tmp_path, "acme-heavy", files={"hooks.py": heavy}),)
    )
    checked = environment.iirl("plugins", "check", "acme-heavy")
    assert checked.code == 5
    assert "failed plugin acme-heavy: hook-module-is-light" in checked.said
    assert "acme_heavy.hooks imports numpy, scipy" in checked.said
