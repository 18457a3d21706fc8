"""What is asked of the rows that the candidate decided itself; nothing to read in shadow."""

from math import inf
from typing import Final

import numpy as np

from rta_service.domain.rollout import MILLION
from rta_service.nearline.autopilot.evidence import ArmRecord, counts
from rta_service.nearline.autopilot.observing import latency_bins
from rta_service.nearline.autopilot.reading import (
    Case,
    Reading,
    State,
    band,
    by_intervals,
    by_wager,
    within,
)
from rta_service.nearline.autopilot.sequential import (
    EVERYWHERE,
    Interval,
    mean_interval,
    miscalibrated,
    share_above,
    widening,
    wrong_split,
)

_BURN_IN: Final = 50
"""Positives of its own before the arm's money is read."""
_OWN_SLOWNESS: Final = 1.5
"""How much larger than the live arm's the share of slow decisions may be."""


def slow_decisions(case: Case) -> Reading:
    """Ask whether too many of its arm's decisions were slow."""
    live, candidate = (
        _slow(arm, case.policy.slow_us)
        for arm in (case.evidence.arm_live, case.evidence.arm_candidate)
    )
    own = _OWN_SLOWNESS * live[0] / max(live[1], 1)
    limit = min(max(case.policy.slow_share, own), 0.5)
    wager = share_above(*candidate, limit)
    words = f"share of {candidate[1]:,} decisions over {case.policy.slow_us / 1000:g} ms in its arm"
    figure = candidate[0] / candidate[1] if candidate[1] else None
    return Reading("slow_decisions", by_wager(wager, case.stop), words, figure, allowed_high=limit)


def sample_ratio(case: Case) -> Reading:
    """Multiply the steps' e-values: each step draws its own people."""
    people = case.evidence.people
    wager = sum(
        wrong_split(split.live, split.candidate, int(share) / MILLION)
        for share, split in people.items()
        if 0 < int(share) < MILLION
    )
    met = sum(split.candidate for split in people.values())
    asked = sum(
        (split.live + split.candidate) * int(share) / MILLION for share, split in people.items()
    )
    words = f"{met:,} people in its arm, {asked:,.1f} expected"
    figure = met / asked if asked else None
    return Reading("sample_ratio", by_wager(wager, case.stop), words, figure)


def arm_calibration(case: Case) -> Reading:
    """Ask whether the candidate keeps its promises where it chose by itself."""
    arm, live = case.evidence.arm_candidate, case.evidence.arm_live
    allowed = band(case.policy.arm_margin, live.promised, live.positives)
    wager = miscalibrated(arm.positives, arm.promised, allowed)
    figure = arm.promised / arm.positives if arm.positives else None
    words = f"predictions over the {arm.positives:,} positives that it decided itself"
    reading = Reading("arm_calibration", by_wager(wager, case.stop), words, figure)
    return within(reading, EVERYWHERE, allowed)


def arm_money(case: Case) -> Reading:
    """Ask whether what its arm bought was worth its price."""
    arm, live = case.evidence.arm_candidate, case.evidence.arm_live
    cost = live.cost_micros / 1e6 / max(live.matured, 1)
    if min(arm.positives, live.positives) < _BURN_IN or cost <= 0.0:
        words = f"{arm.positives:,} positives in its arm, read from {_BURN_IN}"
        return Reading("arm_money", State.CLEAR, words)
    figure = (arm.surplus.mean - live.surplus.mean) / cost
    error = float(np.hypot(arm.surplus.error, live.surplus.error)) / cost
    stop = mean_interval(figure, error, widening(arm.positives, 2.0 * case.stop, case.planned))
    words = "surplus a row over the live arm's, as a share of the live arm's cost"
    allowed = Interval(-case.policy.arm_money_margin, inf)
    # a small arm can't be shown to be good; it is enough that it isn't shown to be bad
    reading = Reading("arm_money", State.UNSURE, words, figure)
    return by_intervals(reading, stop, Interval(figure, figure), allowed)


def _slow(arm: ArmRecord, limit_us: float) -> tuple[int, int]:
    times = counts(arm.latency)
    edge = int(latency_bins(np.array([limit_us]))[0])
    return int(times[edge + 1 :].sum()), int(times.sum())
