"""The ICU-Sepsis world: its Markov decision process, exact values, and patients in it."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import attrs
import numpy as np
from numpy.typing import NDArray

from iirl_engine.errors import DataError, UsageError

Array = NDArray[np.float64]

# The last three of the 716 states: the patient has died, has survived, and nothing more happens.
DEATH, SURVIVAL = 713, 714
PATIENT_STATES = 713


@attrs.frozen(eq=False)
class Stays:
    """Stays of patients in intensive care, one after the other.

    Parameters
    ----------
    state
        `[n]` number of the patient's state, step by step; death and survival are left out.
    lengths
        `[patients]` states of each stay.
    survived
        `[patients]` how each ended.
    """

    state: NDArray[np.int64]
    lengths: NDArray[np.int64]
    survived: NDArray[np.bool_]


@attrs.frozen(eq=False)
class SepsisWorld:
    """The tabular Markov decision process ICU-Sepsis (Choudhary, Gupta & Thomas, RLC 2024).

    Parameters
    ----------
    transitions
        `[713, 25, 716]` probability of the next state, by patient state and treatment.
    start
        `[713]` probability of the first state.
    clinicians
        `[713, 25]` the clinicians' policy, as estimated from MIMIC-III.
    centres
        `[713, 47]` clinical features of each patient state, normalised: the centre of a cluster.
    """

    transitions: Array
    start: Array
    clinicians: Array
    centres: Array

    def chain(self, policy: Array) -> Array:
        """Return the transition matrix `[713, 716]` under a policy `[713, 25]`."""
        chain: Array = np.einsum("sa,sat->st", policy, self.transitions)
        return chain

    def survival(self, policy: Array) -> Array:
        """Return V `[713]`, the probability of survival from each state, exact.

        It solves (I - P) V = p, with P the transitions between patient states and p those to
        survival; the value of the package's reward, 1 for survival, without discount.
        """
        chain = self.chain(policy)
        stay = np.eye(PATIENT_STATES) - chain[:, :PATIENT_STATES]
        return np.linalg.solve(stay, chain[:, SURVIVAL]).astype(np.float64)

    def random(self) -> Array:
        """Return the policy `[713, 25]` that takes every treatment equally often."""
        return np.full_like(self.clinicians, 1 / self.clinicians.shape[1])

    def optimal(self) -> Array:
        """Return a deterministic policy `[713, 25]` of highest survival, by policy iteration."""
        policy = self.clinicians
        while True:
            value = self.survival(policy)
            quality = self.transitions[:, :, :PATIENT_STATES] @ value
            quality += self.transitions[:, :, SURVIVAL]
            # A gain below rounding is none; otherwise equals could change places for ever.
            if (quality.max(axis=1) - value).max() < 1e-12:
                return policy
            policy = np.eye(quality.shape[1])[quality.argmax(axis=1)]

    def treat(self, policy: Array, patients: int, generator: np.random.Generator) -> Stays:
        """Return the stays of as many patients, treated by a policy `[713, 25]`."""
        odds = np.cumsum(self.chain(policy), axis=1)
        # Rounding must not leave a gap under 1.
        odds /= odds[:, -1:]
        now = generator.choice(PATIENT_STATES, size=patients, p=self.start)
        present, steps = np.arange(patients), []
        survived = np.zeros(patients, dtype=bool)
        while len(now):
            steps.append((present, now))
            following = (odds[now] <= generator.random((len(now), 1))).sum(axis=1)
            survived[present[following == SURVIVAL]] = True
            stays = following < PATIENT_STATES
            present, now = present[stays], following[stays]
        patient = np.concatenate([who for who, _ in steps])
        order = np.argsort(patient, kind="stable")
        return Stays(
            state=np.concatenate([state for _, state in steps])[order],
            lengths=np.bincount(patient, minlength=patients),
            survived=survived,
        )


def read_world() -> SepsisWorld:
    """Read the world from the files of the installed package `icu-sepsis`.

    The package itself is not imported: it would import the legacy package gym.

    Raises
    ------
    UsageError
        When the package is not installed.
    DataError
        When its file is not the one expected.
    """
    package = importlib.util.find_spec("icu_sepsis")
    if package is None or package.origin is None:
        raise UsageError(
            "this needs the package icu-sepsis", next_step="pip install 'iirl-gym[icu-sepsis]'"
        )
    path = Path(package.origin).parent / "envs" / "assets" / "dynamics.npz"
    here = slice(PATIENT_STATES)
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            start = file["d_0"][here]
            return SepsisWorld(
                transitions=file["tx_mat"][here],
                start=start / start.sum(),
                clinicians=file["expert_policy"][here],
                centres=file["state_cluster_centers"][here],
            )
    except Exception as error:  # a damaged file breaks its reader in many ways
        raise DataError("the file is not the one of icu-sepsis 2", where=path, got=error) from error
