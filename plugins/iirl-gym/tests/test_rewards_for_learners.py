"""A learned reward in real environments: what is scored, when, and what is kept."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from stable_baselines3 import PPO
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecNormalize

import iirl_engine as iirl
from iirl_engine.errors import DataError, UsageError
from iirl_gym import RewardWrapper, VecRewardWrapper, as_reward_fn

STEPS = 7


def first_three(observation: np.ndarray) -> np.ndarray:
    return observation[:3]


def pendulum(limit: int = STEPS) -> gymnasium.Env[Any, Any]:
    return gymnasium.make("Pendulum-v1", max_episode_steps=limit)


class Named(gymnasium.ObservationWrapper[Any, Any, Any]):
    """The state as one of two named parts."""

    def __init__(self, env: gymnasium.Env[Any, Any]) -> None:
        super().__init__(env)
        self.observation_space = gymnasium.spaces.Dict(
            {"goal": gymnasium.spaces.Discrete(2), "state": env.observation_space}
        )

    def observation(self, observation: Any) -> Any:
        return {"goal": 1, "state": observation}


def test_the_successor_is_scored_at_its_time_and_the_own_reward_kept(
    reward: iirl.RewardModel,
) -> None:
    env, plain = RewardWrapper(pendulum(), reward), pendulum()
    for _ in range(2):
        env.reset(seed=1)
        plain.reset(seed=1)
        for t in range(1, STEPS + 1):
            action = np.array([0.3], dtype=np.float32)
            observation, paid, *_, info = env.step(action)
            same, original, *_ = plain.step(action)
            assert (observation == same).all()
            assert isinstance(paid, float)
            assert paid == reward(observation[None], t=t)[0]
            # The schedule halves the reward every two steps.
            assert paid == pytest.approx(reward(observation[None])[0] * 2 ** (-t / 2), rel=1e-5)
            assert info["original_reward"] == original


def test_rewards_differ_from_state_to_state(reward: iirl.RewardModel) -> None:
    """Otherwise the test above could not tell a state from its successor."""
    env = RewardWrapper(pendulum(), lambda states, t=None: reward(states))
    env.reset(seed=1)
    paid = [env.step(np.array([1.0], dtype=np.float32))[1] for _ in range(STEPS)]
    assert len(set(paid)) == STEPS
    assert max(paid) > 0.05


@pytest.mark.filterwarnings("ignore::UserWarning")  # its advice on Pendulum and on wrappers
def test_it_is_a_proper_environment(reward: iirl.RewardModel) -> None:
    check_env(
        RewardWrapper(gymnasium.make("Pendulum-v1").unwrapped, reward), skip_render_check=True
    )


def test_its_specification_makes_the_same_environment_again(reward: iirl.RewardModel) -> None:
    env = RewardWrapper(pendulum(), reward)
    assert env.spec is not None
    again = gymnasium.make(env.spec)
    assert isinstance(again, RewardWrapper)
    action = np.array([0.3], dtype=np.float32)
    env.reset(seed=2)
    again.reset(seed=2)
    assert env.step(action)[1] == again.step(action)[1]


def test_halfcheetah_s_state_is_picked_out_of_the_observation(
    reward: iirl.RewardModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # MuJoCo leaves a log where it is called
    env = RewardWrapper(gymnasium.make("HalfCheetah-v5"), reward, observe=first_three)
    env.reset(seed=0)
    observation, paid, *_ = env.step(np.zeros(6, dtype=np.float32))
    assert observation.shape == (17,)
    assert paid == reward(observation[None, :3], t=1)[0]


def test_an_observation_of_another_width_is_refused_at_once(
    reward: iirl.RewardModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # the same
    with pytest.raises(UsageError, match="other features") as refused:
        RewardWrapper(gymnasium.make("HalfCheetah-v5"), reward)
    assert "17 features, the reward has 3" in str(refused.value)


def test_named_parts_need_a_choice(reward: iirl.RewardModel) -> None:
    with pytest.raises(UsageError, match="not clear what its state is"):
        RewardWrapper(Named(pendulum()), reward)
    env = RewardWrapper(Named(pendulum()), reward, observe=lambda seen: seen["state"])
    env.reset(seed=0)
    observation, paid, *_ = env.step(np.zeros(1, dtype=np.float32))
    assert paid == reward(observation["state"][None], t=1)[0]


@pytest.mark.parametrize("broken", [np.nan, np.inf])
def test_a_state_that_is_no_number_earns_nothing(reward: iirl.RewardModel, broken: float) -> None:
    env = RewardWrapper(pendulum(), reward, observe=lambda seen: np.array([0, 0, broken]))
    env.reset(seed=0)
    assert env.step(np.zeros(1, dtype=np.float32))[1] == 0.0
    env = RewardWrapper(pendulum(), lambda states, t=None: np.full(len(states), broken))
    env.reset(seed=0)
    assert env.step(np.zeros(1, dtype=np.float32))[1] == 0.0


def test_an_answer_of_another_shape_is_refused() -> None:
    env = RewardWrapper(pendulum(), lambda states, t=None: 1.0)
    env.reset(seed=0)
    with pytest.raises(UsageError, match="one number per state"):
        env.step(np.zeros(1, dtype=np.float32))


class Counting:
    """A reward that keeps what it was asked."""

    def __init__(self, reward: iirl.RewardModel) -> None:
        self.reward = reward
        self.width = reward.width
        self.asked: list[tuple[np.ndarray, np.ndarray]] = []

    def __call__(self, states: np.ndarray, t: Any = None) -> np.ndarray:
        self.asked.append((states.copy(), t.copy()))
        return self.reward(states, t=t)


@pytest.mark.parametrize("subprocesses", [False, True])
def test_vec_env_scores_terminal_observations_in_one_call_per_step(
    reward: iirl.RewardModel, subprocesses: bool
) -> None:
    limits = (3, 5)
    makers = [lambda limit=limit: pendulum(limit) for limit in limits]
    kind = SubprocVecEnv if subprocesses else DummyVecEnv
    plain, counting = kind(makers), Counting(reward)
    venv = VecRewardWrapper(kind(makers), counting)
    venv.seed(4)
    plain.seed(4)
    assert (venv.reset() == plain.reset()).all()
    actions = np.array([[0.5], [-0.5]], dtype=np.float32)
    for step in range(1, 11):
        observations, paid, dones, infos = venv.step(actions)
        same, originals, same_dones, same_infos = plain.step(actions)
        assert (observations == same).all()
        assert (dones == same_dones).all()
        assert len(counting.asked) == step
        assert paid.dtype == np.float32
        for i, limit in enumerate(limits):
            t = (step - 1) % limit + 1
            assert dones[i] == (t == limit)
            state = infos[i]["terminal_observation"] if dones[i] else observations[i]
            assert paid[i] == reward(state[None], t=t)[0]
            if dones[i]:
                assert paid[i] != reward(observations[i][None], t=t)[0]
                assert (state == same_infos[i]["terminal_observation"]).all()
            assert infos[i]["original_reward"] == originals[i]
        assert [t.tolist() for _, t in counting.asked[-1:]] == [
            [(step - 1) % limit + 1 for limit in limits]
        ]
    venv.reset()
    venv.step(actions)
    assert counting.asked[-1][1].tolist() == [1, 1]
    venv.close()
    plain.close()


def test_vec_env_with_named_parts(reward: iirl.RewardModel) -> None:
    venv = DummyVecEnv([lambda: Named(pendulum(2))] * 2)
    with pytest.raises(UsageError, match="not clear what its state is"):
        VecRewardWrapper(venv, reward)
    wrapped = VecRewardWrapper(venv, reward, observe=lambda seen: seen["state"])
    wrapped.reset()
    observations, paid, *_ = wrapped.step(np.zeros((2, 1), dtype=np.float32))
    assert (paid == reward(observations["state"], t=1)).all()
    _, paid, dones, infos = wrapped.step(np.zeros((2, 1), dtype=np.float32))
    assert dones.all()
    ends = np.array([info["terminal_observation"]["state"] for info in infos])
    assert (paid == reward(ends, t=2)).all()


def test_ppo_learns_from_it_and_a_monitor_inside_logs_the_true_return(
    reward: iirl.RewardModel,
) -> None:
    venv = DummyVecEnv([lambda: Monitor(pendulum(16))] * 2)
    learner = PPO(
        "MlpPolicy",
        VecNormalize(VecRewardWrapper(venv, reward)),
        n_steps=32,
        batch_size=32,
        n_epochs=1,
        seed=0,
        device="cpu",
    )
    learner.learn(64)
    rewards = learner.rollout_buffer.rewards
    assert rewards.shape == (32, 2)
    assert rewards.max() > 0
    # Pendulum's own reward is a cost.
    assert all(episode["r"] < 0 for episode in learner.ep_info_buffer or ())
    assert len(learner.ep_info_buffer or ()) == 4


def test_as_reward_fn_scores_successors_whatever_else_it_is_told(
    reward: iirl.RewardModel,
) -> None:
    states = reward.demonstrations.states[:5].astype(np.float32)
    others = np.full((5, 3), np.nan, dtype=np.float32)
    reward_fn = as_reward_fn(reward)
    answer = reward_fn(others, np.zeros((5, 1)), states, np.array([True, False] * 2 + [True]))
    assert answer.dtype == np.float32
    assert answer.shape == (5,)
    assert (answer == reward(states)).all()
    assert answer.min() > 0
    # Observations of more than one axis are flattened.
    assert (reward_fn(others, others, states[:, :, None], others[:, 0]) == answer).all()


def test_as_reward_fn_refuses_other_states(reward: iirl.RewardModel) -> None:
    with pytest.raises(DataError):
        as_reward_fn(reward)(np.zeros((2, 4)), np.zeros(2), np.zeros((2, 4)), np.zeros(2))


def test_the_package_is_light_until_a_name_is_used() -> None:
    code = (
        "import sys, iirl_gym\n"
        "names = set(iirl_gym.__all__) - set(dir(iirl_gym))\n"
        "heavy = {'numpy', 'torch', 'gymnasium', 'stable_baselines3', 'minari', 'click'}\n"
        "print(*names, *heavy & set(sys.modules))\n"
        "from iirl_gym import *\n"
        "print(RewardWrapper.__name__, 'stable_baselines3' in sys.modules)\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split("\n") == ["", "RewardWrapper True", ""]


def test_float32_and_torch_states_agree_with_the_release(reward: iirl.RewardModel) -> None:
    states = reward.demonstrations.states[:4]
    answer = as_reward_fn(reward)(states, states, states, states[:, 0])
    assert answer == pytest.approx(reward(torch.tensor(states)).numpy(), rel=1e-6)
