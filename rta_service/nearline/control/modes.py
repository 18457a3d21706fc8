"""Which mode is in force, and how much of the deep goal goes into the bid: phases by evidence.

What a mode makes of predictions is in `domain.control_pricing`, since workers need it too.
"""

from math import log
from typing import Final

from rta_service.domain.control import Mode

DEEP_GUARANTEE_FROM: Final = 20.0
"""Deep conversions from which a deep cost can be guaranteed; before, the goal only shapes."""
_THETA_PHASES: Final = ((5.0, 0.3), (DEEP_GUARANTEE_FROM, 0.7))


def max_theta(arrived_deep: float, highest: float) -> float:
    """Limit the boost by evidence: 0.3 below 5 deep conversions, 0.7 below 20."""
    allowed = [limit for below, limit in _THETA_PHASES if arrived_deep < below]
    return min([highest, *allowed])


def phase(mode: Mode, arrived_deep: float, *, guaranteed: bool) -> Mode:
    """Give the mode in force; a guarantee that has begun stays."""
    if mode is not Mode.DUAL_GUARANTEE or guaranteed or arrived_deep >= DEEP_GUARANTEE_FROM:
        return mode
    return Mode.DEEP_BOOST


def next_theta(theta: float, wanted: float, rate: float, gained: float, highest: float) -> float:
    """Move theta while the deep rate misses, by the new expected deep conversions."""
    if wanted <= 0.0 or rate <= 0.0:
        return min(theta, highest)
    return min(max(theta + 0.2 * min(1.0, gained) * log(wanted / rate), 0.0), highest)
