"""Scenario files: what they say, and what is wrong with them."""

import doctest

import pytest

from rta_service.domain.errors import InvalidInput
from rta_service.simulation import wind_tunnel
from rta_service.simulation.wind_tunnel.scenario import (
    load_scenario,
    read_scenario,
    scenario_names,
)

TEXT = """
name = "small"
description = "Two campaigns."
campaigns = 2
[campaign]
requests = 100
[campaign.market]
auction = "first"
steps = [{ at = 0.5, factor = 2.0 }]
[vary]
"target" = [20.0, 80.0]
"market.level" = [-1.0, 1.0]
"funnel.deep_delay.mean" = [0.1, 0.3]
"people" = [10, 1000]
"""


def test_a_scenario_draws_its_campaigns_within_the_ranges() -> None:
    drawn = list(read_scenario(TEXT).draw(seed=1, count=300))

    targets = sorted(campaign.target for campaign in drawn)
    assert 20 <= targets[0] < 22
    assert 75 < targets[-1] <= 80
    # even in the log: the middle one is the geometric mean
    assert targets[150] == pytest.approx(40, rel=0.1)
    assert -1 <= min(c.market.level for c in drawn) < 0 < max(c.market.level for c in drawn) <= 1
    assert all(10 <= campaign.people <= 1000 for campaign in drawn)
    assert all(0.1 <= c.funnel.deep_delay.mean <= 0.3 for c in drawn)


def test_what_does_not_vary_is_the_same_for_all() -> None:
    drawn = list(read_scenario(TEXT).draw(seed=1))

    assert [campaign.name for campaign in drawn] == ["small-0", "small-1"]
    assert {campaign.requests for campaign in drawn} == {100}
    assert {campaign.market.auction for campaign in drawn} == {"first"}
    assert drawn[0].market.steps[0].factor == 2.0


def test_the_same_seed_draws_the_same_campaigns_and_a_shorter_list_is_a_prefix() -> None:
    scenario = read_scenario(TEXT)

    whole = list(scenario.draw(seed=5))

    assert list(scenario.draw(seed=5)) == whole
    assert list(scenario.draw(seed=5, count=1)) == whole[:1]
    assert list(scenario.draw(seed=6)) != whole


@pytest.mark.parametrize(
    ("wrong", "right", "complaint"),
    [
        ('auction = "first"', 'auction = "third"', "market.auction"),
        ("requests = 100", "requests = 0", "requests"),
        ("requests = 100", "request = 100", "unknown field `request`"),
        ('"market.level"', '"market.height"', "unknown field `height`"),
        ("campaigns = 2", "campaigns = ", "cannot be read"),
        ("campaigns = 2", "", "missing required field `campaigns`"),
    ],
)
def test_a_mistake_is_named(wrong: str, right: str, complaint: str) -> None:
    with pytest.raises(InvalidInput, match=complaint):
        read_scenario(TEXT.replace(wrong, right))


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    with pytest.raises(InvalidInput, match=r"there are .*daily"):
        load_scenario("weekly")


@pytest.mark.parametrize("name", scenario_names())
def test_every_scenario_of_the_package_can_be_drawn(name: str) -> None:
    scenario = load_scenario(name)

    assert scenario.name == name
    assert len(list(scenario.draw(seed=3, count=5))) == 5


def test_the_packages_example_runs() -> None:
    assert doctest.testmod(wind_tunnel).failed == 0
    assert doctest.testmod(wind_tunnel).attempted > 0
