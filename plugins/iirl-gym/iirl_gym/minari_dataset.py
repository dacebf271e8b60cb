"""Demonstrations from a Minari dataset on this machine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from gymnasium.spaces import Box, Dict
from numpy.typing import NDArray

from iirl_engine.api import Context, Source
from iirl_engine.demonstrations import check
from iirl_engine.errors import DataError, UsageError
from iirl_engine.records import Demonstrations
from iirl_gym.options import MinariOptions

if TYPE_CHECKING:
    import minari  # type: ignore[import-untyped]


class Minari(Source[MinariOptions]):
    """Reads the observations of every episode, the last one included; nothing is downloaded.

    Time counts the observations of an episode from 0. Observations of more than one axis are
    flattened. No environment is made.
    """

    def load(self, context: Context) -> Demonstrations:
        folder = dataset_folder(self.options.dataset)
        episodes: list[NDArray[Any]] = []
        missing = self.options.states
        for states in read_episodes(folder, self.options.observation):
            episodes.append(states[:missing])
            if missing is not None:
                missing -= len(episodes[-1])
                if missing == 0:
                    break
        if not episodes:
            raise DataError("the dataset has no episode", where=folder)
        lengths = [len(episode) for episode in episodes]
        return check(
            np.concatenate(episodes),
            t=np.concatenate([np.arange(length) for length in lengths]),
            episode=np.repeat(np.arange(len(lengths)), lengths),
            origin=f"Minari dataset {self.options.dataset}",
        )


def dataset_folder(dataset: str) -> Path:
    """Return the folder `data` of a dataset that is named by a path or by an id.

    Raises
    ------
    DataError
        When there is none; ids are looked for in `MINARI_DATASETS_PATH`, else in
        `~/.minari/datasets`.
    UsageError
        When Minari is not installed.
    """
    try:
        from minari.storage.datasets_root_dir import get_dataset_path  # type: ignore[import-untyped]
    except ImportError as error:
        raise UsageError(
            "source minari needs the package minari",
            got=error,
            next_step="pip install 'iirl-gym[minari]'",
        ) from error
    try:
        folders = (Path(dataset), get_dataset_path(dataset))
    except OSError as error:
        raise DataError("Minari's folder of datasets cannot be used", got=error) from error
    for folder in (inside for f in folders for inside in (f, f / "data")):
        if (folder / "metadata.json").is_file() or (folder / "main_data.hdf5").is_file():
            return folder
    raise DataError(
        "there is no such Minari dataset on this machine",
        where="source.dataset",
        got=dataset,
        known=[str(folder / "data") for folder in folders],
        next_step=f"minari download {dataset}",
    )


def read_episodes(folder: Path, key: str | None) -> Iterator[NDArray[Any]]:
    """Yield the observations `[steps + 1, d]` of each episode.

    Parameters
    ----------
    folder
        What `dataset_folder` returns.
    key
        Which part of the observation is the state, where it has named parts.

    Raises
    ------
    DataError
        When the dataset is damaged, or its observations are no arrays of numbers.
    """
    try:
        dataset = _open(folder)
        space = dataset.observation_space
    except Exception as error:  # a damaged dataset breaks its reader in many ways
        raise DataError("Minari cannot read the dataset", where=folder, got=error) from error
    box = _state_space(space, key, folder)
    episodes = iter(dataset.iterate_episodes())
    while True:
        try:
            episode = next(episodes, None)
        except Exception as error:  # the same
            raise DataError("Minari cannot read an episode", where=folder, got=error) from error
        if episode is None:
            return
        states = episode.observations if key is None else episode.observations[key]
        yield np.asarray(states).reshape(-1, int(np.prod(box.shape)))


def _open(folder: Path) -> minari.MinariDataset:
    import minari
    from minari.dataset.minari_storage import MinariStorage  # type: ignore[import-untyped]

    metadata = MinariStorage.read_raw_metadata(folder)
    # Minari would make the environment that the file names, to ask it for the space.
    if not {"observation_space", "action_space"} <= set(metadata):
        raise ValueError("it does not record its observation and action space")
    return minari.MinariDataset(folder)


def _state_space(space: Any, key: str | None, folder: Path) -> Box:
    """Return the space of the states, which must be arrays."""
    parts = dict(space.spaces) if isinstance(space, Dict) else {}
    if key is not None and key not in parts:
        raise DataError(f"observations have no part {key!r}", where=folder, got=space, known=parts)
    chosen = space if key is None else parts[key]
    if not isinstance(chosen, Box):
        raise DataError(
            "the observation is no array",
            where=folder,
            got=chosen,
            known=parts,
            next_step='name the part that is the state: observation = "..."' if parts else "",
        )
    return chosen
