"""Demonstrations of every awkward kind: a clear error or a right result, never a silent NaN."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import iirl_engine as iirl
from iirl_engine.api import Context
from iirl_engine.builtin.files import Csv
from iirl_engine.builtin.options import CsvOptions
from iirl_engine.demonstrations import check, hold_out, too_few
from iirl_engine.knowledge import Knowledge

CHAIN = """
report = []
[flywheel]
rounds = 2
[source]
use = "npz"
path = "demos.npz"
[encoder]
use = "{encoder}"
{encoder_options}
[mapping]
use = "{mapping}"
[[norm]]
use = "support"
boundary = {boundary}
[[audit]]
use = "sobol"
budget = 256
[[audit]]
use = "ray"
budget = 256
[[audit]]
use = "pgd"
budget = 320
[[refine]]
use = "envelope"
"""
COMBINATIONS = [
    ("moe-autoencoder", "steps = 50", "exp"),
    ("moe-autoencoder", "steps = 50", "linear"),
    ("knn", "", "exp"),
    ("knn", "", "linear"),
]


def curve(rows: int = 30) -> np.ndarray:
    t = np.linspace(0.0, 1.0, rows)
    return np.stack([t, np.sin(3 * t)], axis=1)


def run(
    folder: Path,
    states: Any,
    *,
    encoder: str = "moe-autoencoder",
    encoder_options: str = "steps = 50",
    mapping: str = "exp",
    boundary: object = '"auto"',
) -> tuple[iirl.Outcome, iirl.RewardModel]:
    np.savez(folder / "demos.npz", states=states)
    text = CHAIN.format(
        encoder=encoder, encoder_options=encoder_options, mapping=mapping, boundary=boundary
    )
    (folder / "chain.toml").write_text(text)
    outcome = iirl.Flywheel.from_file(folder / "chain.toml", out=folder / "run").run()
    return outcome, iirl.load_release(outcome.release)


@pytest.mark.parametrize(
    ("states", "said"),
    [
        (np.array([[0.0, 1.0], [np.nan, 2.0]]), "row 1, column 0"),
        (np.array([[0.0, 1.0], [0.0, np.inf]]), "row 1, column 1"),
        (np.arange(5.0), r"\[n states, d features\]"),
        (np.zeros((2, 3, 4)), r"shape \[2, 3, 4\]"),
        (np.empty((0, 3)), "is empty"),
        (np.empty((3, 0)), "is empty"),
        (np.array([["a", "b"]]), "integers or floats"),
        (np.array([[1j, 2j]]), "integers or floats"),
        (np.array([[True, False]]), "integers or floats"),
    ],
)
def test_unusable_states_are_named_with_their_place(
    states: np.ndarray, said: str, tmp_path: Path
) -> None:
    with pytest.raises(iirl.DataError, match=said) as error:
        run(tmp_path, states)
    assert error.value.exit_code == 2
    assert not (tmp_path / "run" / "releases").exists()


def test_a_pickle_in_a_numpy_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(iirl.DataError, match="plain arrays"):
        run(tmp_path, np.array([{"a": 1}], dtype=object))


@pytest.mark.parametrize(("encoder", "encoder_options", "mapping"), COMBINATIONS)
def test_one_state_is_enough_when_the_boundary_is_given(
    encoder: str, encoder_options: str, mapping: str, tmp_path: Path
) -> None:
    outcome, reward = run(
        tmp_path,
        np.array([[1.0, 2.0]]),
        encoder=encoder,
        encoder_options=encoder_options,
        mapping=mapping,
        boundary=0.5,
    )
    assert outcome.open_flaws == 0
    assert reward(np.array([[1.0, 2.0]]))[0] > 0.3
    assert reward(np.array([[1.0, 9.0]]))[0] == 0.0


def test_one_state_has_no_automatic_boundary(tmp_path: Path) -> None:
    with pytest.raises(iirl.DataError, match="two different expert states"):
        run(tmp_path, np.array([[1.0, 2.0]]))


@pytest.mark.parametrize(("encoder", "encoder_options", "mapping"), COMBINATIONS)
@pytest.mark.parametrize("scale", [1e-300, 1e-12, 1.0, 1e12, 1e300])
def test_the_result_does_not_depend_on_the_unit(
    scale: float, encoder: str, encoder_options: str, mapping: str, tmp_path: Path
) -> None:
    states = curve() * scale
    outcome, reward = run(
        tmp_path, states, encoder=encoder, encoder_options=encoder_options, mapping=mapping
    )
    assert outcome.open_flaws == 0
    at_experts = reward(states)
    assert np.isfinite(at_experts).all()
    assert at_experts.mean() > 0.4
    assert reward(states + 100 * scale).max() == 0.0
    if scale != 1.0:
        (tmp_path / "unit").mkdir()
        _, plain = run(
            tmp_path / "unit",
            curve(),
            encoder=encoder,
            encoder_options=f"{encoder_options}\nstandardize = true",
            mapping=mapping,
        )
        # What is decided by rounding differs by rounding, no more.
        assert at_experts.mean() == pytest.approx(plain(curve()).mean(), abs=0.05)


@pytest.mark.parametrize(("encoder", "encoder_options", "mapping"), COMBINATIONS)
@pytest.mark.parametrize("constant", [0.0, 5.0, 1e300, 1e-300])
def test_a_constant_feature_does_no_harm(
    constant: float, encoder: str, encoder_options: str, mapping: str, tmp_path: Path
) -> None:
    states = np.column_stack([curve(), np.full(30, constant)])
    outcome, reward = run(
        tmp_path, states, encoder=encoder, encoder_options=encoder_options, mapping=mapping
    )
    assert outcome.open_flaws == 0
    assert np.isfinite(reward(states)).all()
    assert reward(states).mean() > 0.4


def test_identical_states_are_one_place(tmp_path: Path) -> None:
    states = np.ones((10, 2))
    outcome, reward = run(tmp_path, states, boundary=0.5)
    assert outcome.open_flaws == 0
    assert (reward(states) > 0.3).all()


@pytest.mark.parametrize("dtype", [np.int8, np.int64, np.uint16, np.float16, np.float32])
def test_other_number_types_give_what_float64_gives(dtype: type, tmp_path: Path) -> None:
    states = np.round(curve() * 20).astype(dtype)
    _, reward = run(tmp_path, states)
    (tmp_path / "wide").mkdir()
    _, wide = run(tmp_path / "wide", states.astype(np.float64))
    asked = np.random.default_rng(0).normal(size=(50, 2)) * 20
    assert np.array_equal(reward(asked), wide(asked))


def test_answers_come_in_the_precision_of_the_question(tmp_path: Path) -> None:
    import torch

    _, reward = run(tmp_path, curve())
    states = curve()
    assert reward(states).dtype == np.float64
    assert reward(states.astype(np.float32)).dtype == np.float32
    assert reward(np.ones((2, 2), dtype=int)).dtype == np.float64
    asked = torch.tensor(states, dtype=torch.float32, requires_grad=True)
    answer = reward(asked)
    assert answer.dtype == torch.float32
    answer.sum().backward()
    assert asked.grad is not None
    assert torch.isfinite(asked.grad).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_state_that_is_no_number_scores_0_and_harms_no_other(bad: float, tmp_path: Path) -> None:
    _, reward = run(tmp_path, curve())
    states = curve()
    expected = reward(states)
    states[3, 1] = bad
    got = reward(states)
    assert got[3] == 0.0
    assert np.array_equal(np.delete(got, 3), np.delete(expected, 3))
    why = reward.explain(states)[3]
    assert why.reward == 0.0
    assert dict(why.violated) == {"support": np.inf}


def test_scores_are_the_same_alone_and_in_a_batch(tmp_path: Path) -> None:
    _, reward = run(tmp_path, curve())
    states = np.random.default_rng(1).uniform(-1, 2, (200, 2))
    alone = np.concatenate([reward(state[None]) for state in states])
    assert alone == pytest.approx(reward(states), abs=1e-12)


@pytest.mark.parametrize("shape", [(2,), (3, 1), (3, 3), (1, 2, 2)])
def test_states_of_another_width_are_refused(shape: tuple[int, ...], tmp_path: Path) -> None:
    _, reward = run(tmp_path, curve())
    with pytest.raises(iirl.DataError, match=r"\[n, 2\]"):
        reward(np.zeros(shape))


def test_no_states_have_no_rewards(tmp_path: Path) -> None:
    _, reward = run(tmp_path, curve())
    assert reward(np.empty((0, 2))).shape == (0,)
    assert reward.explain(np.empty((0, 2))) == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"feature_names": ["x"]}, "2 different names"),
        ({"feature_names": ["x", "x"]}, "2 different names"),
        ({"known_good": np.zeros((3, 5))}, "known_good must have as many features"),
        ({"negatives": np.full((1, 2), np.nan)}, "negatives holds NaN"),
        ({"t": np.zeros(7)}, "t must be one finite number per state"),
        ({"episode": np.full(30, np.inf)}, "episode must be one finite number"),
        ({"weights": np.ones(7)}, "weights must be one finite number per state"),
        ({"weights": np.full(30, -1.0)}, "weights must be at least 0"),
        ({"weights": np.zeros(30)}, "not all 0"),
        ({"negative_weights": np.ones(3)}, "negative_weights must be one finite number"),
        ({"domain": iirl.Domain((0.0,), (1.0,))}, "domain has 1 features"),
    ],
)
def test_what_comes_beside_the_states_is_checked_too(arguments: Any, said: str) -> None:
    with pytest.raises(iirl.DataError, match=said):
        check(curve(), **arguments)


def test_csv_and_npz_of_the_same_states_are_the_same(tmp_path: Path) -> None:
    _, from_npz = run(tmp_path, curve())
    (tmp_path / "csv").mkdir()
    rows = "\n".join(f"{x!r},{y!r}" for x, y in curve().tolist())
    (tmp_path / "csv" / "demos.csv").write_text(f"x0,x1\n{rows}\n")
    text = (tmp_path / "chain.toml").read_text().replace("npz", "csv")
    (tmp_path / "csv" / "chain.toml").write_text(text)
    out = tmp_path / "csv" / "run"
    outcome = iirl.Flywheel.from_file(tmp_path / "csv" / "chain.toml", out=out).run()
    from_csv = iirl.load_release(outcome.release)
    assert np.array_equal(from_csv(curve()), from_npz(curve()))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty"),
        ("x,y\n", "a header and no rows"),
        ("1,2\n3,4\n", "first line must name"),
        ("x,y\n1,2\n3\n", "line 3 has 1 values"),
        ("x,y\n1,2\n3,north\n", "line 3, column 'y'"),
        ("x,y\n1,2\n\n3,north\n", "line 4, column 'y'"),
        ("x,y\n1,2\n\n3,4\n5,nan\n", "line 5, column 'y' holds NaN"),
        ("x,y\n1,2\n1e999,2\n", "line 3, column 'x' holds NaN or Inf"),
    ],
)
def test_a_bad_csv_file_is_named_with_its_line(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "demos.csv").write_text(text)
    chain = CHAIN.format(encoder="knn", encoder_options="", mapping="exp", boundary=0.5).replace(
        "npz", "csv"
    )
    (tmp_path / "chain.toml").write_text(chain)
    with pytest.raises(iirl.DataError, match=said):
        iirl.Flywheel.from_file(tmp_path / "chain.toml", out=tmp_path / "run").run()


@pytest.mark.parametrize("named", [False, True])
def test_a_csv_column_named_episode_is_no_feature_unnoticed(
    named: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "demos.csv"
    file.write_text("x,episode\n1,0\n2,1\n")
    options = CsvOptions(path=str(file), episode="episode" if named else None)
    data = Csv(options).load(Context("source", "csv", 0, 0))
    assert data.feature_names == (("x",) if named else ("x", "episode"))
    told = [record for record in caplog.records if "source.episode" in record.getMessage()]
    assert len(told) == (0 if named else 1)


def test_whole_episodes_are_held_out() -> None:
    states = np.arange(40.0).reshape(20, 2)
    episode = np.repeat(np.arange(5), 4)
    data = hold_out(check(states, episode=episode), 0.4, np.random.default_rng(0))
    assert len(data.held_out) == 8
    assert len(data.states) == 12
    assert data.episode is not None
    held = {tuple(row) for row in data.held_out}
    for name in range(5):
        rows = {tuple(row) for row in states[episode == name]}
        assert rows <= held or not rows & held


@pytest.mark.parametrize(
    ("rows", "episodes", "share", "said"),
    [
        (1, None, 0.2, ["1 expert state: too few to judge", "held_out = 0.2 of 1 expert state is"]),
        (9, None, 0.0, ["9 expert states: too few to judge"]),
        (9, None, 0.2, ["9 expert states: too few to judge"]),
        (10, None, 0.0, []),
        (10, None, 0.2, []),
        (40, 2, 0.2, ["held_out = 0.2 of 2 episodes is"]),
        (40, 5, 0.2, []),
    ],
)
def test_too_few_states_to_judge_by_are_told_of(
    rows: int, episodes: int | None, share: float, said: list[str]
) -> None:
    episode = None if episodes is None else np.arange(rows) % episodes
    data = hold_out(check(np.ones((rows, 2)), episode=episode), share, np.random.default_rng(0))
    told = list(too_few(data, share))
    assert len(told) == len(said)
    assert all(part in text for part, text in zip(said, told, strict=True))


def test_a_run_keeps_that_its_states_are_too_few(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run(tmp_path, np.array([[1.0, 2.0]]), encoder="knn", encoder_options="", boundary=0.5)
    knowledge = Knowledge(tmp_path / "run")
    events = [text for _, _, text in knowledge.events()]
    knowledge.close()
    assert any("too few to judge" in text for text in events)
    assert "too few to judge" in caplog.text


def test_something_is_always_left_to_learn_from() -> None:
    data = hold_out(check(np.ones((1, 2))), 0.9, np.random.default_rng(0))
    assert len(data.states) == 1
    assert len(data.held_out) == 0
