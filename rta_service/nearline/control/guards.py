"""What stops a loop that would act on nonsense: each guard looks at sums and gives a Reason."""

from math import isfinite
from typing import Final

from rta_service.domain.control import Reason
from rta_service.nearline.control.posterior import Evidence, chance_of_so_few

_HALVED_AT: Final = 3.0
"""Targets spent; nothing comes of three due conversions in 5 % of cases by chance."""
_STOPPED_AT: Final = 5.0
_OUTAGE_CHANCE: Final = 1e-3
LEAST_WINDOW_S: Final = 120.0
"""The youngest slots of the books are 15 s wide: in less nothing can be seen to be missing."""
_SANE: Final = (0.5, 2.0)
_SOUND: Final = (0.1, 10.0)
_SANITY_CONVERSIONS: Final = 30.0


def breaker(evidence: Evidence) -> Reason | None:
    """Halve after three targets without a conversion where three were due, stop after five."""
    due = min(evidence.matured, evidence.cost)
    if evidence.arrived > 0.0 or due < _HALVED_AT:
        return None
    return Reason.STOPPED if evidence.cost > _STOPPED_AT else Reason.NO_CONVERSIONS


def throttle(reason: Reason | None) -> float:
    """Say how much of a bid a breaker leaves."""
    match reason:
        case Reason.STOPPED | Reason.BUDGET_SPENT:
            return 0.0
        case Reason.NO_CONVERSIONS:
            return 0.5
        case _:
            return 1.0


def silent(came: int, predicted: float, before: Evidence, prior: float) -> bool:
    """Say whether one goal's postbacks of a window are too few to be chance.

    The limit is the 0.1 % quantile of the predictive law after the evidence from before the window.
    """
    return chance_of_so_few(came, predicted, before, prior) < _OUTAGE_CHANCE


def outage(silences: list[bool]) -> Reason | None:
    """Tell silence of all goals (a broken line) from that of one (a worse market)."""
    return Reason.POSTBACK_OUTAGE if silences and all(silences) else None


def sanity(evidence: Evidence) -> Reason | None:
    """Judge predicted over arrived conversions, from 30 on.

    A constant error of two is corrected by the scale and only told; at ten the unit or the feature
    is wrong, and the mean prediction is used in place of each.
    """
    if evidence.arrived < _SANITY_CONVERSIONS:
        return None
    ratio = evidence.matured / evidence.arrived
    if not _SOUND[0] <= ratio <= _SOUND[1]:
        return Reason.MODEL_UNSOUND
    return None if _SANE[0] <= ratio <= _SANE[1] else Reason.MODEL_OFF


def cap(mean_bid: float, mean_bids: float, highest: int | None) -> float | None:
    """Give the most a single bid may be, in micros; none before a mean is known."""
    known = [mean_bids * mean_bid] if mean_bid > 0.0 and isfinite(mean_bid) else []
    return min([*known, *([float(highest)] if highest is not None else [])], default=None)
