"""Can a learner follow the reward? PPO on a learned reward alone, judged by the true return.

    make bench-policy        (or: python -m tests.benchmarks.policy [--steps N] [--seeds N])

PPO of stable-baselines3 is trained in HalfCheetah-v5 on the true reward, on the recommended reward
learned from 5,000 states of the expert, and on the published mixture of autoencoders learned from
the same states; a learner sees nothing of the true reward but in the first case. Every run has the
same settings. The figure is the true return of the deterministic policy, mean of ten fresh
episodes. Takes some minutes per run; two run at a time.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch

from iirl_engine.plugins import Plugins
from iirl_engine.registry import Registry
from tests.benchmarks.quality import POSITIVES, ours
from tests.benchmarks.rollouts import DATA, EXPERT_STATES, read

ENVIRONMENT = "HalfCheetah-v5"
GAMMA = 0.99
REWARDS = {
    "true reward": None,
    "kernel-mean (recommended)": "kernel-mean",
    "moe-autoencoder (published)": "moe-autoencoder",
}


def train(name: str, seed: int, steps: int, folder: Path) -> tuple[str, int, float, float]:
    """Return the reward's name, the seed, the true return of what PPO learned, CPU seconds."""
    import gymnasium
    from stable_baselines3 import PPO
    from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecNormalize

    from iirl_gym import VecRewardWrapper

    torch.set_num_threads(1)
    started = time.process_time()
    env: VecEnv = DummyVecEnv([lambda: gymnasium.make(ENVIRONMENT)])
    if recipe := REWARDS[name]:
        world = read(folder)
        expert = world.states[world.expert][:EXPERT_STATES]
        learn = ours(POSITIVES[recipe], Registry(Plugins()))
        env = VecRewardWrapper(env, learn(expert, np.empty((0, expert.shape[1])), seed))
    env.seed(seed)
    env = VecNormalize(env, gamma=GAMMA)
    agent = PPO("MlpPolicy", env, gamma=GAMMA, seed=seed, device="cpu")
    agent.learn(steps)
    env.training = False
    judge = gymnasium.make(ENVIRONMENT)
    returns = []
    for episode in range(10):
        state, _ = judge.reset(seed=10_000 + episode)
        returns.append(0.0)
        done = False
        while not done:
            action, _ = agent.predict(env.normalize_obs(state), deterministic=True)
            state, reward, ended, cut, _ = judge.step(action)
            returns[-1] += float(reward)
            done = ended or cut
    return name, seed, statistics.fmean(returns), time.process_time() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=DATA[0])
    parser.add_argument("--steps", type=int, default=250_000)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--workers", type=int, default=2)
    asked = parser.parse_args()
    if not asked.data.is_dir():
        sys.exit(f"policy: no such folder: {asked.data}; name rollouts with --data")
    results: dict[str, dict[int, float]] = {name: {} for name in REWARDS}
    with ProcessPoolExecutor(asked.workers, mp_context=get_context("spawn")) as pool:
        runs = [
            pool.submit(train, name, seed, asked.steps, asked.data)
            for seed in range(asked.seeds)
            for name in REWARDS
        ]
        for run in as_completed(runs):
            name, seed, true_return, spent = run.result()
            results[name][seed] = true_return
            print(f"{name}, seed {seed}: {true_return:,.0f} in {spent:.0f} CPU s", flush=True)
    best = statistics.fmean(results["true reward"].values())
    print(f"\n{ENVIRONMENT}, PPO, {asked.steps:,} steps; true return")
    for name, by_seed in results.items():
        each = "".join(f"{by_seed[seed]:>9,.0f}" for seed in sorted(by_seed))
        mean = statistics.fmean(by_seed.values())
        print(f"  {name:<30}{each}   mean {mean:>7,.0f}  {mean / best:>6.0%} of the true reward's")


if __name__ == "__main__":
    main()
