"""What units tell together: delays of an advertiser, and silence."""

import numpy as np
import pytest

from rta_service.domain.control import Aim, CostGoal, Mode, Targets
from rta_service.nearline.control.delay import DelayLaw
from rta_service.nearline.control.feed import Conversions, Wins
from rta_service.nearline.control.pooling import all_silent, parent_laws
from rta_service.nearline.control.unit import ControlUnit, Rules
from rta_service.nearline.control.update import Tuning

HOUR_MS = 3_600_000


def a_unit(
    hours: int, heard_hours: float, delay_s: float = 600.0, rate: float = 0.02
) -> ControlUnit:
    """A unit that won every 10 s; conversions are heard of for so long."""
    aim = Aim(Mode.TCPA, Targets(shallow_micros=1_000_000), CostGoal.SHALLOW)
    unit = ControlUnit("u", Rules(aim, tuning=Tuning(horizon_s=86_400.0)))
    won = np.arange(0, hours * HOUR_MS, 10_000)
    every = won[:: round(1 / rate)]
    came = every + round(1000 * delay_s)
    heard = came < heard_hours * HOUR_MS
    unit.learn(Wins(won, 1_000, rate), Conversions(CostGoal.SHALLOW, every[heard], came[heard]))
    unit.books.roll(hours * HOUR_MS)
    return unit


def test_silence_of_small_units_is_seen_only_of_all_together() -> None:
    silent = [a_unit(12, 11.0) for _ in range(12)]

    assert not all_silent(silent[:1])
    assert all_silent(silent)
    assert not all_silent([a_unit(12, 12.0) for _ in range(12)])
    assert not all_silent([])


def test_an_advertisers_delays_are_learnt_once_enough_conversions_came() -> None:
    laws = parent_laws([a_unit(12, 12.0, delay_s) for delay_s in (500.0, 700.0)])

    assert list(laws) == [CostGoal.SHALLOW]
    assert DelayLaw(np.array(laws[CostGoal.SHALLOW])).mean_s == pytest.approx(600.0, rel=0.3)
    assert parent_laws([a_unit(12, 12.0)]) == {}
    assert parent_laws([a_unit(1, 1.0), a_unit(1, 1.0)]) == {}
