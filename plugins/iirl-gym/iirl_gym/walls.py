"""Where the walls of a maze are: cells, and the fewest boxes that cover them without a seam."""

from __future__ import annotations

from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

Cell = tuple[int, int]
Array = NDArray[np.float64]


@attrs.frozen
class Block:
    """A rectangle of cells: rows `top` to `bottom` and columns `left` to `right`, inclusive."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def area(self) -> int:
        """How many cells it has."""
        return (self.bottom - self.top + 1) * (self.right - self.left + 1)


@attrs.frozen(eq=False)
class MazeMap:
    """A maze of square cells; row 0 is its upper edge, where y is highest.

    Parameters
    ----------
    walls
        `[rows, columns]` True where a cell is a wall.
    size
        Edge of a cell in metres.
    x_low, y_high
        The maze's upper left corner in metres.
    """

    walls: NDArray[np.bool_]
    size: float
    x_low: float
    y_high: float

    @classmethod
    def of(cls, maze: Any) -> MazeMap:
        """Return the map of a gymnasium-robotics `Maze`, where the number 1 marks a wall."""
        return cls(
            walls=np.array([[cell == 1 for cell in row] for row in maze.maze_map]),
            size=float(maze.maze_size_scaling),
            x_low=-float(maze.x_map_center),
            y_high=float(maze.y_map_center),
        )

    @property
    def free_cells(self) -> list[Cell]:
        """The cells (row, column) that are no wall, row by row."""
        return [(int(row), int(column)) for row, column in np.argwhere(~self.walls)]

    @property
    def whole(self) -> Block:
        """The block of all cells."""
        rows, columns = self.walls.shape
        return Block(0, 0, rows - 1, columns - 1)

    def centre(self, cell: Cell) -> Array:
        """Return the centre `[2]` of a cell: x, y in metres."""
        row, column = cell
        return np.array(
            [self.x_low + (column + 0.5) * self.size, self.y_high - (row + 0.5) * self.size]
        )

    def corners(self, block: Block) -> tuple[tuple[float, float], tuple[float, float]]:
        """Return the lowest and the highest (x, y) of a block in metres."""
        low = (
            self.x_low + block.left * self.size,
            self.y_high - (block.bottom + 1) * self.size,
        )
        high = (
            self.x_low + (block.right + 1) * self.size,
            self.y_high - block.top * self.size,
        )
        return low, high


def wall_blocks(walls: NDArray[np.bool_]) -> list[Block]:
    """Cover the walls with blocks, greedily: each next block covers most of what is still bare.

    Blocks overlap where walls meet, so that every point inside the walls, those on the line
    between two wall cells too, lies inside some block and not merely on its edge. Otherwise such
    a line would be an allowed path through the wall.

    Parameters
    ----------
    walls
        `[rows, columns]` True where a cell is a wall.

    Returns
    -------
    Blocks of wall cells that cover every wall cell and no other.
    """
    bare = _inner_points(walls)
    blocks = _all_blocks(walls)
    chosen = []
    while bare.any():
        best = max(blocks, key=lambda block: (bare[_points(block)].sum(), block.area))
        bare[_points(best)] = False
        chosen.append(best)
    return chosen


def _inner_points(walls: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return `[2 rows - 1, 2 columns - 1]`: what has wall all around it.

    Even, even is a cell; one index odd is the edge between two cells; odd, odd is a corner
    between four.
    """
    rows, columns = walls.shape
    points = np.empty((2 * rows - 1, 2 * columns - 1), dtype=bool)
    points[::2, ::2] = walls
    points[1::2, ::2] = walls[:-1] & walls[1:]
    points[:, 1::2] = points[:, :-1:2] & points[:, 2::2]
    return points


def _points(block: Block) -> tuple[slice, slice]:
    """Return which of the inner points lie inside a block."""
    return (
        slice(2 * block.top, 2 * block.bottom + 1),
        slice(2 * block.left, 2 * block.right + 1),
    )


def _all_blocks(walls: NDArray[np.bool_]) -> list[Block]:
    """Return every block that holds nothing but walls."""
    rows, columns = walls.shape
    return [
        Block(top, left, bottom, right)
        for top in range(rows)
        for bottom in range(top, rows)
        for left in range(columns)
        for right in range(left, columns)
        if walls[top : bottom + 1, left : right + 1].all()
    ]
