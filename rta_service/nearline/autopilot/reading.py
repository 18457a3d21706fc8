"""What a guard says: a figure, its interval, its limits, and what follows from them."""

from dataclasses import dataclass
from enum import StrEnum
from math import isfinite, log
from typing import Final

import msgspec

from rta_service.nearline.autopilot.evidence import Evidence, Level
from rta_service.nearline.autopilot.pairs import Estimate, Pairs
from rta_service.nearline.autopilot.policy import Policy
from rta_service.nearline.autopilot.ranking import RankingGap
from rta_service.nearline.autopilot.sequential import BURN_IN, Interval, mean_interval, widening

_ALLOWANCE: Final = 1.5
"""How far the live model's own error may stretch the candidate's limits."""


class State(StrEnum):
    """What a guard says."""

    CLEAR = "clear"
    UNSURE = "unsure"
    ALARM = "alarm"


class Reading(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One guard's figure, with its interval, its limits and what they say."""

    guard: str
    state: State
    words: str
    figure: float | None = None
    low: float | None = None
    high: float | None = None
    """The interval that stops by itself, good at all looks together; None where there is none."""
    allowed_low: float | None = None
    allowed_high: float | None = None


@dataclass(frozen=True, slots=True)
class Case:
    """What guards read."""

    evidence: Evidence
    policy: Policy
    claimed_gap: float | None
    """AUC that the candidate's manifest claims over the live one's."""
    level: Level
    pairs: Pairs
    gap: RankingGap | None
    stop: float
    """Chance of a false stop that each test may spend."""

    @property
    def planned(self) -> float:
        """Matured positives at which intervals of means are narrowest."""
        return self.policy.ladder[0].positives


def band(margin: float, live_promised: float, live_positives: int) -> Interval:
    """Give the allowed predictions over outcomes: what errs no more than the live model may pass.

    When conversions fall for everybody both models promise too much, and a new model that is as
    far off as the old one is not to blame.
    """
    live = live_promised / live_positives if live_positives else 1.0
    live = min(max(live, 1.0 / _ALLOWANCE), _ALLOWANCE)
    return Interval(min(live, 1.0) / margin, max(live, 1.0) * margin)


def by_error(case: Case, reading: Reading, found: Estimate, allowed: Interval) -> Reading:
    """Judge a mean that has one limit: so each end may miss with the policy's whole chance."""
    stop, passing = (
        mean_interval(*found, widening(case.level.positives, 2.0 * alpha, case.planned))
        for alpha in (case.stop, case.policy.false_pass)
    )
    reading = msgspec.structs.replace(reading, figure=found.figure)
    return by_intervals(reading, stop, passing, allowed)


def by_intervals(reading: Reading, stop: Interval, passing: Interval, allowed: Interval) -> Reading:
    """Alarm when the figure surely lies outside of what is allowed, clear when surely inside."""
    state = State.UNSURE
    if stop.low > allowed.high or stop.high < allowed.low:
        state = State.ALARM
    elif passing.low >= allowed.low and passing.high <= allowed.high:
        state = State.CLEAR
    return within(msgspec.structs.replace(reading, state=state), stop, allowed)


def within(reading: Reading, found: Interval, allowed: Interval) -> Reading:
    """Add interval and limits to a reading."""
    low, high, allowed_low, allowed_high = (
        edge if isfinite(edge) else None for edge in (*found, *allowed)
    )
    return msgspec.structs.replace(
        reading, low=low, high=high, allowed_low=allowed_low, allowed_high=allowed_high
    )


def by_wager(wager: float, alpha: float) -> State:
    """Alarm at 1/alpha; half of the way there, in logarithms, is too near to pass."""
    enough = log(1.0 / alpha)
    if wager >= enough:
        return State.ALARM
    return State.CLEAR if wager < enough / 2.0 else State.UNSURE


def too_early(guard: str, positives: int) -> Reading:
    """Say that a test by the central limit theorem has too few positives."""
    return Reading(guard, State.UNSURE, f"{positives:,} matured positives, read from {BURN_IN}")
