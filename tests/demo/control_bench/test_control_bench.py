"""The bench plays fairly, says who beat us, and draws a page that needs nothing else."""

import json
from dataclasses import replace
from html.parser import HTMLParser
from io import StringIO

import numpy as np
import pytest
from rich.console import Console

from rta_service.demo.control_bench.bidder import Experience, OurBidder, aim_of
from rta_service.demo.control_bench.lineup import (
    ALONE,
    BOOST,
    ONE_GOAL,
    OURS,
    PLAIN,
    SCENARIOS,
    TUNED,
    players,
)
from rta_service.demo.control_bench.page import page_of
from rta_service.demo.control_bench.playing import Outcome, Part, play_part
from rta_service.demo.control_bench.tables import shown
from rta_service.demo.control_bench.verdict import Mark, Verdict, document_of, judge
from rta_service.domain.control import CostGoal, Mode
from rta_service.simulation.wind_tunnel.baselines import Gains
from rta_service.simulation.wind_tunnel.controller import brief_of
from rta_service.simulation.wind_tunnel.run import run
from rta_service.simulation.wind_tunnel.scenario import load_scenario
from rta_service.simulation.wind_tunnel.world import make_world

GAINS = Gains(1.0, 0.03, 0.0)


def test_every_player_plays_every_campaign(outcomes: dict[str, Outcome]) -> None:
    for scenario in SCENARIOS:
        assert tuple(outcomes[scenario].scores) == players(scenario)
        assert {len(scores) for scores in outcomes[scenario].scores.values()} == {2}

    assert ALONE in outcomes["late"].scores
    assert {BOOST, ONE_GOAL} < set(outcomes["two_goals"].scores)


def test_the_same_part_gives_the_same_scores(outcomes: dict[str, Outcome]) -> None:
    again, more = (play_part(Part("daily", 1, 0, end, GAINS)) for end in (2, 3))

    expected = repr(outcomes["daily"].scores[OURS])
    assert repr(again.scores[OURS]) == expected == repr(more.scores[OURS][:2])


def test_a_history_of_delays_comes_from_what_was_seen_of_earlier_campaigns() -> None:
    first, second = load_scenario("late").draw(seed=1, count=2)
    past = Experience()
    bidder = OurBidder(brief_of(make_world(first, 1)), experience=past)
    brief = brief_of(make_world(second, 1))

    before = past.laws(brief)
    run(make_world(first, 1), bidder)
    past.remember(bidder)

    assert before == {}
    assert past.laws(brief)[CostGoal.DEEP].mean_s > 3_600.0
    assert len(past.curve()) == 24


def test_earlier_delays_on_record_are_used_too() -> None:
    campaign = next(load_scenario("late_in_two_parts").draw(seed=1))
    brief = brief_of(make_world(campaign, 1))

    laws = Experience().laws(brief)

    recorded = float(np.mean(brief.past_delays[1]))
    assert laws[CostGoal.DEEP].mean_s == pytest.approx(recorded, rel=0.2)


def test_a_campaign_asks_for_the_mode_of_its_targets() -> None:
    both, money = (
        brief_of(make_world(next(load_scenario(name).draw(seed=1)), 1))
        for name in ("two_goals", "money")
    )

    assert aim_of(both).mode is Mode.DUAL_GUARANTEE
    assert aim_of(both, Mode.DEEP_BOOST).mode is Mode.DEEP_BOOST
    assert aim_of(money).mode is Mode.ROAS


def twisted(outcomes: dict[str, Outcome], error: float, gains: float) -> dict[str, Outcome]:
    """Let T x p do in `daily` as we did, changed by an error and a factor of its gains."""
    scores = dict(outcomes["daily"].scores)
    scores[PLAIN] = [
        replace(score, error=score.error + error, gain=score.gain * gains) for score in scores[OURS]
    ]
    # as often as it takes for a bucket to say something
    return {"daily": Outcome({player: 10 * scores[player] for player in (OURS, PLAIN)})}


@pytest.mark.parametrize(
    ("error", "gains", "passes"),
    [(0.0, 1.0, True), (0.0, 1.1, False), (0.1, 1.5, True), (-0.1, 1.0, False), (-0.1, 0.5, True)],
)
def test_a_baseline_beats_us_by_being_as_near_and_winning_as_many(
    outcomes: dict[str, Outcome], error: float, gains: float, *, passes: bool
) -> None:
    assert judge(twisted(outcomes, error, gains)).passed == passes


def test_of_two_targets_the_one_that_is_missed_more_counts(outcomes: dict[str, Outcome]) -> None:
    scores = {
        OURS: [
            replace(score, error=0.05, other_error=0.02) for score in outcomes["daily"].scores[OURS]
        ],
        PLAIN: [
            replace(score, error=0.0, other_error=0.5) for score in outcomes["daily"].scores[OURS]
        ],
    }

    verdict = judge({"daily": Outcome(scores)})

    assert verdict.passed
    assert {row.line.median_error for row in verdict.rows} == {0.05, 0.5}


def test_a_figure_that_is_not_there_is_no_target_met() -> None:
    assert not Mark("daily", "all", "median_error", 0.1, float("nan"), at_most=True).met
    assert Mark("daily", "all", "median_error", 0.1, 0.1, at_most=True).met


def test_the_document_is_strict_json_with_every_row(verdict: Verdict) -> None:
    document = json.loads(json.dumps(document_of(verdict), allow_nan=False))

    assert len(document["rows"]) == len(verdict.rows)
    assert {row["scenario"] for row in document["rows"]} == set(SCENARIOS)
    assert all("met" in mark for mark in document["targets"])
    assert document["passed"] == (not document["beaten"])


def test_tables_name_the_players_and_who_beats_us(
    outcomes: dict[str, Outcome], verdict: Verdict
) -> None:
    printed = StringIO()
    console = Console(width=160, file=printed)

    for part in [*shown(verdict), *shown(judge(twisted(outcomes, 0.0, 1.1)))]:
        console.print(part)

    text = printed.getvalue()
    assert all(name in text for name in (OURS, TUNED, "targets", "clairvoyant"))
    assert "T x p beats us in daily" in text


class Reader(HTMLParser):
    """Counts elements, and looks for addresses."""

    def __init__(self) -> None:
        super().__init__()
        self.count: dict[str, int] = {}
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.count[tag] = self.count.get(tag, 0) + 1
        self.links += [name for name, _ in attrs if name in {"src", "href"}]


def test_the_page_stands_alone_and_draws_three_curves_a_campaign(
    outcomes: dict[str, Outcome], verdict: Verdict
) -> None:
    reader = Reader()
    page = page_of(verdict, outcomes)

    reader.feed(page)

    assert "http" not in page
    assert reader.links == []
    assert reader.count["table"] == 1 + len(SCENARIOS)
    assert reader.count["svg"] == 3 * reader.count["figure"] >= 3 * len(SCENARIOS)
    assert reader.count["polyline"] == 2 * reader.count["svg"]
