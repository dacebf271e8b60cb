"""gymnasium for iirl-engine: demonstrations from environments, and rewards for learners.

    import iirl_engine as iirl
    from iirl_gym import RewardWrapper

    env = RewardWrapper(env, iirl.load_release("runs/x"))

Public names are imported on first use (PEP 562), so that `import iirl_gym` stays light.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from iirl_gym.candidates import best_of, endorsed
    from iirl_gym.reward_fn import as_reward_fn
    from iirl_gym.reward_wrapper import RewardWrapper
    from iirl_gym.sepsis_policies import write_policies
    from iirl_gym.shaping import Shaping, ShapingWrapper
    from iirl_gym.vec_reward_wrapper import VecRewardWrapper

_HOME = {
    "RewardWrapper": "reward_wrapper",
    "Shaping": "shaping",
    "ShapingWrapper": "shaping",
    "VecRewardWrapper": "vec_reward_wrapper",
    "as_reward_fn": "reward_fn",
    "best_of": "candidates",
    "endorsed": "candidates",
    "write_policies": "sepsis_policies",
}

__all__ = [
    "RewardWrapper",
    "Shaping",
    "ShapingWrapper",
    "VecRewardWrapper",
    "as_reward_fn",
    "best_of",
    "endorsed",
    "write_policies",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"iirl_gym.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
