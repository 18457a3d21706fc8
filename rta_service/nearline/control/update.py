"""The step of a log multiplier: integral action in the log domain, with a gain of evidence.

    rho_recent = (C_w + c0/2) / (kappa S_w + c0/2)
    likely     = w Nhat + (1 - w) kappa S,                       w = N / (N + a)
    debt       = (C - likely) / (min(R + K, max(likely, R)) + c0)
    e          = -[(1 - b) ln rho_recent + b sign(debt) ln(1 + |debt|)]
    u         += clip(eta pace evidence e, -s pace, +s pace),    pace = step / quantum

Costs are in conversions paid for at the target. rho_recent looks at the present multiplier alone,
the debt is what went wrong before, spread over the R conversions that the rest of the horizon
should bring and K more: early in a day it hardly matters, since chance and the day's own shape
pay most of it back; in the end it must be paid soon. Evidence is the expected conversions won in the step over
those of one quantum: both scale with the step, so that the step's length does not matter.
"""

from dataclasses import dataclass
from math import copysign, inf, log, log1p
from typing import Final

from rta_service.domain.control import Limits, Reason
from rta_service.nearline.control.posterior import Evidence, final, scale

_ON_TARGET: Final = 0.02
"""An error so small is called on target."""
_PROVEN_BY: Final = 10.0
_SURPLUS: Final = 0.9
_PROBE_GAIN: Final = 0.1
_PROBE_LIMIT: Final = 0.4


@dataclass(frozen=True)
class Tuning:
    """Constants of the loops; the defaults are the measured ones."""

    horizon_s: float = 86_400.0
    """The time in which a cost is to be right: a day, or a campaign's length."""
    horizon_starts_ms: int = 0
    """When a horizon begins, modulo its length: debts are to be repaid by its end."""
    memory_s: float = inf
    """Half-life of what counts towards the cost; without end, a campaign's whole cost counts."""
    window_s: float | None = None
    """Half-life of the recent cost; a 48th of the horizon where not given."""
    dead_time_s: float = 0.0
    """How long a platform keeps an old answer: the loop is slowed so that it stays stable."""
    gain: float = 0.9
    repay: float = 0.5
    """b: the weight of past debt."""
    repay_over: float = 10.0
    """K: conversions over which a debt is repaid when the horizon is at its end."""
    speed: float = 0.8
    prior: float = 5.0
    """a, in conversions."""
    softening: float = 1.5
    """c0: conversions at target that are imagined beside the real ones."""
    full_evidence: float = 0.25
    """Expected conversions a quantum at which the gain is full."""
    budget_gain: float = 0.35

    @property
    def quantum_s(self) -> float:
        """Give the time in which the loop would remove `gain` of an error."""
        return max(self.horizon_s / 40.0, 3.0 * self.dead_time_s)

    @property
    def recent_s(self) -> float:
        """Give the half-life of the recent cost."""
        return max(self.window_s or self.horizon_s / 48.0, self.dead_time_s)


@dataclass(frozen=True)
class Move:
    """A new log multiplier, and why."""

    log_multiplier: float
    reason: Reason


@dataclass(frozen=True)
class Ratios:
    """Costs over targets."""

    recent: float
    total: float
    owed: float
    """Log of the cost, over the target, at which what is still to be bought would bring in
    past debt, or spend past savings."""

    def error(self, repay: float) -> float:
        """Give how far the log multiplier is too low."""
        return -((1.0 - repay) * log(self.recent) + repay * self.owed)


def ratios(evidence: Evidence, tuning: Tuning, kappa: float) -> Ratios:
    """Compare costs with the conversions that they will have bought."""
    prior, soft = tuning.prior, tuning.softening
    trust = evidence.arrived / (evidence.arrived + prior)
    expected = final(evidence, prior, kappa).mean
    likely = trust * expected + (1.0 - trust) * kappa * evidence.predicted
    recent = (evidence.recent_cost + soft / 2.0) / (kappa * evidence.recent_predicted + soft / 2.0)
    total = (evidence.cost + soft) / (likely + soft)
    ahead = kappa * evidence.to_come
    over = min(ahead + tuning.repay_over, max(likely, ahead))
    debt = (evidence.cost - likely) / (over + soft)
    return Ratios(recent, total, copysign(log1p(abs(debt)), debt))


def step(
    level: float, evidence: Evidence, tuning: Tuning, limits: Limits, elapsed_s: float
) -> Move:
    """Move a log multiplier once; `elapsed_s` is the time since the last step."""
    kappa = scale(evidence, tuning.prior)
    pace = min(elapsed_s / tuning.quantum_s, 1.0)
    gained = kappa * evidence.gained
    if gained <= 0.0 or pace <= 0.0:
        return Move(level, Reason.NO_EVIDENCE)
    error = ratios(evidence, tuning, kappa).error(tuning.repay)
    wanted = tuning.gain * pace * min(1.0, gained / (tuning.full_evidence * pace)) * error
    fastest = min(tuning.speed * pace, log(1.0 + limits.per_minute) * elapsed_s / 60.0)
    moved = level + _clip(wanted, -fastest, fastest)
    bounded = _clip(moved, limits.lowest, limits.highest)
    if bounded != moved:
        return Move(bounded, Reason.LEVEL_LIMIT)
    if abs(wanted) > fastest:
        return Move(bounded, Reason.SPEED_LIMIT)
    return Move(bounded, _why(error))


def _why(error: float) -> Reason:
    if abs(error) <= _ON_TARGET:
        return Reason.ON_TARGET
    return Reason.TOO_CHEAP if error > 0 else Reason.TOO_DEAR


def probe(level: float, tuning: Tuning, elapsed_s: float) -> Move:
    """Bid a little more where nothing was won for long, up to e^0.4 = 1.5 times neutral."""
    pace = min(elapsed_s / tuning.quantum_s, 1.0)
    if level >= _PROBE_LIMIT:
        return Move(level, Reason.NO_EVIDENCE)
    return Move(min(level + _PROBE_GAIN * pace, _PROBE_LIMIT), Reason.PROBING)


def follow(levels: list[float], slack: float) -> list[float]:
    """Keep every loop within `slack` of the lowest, which decides the bid: no windup.

    Levels are logs of what each loop would bid on average.
    """
    active = min(levels, default=0.0)
    return [min(level, active + slack) for level in levels]


def _clip(value: float, low: float, high: float) -> float:
    return min(max(value, low), high)


def proven_surplus(evidence: Evidence, tuning: Tuning) -> bool:
    """Say whether a cost cap may bid above its target: 10 % under it over 10 conversions."""
    kappa = scale(evidence, tuning.prior)
    total = ratios(evidence, tuning, kappa).total
    return kappa * evidence.predicted >= _PROVEN_BY and total < _SURPLUS
