"""The template renders a plugin that builds, installs, is found, and passes its own tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.distributions import Done, Environment, layered_environment

TEMPLATE = Path(__file__).parent.parent / "contrib" / "template"
ANSWERS = {
    "distribution": "nimbus-probe-kit",
    "author": 'Ada "Countess" Lovelace',
    "strategy": "cloud-walk",
    "summary": "states in the clouds",
}


def render(folder: Path, **answers: str) -> Done:
    data = [f"--data={name}={answer}" for name, answer in answers.items()]
    return Environment().execute(
        "-m", "copier", "copy", "--quiet", "--defaults", *data, TEMPLATE, folder
    )


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("template") / "project"
    done = render(folder, **ANSWERS)
    assert done.code == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def environment(project: Path) -> Environment:
    """Return an environment with the plugin's wheel, in a folder that has no source of it."""
    build = ("-m", "build", "--no-isolation", "--wheel", "--outdir", project.parent, project)
    done = Environment().execute(*build)
    assert done.code == 0, done.stderr
    environment = layered_environment(project.parent / "venv")
    environment.pip("install", "--no-index", *project.parent.glob("*.whl"))
    return environment


def test_nothing_of_the_template_is_left(project: Path) -> None:
    files = {str(file.relative_to(project)) for file in project.rglob("*") if file.is_file()}
    assert files == {
        ".github/workflows/ci.yml",
        ".gitignore",
        "README.md",
        "nimbus_probe_kit/__init__.py",
        "nimbus_probe_kit/cloud_walk.py",
        "nimbus_probe_kit/hooks.py",
        "nimbus_probe_kit/options.py",
        "pyproject.toml",
        "tests/test_cloud_walk.py",
        "tests/test_conformance.py",
    }
    for name in files:
        text = (project / name).read_text().replace("${{ matrix.python }}", "")
        assert "{{" not in text
        assert "{%" not in text
        assert text.endswith("\n")


def test_the_plugin_is_listed(environment: Environment) -> None:
    listed = environment.iirl("plugins", "list")
    assert "nimbus-probe-kit 0.1.0: loaded auditor cloud-walk" in listed.said


def test_its_own_tests_pass(environment: Environment, project: Path) -> None:
    done = environment.shell("pytest tests", project)
    assert done.code == 0, done.out + done.stderr
    assert (
        "auditor cloud-walk: known-flaws-are-found"
        in environment.shell("pytest --collect-only -q tests/test_conformance.py", project).out
    )


@pytest.mark.parametrize(
    "wrong", [{"distribution": "Acme_Audit"}, {"strategy": "Walk"}, {"strategy": "hooks"}]
)
def test_names_that_cannot_work_are_refused(wrong: dict[str, str], tmp_path: Path) -> None:
    done = render(tmp_path / "project", **ANSWERS | wrong)
    assert done.code != 0
    assert not (tmp_path / "project").exists()
