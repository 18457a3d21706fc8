"""What the model believes, and what happens."""

from collections.abc import Callable

import numpy as np
import pytest

from rta_service.domain.control import CostGoal
from rta_service.simulation.wind_tunnel.controller import brief_of
from rta_service.simulation.wind_tunnel.funnel import DEEP, SHALLOW
from rta_service.simulation.wind_tunnel.world import World

Build = Callable[..., World]

STILL = {"daily": 0.0, "drift": 0.0}
"""A funnel whose chances do not move, so that a model can be exact."""


def test_a_calibrated_model_predicts_the_chances_themselves(build: Build) -> None:
    world = build(funnel=STILL)

    np.testing.assert_allclose(world.predicted.shallow, world.truth.shallow)
    np.testing.assert_allclose(world.predicted.value, world.truth.value)


def test_a_biased_model_is_off_by_its_bias_a_step_each(build: Build) -> None:
    world = build(funnel={**STILL, "bias": 0.5, "deep_bias": 1.2})

    assert world.predicted.shallow.sum() / world.truth.shallow.sum() == pytest.approx(0.5)
    assert world.predicted.deep.sum() / world.truth.deep.sum() == pytest.approx(0.6, rel=0.01)


def test_a_noisy_model_is_right_on_average_and_wrong_about_each(build: Build) -> None:
    world = build(funnel={**STILL, "noise": 0.3})

    wrong = np.log(world.predicted.shallow / world.truth.shallow)

    assert world.predicted.shallow.sum() / world.truth.shallow.sum() == pytest.approx(1, rel=0.02)
    assert wrong.std() == pytest.approx(0.3, rel=0.05)


def test_a_model_of_power_two_doubles_differences_between_people(build: Build) -> None:
    world = build(funnel={**STILL, "power": 2.0, "shallow": 0.005})

    spread = np.log(world.predicted.shallow).std() / np.log(world.truth.shallow).std()

    assert spread == pytest.approx(2.0, rel=0.02)


def test_as_many_convert_as_the_chances_say(build: Build) -> None:
    world = build(requests=60_000)

    for goal in (CostGoal.SHALLOW, CostGoal.DEEP):
        expected = world.truth.of(goal).sum()
        assert abs(world.outcomes(goal).sum() - expected) < 4 * np.sqrt(expected)


def test_the_money_of_trades_is_what_was_expected(build: Build) -> None:
    world = build(requests=100_000, funnel={"value": 80.0, "shallow": 0.2})

    assert world.outcomes(CostGoal.VALUE).sum() == pytest.approx(world.truth.value.sum(), rel=0.05)


def test_nobody_trades_without_or_before_registering(build: Build) -> None:
    days = {"shape": "days", "mean": 0.3}
    world = build(funnel={"shallow": 0.1, "shallow_delay": days, "deep_delay": days})
    events = world.conversions
    registered = np.full(len(world), np.inf)
    shallow, deep = events.kind == SHALLOW, events.kind == DEEP

    registered[events.row[shallow]] = events.at[shallow]

    assert deep.sum() > 100
    assert (events.at[deep] >= registered[events.row[deep]]).all()
    assert (events.at >= world.requests.at[events.row]).all()
    assert len(set(events.row[deep].tolist())) == deep.sum()


def test_delays_have_their_mean_as_a_share_of_the_period(build: Build) -> None:
    world = build(requests=100_000, funnel={"shallow": 0.3, "deep_delay": {"mean": 0.3}})
    events = world.conversions
    deep = events.kind == DEEP

    delay = events.at[deep] - world.requests.at[events.row[deep]]

    assert delay.mean() == pytest.approx(0.3 * world.campaign.period_s, rel=0.05)


def test_earlier_campaigns_leave_delays_of_their_own_mean(build: Build) -> None:
    funnel = {"past": 20_000, "past_mean": 0.5, "shallow_delay": {"mean": 0.1}}
    world = build(funnel={**funnel, "deep_delay": {"mean": 0.3}})

    shallow, deep = brief_of(world).past_delays

    assert len(shallow) == len(deep) == 20_000
    assert shallow.mean() == pytest.approx(0.5 * 0.1 * 86_400, rel=0.05)
    assert deep.mean() == pytest.approx(0.5 * 0.4 * 86_400, rel=0.05)
    assert len(brief_of(build()).past_delays[1]) == 0


def test_a_step_of_the_real_chance_is_not_seen_by_the_model(build: Build) -> None:
    plain = build(funnel=STILL)
    stepped = build(funnel={**STILL, "steps": [{"at": 0.5, "factor": 0.5}]})
    later = plain.requests.at >= plain.campaign.period_s / 2

    np.testing.assert_array_equal(stepped.predicted.deep, plain.predicted.deep)
    np.testing.assert_allclose(stepped.truth.deep[later], plain.truth.deep[later] / 2)
    np.testing.assert_array_equal(stepped.truth.deep[~later], plain.truth.deep[~later])


def test_the_same_people_come_back_with_a_similar_chance(build: Build) -> None:
    world = build(funnel=STILL)
    person = world.requests.person
    order = np.argsort(person, kind="stable")
    same = person[order][1:] == person[order][:-1]

    log = np.log(world.truth.shallow[order])
    correlation = np.corrcoef(log[1:][same], log[:-1][same])[0, 1]

    assert correlation == pytest.approx(0.7, abs=0.05)


def test_requests_come_as_the_hours_have_it(build: Build) -> None:
    at = build().requests.at

    hours = np.bincount((at // 3_600).astype(int), minlength=24)

    assert (np.diff(at) >= 0).all()
    assert hours.argmax() in (20, 21)
    assert hours.max() > 8 * hours.min()
