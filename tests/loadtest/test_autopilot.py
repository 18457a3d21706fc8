"""Candidates on trial: a small run and a full one, both with `make check-slow`."""

import json
import subprocess
import sys
from io import StringIO

import pytest
from rich.console import Console

from loadtest.autopilot import Options, as_json, count_candidates, run, shares, table
from loadtest.autopilot_trial import Fate, Scale
from rta_service.nearline.autopilot.policy import DAY, Policy, Step
from rta_service.simulation.candidates import BAD_KINDS, CrowdOptions, Kind

SMALL = Options(
    candidates=1,
    good=2,
    seed=3,
    crowd=CrowdOptions(people=8_000, days=70),
    scale=Scale(clicks_a_day=6_000, offers_a_day=6_000, last_day=12),
    # what 1,000 conversions of a small advertiser can show
    policy=Policy(
        ladder=(
            Step(0, people=0, positives=500, minutes=DAY),
            Step(1_000, people=100, positives=500, minutes=DAY),
            Step(100_000, people=10_000, positives=500, minutes=DAY),
        ),
        pcoc_margin=1.15,
        loss_margin=0.06,
        auc_margin=0.04,
        money_margin=0.15,
    ),
)


def a_fate(kind: Kind, action: str = "roll_back", highest: int = 0) -> Fate:
    return Fate(kind, action, highest, 4.0, 100, 2_000, ("auc: worse",))


@pytest.mark.slow
def test_a_small_run_stops_the_bad_and_lets_good_ones_live() -> None:
    seen: list[int] = []

    fates = run(SMALL, lambda: seen.append(1))

    assert len(fates) == len(seen) == count_candidates(SMALL) == 7
    bad = {fate.kind: fate for fate in fates if fate.kind is not Kind.GOOD}
    assert set(bad) == set(BAD_KINDS)
    assert bad[Kind.SLOWER].stopped_early
    assert bad[Kind.LEAKED].stopped_early
    assert sum(fate.stopped_early for fate in bad.values()) >= 4
    good = [fate.action for fate in fates if fate.kind is Kind.GOOD]
    assert "roll_back" not in good
    assert "promote" in good


def test_what_never_reached_one_per_cent_was_stopped_early() -> None:
    fates = [
        a_fate(Kind.SLOWER),
        a_fate(Kind.SLOWER, highest=1_000),
        a_fate(Kind.LEAKED, highest=10_000),
        a_fate(Kind.LEAKED, "promote", 1_000_000),
        a_fate(Kind.GOOD, "promote", 1_000_000),
        a_fate(Kind.GOOD, "wait", 1_000),
        a_fate(Kind.GOOD),
        a_fate(Kind.GOOD, "promote", 1_000_000),
    ]

    assert shares(fates) == (0.5, 0.25)


def test_the_report_reads_as_a_table_and_as_json() -> None:
    fates = [a_fate(Kind.SLOWER), a_fate(Kind.GOOD, "promote", 1_000_000)]

    console = Console(width=140, record=True, file=StringIO())
    console.print(table(fates))
    text = console.export_text()

    assert "bad stopped before 1 %: 100.0%; good stopped: 0.0%" in text
    assert "auc 1" in text
    found = as_json(fates)
    assert found["good_stopped"] == 0.0
    assert found["fates"][0]["kind"] == "slower"


@pytest.mark.slow
@pytest.mark.timeout(1_800)
def test_fifty_bad_candidates_are_stopped_before_one_per_cent_and_fifty_good_ones_are_not() -> None:
    command = [sys.executable, "-m", "loadtest.autopilot", "--seed", "2024", "--json"]

    done = subprocess.run(command, check=True, capture_output=True, text=True)

    found = json.loads(done.stdout)
    assert len(found["fates"]) == 100
    assert found["bad_stopped_before_1_percent"] >= 0.98
    assert found["good_stopped"] <= 0.04
