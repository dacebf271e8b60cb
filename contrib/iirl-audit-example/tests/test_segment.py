"""The probes stand where the equation says."""

import torch

from iirl_audit_example.segment import along

LOW, HIGH = torch.full((2,), -1.0).double(), torch.full((2,), 1.0).double()


def at(start: list[float], end: list[float], *place: float) -> list[list[float]]:
    starts, ends = (torch.tensor([state] * len(place)).double() for state in (start, end))
    return along(starts, ends, LOW, HIGH, torch.tensor(place).double()).tolist()


def test_places_are_start_middle_end_and_edge() -> None:
    places = at([0.0, 0.5], [0.5, 0.5], 0.0, 0.5, 1.0, 1.5, 2.0)
    assert places == [[0.0, 0.5], [0.25, 0.5], [0.5, 0.5], [0.75, 0.5], [1.0, 0.5]]


def test_the_nearest_edge_ends_the_line() -> None:
    assert at([0.0, 0.0], [0.25, -0.5], 2.0) == [[0.5, -1.0]]


def test_two_equal_states_are_their_own_line() -> None:
    assert at([0.25, 0.5], [0.25, 0.5], 0.0, 0.7, 1.3, 2.0) == [[0.25, 0.5]] * 4


def test_nothing_lies_beyond_an_end_on_the_edge() -> None:
    assert at([0.0, 0.0], [1.0, 0.5], 1.0, 1.5, 2.0) == [[1.0, 0.5]] * 3
