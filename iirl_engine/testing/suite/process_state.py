"""What every strategy shares with the process it runs in, and must leave as it was."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch


class ProcessState:
    """The states of the global random generators and of torch's gradient mode, when built."""

    def __init__(self) -> None:
        self._torch = torch.random.get_rng_state()
        self._numpy: dict[str, Any] = np.random.get_state(legacy=False)  # noqa: NPY002
        self._random = random.getstate()
        self._gradients = torch.is_grad_enabled()

    def generators_used(self) -> list[str]:
        """Return whose global generator has been used or seeded since."""
        now = ProcessState()
        same = {
            "torch": torch.equal(now._torch, self._torch),
            "NumPy": repr(_plain(now._numpy)) == repr(_plain(self._numpy)),
            "module random": now._random == self._random,
        }
        return [name for name, untouched in same.items() if not untouched]

    def restore(self) -> None:
        """Set everything back."""
        torch.random.set_rng_state(self._torch)
        np.random.set_state(self._numpy)  # noqa: NPY002
        random.setstate(self._random)
        torch.set_grad_enabled(self._gradients)


@contextlib.contextmanager
def kept() -> Iterator[ProcessState]:
    """Set the process back at the end, so that no plugin disturbs the checks that follow."""
    before = ProcessState()
    try:
        yield before
    finally:
        before.restore()


def _plain(state: dict[str, Any]) -> dict[str, Any]:
    # The position counts too: most draws move nothing else.
    return state | {"state": {"key": state["state"]["key"].tolist(), "pos": state["state"]["pos"]}}
