"""What is shown and checked of a steered run; the run itself is the demo's."""

import io
from typing import Any

import pytest
from rich.console import Console

from rta_service.demo.steering import Second, Steered, check_of, document_of, strategies_text
from rta_service.demo.steering_view import table_of
from rta_service.domain.control import CostGoal, GoalStanding, Mode, Reason
from rta_service.domain.control_order import UnitView
from rta_service.online.strategy_file import parse

TARGET = 30_000_000.0


def a_view(expected: float) -> UnitView:
    standing = GoalStanding(
        goal=CostGoal.SHALLOW,
        target_micros=TARGET,
        cost_micros=TARGET * 100,
        arrived=90.0,
        predicted=200.0,
        matured=180.0,
        scale=0.5,
        expected=expected,
        expected_low=expected - 5,
        expected_high=expected + 5,
        log_multiplier=0.0,
        reason=Reason.ON_TARGET,
    )
    return UnitView(1, 0, (standing,))


def a_run(expected: float) -> Steered:
    seconds = [Second(100, 1.2e9, 40, 50_000_000, 12, 2)] * 10
    return Steered(TARGET, seconds, [None, *[a_view(expected)] * 9])


@pytest.mark.parametrize(("expected", "held"), [(100.0, True), (60.0, False), (0.0, False)])
def test_the_expected_cost_is_held_to_the_target(expected: float, held: bool) -> None:
    assert check_of(a_run(expected)).held is held


def test_a_line_is_shown_every_five_seconds_with_the_target_in_the_middle() -> None:
    shown = io.StringIO()

    Console(file=shown, width=150).print(table_of(a_run(100.0)))

    text = shown.getvalue()
    assert "25.0" in text  # of 500 for 20 in all
    assert "30.0" in text
    assert "on target" in text


def test_a_script_gets_every_second() -> None:
    document: dict[str, Any] = document_of(a_run(100.0))

    assert document["cost_micros"] == 25_000_000.0
    assert document["seconds"][0]["standing"] is None
    assert document["seconds"][9]["standing"]["scale"] == 0.5


def test_the_demo_steers_one_strategy_beside_its_others() -> None:
    steered = [one for one in parse(strategies_text()) if one.control is not None]

    assert [one.strategy_id for one in steered] == ["steered"]
    assert steered[0].control is not None
    assert steered[0].control.aim.mode is Mode.TCPA
