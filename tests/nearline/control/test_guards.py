"""Guards stop what would act on nonsense, and nothing else."""

from math import inf, nan

import numpy as np
import pytest

from rta_service.domain.control import REASON_WORDS, Reason
from rta_service.nearline.control.guards import (
    breaker,
    cap,
    outage,
    sanity,
    silent,
    throttle,
)
from rta_service.nearline.control.posterior import Evidence


def test_every_reason_has_its_words() -> None:
    assert set(REASON_WORDS) == set(Reason)


@pytest.mark.parametrize(
    ("cost", "matured", "arrived", "verdict", "left"),
    [
        (2.9, 9.0, 0.0, None, 1.0),
        (9.0, 2.9, 0.0, None, 1.0),
        (3.5, 3.0, 0.0, Reason.NO_CONVERSIONS, 0.5),
        (5.5, 3.0, 0.0, Reason.STOPPED, 0.0),
        (50.0, 30.0, 1.0, None, 1.0),
    ],
)
def test_the_breaker_halves_and_then_stops_what_never_converts(
    cost: float, matured: float, arrived: float, verdict: Reason | None, left: float
) -> None:
    reason = breaker(Evidence(cost=cost, matured=matured, arrived=arrived))

    assert reason is verdict
    assert throttle(reason) == left


def test_silence_of_every_goal_is_an_outage_and_of_one_is_a_market() -> None:
    known = Evidence(matured=200.0, arrived=200.0)

    assert silent(0, 10.0, known, 10.0)
    assert not silent(4, 10.0, known, 10.0)
    assert not silent(0, 5.0, known, 10.0)
    assert outage([True, True]) is Reason.POSTBACK_OUTAGE
    assert outage([True, False]) is None
    assert outage([]) is None


def test_chance_is_called_an_outage_once_in_a_thousand_windows() -> None:
    rng = np.random.default_rng(1)
    known = Evidence(matured=1_000.0, arrived=1_000.0)

    alarms = [silent(int(came), 20.0, known, 10.0) for came in rng.poisson(20.0, 20_000)]

    assert np.mean(alarms) <= 0.0015


@pytest.mark.parametrize(
    ("matured", "arrived", "verdict"),
    [
        (29.0, 29.0, None),
        (100.0, 100.0, None),
        (70.0, 31.0, Reason.MODEL_OFF),
        (31.0, 70.0, Reason.MODEL_OFF),
        (31.0, 400.0, Reason.MODEL_UNSOUND),
        (400.0, 31.0, Reason.MODEL_UNSOUND),
        (400.0, 3.0, None),
    ],
)
def test_predictions_are_judged_once_enough_has_arrived(
    matured: float, arrived: float, verdict: Reason | None
) -> None:
    assert sanity(Evidence(matured=matured, arrived=arrived)) is verdict


def test_a_single_bid_is_capped_by_the_mean_bid_and_by_the_limit() -> None:
    assert cap(10.0, 5.0, None) == 50.0
    assert cap(10.0, 5.0, 30) == 30.0
    assert cap(0.0, 5.0, 30) == 30.0
    assert cap(nan, 5.0, None) is None
    assert cap(inf, 5.0, None) is None
