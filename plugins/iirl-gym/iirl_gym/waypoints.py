"""The expert that drives the ball: a shortest path over cells and a controller along it."""

from __future__ import annotations

from collections import deque

import numpy as np
from numpy.typing import NDArray

from iirl_gym.walls import Cell

Array = NDArray[np.float64]

# Metres per second between waypoints.
SPEED = 1.0
# Wanted speed per metre of distance: the ball slows down on the last third of a metre.
APPROACH = 3.0
# Action per metre per second of wrong speed. The ball weighs 4.19 kg and an action of 1 is
# 100 N, so this takes away six tenths of the error within one control step of 0.05 s.
GAIN = 0.5
# Metres from a waypoint at which it counts as reached.
REACHED = 0.1


def shortest_path(walls: NDArray[np.bool_], start: Cell, goal: Cell) -> list[Cell]:
    """Return the cells of a shortest path, `start` and `goal` included (breadth-first search).

    Parameters
    ----------
    walls
        `[rows, columns]` True where a cell is a wall; the outermost cells are walls.
    start, goal
        Free cells (row, column).

    Raises
    ------
    ValueError
        When walls cut the goal off from the start.
    """
    came_from = {start: start}
    queue = deque([start])
    while queue and goal not in came_from:
        row, column = queue.popleft()
        for cell in ((row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)):
            if not walls[cell] and cell not in came_from:
                came_from[cell] = (row, column)
                queue.append(cell)
    if goal not in came_from:
        raise ValueError(f"no path leads from cell {start} to cell {goal}")
    path = [goal]
    while path[-1] != start:
        path.append(came_from[path[-1]])
    return path[::-1]


def turns(path: list[Cell]) -> list[Cell]:
    """Return the cells in which a path changes its direction.

    From one turn to the next the way is straight and free. A driver who goes through the centre
    of each turn therefore cuts no corner.
    """
    return [
        here
        for before, here, after in zip(path, path[1:], path[2:], strict=False)
        if (here[0] - before[0], here[1] - before[1]) != (after[0] - here[0], after[1] - here[1])
    ]


def drive(position: Array, velocity: Array, waypoint: Array) -> Array:
    """Return the action `[2]` that drives the ball to a waypoint, each component in [-1, 1].

    Proportional control of the position sets a wanted velocity of at most `SPEED`; proportional
    control of the velocity, the derivative, sets the force.

    Parameters
    ----------
    position, waypoint
        `[2]` x, y in metres.
    velocity
        `[2]` in metres per second.
    """
    wanted = APPROACH * (waypoint - position)
    wanted *= SPEED / max(SPEED, float(np.hypot(wanted[0], wanted[1])))
    return np.clip(GAIN * (wanted - velocity), -1.0, 1.0)


def is_reached(position: Array, waypoint: Array) -> bool:
    """Say whether a position `[2]` is within `REACHED` of a waypoint `[2]`."""
    return bool(np.hypot(*(waypoint - position)) <= REACHED)
