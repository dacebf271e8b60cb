"""Demonstrations of a ball that is driven through a maze of gymnasium-robotics."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from iirl_engine.api import Context, Source
from iirl_engine.demonstrations import check
from iirl_engine.errors import DataError
from iirl_engine.records import Demonstrations, Domain, NormSpec
from iirl_gym.options import PointMazeOptions
from iirl_gym.walls import Cell, MazeMap, wall_blocks
from iirl_gym.waypoints import drive, is_reached, shortest_path, turns

if TYPE_CHECKING:
    import gymnasium

Array = NDArray[np.float64]

FEATURES = ("x", "y", "vx", "vy")
ENVIRONMENTS = {
    "umaze": "PointMaze_UMaze-v3",
    "medium": "PointMaze_Medium-v3",
    "large": "PointMaze_Large-v3",
}
# Metres per second; `PointEnv` clips the velocity to this and exports no name for it.
FASTEST = 5.0
# The simulation takes 100 steps a second. An action is held for 5 of them and one state is kept:
# neighbouring states are then some centimetres apart, and 20 000 of them tell of 200 ways through
# the medium maze rather than of 40.
HOLD = 5
# Two minutes, several times what the longest way takes.
LONGEST_EPISODE = 2400


class PointMaze(Source[PointMazeOptions]):
    """An expert drives a ball between random cells of a MuJoCo maze; only states are kept.

    The features are the position x, y in metres and the velocity vx, vy in metres per second.
    Each episode starts at rest in one free cell and ends where it arrives in another; every cell
    gets its turn. The walls come as `box` norms, and the domain is the whole maze with its outer
    walls at every velocity that the ball can have.
    """

    def load(self, context: Context) -> Demonstrations:
        name = ENVIRONMENTS[self.options.maze]
        with environment(name) as env:
            maze = MazeMap.of(env.unwrapped.maze)  # type: ignore[attr-defined]
            driven = self._drive(env, maze, context.generator())
        lengths = [len(episode) for episode in driven]
        low, high = maze.corners(maze.whole)
        return check(
            np.concatenate(driven),
            feature_names=FEATURES,
            t=np.concatenate([np.arange(length) for length in lengths]),
            episode=np.repeat(np.arange(len(lengths)), lengths),
            norms=wall_norms(maze),
            domain=Domain((*low, -FASTEST, -FASTEST), (*high, FASTEST, FASTEST)),
            origin=name,
        )

    def _drive(
        self, env: gymnasium.Env[Any, Any], maze: MazeMap, generator: np.random.Generator
    ) -> list[Array]:
        """Return episodes `[length, 4]` with `states` states in all; the last may be cut short."""
        env.reset(seed=int(generator.integers(2**31)))
        driven: list[Array] = []
        missing = self.options.states
        for start, goal in journeys(maze.free_cells, generator):
            episode = drive_episode(env, maze, start, goal, self.options.noise, generator)
            driven.append(episode[:missing])
            missing -= len(driven[-1])
            if missing == 0:
                break
        return driven


def journeys(cells: list[Cell], generator: np.random.Generator) -> Iterator[tuple[Cell, Cell]]:
    """Yield (start, goal) for ever: in a random order, in which each cell is both equally often."""
    while True:
        order = generator.permutation(len(cells))
        for start, goal in zip(order, np.roll(order, -1), strict=True):
            yield cells[start], cells[goal]


def drive_episode(
    env: gymnasium.Env[Any, Any],
    maze: MazeMap,
    start: Cell,
    goal: Cell,
    noise: float,
    generator: np.random.Generator,
) -> Array:
    """Drive the ball from one cell to a goal in another and return its states `[length, 4]`.

    The environment puts start and goal up to a quarter of a cell off the centres. The first
    state is at rest, the last within `waypoints.REACHED` of the goal.

    Raises
    ------
    DataError
        When the goal is not reached within `LONGEST_EPISODE` states.
    """
    observation, _ = env.reset(options={"reset_cell": start, "goal_cell": goal})
    route = [maze.centre(cell) for cell in turns(shortest_path(maze.walls, start, goal))]
    route.append(observation["desired_goal"])
    states = [observation["observation"]]
    for waypoint in route:
        while not is_reached(states[-1][:2], waypoint):
            if len(states) == LONGEST_EPISODE:
                raise DataError(
                    f"the driver did not get from cell {start} to cell {goal}",
                    where="source pointmaze",
                    got=f"noise = {noise:g}",
                    next_step="lower the noise",
                )
            action = drive(states[-1][:2], states[-1][2:], waypoint)
            states.append(_hold(env, action + noise * generator.standard_normal(2)))
    return np.array(states)


def wall_norms(maze: MazeMap) -> list[NormSpec]:
    """Return norms that forbid the walls, named for their first and last cell."""
    norms = []
    for block in wall_blocks(maze.walls):
        low, high = maze.corners(block)
        norms.append(
            NormSpec(
                use="box",
                id=f"wall-r{block.top}c{block.left}-r{block.bottom}c{block.right}",
                options={
                    "features": list(FEATURES[:2]),
                    "low": list(low),
                    "high": list(high),
                    "forbid": True,
                },
            )
        )
    return norms


@contextlib.contextmanager
def environment(name: str) -> Iterator[gymnasium.Env[Any, Any]]:
    """Make an environment without display and time limit, and close it afterwards."""
    import gymnasium

    # Some releases print a notice about environments of robot hands when they are imported.
    with contextlib.redirect_stderr(io.StringIO()):
        import gymnasium_robotics  # type: ignore[import-untyped]

    gymnasium.register_envs(gymnasium_robotics)
    env = gymnasium.make(name, max_episode_steps=-1, disable_env_checker=True)
    try:
        # The environment writes its model to the folder for temporary files and leaves it there.
        Path(env.unwrapped.tmp_xml_file_path).unlink(missing_ok=True)  # type: ignore[attr-defined]
        yield env
    finally:
        env.close()


def _hold(env: gymnasium.Env[Any, Any], action: Array) -> Array:
    """Apply one action for `HOLD` simulation steps and return the state `[4]` after them."""
    force = np.clip(action, -1.0, 1.0).astype(np.float32)
    for _ in range(HOLD):
        observation, *_ = env.step(force)
    state: Array = observation["observation"]
    return state
