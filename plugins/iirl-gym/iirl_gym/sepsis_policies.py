"""Graded policies of the ICU-Sepsis world, with the exact value of each state they visit."""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np

from iirl_gym.sepsis import read_world


def write_policies(folder: Path, *, patients: int = 1000, seed: int = 0) -> list[Path]:
    """Write `expert.npz`, `random.npz` and `optimal.npz` into a folder, for `iirl evaluate`.

    Parameters
    ----------
    folder
        Is made if need be.
    patients
        How many each policy treats, >= 1.
    seed
        Decides the patients.

    Returns
    -------
    The files. Each holds `obs [n, 47]`, the clinical features of the states visited; `value [n]`,
    the exact probability of survival from there under the clinicians' policy, whoever treats the
    patient here; `ep_len [patients]`; and `ep_ret [patients]`, 1 for survival and 0 for death.

    Raises
    ------
    UsageError
        When the package icu-sepsis is not installed.
    """
    world = read_world()
    value = world.survival(world.clinicians)
    policies = {"expert": world.clinicians, "random": world.random(), "optimal": world.optimal()}
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for number, (name, policy) in enumerate(policies.items()):
        stays = world.treat(policy, patients, np.random.default_rng([seed, number]))
        files.append(folder / f"{name}.npz")
        np.savez(
            files[-1],
            obs=world.centres[stays.state],
            value=value[stays.state],
            ep_len=stays.lengths,
            ep_ret=stays.survived.astype(np.float64),
        )
    return files


@click.command("icu-sepsis")
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option("--patients", type=click.IntRange(1, 10_000), default=1000, show_default=True)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
def command(folder: Path, patients: int, seed: int) -> None:
    """Write policies of the ICU-Sepsis world into FOLDER, for `iirl evaluate --policies FOLDER`."""
    for file in write_policies(folder, patients=patients, seed=seed):
        click.echo(file)
