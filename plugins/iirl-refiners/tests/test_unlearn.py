"""Refiner `unlearn`: exact where it can be, honest about what it costs, and undone to the bit."""

from __future__ import annotations

import logging
from typing import Any

import attrs
import numpy as np
import pytest
import torch

import iirl_engine as iirl
from iirl_encoders.kernel_mean import KernelMean
from iirl_encoders.knn import Knn
from iirl_encoders.mappings import Exp
from iirl_encoders.mmd_witness import MmdWitness
from iirl_encoders.moe import MoeAutoencoder
from iirl_encoders.options import (
    ExpOptions,
    KernelMeanOptions,
    KnnOptions,
    MmdWitnessOptions,
    MoeAutoencoderOptions,
)
from iirl_engine import Context, DataError, Proposal, Repair, RewardModel
from iirl_engine.audit import verify
from iirl_engine.builtin.norms import BoxNorm
from iirl_engine.builtin.options import BoxOptions
from iirl_engine.corrections.restore import as_released
from iirl_engine.demonstrations import check, take
from iirl_engine.propose import check_needs
from iirl_engine.records import AuditResult
from iirl_refiners.options import UnlearnOptions
from iirl_refiners.unlearn import Unlearn, accused

RNG = np.random.default_rng(0)
GOOD = RNG.normal(0, 0.3, (200, 3))
STRAY = RNG.normal(0, 0.05, (5, 3)) + np.array([2.5, 0.0, 0.0])
DATA = check(
    np.concatenate([GOOD, STRAY]),
    negatives=RNG.uniform(-4, 4, (80, 3)),
    weights=RNG.uniform(0.5, 2.0, 205),
    episode=np.repeat(np.arange(41), 5),
)
STRAYS = tuple(range(200, 205))
PROBES = RNG.uniform(-3, 3, (500, 3))
EXACT = [
    (Knn, KnnOptions(k=3)),
    (Knn, KnnOptions(k=3, standardize=True)),
    (KernelMean, KernelMeanOptions()),
    (MmdWitness, MmdWitnessOptions()),
]
CONTEXT = Context("refine", "unlearn", 0, 1)


def learned(cls: Any, options: Any, data: Any = DATA) -> RewardModel:
    encoder, mapping = cls(options), Exp(ExpOptions())
    encoder.fit(data, Context("encoder", "e", 0, 0))
    with torch.no_grad():
        loss = encoder.encode(torch.tensor(data.states)).loss
    mapping.fit(loss, Context("mapping", "m", 0, 0))
    norm = BoxNorm(BoxOptions(features=("x0",), low=(-9.0,), high=(1.5,)))
    norm.fit(data, CONTEXT)
    return RewardModel(encoder, mapping, {"box": norm}, data, iirl.Domain((-4.0,) * 3, (4.0,) * 3))


def repair(model: RewardModel) -> Repair:
    """Flaws around the stray demonstrations, where the norm forbids."""
    states = STRAY.repeat(40, axis=0) + np.random.default_rng(1).normal(0, 0.1, (200, 3))
    flaws = verify([AuditResult("a", "findings", states, 200, 0.0)], model, 0.01, ())[0].new
    none = np.empty((0, 3))
    return Repair(model, flaws, none, GOOD, model(GOOD), 0.01)


def proposed(asked: Repair, **options: Any) -> Proposal:
    return Unlearn(UnlearnOptions(**options)).propose(asked, CONTEXT)


@pytest.mark.parametrize(("cls", "options"), EXACT)
def test_what_is_named_is_forgotten_as_though_never_seen(cls: Any, options: Any) -> None:
    model = learned(cls, options)
    said = proposed(repair(model), rows=STRAYS)
    (revision,) = said.corrections
    forgot = model.with_corrections([as_released(revision)])
    kept = np.ones(205, dtype=np.bool_)
    kept[list(STRAYS)] = False
    refit = learned(cls, options, take(DATA, kept))
    assert np.abs(forgot(PROBES) - refit(PROBES)).max() <= 1e-6
    assert np.abs(forgot(STRAY) - refit(STRAY)).max() <= 1e-6
    assert np.abs(forgot(PROBES) - model(PROBES)).max() > 1e-3
    assert np.array_equal(forgot.evolve(corrections=())(PROBES), model(PROBES))


@pytest.mark.parametrize(("cls", "options", "cap"), [(*EXACT[0], 0.1), (*EXACT[2], 0.2)])
def test_those_behind_flaws_are_found_and_what_is_expected_comes_true(
    cls: Any, options: Any, cap: float
) -> None:
    asked = repair(learned(cls, options))
    assert len(asked.flaws) > 50
    said = proposed(asked, max_loss=cap)
    (revision,) = said.corrections
    assert set(STRAYS) >= set(revision.rows)
    mended = asked.model.with_corrections(said.corrections)
    assert said.closes == int((mended(asked.flaws.states) <= 0.01).sum()) > 0.9 * len(asked.flaws)
    loss = asked.original - mended(asked.known_good)
    assert said.worst_loss == pytest.approx(loss.max())
    assert said.mean_loss == pytest.approx(loss.mean())
    assert loss.max() <= cap
    if cap == 0.1:
        assert revision.rows.tolist() == list(STRAYS)


def test_an_episode_is_forgotten_whole_and_only_once() -> None:
    asked = repair(learned(Knn, KnnOptions(k=3)))
    said = proposed(asked, episodes=(40, 2), rows=(0,))
    (revision,) = said.corrections
    assert revision.rows.tolist() == [0, *range(10, 15), *STRAYS]
    again = attrs.evolve(asked, model=asked.model.with_corrections([revision]))
    assert proposed(again, episodes=(40,)).corrections == ()


def test_what_was_forgotten_before_stays_forgotten() -> None:
    asked = repair(learned(Knn, KnnOptions(k=3)))
    (first,) = proposed(asked, rows=(3,)).corrections
    later = attrs.evolve(asked, model=asked.model.with_corrections([attrs.evolve(first, id="r0")]))
    said = proposed(later, rows=STRAYS)
    assert said.replaces == ("r0",)
    assert said.corrections[0].rows.tolist() == [3, *STRAYS]


def test_what_cannot_be_closed_within_the_cap_is_left_with_a_reason() -> None:
    asked = repair(learned(Knn, KnnOptions(k=3)))
    said = proposed(attrs.evolve(asked, known_good=STRAY, original=asked.model(STRAY)))
    assert said.corrections == ()
    assert set(said.left) == set(range(len(asked.flaws)))
    assert "within max_loss" in said.left[0]
    assert proposed(attrs.evolve(asked, flaws=asked.flaws.take(np.empty(0, int)))).left == {}


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"rows": (205,)}, "row 205 of 205"),
        ({"rows": (-1,)}, "row -1"),
        ({"episodes": (99,)}, "episode 99"),
        ({"rows": tuple(range(205))}, "every demonstration"),
    ],
)
def test_what_there_is_not_cannot_be_forgotten(options: Any, told: str) -> None:
    with pytest.raises(DataError, match=told):
        proposed(repair(learned(Knn, KnnOptions(k=3))), **options)


def test_another_encoder_is_refused_or_fitted_anew(caplog: pytest.LogCaptureFixture) -> None:
    model = learned(MoeAutoencoder, MoeAutoencoderOptions(steps=200))

    class Entry:
        qualified = "iirl-refiners:unlearn"

    class Step:
        id, entry = "unlearn", Entry

    with pytest.raises(DataError, match="lacking"):
        check_needs([(Step, Unlearn(UnlearnOptions()))], model)  # type: ignore[list-item]
    check_needs([(Step, Unlearn(UnlearnOptions(refit=True)))], model)  # type: ignore[list-item]
    with caplog.at_level(logging.INFO):
        said = proposed(repair(model), rows=STRAYS, refit=True)
    assert len(said.corrections) == 1
    assert "on forgotten states" in caplog.text
    assert "on retained states" in caplog.text


def test_the_accused_are_those_next_to_most_flaws() -> None:
    states = np.array([[0.0], [10.0], [20.0]] + [[100.0 + i] for i in range(20)])
    flaws = np.array([[9.0], [11.0], [19.9]])
    assert accused(states, flaws)[:3].tolist() == [1, 2, 0]
    assert len(accused(states, flaws)) < len(states)
