"""What a policy earns that does nothing: standing still, frozen and permuted features, replays."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from iirl_auditors.adversarial.options import TrivialOptions
from iirl_engine import Auditor, Concern, Context
from iirl_engine.demonstrations import episode_starts
from iirl_engine.evaluation.trivial import visited
from iirl_engine.records import Family

if TYPE_CHECKING:
    from iirl_engine.target import Target

Array = NDArray[np.float64]

# With fewer demonstrations to compare with, a share says nothing.
_LEAST = 4
_KINDS = {
    "frozen start": ("standing-still", "A policy that stands still where episodes start"),
    "zero state": ("zero-state", "A policy that stays where every feature is 0"),
    "constant mean state": ("constant-state", "A policy that stays in the mean demonstration"),
    "shuffled features": (
        "permuted-features",
        "A policy whose every feature looks right and whose states do not",
    ),
}


class Trivial(Auditor[TrivialOptions]):
    """Asks what behaviour earns that nobody would call competent, beside fresh demonstrations.

    A frozen state may lie well inside the support, so that no norm decides whether its reward is
    right: what earns `share` of what demonstrations earn, or more, is a concern. A reward that is
    asked about on the way, endorsed and forbidden is a suspected flaw as usual.
    """

    family: Family = "adversarial"
    blind_to = dict.fromkeys(
        ("Cliff", "Flat", "Spike", "Noisy"),
        "trivial behaviour of these demonstrations stays where no norm forbids anything",
    )

    def audit(self, target: Target, context: Context) -> Iterator[Tensor | Concern]:
        generator, data = context.generator(), target.demonstrations
        part = target.budget // 8
        known = data.held_out if len(data.held_out) else data.states
        some = known[generator.permutation(len(known))[:part]]
        if len(some) < _LEAST:
            return
        earned = _mean(target, some)
        if earned <= target.floor:
            return  # nothing is a share of nothing
        starts = episode_starts(data)
        made = visited(generator.permutation(starts)[:part], some, generator=generator)
        made["zero state"] = np.zeros((1, len(target.low)))
        for name, states in made.items():
            if len(states):
                reward = target.reward(torch.tensor(states))
                yield _suspects(target, torch.tensor(states), reward)
                yield from self._told(*_KINDS[name], states, float(reward.mean()), earned)
        yield from self._replayed(target, generator, earned, part)
        still = starts.mean(axis=0) if len(starts) else np.zeros(len(target.low))
        yield from self._frozen(target, generator.permutation(some), still, earned)

    def _told(
        self, kind: str, what: str, states: Array, reward: float, earned: float
    ) -> Iterator[Concern]:
        share = reward / earned
        if share >= self.options.share:
            yield Concern(
                kind,
                f"{what} earns {share:.2f} times what demonstrations earn.",
                {"share": share, "reward": reward, "demonstrations": earned},
                states[:4],
            )

    def _replayed(
        self, target: Target, generator: np.random.Generator, earned: float, queries: int
    ) -> Iterator[Tensor | Concern]:
        """Look for a short segment of the demonstrations that it pays to repeat for ever."""
        segments = segments_of(target.demonstrations.episode, len(target.demonstrations.states))
        length = self.options.segment if target.demonstrations.episode is not None else 1
        runs = [run[i : i + length] for run in segments for i in range(0, len(run), length)]
        whole = [run for run in runs if len(run) == length]
        drawn = generator.permutation(len(whole))[: queries // length]
        if not len(drawn):
            return
        rows = np.stack([whole[i] for i in drawn])
        states = torch.tensor(target.demonstrations.states[rows.reshape(-1)])
        reward = target.reward(states)
        yield _suspects(target, states, reward)
        means = reward.reshape(rows.shape).mean(dim=1)
        best, gain = int(means.argmax()), float(means.max()) / earned
        if gain >= self.options.gain:
            yield Concern(
                "replayed-segment",
                f"Repeating the best-paid {length} of the demonstrations' states for ever earns "
                f"{gain:.2f} times what demonstrations earn.",
                {"gain": gain, "length": length, "demonstrations": earned},
                target.demonstrations.states[rows[best]],
            )

    def _frozen(
        self, target: Target, some: Array, still: Array, earned: float
    ) -> Iterator[Concern]:
        """Freeze features where standing still has them, those that matter least first."""
        width = some.shape[1]
        rows = some[: target.remaining // (2 * width)]
        if len(rows) < _LEAST or width < 3:
            return
        if _mean(target, still[None]) >= self.options.share * earned:
            return  # nothing has to move at all, which is a concern of its own
        alone = [_mean(target, frozen(rows, still, [feature])) for feature in range(width)]
        order = np.argsort(-np.array(alone), kind="stable")
        together = [
            _mean(target, frozen(rows, still, order[: count + 1])) for count in range(width - 1)
        ]
        kept = np.flatnonzero(np.array(together) >= self.options.share * earned) + 1
        if len(kept) and 2 * kept[-1] > width:
            count = int(kept[-1])
            names = [target.demonstrations.feature_names[i] for i in order[count:]]
            yield Concern(
                "frozen-features",
                f"{count} of {width} features may stand still; all that has to move is "
                f"{', '.join(names[:5])}{' and others' if len(names) > 5 else ''}.",
                {
                    "frozen": count,
                    "features": width,
                    "share": together[count - 1] / earned,
                    "demonstrations": earned,
                },
                frozen(rows, still, order[:count])[:4],
            )


def frozen(states: Array, values: Array, features: NDArray[np.int64] | list[int]) -> Array:
    """Return the states `[n, d]` with these features held at their values `[d]`."""
    held = states.copy()
    held[:, features] = values[features]
    return held


def segments_of(episode: NDArray[np.int64] | None, count: int) -> list[NDArray[np.int64]]:
    """Return the row numbers of each unbroken run of one episode; every row alone without any."""
    rows = np.arange(count)
    if episode is None:
        return list(rows[:, None])
    return np.split(rows, np.flatnonzero(np.diff(episode)) + 1)


def _mean(target: Target, states: Array) -> float:
    return float(target.reward(torch.tensor(states)).mean())


def _suspects(target: Target, states: Tensor, reward: Tensor) -> Tensor:
    inside = ((states >= target.low) & (states <= target.high)).all(dim=1)
    return states[inside & (reward > target.floor) & (target.violation(states) > 0)]
