"""The reports of a run: what a reader must see, and what a page must not do."""

from __future__ import annotations

import html
import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
import torch

from iirl_engine.api import Code, Context, Encoder, Mapping
from iirl_engine.builtin.html import Html
from iirl_engine.builtin.html import render as render_page
from iirl_engine.builtin.norms import SupportNorm
from iirl_engine.builtin.options import HtmlOptions, SupportOptions
from iirl_engine.builtin.text import Text
from iirl_engine.builtin.text import render as render_text
from iirl_engine.corrections.fade import Fade
from iirl_engine.counted import count
from iirl_engine.demonstrations import check
from iirl_engine.evidence import Judgement
from iirl_engine.options import NoOptions
from iirl_engine.records import AuditSummary, Domain, Flaws, Outcome, Report, Round
from iirl_engine.remaining import remaining
from iirl_engine.reward import RewardModel
from iirl_engine.summary import summarize, unseen_lines, verdict

HOSTILE = "<script>alert(1)</script>"
CHROMIUM = Path("/usr/bin/chromium")
CHAIN = """\
[flywheel]
floor = 0.02

[[norm]]
use = "iirl-engine:support"
id = "support"
boundary = 0.3
"""


class Bump(Encoder[NoOptions]):
    """L is small near the expert states, and wrongly at the far corner."""

    def fit(self, demonstrations: Any, context: Context) -> None:
        self._support = demonstrations.support

    def encode(self, states: torch.Tensor) -> Code:
        corner = torch.linalg.vector_norm(states - 1.0, dim=1)
        return Code(states, torch.minimum(self._support.distance(states), corner))

    def tensors(self) -> dict[str, torch.Tensor]:
        return {}

    def restore(self, tensors: Any, demonstrations: Any) -> None:
        raise NotImplementedError


class Cone(Mapping[NoOptions]):
    """g(L) = 1 - 2 L."""

    def fit(self, loss: torch.Tensor, context: Context) -> None:
        pass

    def map(self, loss: torch.Tensor) -> torch.Tensor:
        return (1 - 2 * loss).clamp(0, 1)

    def tensors(self) -> dict[str, torch.Tensor]:
        return {}

    def restore(self, tensors: Any) -> None:
        raise NotImplementedError


def audit(name: str, status: Any = "clean", reason: str = "", found: int = 0) -> AuditSummary:
    return AuditSummary(name, status, found, found, 4096, 0.25, reason)


def turn(number: int, **changes: Any) -> Round:
    calm = Round(
        number=number, found=0, confirmed=0, closed=0, open=0, misses=0, corrections=1,
        queries=8192, seconds=0.5, release=None, audits=(audit("sobol"), audit("pgd")), gates=(),
    )  # fmt: skip
    return attrs.evolve(calm, **changes)


PASSED = Judgement("known-good", True, {"states": 857.0, "max_loss": 0.03125})
REFUSED = Judgement("closure", False, {"share": 0.5}, "only 50.0% of the open flaws close")
MENDED = (
    turn(
        1, found=40, confirmed=40, closed=40, release=1, gates=(PASSED,),
        audits=(audit("sobol", "findings", found=40), audit("pgd")),
    ),
    turn(2),
)  # fmt: skip
CRASHED = turn(
    2,
    open=3,
    audits=(
        audit("sobol"),
        audit("pgd", "crashed", "ValueError: \x1b[31mno gradient\nat all"),
        audit("ray", "over-budget", "asked for 10 queries with 3 left"),
    ),
    gates=(PASSED, REFUSED),
    vetoes=("acme-policy: not on a Friday",),
)


def report_of(
    rounds: tuple[Round, ...] = MENDED,
    *,
    found: int = 40,
    still_open: int = 0,
    width: int = 2,
    names: tuple[str, ...] | None = None,
    plugins: tuple[tuple[str, str], ...] = (("iirl-engine", "0.1.0"),),
    chain: str = CHAIN,
) -> Report:
    line = np.linspace(-1, 0, 12)
    data = check(np.stack([line] * width, axis=1), feature_names=names, origin="toy")
    encoder, norm = Bump(NoOptions()), SupportNorm(SupportOptions(boundary=0.3))
    encoder.fit(data, Context("encoder", "bump", 0, 0))
    norm.fit(data, Context("norm", "support", 0, 0))
    domain = Domain((-1.0,) * width, (1.0,) * width)
    before = RewardModel(encoder, Cone(NoOptions()), {"support": norm}, data, domain)
    fade = Fade(id="r1-fade", refiner="toy:fade", round=1, norm="support", start=-0.1, end=0.0)
    states = 1 - 0.2 * np.random.default_rng(0).random((found, width))
    flaws = Flaws(
        ids=tuple(f"{i:02d}" + "ab" * 31 for i in range(found)),
        states=states,
        rewards=before(states) if found else np.empty(0),
        violations=np.linspace(1, 2, found),
        norms=("support",) * found,
        auditors=("sobol",) * found,
    )
    outcome = Outcome(
        run=Path("runs/toy"),
        release=Path("runs/toy/releases/0001"),
        rounds=rounds,
        open_flaws=still_open,
        plugins=plugins,
    )
    is_open = np.arange(found) >= found - still_open
    return Report(outcome, before, before.with_corrections([fade]), flaws, is_open, 0.02, chain)


def outcome_of(*rounds: Round, still_open: int = 0) -> Outcome:
    return report_of(rounds, found=still_open, still_open=still_open).outcome


def words(text: str) -> str:
    return " ".join(text.split())


# The summary


def test_the_summary_of_a_mended_run() -> None:
    assert summarize(report_of().outcome) == (
        "run      runs/toy\n"
        "release  runs/toy/releases/0001\n"
        "\n"
        "round found confirmed closed open misses corrections queries seconds release\n"
        "    1    40        40     40    0      0           1    8192     0.5       1\n"
        "    2     0         0      0    0      0           1    8192     0.5       -\n"
        "in all 16,384 reward queries, 1.0 CPU seconds after learning\n"
        "\n"
        "gates of round 1\n"
        "  ok       known-good: states 857, max_loss 0.03125\n"
        "\n"
        "passed: after 2 rounds no flaw is open; the last round ran every audit to its\n"
        "end and confirmed no new flaw."
    )


def test_whatever_went_wrong_is_in_the_summary_and_its_last_sentence() -> None:
    told = words(summarize(outcome_of(MENDED[0], CRASHED, still_open=3)))
    assert "!! round 2: audit pgd crashed: ValueError: [31mno gradient at all" in told
    assert "!! round 2: audit ray ran over its budget: asked for 10 queries with 3 left" in told
    assert "!! gate closure refused the last candidate: only 50.0% of the open flaws" in told
    assert "!! release vetoed by acme-policy: not on a Friday" in told
    assert "REFUSED closure: share 0.5 only 50.0% of the open flaws close" in told
    assert told.endswith(
        "failed: after 2 rounds, 3 confirmed flaws are open, audit pgd crashed, audit ray ran "
        "over its budget, gate closure refused the last candidate and the last candidate was "
        "vetoed."
    )


@pytest.mark.parametrize(
    ("rounds", "still_open", "level", "words"),
    [
        ((), 0, "caution", "nothing was audited"),
        ((MENDED[0],), 0, "caution", "still confirmed 40 new flaws"),
        ((turn(1, misses=1),), 0, "caution", "1 known-good state got too little reward"),
        ((turn(1),), 0, "passed", "after 1 round no flaw is open"),
        ((turn(1),), 1, "failed", "1 confirmed flaw is open"),
        ((CRASHED, turn(2, gates=(PASSED,))), 0, "passed", "no flaw is open"),
    ],
)
def test_verdicts(rounds: tuple[Round, ...], still_open: int, level: str, words: str) -> None:
    outcome = outcome_of(*rounds, still_open=still_open)
    said = verdict(outcome)
    assert (said.level == "failed") == (not outcome.ok)
    assert said.level == level
    assert words in said.text


@pytest.mark.parametrize("broken", ["crashed", "over-budget"])
def test_no_run_with_a_failed_audit_passes(broken: str) -> None:
    outcome = outcome_of(turn(1, audits=(audit("pgd", broken),)))
    assert not outcome.ok
    assert verdict(outcome).level == "failed"


def test_a_proof_that_came_to_no_end_is_never_read_as_one() -> None:
    reason = "the budget ended with 37 % of the domain proved"
    outcome = outcome_of(turn(1, audits=(audit("branch-and-bound", "undecided", reason),)))
    said = verdict(outcome)
    assert said.level == "caution"
    assert "branch-and-bound came to no proof" in said.text
    assert reason in " ".join(summarize(outcome).split())


def test_a_veto_is_never_missed_even_where_no_gate_is_asked() -> None:
    said = summarize(outcome_of(turn(1, vetoes=("acme: no",))))
    assert "!! release vetoed by acme: no" in said
    assert "failed: after 1 round, the last candidate was vetoed." in said


def test_an_audit_that_crashed_in_an_earlier_round_stays_visible() -> None:
    told = summarize(outcome_of(CRASHED, turn(3)))
    assert "!! round 2: audit pgd crashed" in told


@pytest.mark.parametrize("size", [0, 99_999, 999_999, 1_000_000, 123_456_789_012])
def test_no_line_is_wider_than_80_columns(size: int) -> None:
    name = "an-auditor-with-a-very-long-name-that-nobody-would-choose-" * 2
    numbers = {f"number_{i}": 1234.5678 for i in range(20)}
    big = turn(
        12, found=size, confirmed=size, closed=size, open=size, misses=size, corrections=size,
        queries=size, seconds=123_456.7, release=9999,
        audits=(audit(name, "crashed", "because " * 60, size), audit("x", "crashed", "y" * 300)),
        gates=(Judgement("g" * 60, False, numbers, "word " * 50),), vetoes=("no " * 60,),
    )  # fmt: skip
    report = report_of((big,), plugins=(("p" * 100, "1.0"),))
    for text in (summarize(report.outcome), render_text(report)):
        assert max(map(len, text.splitlines())) <= 80
        assert text.isascii()


LAZY = attrs.evolve(audit("preimage"), queries=2, budget=8192)


@pytest.mark.parametrize(
    ("changes", "level"),
    [
        ({}, "caution"),
        ({"queries": 81}, "caution"),
        ({"queries": 82}, "passed"),
        ({"queries": 0, "budget": 1}, "caution"),
        ({"draws": 32768}, "passed"),
        ({"exhaustive": True}, "passed"),
        ({"found": 5}, "passed"),
        ({"budget": 0}, "passed"),
    ],
)
def test_a_clean_audit_that_hardly_looked_is_a_caution(changes: dict[str, Any], level: str) -> None:
    lazy = attrs.evolve(LAZY, **changes)
    outcome = outcome_of(turn(1, audits=(audit("sobol"), lazy)))
    assert verdict(outcome).level == level
    assert verdict(outcome_of(*outcome.rounds, turn(2))).level == "passed"
    told = f"audit preimage asked {lazy.queries} of its "
    assert (told in words(summarize(outcome))) == (level == "caution")
    assert outcome.ok


def test_who_hardly_looked_is_told_with_the_other_doubts() -> None:
    outcome = outcome_of(turn(1, misses=1, audits=(LAZY, attrs.evolve(LAZY, auditor="shell"))))
    assert verdict(outcome).text == (
        "after 1 round no flaw is open, but audit preimage asked 2 of its 8,192 queries and found "
        "nothing, audit shell asked 2 of its 8,192 queries and found nothing and 1 known-good "
        "state got too little reward."
    )


def test_a_round_that_was_cut_short_is_not_told_as_no_audit() -> None:
    suspected = attrs.evolve(outcome_of(), unfinished={"shell": 580, "ray": 2})
    told = (
        "round 1 is unfinished, with 582 suspected states that will be verified when the run goes "
        "on with --resume."
    )
    assert words(summarize(suspected)).endswith(f"caution: {told}")
    page = text_of(render_page(attrs.evolve(report_of(()), outcome=suspected), HtmlOptions()))
    assert page.count(told.capitalize()) == 2
    assert "othing was audited" not in page
    none = attrs.evolve(outcome_of(turn(1)), unfinished={"shell": 0})
    assert verdict(none).text == (
        "after 1 round no flaw is open, but round 2 is unfinished, with no suspected state so far, "
        "and goes on with --resume."
    )


def test_an_estimate_says_of_which_regions_it_speaks() -> None:
    left = remaining([70, 50, 40], 0, 0)
    seen = turn(1, regions=3, open_regions=3, remaining=left)
    assert list(unseen_lines(seen)) == [
        "flaws in 3 regions, all open; audits like these reach about 3 (95 %: 3 to 3; Chao 1)"
    ]
    more = attrs.evolve(seen, regions=5, remaining=attrs.evolve(left, expected=12.04, high=19.96))
    assert list(unseen_lines(more)) == [
        "flaws in 5 regions, 3 open; 160 findings lie in 3 of them; audits like these reach about "
        "12 (95 %: 3 to 20; Chao 1)"
    ]
    one = attrs.evolve(seen, regions=2, open_regions=2, remaining=remaining([1], 0, 0))
    assert "all open; 1 finding lies in 1 of them; audits" in next(unseen_lines(one))


def test_a_noun_agrees_with_its_number() -> None:
    assert [count(n, "query") for n in (0, 1, 8192)] == ["0 queries", "1 query", "8,192 queries"]
    assert [count(n, "flaw") for n in (0, 1, 8192)] == ["0 flaws", "1 flaw", "8,192 flaws"]


def test_the_summary_imports_no_array_library() -> None:
    code = (
        "import sys, iirl_engine.summary; "
        "print([m for m in ('numpy', 'scipy', 'torch', 'matplotlib') if m in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


# report.txt


def test_the_text_report_holds_the_summary_and_every_detail(tmp_path: Path) -> None:
    report = report_of((MENDED[0], CRASHED), still_open=3)
    (file,) = Text(NoOptions()).write(report, tmp_path)
    assert file == tmp_path / "report.txt"
    text = file.read_text()
    assert text.startswith(summarize(report.outcome))
    for part in (
        "pgd crashed 0 0 4096 0.2",
        "VETOED by acme-policy: not on a Friday",
        "made release 1",
        "made no release",
        "r1-fade: 1 of kind fade, proposed in round 1 by toy:fade",
        "learned from 12 expert states with 2 features (toy)",
        "iirl-engine 0.1.0",
    ):
        assert part in words(text)


# report.html


class Page(HTMLParser):
    """Collects what a page is made of."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def page_of(report: Report, **options: Any) -> str:
    return render_page(report, HtmlOptions(**options))


def text_of(page: str) -> str:
    body = page.partition("<body>")[2]
    return words(html.unescape(re.sub(r"<[^>]*>", " ", body)))


@pytest.mark.parametrize(("width", "found"), [(1, 0), (2, 500), (3, 500), (3, 0), (5, 1)])
def test_the_page_asks_nobody_for_anything(tmp_path: Path, width: int, found: int) -> None:
    (file,) = Html(HtmlOptions()).write(report_of(width=width, found=found), tmp_path)
    text = file.read_text()
    page = Page(text)
    assert file.name == "report.html"
    assert len(text) < 500_000
    assert "http://" not in text
    assert "https://" not in text
    assert not page.all("script")
    sources = [value for _, a in page.tags for key, value in a.items() if key in ("src", "href")]
    assert len(sources) == 3
    assert all(str(source).startswith("data:") for source in sources)
    assert "url(" not in text
    assert "@import" not in text
    assert page_of(report_of(width=width, found=found)) == text


def test_the_page_can_be_read_without_seeing_it() -> None:
    text = page_of(report_of((MENDED[0], CRASHED), still_open=3))
    page = Page(text)
    assert page.all("html") == [{"lang": "en"}]
    assert "<title>failed: reward audit of toy</title>" in text
    assert {"header", "main", "footer", "h1"} <= {tag for tag, _ in page.tags}
    assert len(page.all("h1")) == len(page.all("main")) == 1
    assert len(page.all("table")) == len(page.all("caption")) == 7
    assert {a.get("scope") for a in page.all("th")} == {"col", "row"}
    alts = [str(a["alt"]) for a in page.all("img")]
    assert "40 confirmed flaws circled in red" in alts[0]
    assert "3 flaws still open circled in red" in alts[1]
    ids = [a["id"] for _, a in page.tags if "id" in a]
    assert len(ids) == len(set(ids))
    assert {str(a["aria-labelledby"]) for _, a in page.tags if "aria-labelledby" in a} <= set(ids)


def test_what_went_wrong_stands_at_the_top_and_in_its_table() -> None:
    report = report_of((MENDED[0], CRASHED), still_open=3)
    top, _, rest = page_of(report).partition("</header>")
    assert verdict(report.outcome).text[1:] in text_of(top)
    for told in ("audit pgd crashed: ValueError", "audit ray ran over its budget",
                 "gate closure refused", "vetoed by acme-policy"):  # fmt: skip
        assert told in text_of(top)
    assert "\x1b" not in rest
    told = text_of("<body>" + rest)
    assert "pgd ✕ crashed 0 0 4,096 0.2 ValueError" in told
    assert "closure ✕ refused share 0.5 only 50.0% of the open flaws close" in told
    assert "veto ✕ vetoed acme-policy: not on a Friday" in told
    assert told.count("✕ open") == 3
    assert rest.count('<tr class="alarm">') == 2 + 1 + 1 + 3


def test_the_numbers_of_a_run_are_on_the_page() -> None:
    told = text_of(page_of(report_of()))
    assert "Passed" not in told
    assert "passed After 2 rounds no flaw is open" in told
    assert "1 40 40 40 0 0 1 8,192 0.5 1" in told
    assert "known-good ✓ passed states 857 max_loss 0.03125" in told
    assert "r1-fade fade 1 toy:fade 1 norm support start -0.1 end 0" in told
    assert "support : iirl-engine:support, boundary = 0.3" in told
    assert "Floor 0.02" in told
    assert "x0 -1 to 0 -1 to 1" in told
    assert "iirl-engine 0.1.0" in told
    assert 'use = "iirl-engine:support"' in told


def test_open_flaws_are_listed_first_then_the_worst() -> None:
    report = report_of(still_open=1)
    told = text_of(page_of(report, flaws=3)).partition("Auditor Now ")[2]
    listed = [int(i) for i in re.findall(r"(\d\d)abababab", told)]
    worst = np.argsort(-report.flaws.rewards, kind="stable")
    assert listed == [39, *[int(i) for i in worst if i != 39][:2]]
    assert "3 of 40 confirmed flaws" in text_of(page_of(report, flaws=3))
    assert "none is listed" in text_of(page_of(report, flaws=0))
    assert "No flaw was confirmed." in text_of(page_of(report_of(found=0)))


def test_hostile_text_is_shown_not_run() -> None:
    rounds = (
        turn(
            1, audits=(audit("pgd", "crashed", HOSTILE),), vetoes=(HOSTILE,),
            gates=(Judgement(HOSTILE, False, {HOSTILE: 1.0}, HOSTILE),),
        ),
    )  # fmt: skip
    report = report_of(
        rounds,
        names=(HOSTILE, '" onerror="alert(1)'),
        plugins=((HOSTILE, HOSTILE),),
        chain=f"# {HOSTILE}\n# </pre>\n",
    )
    text = page_of(report)
    page = Page(text)
    assert HOSTILE not in text
    assert text.count("&lt;script&gt;alert(1)&lt;/script&gt;") >= 10
    assert not page.all("script")
    assert not [a for _, a in page.tags if "onerror" in a]
    assert HOSTILE in str(page.all("img")[0]["alt"])


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    if not CHROMIUM.exists():
        pytest.skip(f"no browser: {CHROMIUM} is not there (apt-get install chromium)")
    playwright = pytest.importorskip("playwright.sync_api", reason="no playwright installed")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=str(CHROMIUM), args=["--no-sandbox", "--disable-gpu"]
        )
        yield browser
        browser.close()


@pytest.mark.parametrize("width", [360, 1400])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_in_a_browser(chromium: Any, tmp_path: Path, width: int, scheme: str) -> None:
    long = "NoSpaceAnywhere" * 20
    report = report_of(
        (MENDED[0], attrs.evolve(CRASHED, vetoes=(long,))),
        still_open=3,
        width=5,
        names=(long, HOSTILE, "c", "d", "e"),
    )
    (file,) = Html(HtmlOptions()).write(report, tmp_path)
    requests: list[str] = []
    problems: list[str] = []
    page = chromium.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page.on("request", lambda request: requests.append(request.url))
    page.on("console", lambda message: problems.append(message.text))
    page.on("dialog", lambda dialog: problems.append(dialog.message))
    page.goto(file.as_uri(), wait_until="load")
    assert [url for url in requests if not url.startswith("data:")] == [file.as_uri()]
    assert problems == []
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert page.evaluate("[...document.images].every(i => i.complete && i.naturalWidth > 400)")
    assert page.get_by_role("heading", level=1).inner_text() == "toy"
    assert page.get_by_text("3 confirmed flaws are open").first.is_visible()
    assert page.get_by_role("table", name="Every candidate must pass").is_visible()
    page.get_by_text("The effective chain file").click()
    assert page.get_by_text("floor = 0.02").is_visible()
    shot = page.screenshot(path=tmp_path / "page.png", full_page=True)
    assert shot.startswith(b"\x89PNG")
    page.close()
