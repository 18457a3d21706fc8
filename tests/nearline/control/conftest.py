"""Small histories of wins and conversions, and the plain unit that learns from them."""

from collections.abc import Callable

import numpy as np
import pytest

from rta_service.domain.control import Aim, CostGoal, Mode, Targets
from rta_service.nearline.control.feed import Conversions, Wins
from rta_service.nearline.control.unit import ControlUnit, Rules

MINUTE_MS = 60_000
Feed = Callable[..., tuple[Wins, Conversions, Conversions]]


@pytest.fixture
def unit() -> ControlUnit:
    targets = Targets(shallow_micros=20_000_000, deep_micros=100_000_000)
    return ControlUnit("spring/json", Rules(Aim(Mode.TCPA, targets, CostGoal.SHALLOW)))


@pytest.fixture
def feed() -> Feed:
    def build(
        *,
        wins: int = 3_600,
        cost: int = 200_000,
        rate: float = 0.01,
        came: float = 0.01,
        deep: float = 0.2,
        since_ms: int = 0,
        delay_ms: int = MINUTE_MS,
    ) -> tuple[Wins, Conversions, Conversions]:
        """Win one a second; exactly the share `came` converts, and of these the share `deep`."""
        at = since_ms + 1_000 * np.arange(wins)
        shallow = at[np.diff(np.floor(np.arange(wins + 1) * came)) > 0]
        later = shallow[np.diff(np.floor(np.arange(len(shallow) + 1) * deep)) > 0]
        return (
            Wins(at, cost, rate, rate * 0.2, rate * 0.2 * 30.0),
            Conversions(CostGoal.SHALLOW, shallow, shallow + delay_ms),
            Conversions(CostGoal.DEEP, later, later + delay_ms, 30_000_000),
        )

    return build
