"""What is asked of the rows that both models scored, whoever decided: most harm shows here."""

from math import exp, inf, log, log2
from typing import Final

import numpy as np

from rta_service.nearline.autopilot.evidence import BINS_AN_OCTAVE, RATIO_BINS, counts
from rta_service.nearline.autopilot.pairs import Estimate
from rta_service.nearline.autopilot.ranking import stability_index
from rta_service.nearline.autopilot.reading import (
    Case,
    Reading,
    State,
    band,
    by_error,
    by_wager,
    too_early,
    within,
)
from rta_service.nearline.autopilot.sequential import (
    BURN_IN,
    Interval,
    calibration_interval,
    mean_interval,
    miscalibrated,
    share_above,
    widening,
)

_DRIFT_ROWS: Final = 1_000


def soundness(case: Case) -> Reading:
    """Ask whether every score was a probability."""
    broken = case.evidence.unsound
    words = f"{broken:,} of the candidate's scores were no probabilities"
    return Reading("soundness", State.ALARM if broken else State.CLEAR, words, broken)


def calibration(case: Case) -> Reading:
    """Ask whether as many conversions came as promised, or the live model errs as much.

    When conversions fall for everybody, both models promise too much, and a new one that is as far
    off as the old one is not to blame. So on either side it is enough to keep the margin of what
    came or of the live model, and only beyond both there is harm.
    """
    level, margin = case.level, case.policy.pcoc_margin
    if level.positives < BURN_IN:
        return too_early("calibration", level.positives)
    come, promised = case.pairs.come_and_promised()
    ratio = case.pairs.level_ratio()
    stop, passing = (
        _levels(case, (come, promised), ratio, alpha)
        for alpha in (case.stop, case.policy.false_pass)
    )
    state = State.UNSURE
    if min(one.low for one in stop) > margin or max(one.high for one in stop) < 1.0 / margin:
        state = State.ALARM
    elif (
        min(one.high for one in passing) <= margin
        and max(one.low for one in passing) >= 1.0 / margin
    ):
        state = State.CLEAR
    words = (
        f"predictions over {level.positives:,} matured positives, {exp(ratio.figure):.3f} of the"
        f" live model's"
    )
    reading = Reading("calibration", state, words, promised / come)
    return within(reading, stop[0], Interval(1.0 / margin, margin))


def _levels(
    case: Case, counted: tuple[float, float], ratio: Estimate, alpha: float
) -> tuple[Interval, Interval]:
    """Give the intervals of predictions over outcomes, and of them over the live model's."""
    width = widening(case.level.positives, alpha, case.planned)
    low, high = mean_interval(ratio.figure, ratio.error, width)
    return calibration_interval(*counted, alpha), Interval(exp(low), exp(high))


def segments(case: Case) -> Reading:
    """Average the segments' e-values: an e-value again, however they hang together."""
    found = {
        name: miscalibrated(
            level.positives,
            level.candidate,
            band(case.policy.segment_margin, level.live, level.positives),
        )
        for name, level in case.evidence.levels.items()
    }
    if not found:
        return Reading("segments", State.UNSURE, "no matured row yet")
    worst = max(found, key=found.__getitem__)
    together = float(np.logaddexp.reduce(list(found.values()))) - log(len(found))
    level = case.evidence.levels[worst]
    figure = level.candidate / level.positives if level.positives else None
    words = f"predictions over {level.positives:,} positives of {worst}, worst of {len(found)}"
    return Reading("segments", by_wager(together, case.stop), words, figure)


def log_loss(case: Case) -> Reading:
    """Ask whether outcomes surprised the candidate more than the live model."""
    positives = case.level.positives
    if positives < BURN_IN:
        return too_early("log_loss", positives)
    words = f"nats a positive above the live model, {positives:,} positives"
    allowed = Interval(-inf, case.policy.loss_margin)
    reading = Reading("log_loss", State.UNSURE, words)
    return by_error(case, reading, case.pairs.excess_loss(), allowed)


def ranking(case: Case) -> Reading:
    """Ask whether the candidate orders people as well as the live model."""
    positives, gap = case.level.positives, case.gap
    if gap is None or positives < BURN_IN:
        return too_early("auc", positives)
    words = f"AUC {gap.candidate:.4f} less the live model's {gap.live:.4f}"
    allowed = Interval(-case.policy.auc_margin, inf)
    found = Estimate(gap.difference, gap.error)
    return by_error(case, Reading("auc", State.UNSURE, words), found, allowed)


def claim(case: Case) -> Reading:
    """Ask whether the AUC that the manifest claims is there on live rows: with a leak it is not."""
    positives, gap, claimed = case.level.positives, case.gap, case.claimed_gap
    if claimed is None:
        return Reading("claim", State.CLEAR, "the manifests claim no AUC to hold this to")
    if gap is None or positives < BURN_IN:
        return too_early("claim", positives)
    words = f"AUC over the live model's: {gap.difference:+.4f}, claimed {claimed:+.4f}"
    allowed = Interval(-case.policy.claim_margin, inf)
    found = Estimate(gap.difference - claimed, gap.error)
    return by_error(case, Reading("claim", State.UNSURE, words), found, allowed)


def money(case: Case) -> Reading:
    """Ask what the candidate's bids would have gained or lost."""
    positives = case.level.positives
    if positives < BURN_IN:
        return too_early("money", positives)
    found = case.pairs.gain(case.evidence)
    if found is None:
        return Reading("money", State.CLEAR, "no row says what a conversion is worth")
    words = "surplus of its bids over the live ones', as a share of theirs"
    allowed = Interval(-case.policy.money_margin, inf)
    return by_error(case, Reading("money", State.UNSURE, words), found, allowed)


def drift(case: Case) -> Reading:
    """Compare the two models' scores; a difference is no harm by itself, so it waits long."""
    evidence, policy = case.evidence, case.policy
    rows = sum(evidence.live_scores)
    if rows < _DRIFT_ROWS or evidence.live_sum <= 0.0:
        return Reading("drift", State.UNSURE, f"{rows:,} rows of {_DRIFT_ROWS:,}")
    index = stability_index(evidence.live_scores, evidence.candidate_scores)
    ratio = evidence.candidate_sum / evidence.live_sum
    spend = max(ratio, 1.0 / ratio if ratio else inf)
    words = f"stability index of {rows:,} rows; mean score {ratio:.3f} of the live one"
    state = State.UNSURE
    if index <= policy.psi_margin and spend <= policy.spend_margin:
        state = State.CLEAR
    elif index > 2.0 * policy.psi_margin or spend > policy.spend_margin**2:
        state = State.ALARM
    return Reading("drift", state, words, index, allowed_high=policy.psi_margin)


def scoring_time(case: Case) -> Reading:
    """Ask whether most calls took longer than the margin: bursts of load hit both models alike."""
    ratios, margin = counts(case.evidence.time_ratios), case.policy.time_margin
    calls = int(ratios.sum())
    if not calls:
        return Reading("scoring_time", State.UNSURE, "no call timed yet")
    edge = RATIO_BINS // 2 + round(log2(margin) * BINS_AN_OCTAVE)
    slow = int(ratios[edge:].sum())
    middle = int(np.searchsorted(np.cumsum(ratios), calls / 2.0))
    median = 2.0 ** ((middle + 0.5 - RATIO_BINS // 2) / BINS_AN_OCTAVE)
    state = State.UNSURE
    if share_above(slow, calls, 0.5) >= log(1.0 / case.stop):
        state = State.ALARM
    elif share_above(calls - slow, calls, 0.5) >= log(1.0 / case.policy.false_pass):
        state = State.CLEAR
    words = f"candidate's time over the live model's, median of {calls:,} calls"
    return Reading("scoring_time", state, words, median, allowed_high=margin)
