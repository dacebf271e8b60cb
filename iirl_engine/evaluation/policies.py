"""Which recordings of policies a reward is judged by, and what is known of them besides."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from iirl_engine.demonstrations import number_array, read_only, state_array
from iirl_engine.errors import DataError, UsageError

Array = NDArray[np.float64]

_TRIVIAL = ("zero", "random")
_ARRAYS = {"states", "obs", "reward", "rew", "ep_len", "episode", "ep_ret", "label", "value"}


class PoliciesError(DataError):
    """Every file of a folder that holds no policy, in one message (exit code 2)."""

    def __init__(self, folder: Path, problems: Sequence[DataError]) -> None:
        files = "1 file holds" if len(problems) == 1 else f"{len(problems)} files hold"
        super().__init__(f"{files} no policy that can be used", where=folder)
        self.problems = tuple(problems)

    def __str__(self) -> str:
        told = [textwrap.indent(str(problem), "    ") for problem in self.problems]
        return "\n".join([super().__str__(), *(f"  - {text.lstrip()}" for text in told)])


@attrs.frozen(eq=False)
class Policy:
    """States that one policy visited, and what is known of them from elsewhere.

    Nothing here comes from the reward that is judged: it is the independent column.

    Parameters
    ----------
    name
        Such as the name of its file. A name that starts with `zero` or `random` marks a trivial
        policy.
    states
        `[n, d]`, finite.
    reward
        `[n]` true reward that goes with each state, or None.
    episode
        `[n]` episode of each state, counted from 0 in the order of the file, or None.
    returns
        `[e]` true return of each episode: as recorded, else the sum of its rewards; or None.
    label
        `[n]` 0 for a good state, 1 for a bad one, or None.
    value
        `[n]` exact value of each state, or None.
    """

    name: str
    states: Array
    reward: Array | None = None
    episode: NDArray[np.int64] | None = None
    returns: Array | None = None
    label: Array | None = None
    value: Array | None = None

    @classmethod
    def from_arrays(
        cls, name: str, arrays: Mapping[str, Any], *, width: int | None = None, origin: object = ""
    ) -> Policy:
        """Check arrays, named as in a file, and return the policy.

        Parameters
        ----------
        name
            Of the policy.
        arrays
            `states` or `obs`, and optionally `reward` or `rew`, `ep_len` or `episode`, `ep_ret`,
            `label`, `value`; others are left alone.
        width
            Number of features that states must have, when it is known.
        origin
            Where the arrays come from, for messages; the name by default.

        Raises
        ------
        DataError
            When an array has the wrong shape or type, or holds NaN or Inf.
        """
        where = origin or name
        key = _either(arrays, "states", "obs")
        if key is None:
            raise DataError(
                "a policy needs its states, as 'states' or 'obs'", where=where, got=sorted(arrays)
            )
        states = state_array(arrays[key], key, where)
        if width not in (None, states.shape[1]):
            raise DataError(
                f"{key} must have as many features as the reward",
                where=where,
                got=f"{states.shape[1]} features, the reward has {width}",
            )
        rows = len(states)
        key = _either(arrays, "reward", "rew")
        reward = None if key is None else _column(arrays[key], key, rows, where)
        episode = _episodes(arrays, rows, where)
        label = _per_state(arrays, "label", rows, where)
        if label is not None and not np.isin(label, (0, 1)).all():
            raise DataError("label must be 0 (good) or 1 (bad) for each state", where=where)
        return cls(
            name=name,
            states=states,
            reward=reward,
            episode=episode,
            returns=_returns(arrays, reward, episode, where),
            label=label,
            value=_per_state(arrays, "value", rows, where),
        )

    @property
    def trivial(self) -> bool:
        """Whether its name says that it does nothing, or anything."""
        return self.name.lower().startswith(_TRIVIAL)

    @property
    def episodes(self) -> int | None:
        """Number of episodes, where it is known."""
        if self.episode is not None:
            return int(self.episode.max()) + 1
        return None if self.returns is None else len(self.returns)

    @property
    def starts(self) -> Array:
        """`[e, d]` first state of each episode; none where episodes are not known."""
        if self.episode is None:
            return self.states[:0]
        return self.states[np.unique(self.episode, return_index=True)[1]]

    @property
    def true_return(self) -> float | None:
        """Mean true return of an episode."""
        return None if self.returns is None else float(self.returns.mean())

    @property
    def true_reward(self) -> float | None:
        """Mean true reward of a state."""
        return None if self.reward is None else float(self.reward.mean())

    def per_episode(self, reward: Array) -> Array | None:
        """Return the sum `[e]` over each episode of a `reward [n]`; None without episodes."""
        if self.episode is None:
            return None
        return np.bincount(self.episode, weights=reward).astype(np.float64)


def read_policies(folder: str | Path, *, width: int | None = None) -> tuple[Policy, ...]:
    """Read every `.npz` file of a folder as one policy, in the order of their names.

    Parameters
    ----------
    folder
        Holds one file per policy; other files and folders are left alone.
    width
        Number of features that states must have, when it is known.

    Raises
    ------
    UsageError
        When there is no such folder.
    DataError
        When the folder holds no policy, or files that cannot be used; all of them are named.
    """
    place = Path(folder)
    if not place.is_dir():
        raise UsageError("there is no such folder of policies", where=place)
    files = sorted(file for file in place.glob("*.npz") if file.is_file())
    if not files:
        raise DataError(
            "the folder holds no policy",
            where=place,
            known=["one .npz file per policy"],
            next_step="write states [n, d], ep_len [e] and ep_ret [e] of each policy",
        )
    read, problems = [], []
    for file in files:
        try:
            read.append(read_policy(file, width=width))
        except DataError as problem:
            problems.append(problem)
    if problems:
        raise PoliciesError(place, problems)
    return tuple(read)


def read_policy(file: str | Path, *, width: int | None = None) -> Policy:
    """Read one `.npz` file as a policy, see `read_policies`."""
    place = Path(file)
    return Policy.from_arrays(place.stem, _arrays(place), width=width, origin=place)


def _arrays(file: Path) -> dict[str, Any]:
    try:
        with file.open("rb") as opened, np.load(opened, allow_pickle=False) as arrays:
            return {key: arrays[key] for key in arrays if key in _ARRAYS}
    except Exception as error:  # a damaged file breaks its reader in many ways
        raise DataError("the file cannot be read as .npz", where=file, got=error) from error


def _either(arrays: Mapping[str, Any], first: str, second: str) -> str | None:
    return next((key for key in (first, second) if key in arrays), None)


def _per_state(arrays: Mapping[str, Any], key: str, rows: int, where: object) -> Array | None:
    return _column(arrays[key], key, rows, where) if key in arrays else None


def _column(array: Any, key: str, rows: int, where: object) -> Array:
    """Return one finite number for each of `rows` states."""
    values = _finite(array, key, where)
    if len(values) != rows:
        raise DataError(
            f"{key} must be one number per state",
            where=where,
            got=f"{len(values)} numbers, {rows} states",
        )
    return values


def _finite(array: Any, key: str, where: object) -> Array:
    values = number_array(array, key, where).astype(np.float64)
    if values.ndim != 1 or len(values) == 0:
        got = f"shape {list(values.shape)}"
        raise DataError(f"{key} must have one axis and not be empty", where=where, got=got)
    bad = np.flatnonzero(~np.isfinite(values))
    if len(bad):
        raise DataError(
            f"{key} holds NaN or Inf in {len(bad)} of {len(values)} places",
            where=where,
            got=f"{values[bad[0]]} in place {bad[0]}",
        )
    return read_only(values)


def _episodes(arrays: Mapping[str, Any], rows: int, where: object) -> NDArray[np.int64] | None:
    """Return the episode of each state, counted from 0 in the order of the file."""
    found = []
    if "ep_len" in arrays:
        lengths = _finite(arrays["ep_len"], "ep_len", where)
        if not ((lengths >= 1) & (lengths == np.round(lengths))).all() or lengths.sum() != rows:
            raise DataError(
                "ep_len must be whole numbers from 1 that sum up to the number of states",
                where=where,
                got=f"a sum of {lengths.sum():.15g}, {rows} states",
            )
        found.append(np.repeat(np.arange(len(lengths)), lengths.astype(np.int64)))
    if "episode" in arrays:
        names = _column(arrays["episode"], "episode", rows, where)
        _, first, which = np.unique(names, return_index=True, return_inverse=True)
        found.append(np.argsort(np.argsort(first))[which])
    if not found:
        return None
    if any((found[0] != other).any() for other in found):
        raise DataError("ep_len and episode tell episodes apart differently", where=where)
    return read_only(found[0].astype(np.int64))


def _returns(
    arrays: Mapping[str, Any],
    reward: Array | None,
    episode: NDArray[np.int64] | None,
    where: object,
) -> Array | None:
    if "ep_ret" not in arrays:
        if reward is None or episode is None:
            return None
        return read_only(np.bincount(episode, weights=reward).astype(np.float64))
    returns = _finite(arrays["ep_ret"], "ep_ret", where)
    if episode is not None and len(returns) != episode.max() + 1:
        raise DataError(
            "ep_ret must be one number per episode",
            where=where,
            got=f"{len(returns)} numbers, {episode.max() + 1} episodes",
        )
    return returns
