"""How phases limit what the deep goal does to a bid."""

import numpy as np
import pytest

from rta_service.domain.control import Mode
from rta_service.nearline.control.modes import max_theta, next_theta, phase


def test_theta_rises_while_deep_conversions_are_too_few_within_its_phase() -> None:
    assert next_theta(0.0, 0.2, 0.1, 1.0, 0.3) == pytest.approx(0.2 * np.log(2.0))
    assert next_theta(0.25, 0.2, 0.1, 1.0, 0.3) == 0.3
    assert next_theta(0.2, 0.1, 0.2, 9.0, 1.0) == pytest.approx(0.2 - 0.2 * np.log(2.0))
    assert next_theta(0.5, 0.2, 0.0, 1.0, 0.3) == 0.3
    assert [max_theta(deep, 1.0) for deep in (0, 5, 20)] == [0.3, 0.7, 1.0]
    assert max_theta(0, 0.1) == 0.1


def test_a_deep_guarantee_begins_with_twenty_conversions_and_stays() -> None:
    assert phase(Mode.DUAL_GUARANTEE, 19.0, guaranteed=False) is Mode.DEEP_BOOST
    assert phase(Mode.DUAL_GUARANTEE, 20.0, guaranteed=False) is Mode.DUAL_GUARANTEE
    assert phase(Mode.DUAL_GUARANTEE, 0.0, guaranteed=True) is Mode.DUAL_GUARANTEE
    assert phase(Mode.ROAS, 0.0, guaranteed=False) is Mode.ROAS
