"""Demonstrations of clinicians who treat sepsis."""

from __future__ import annotations

import numpy as np

from iirl_engine.api import Context, Source
from iirl_engine.demonstrations import check
from iirl_engine.errors import DataError
from iirl_engine.records import Demonstrations
from iirl_gym.options import IcuSepsisOptions
from iirl_gym.sepsis import read_world


class IcuSepsis(Source[IcuSepsisOptions]):
    """Patients in the ICU-Sepsis world, treated by the clinicians' policy; only states are kept.

    The features are the 47 normalised clinical features of a state, the centre of its cluster.
    Each patient is an episode, from admission to the last state before death or survival.
    """

    def load(self, context: Context) -> Demonstrations:
        world = read_world()
        stays = world.treat(world.clinicians, self.options.patients, context.generator())
        patient = np.repeat(np.arange(len(stays.lengths)), stays.lengths)
        time = np.concatenate([np.arange(length) for length in stays.lengths])
        good = np.ones(len(patient), dtype=bool)
        if self.options.negatives:
            good = stays.survived[patient]
            if not good.any():
                raise DataError(
                    "no patient survived, so there is no expert state",
                    where="source icu-sepsis",
                    got=f"patients = {self.options.patients}",
                    next_step="take more patients",
                )
        states = world.centres[stays.state]
        return check(
            states[good],
            negatives=states[~good],
            t=time[good],
            episode=patient[good],
            origin=f"ICU-Sepsis, {self.options.patients} patients of the clinicians",
        )
