"""Plugin distributions for tests: real files, found as installed ones are.

Two ways to make one. `write_project` writes what an author writes, to be built and installed.
`write_installed` writes what pip leaves in a site-packages folder, for a `PYTHONPATH`: quick
enough for many broken ones.
"""

from __future__ import annotations

import json
import os
import shlex
import site
import subprocess
import sys
import sysconfig
import textwrap
import venv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

FIRST_PARTY = (
    "iirl-engine",
    "iirl-encoders",
    "iirl-auditors",
    "iirl-refiners",
    "iirl-certify",
    "iirl-gym",
    "iirl-export",
)

# An auditor that reports a few random states; the engine verifies them.
THING = """
    import torch

    from iirl_engine import Auditor


    class Thing(Auditor):
        family = "out-of-distribution"

        def audit(self, target, context):
            count = min(256, target.remaining)
            share = torch.tensor(context.generator().random((count, len(target.low))))
            states = target.low + share * (target.high - target.low)
            forbidden = states[target.violation(states) > 0]
            yield forbidden[target.reward(forbidden) > target.floor]
"""
OPTIONS = """
    import attrs

    from iirl_engine import option


    @attrs.frozen(kw_only=True)
    class ThingOptions:
        budget: int = option(256, ge=1, help="reward queries per round")
"""


def hooks(package: str, *names: str) -> str:
    """Return a hook module that offers auditors of these names, all of them `Thing`."""
    offers = "\n".join(
        f'    yield Offer("{name}", "{package}.thing:Thing", "{package}.options:ThingOptions", '
        '"a few random states")'
        for name in names
    )
    return (
        "from iirl_engine import Offer, hookimpl\n"
        "\nIIRL_API = 1\n\n\n@hookimpl\ndef iirl_auditors():\n" + offers + "\n"
    )


def write_package(folder: Path, dist: str, files: Mapping[str, str]) -> Path:
    """Write the import package of a distribution; by default it offers the auditor `thing`."""
    package = folder / dist.replace("-", "_")
    package.mkdir(parents=True)
    contents = {
        "__init__.py": "",
        "hooks.py": hooks(package.name, "thing"),
        "options.py": OPTIONS,
        "thing.py": THING,
    }
    for name, text in (contents | dict(files)).items():
        (package / name).write_text(textwrap.dedent(text))
    return package


def write_project(
    folder: Path, dist: str, version: str = "1.0", files: Mapping[str, str] | None = None
) -> Path:
    """Write the source tree of a plugin distribution and return its folder."""
    package = write_package(folder, dist, files or {})
    (folder / "pyproject.toml").write_text(
        textwrap.dedent(f"""
            [build-system]
            requires = ["hatchling>=1.26"]
            build-backend = "hatchling.build"

            [project]
            name = "{dist}"
            version = "{version}"
            requires-python = ">=3.11"
            dependencies = ["iirl-engine"]

            [project.entry-points.iirl_engine]
            {dist} = "{package.name}.hooks"
        """)
    )
    return folder


def write_installed(
    folder: Path,
    dist: str,
    version: str = "1.0",
    files: Mapping[str, str] | None = None,
    *,
    requires: Sequence[str] = (),
    entry_points: str | None = None,
    metadata: bool = True,
) -> Path:
    """Write a distribution as pip would have installed it into `folder`, and return `folder`."""
    package = write_package(folder, dist, files or {})
    info = folder / f"{package.name}-{version}.dist-info"
    info.mkdir()
    if metadata:
        lines = ["Metadata-Version: 2.1", f"Name: {dist}", f"Version: {version}"]
        lines += [f"Requires-Dist: {requirement}" for requirement in requires]
        (info / "METADATA").write_text("\n".join(lines) + "\n")
    point = f"{dist} = {package.name}.hooks" if entry_points is None else entry_points
    (info / "entry_points.txt").write_text(f"[iirl_engine]\n{point}\n")
    return folder


@attrs.frozen
class Done:
    """What a process left: exit code and output; `err` and `said` with line breaks undone."""

    code: int
    out: str
    stderr: str

    @property
    def err(self) -> str:
        return " ".join(self.stderr.split())

    @property
    def said(self) -> str:
        return " ".join(self.out.split())

    def json(self) -> Any:
        return json.loads(self.out)


@attrs.frozen
class Environment:
    """Where `iirl` runs: an interpreter, further import folders, environment variables."""

    python: Path = Path(sys.executable)
    path: tuple[Path, ...] = ()
    variables: Mapping[str, str] = attrs.field(factory=dict)

    def iirl(self, *arguments: object) -> Done:
        """Run the installed `iirl` script."""
        return self.execute(Path(sysconfig.get_path("scripts")) / "iirl", *arguments)

    def pip(self, *arguments: object) -> Done:
        """Run pip, without an index."""
        done = self.execute("-m", "pip", "--disable-pip-version-check", *arguments)
        assert done.code == 0, done.stderr
        return done

    def execute(self, *arguments: object, folder: Path | None = None) -> Done:
        """Run the interpreter, in a folder."""
        return self._run([str(self.python), *map(str, arguments)], folder)

    def shell(self, commands: str, folder: Path) -> Done:
        """Run shell commands in a folder, up to the first that fails.

        Scripts are those beside the interpreter; pip asks no index.
        """
        # As with all options that begin with `no`, "false" is what asks pip for no isolation.
        offline = {"PIP_NO_INDEX": "1", "PIP_NO_BUILD_ISOLATION": "false"}
        path = {"PATH": os.pathsep.join((str(self.python.parent), os.environ["PATH"]))}
        return self._run(["sh", "-e", "-c", commands], folder, offline | path)

    def _run(
        self, command: Sequence[str], folder: Path | None, more: Mapping[str, str] | None = None
    ) -> Done:
        kept = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith(("IIRL_", "PYTHON", "PIP_", "PYTEST_", "VIRTUAL_ENV"))
        }
        own = {"PYTHONPATH": os.pathsep.join(map(str, self.path)), "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            command,
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=600,
            stdin=subprocess.DEVNULL,
            env=kept | own | dict(more or {}) | dict(self.variables),
        )
        return Done(done.returncode, done.stdout, done.stderr)


def layered_environment(folder: Path) -> Environment:
    """Make a virtual environment that sees this one's packages and keeps its own apart."""
    venv.create(folder, with_pip=False, symlinks=True)
    own = next(folder.glob("lib/python*/site-packages"))
    parents = [p for p in site.getsitepackages() if Path(p).is_dir()]
    # addsitedir, so that the .pth files of editable installations count too.
    lines = [f"import site; site.addsitedir({parent!r})" for parent in parents]
    (own / "parent.pth").write_text("\n".join(lines) + "\n")
    python = folder / "bin" / "python"
    for module, name in (("iirl_engine", "iirl"), ("pip", "pip"), ("pytest", "pytest")):
        script = folder / "bin" / name
        script.write_text(f'#!/bin/sh\nexec {shlex.quote(str(python))} -m {module} "$@"\n')
        script.chmod(0o755)
    return Environment(python=python)


def write_chain(
    file: Path,
    *audits: str,
    flywheel: str = "",
    encoder: str = 'use = "knn"',
    budget: int = 256,
    rounds: int = 0,
) -> Path:
    """Write a small chain on the toy world that audits with these strategies."""
    lines = ["report = []", "[flywheel]", f"rounds = {rounds}", *flywheel.splitlines()]
    lines += ["[source]", 'use = "figure1"', "[encoder]", *encoder.splitlines()]
    lines += ["[mapping]", 'use = "linear"', "[[norm]]", 'use = "support"', "boundary = 0.34"]
    for number, use in enumerate(audits):
        lines += ["[[audit]]", f'use = "{use}"', f'id = "audit-{number}"', f"budget = {budget}"]
    lines += ["[[refine]]", 'use = "envelope"']
    file.write_text("\n".join(lines) + "\n")
    return file
