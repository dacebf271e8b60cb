"""An evaluation as text and as a page: what they show, and what they leave out."""

from __future__ import annotations

import html
import re
from html.parser import HTMLParser
from typing import Any

import attrs
import numpy as np

from iirl_engine.evaluation import (
    Policy,
    evaluate,
)
from iirl_engine.evaluation.page import render as render_page
from iirl_engine.evaluation.text import render as render_text
from iirl_engine.evaluation.text import verdict
from tests.graded_policies import Half, graded, policy

HOSTILE = "<script>alert(1)</script>"


def full() -> list[Policy]:
    """Policies with every ingredient, and names that are no plain words."""
    found = [
        attrs.evolve(
            p,
            reward=10 * p.states[:, 0] ** 2,
            label=np.arange(10.0) % 2,
            value=p.states[:, 0] * 100,
        )
        for p in graded()
    ]
    long = attrs.evolve(found[0], name="a-name-that-is-long " * 4)
    return [*found, long, attrs.evolve(found[2], name=HOSTILE), attrs.evolve(found[2], name="$é雪")]


def test_the_text_fits_80_columns_and_shows_every_measure() -> None:
    huge = [attrs.evolve(p, returns=np.array([-9_999_999.0, -9_999_998.0])) for p in graded()[:1]]
    for policies in (full(), [*full(), attrs.evolve(huge[0], name="\x1b[31mred\nline")]):
        text = render_text(evaluate(Half().model, policies))
        assert max(map(len, text.splitlines())) <= 80
        assert "\x1b" not in text
        for word in ("best*", "Spearman", "EPIC", "frozen start", "flat on the way", "rejected"):
            assert word in text


def test_the_text_says_what_cannot_be_told() -> None:
    text = render_text(evaluate(Half().model, [policy("p", [0.1, 0.2])]))
    assert "cannot be told" in text
    assert re.search(r"^p +2 +- +- +- +- +0\.150 ", text, re.MULTILINE)
    assert "nan" not in text.lower().split()


class Page(HTMLParser):
    """Collects what a page asks for, what it draws, and its cells."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.alts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        given_ = dict(attrs)
        self.tags.append(tag)
        self.links += [given_[name] for name in ("src", "href") if name in given_]
        self.alts += [given_["alt"]] if tag == "img" else []


def page_of(policies: list[Policy]) -> str:
    model = Half().model
    return render_page(evaluate(model, policies), model, policies, f"runs/{HOSTILE}")


def test_the_page_is_whole_offline_and_small() -> None:
    text = page_of(full())
    page = Page(text)
    assert all(link.startswith("data:") for link in page.links)
    assert "script" not in page.tags
    assert page.tags.count("img") == 2
    assert all("best" in alt for alt in page.alts)
    assert len(text.encode()) < 500_000
    shown = " ".join(html.unescape(text).split())
    found = evaluate(Half().model, full())
    for told in (verdict(found), *found.notes):
        assert " ".join(told.split()) in shown


def test_the_page_is_the_same_for_the_same_evaluation() -> None:
    assert page_of(full()) == page_of(full())


def test_the_page_without_truth_or_episodes_draws_nothing() -> None:
    page = Page(page_of([policy("p", [0.1, 0.2])]))
    assert "img" not in page.tags


def test_the_page_draws_episodes_of_which_no_true_reward_is_known() -> None:
    page = Page(page_of([policy("p", np.linspace(0, 1, 5000), ep_len=[4000, 1000])]))
    assert len(page.alts) == 1
    assert "p" in page.alts[0]
