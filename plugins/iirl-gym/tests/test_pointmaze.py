"""Source `pointmaze` in the real MuJoCo mazes: the driver, the walls, the demonstrations."""

from __future__ import annotations

import subprocess
import sys
import tempfile

import mujoco
import numpy as np
import pytest
import torch

from iirl_engine.api import Context
from iirl_engine.builtin.norms import BoxNorm
from iirl_engine.builtin.options import BoxOptions
from iirl_engine.errors import DataError
from iirl_engine.options import build_options
from iirl_engine.records import Demonstrations
from iirl_gym import pointmaze, waypoints
from iirl_gym.options import PointMazeOptions
from iirl_gym.pointmaze import ENVIRONMENTS, PointMaze, drive_episode, environment, journeys
from iirl_gym.walls import MazeMap, wall_blocks

BALL = 0.1
U_MAZE = np.array(
    [
        [1, 1, 1, 1, 1],
        [1, 0, 0, 0, 1],
        [1, 1, 1, 0, 1],
        [1, 0, 0, 0, 1],
        [1, 1, 1, 1, 1],
    ],
    dtype=bool,
)


def load(seed: int = 0, **options: object) -> Demonstrations:
    source = PointMaze(PointMazeOptions(**options))
    return source.load(Context("source", "pointmaze", seed, 0))


@pytest.fixture(scope="module")
def medium() -> Demonstrations:
    """A little more than one sweep: each of the 26 free cells has been a start and a goal."""
    return load(states=3500)


@pytest.fixture(scope="module")
def medium_map() -> MazeMap:
    with environment(ENVIRONMENTS["medium"]) as env:
        return MazeMap.of(env.unwrapped.maze)


def violations(demonstrations: Demonstrations, states: np.ndarray) -> np.ndarray:
    """Return `[walls, n]` what the engine's own box norm says of states, built as a chain would."""
    found = []
    for norm in demonstrations.norms:
        problems: list = []
        options = build_options(BoxOptions, norm.options, norm.id, problems, None)
        assert norm.use == "box"
        assert not problems
        box = BoxNorm(options)
        box.bind(demonstrations.feature_names)
        found.append(box.violation(torch.tensor(states)).numpy())
    return np.array(found)


def cells(maze: MazeMap, states: np.ndarray) -> list[tuple[int, int]]:
    rows = np.floor((maze.y_high - states[:, 1]) / maze.size).astype(int)
    columns = np.floor((states[:, 0] - maze.x_low) / maze.size).astype(int)
    return list(zip(rows.tolist(), columns.tolist(), strict=True))


def test_same_seed_gives_the_same_bits_and_another_seed_does_not():
    first, again, other = (load(seed, maze="umaze", states=300) for seed in (0, 0, 1))
    assert first.fingerprint == again.fingerprint
    assert first.states.tobytes() == again.states.tobytes()
    assert not np.array_equal(first.states, other.states)


def test_noise_changes_the_way():
    calm, shaky = (load(maze="umaze", states=300, noise=noise) for noise in (0.0, 0.2))
    assert not np.array_equal(calm.states, shaky.states)
    # Between waypoints the calm driver holds his speed to a hundredth.
    speeds = np.hypot(*calm.states[:, 2:].T)
    assert 0.97 < np.median(speeds) <= speeds.max() < 1.0


@pytest.mark.parametrize("states", [1, 137])
def test_as_many_states_as_asked_for(states):
    assert load(maze="umaze", states=states).states.shape == (states, 4)


def test_demonstrations_are_complete(medium):
    assert medium.feature_names == ("x", "y", "vx", "vy")
    assert medium.origin == "PointMaze_Medium-v3"
    assert len(medium.norms) == len({norm.id for norm in medium.norms})


def test_episodes_follow_one_another_and_t_counts_their_states(medium):
    starts = np.flatnonzero(np.diff(medium.episode, prepend=-1))
    assert np.array_equal(medium.episode[starts], np.arange(len(starts)))
    assert np.array_equal(medium.t, np.arange(len(medium.t)) - starts[medium.episode])
    assert np.array_equal(medium.states[starts, 2:], np.zeros((len(starts), 2)))


def test_states_within_an_episode_are_a_motion(medium):
    """Position follows from velocity: 0.05 s from state to state, at trapezoidal precision."""
    inside = np.diff(medium.episode) == 0
    step = np.diff(medium.states[:, :2], axis=0)[inside]
    mean = (medium.states[:-1, 2:] + medium.states[1:, 2:])[inside] / 2
    assert np.abs(step - 0.05 * mean).max() < 0.01


def test_each_journey_ends_where_the_next_one_starts(medium, medium_map):
    number = len(medium_map.free_cells)
    where = cells(medium_map, medium.states)
    starts = np.flatnonzero(medium.t == 0)
    ends = np.append(starts[1:], len(where)) - 1
    first = [where[row] for row in starts[:number]]
    assert sorted(first) == medium_map.free_cells
    assert [where[row] for row in ends[:number]] == [*first[1:], first[0]]


def test_every_free_cell_is_visited(medium, medium_map):
    where = cells(medium_map, medium.states)
    assert set(where) == set(medium_map.free_cells)
    assert min(where.count(cell) for cell in medium_map.free_cells) >= 10


@pytest.mark.parametrize("maze", ["umaze", "medium", "large"])
def test_the_driver_keeps_clear_of_the_walls(maze):
    demonstrations = load(maze=maze, states=2000)
    clearance = -violations(demonstrations, demonstrations.states).max()
    assert clearance > BALL + 0.05


def test_at_the_strongest_noise_the_driver_stays_out_of_the_walls():
    demonstrations = load(maze="umaze", states=2000, noise=0.2)
    assert -violations(demonstrations, demonstrations.states).max() > BALL


@pytest.mark.parametrize("maze", ["umaze", "medium", "large"])
def test_goals_are_reached(maze):
    generator = np.random.default_rng(0)
    with environment(ENVIRONMENTS[maze]) as env:
        env.reset(seed=0)
        where = MazeMap.of(env.unwrapped.maze)
        ways = journeys(where.free_cells, generator)
        for (start, goal), _ in zip(ways, range(5), strict=False):
            states = drive_episode(env, where, start, goal, 0.1, generator)
            assert cells(where, states[[0, -1]]) == [start, goal]
            apart = np.hypot(*(states[-1, :2] - env.unwrapped.goal))
            assert apart <= waypoints.REACHED


def test_a_driver_who_does_not_arrive_is_no_expert(monkeypatch):
    monkeypatch.setattr(pointmaze, "LONGEST_EPISODE", 5)
    with pytest.raises(DataError, match="did not get from cell"):
        load(maze="umaze", states=100)


def test_nothing_is_left_in_the_folder_for_temporary_files(monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    load(maze="umaze", states=1)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("maze", ["umaze", "medium", "large"])
def test_walls_are_the_geoms_of_the_model(maze):
    """On a grid of points, the norms forbid exactly what lies inside a box of the MuJoCo model."""
    demonstrations = load(maze=maze, states=1)
    with environment(ENVIRONMENTS[maze]) as env:
        model = env.unwrapped.model
        boxes = model.geom_type == mujoco.mjtGeom.mjGEOM_BOX
        centres, halves = model.geom_pos[boxes][:, :2], model.geom_size[boxes][:, :2]
    low, high = centres - halves, centres + halves
    assert demonstrations.domain.low == (*low.min(axis=0), -5.0, -5.0)
    assert demonstrations.domain.high == (*high.max(axis=0), 5.0, 5.0)
    # 0.05 m off the edges of the cells, so that no point lies on a face.
    x, y = (np.arange(low[:, axis].min() - 0.95, high[:, axis].max() + 1, 0.1) for axis in (0, 1))
    points = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 1, 2)
    solid = ((low < points) & (points < high)).all(axis=2).any(axis=1)
    states = np.concatenate([points[:, 0], np.zeros((len(points), 2))], axis=1)
    assert np.array_equal(violations(demonstrations, states).max(axis=0) > 0, solid)
    assert 0 < solid.sum() < len(solid)


def test_the_domain_covers_the_demonstrations(medium):
    assert (medium.states >= medium.domain.low).all()
    assert (medium.states <= medium.domain.high).all()


@pytest.mark.parametrize(("maze", "most"), [("umaze", 5), ("medium", 12), ("large", 15)])
def test_few_blocks_make_the_walls(maze, most):
    assert len(load(maze=maze, states=1).norms) <= most


@pytest.mark.parametrize("seed", range(50))
def test_blocks_cover_all_walls_without_a_seam_and_nothing_else(seed):
    """Random maps of 1 to 6 rows and columns, from sparse to solid."""
    generator = np.random.default_rng(seed)
    walls = generator.random(generator.integers(1, 7, size=2)) < generator.uniform(0.2, 1.0)
    blocks = wall_blocks(walls)
    covered = np.zeros_like(walls)
    for block in blocks:
        covered[block.top : block.bottom + 1, block.left : block.right + 1] = True
    assert np.array_equal(covered, walls)
    # Points on the lines between cells: inside the walls when all cells that meet there are wall,
    # and then strictly inside a block.
    rows, columns = walls.shape
    for y in np.arange(0.5, rows, 0.5):
        for x in np.arange(0.5, columns, 0.5):
            meeting = [(int(y + dy), int(x + dx)) for dy in (-0.25, 0.25) for dx in (-0.25, 0.25)]
            inside = any(
                block.top < y < block.bottom + 1 and block.left < x < block.right + 1
                for block in blocks
            )
            assert inside == all(walls[cell] for cell in meeting)


def test_shortest_path_goes_round_the_wall():
    path = waypoints.shortest_path(U_MAZE, (1, 1), (3, 1))
    assert path == [(1, 1), (1, 2), (1, 3), (2, 3), (3, 3), (3, 2), (3, 1)]
    assert waypoints.turns(path) == [(1, 3), (3, 3)]
    assert waypoints.shortest_path(U_MAZE, (1, 1), (1, 1)) == [(1, 1)]


def test_no_path_is_an_error():
    walls = U_MAZE.copy()
    walls[2, 3] = True
    with pytest.raises(ValueError, match="no path leads from cell"):
        waypoints.shortest_path(walls, (1, 1), (3, 1))


def test_the_driver_holds_speed_brakes_and_stays_within_the_motors():
    here, ahead = np.zeros(2), np.array([2.0, 0.0])
    cruising = np.array([waypoints.SPEED, 0.0])
    assert waypoints.drive(here, cruising, ahead) == pytest.approx([0.0, 0.0])
    assert waypoints.drive(here, here, ahead) == pytest.approx([0.5, 0.0])
    assert waypoints.drive(here, cruising, np.array([0.1, 0.0]))[0] < 0
    assert waypoints.drive(here, np.array([-5.0, 5.0]), ahead) == pytest.approx([1.0, -1.0])


def test_the_hook_module_is_light():
    code = (
        "import sys, iirl_gym.hooks\n"
        "heavy = {'numpy', 'torch', 'gymnasium', 'gymnasium_robotics', 'mujoco'}\n"
        "print(*heavy & set(sys.modules))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == ""
    assert run.stderr == ""
