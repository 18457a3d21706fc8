"""Judge runs: cost error, what was won of what there was, budget use, recovery; by bucket."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from rta_service.domain.control import CostGoal
from rta_service.simulation.wind_tunnel.curves import Floats
from rta_service.simulation.wind_tunnel.run import Run
from rta_service.simulation.wind_tunnel.world import World

BUCKETS: Final = ((0.0, "< 30"), (30.0, "30-100"), (100.0, "100-300"), (300.0, "> 300"))
"""By the conversions that a clairvoyant would expect; each reaches up to the next."""
ALL: Final = "all"
CLOSE: Final = 0.1
FAIR: Final = 0.2
"""Errors within which a run counts; the second is the industry's own test."""

_STEADY_WINDOWS: Final = 3
_BINDING: Final = 0.97
"""A target that a clairvoyant reaches so nearly is one that can be reached."""


@dataclass(frozen=True, slots=True)
class Score:
    """How one run did."""

    campaign: str
    bucket: str
    cost: float
    gain: float
    """Conversions of the goal, or their money, as they finally came."""
    shallow: float
    deep: float
    """Conversions of either kind."""
    best_gain: float
    """A clairvoyant's expectation, within both targets where there are two."""
    cost_ratio: float
    """Cost over T x gain; a gain below half a conversion counts as half."""
    error: float
    """How far the ratio is from 1. Where target cost is out of reach, for lack of budget or of
    requests, cheaper is no error."""
    other_ratio: float
    other_error: float
    """The same for the other target; NaN without one."""
    budget_use: float
    """NaN without a budget."""
    recovery: "Recovery | None" = None


@dataclass(frozen=True, slots=True)
class Recovery:
    """How long a run took to come back to its target after a step."""

    share: float
    """Of the period; infinite if it never did."""
    conversions: float
    """Expected in that time."""


@dataclass(frozen=True, slots=True)
class Line:
    """Scores of a bucket, summed up."""

    bucket: str
    campaigns: int
    within_10: float
    within_20: float
    median_error: float
    p90_error: float
    over_clairvoyant: float
    """Sum of gains over sum of a clairvoyant's expectations."""
    budget_use: float
    """Mean; NaN where none has a budget."""
    recovery_share: float
    """Median; NaN without steps."""
    recovery_conversions: float


def score(run: Run) -> Score:
    """Judge one run against its world's truth; the first market step is where recovery starts."""
    world = run.world
    campaign = world.campaign
    ratio, error, other_ratio, other_error = _errors(run)
    steps = campaign.market.steps
    return Score(
        campaign=campaign.name,
        bucket=_bucket(_expected_conversions(run)),
        cost=run.cost,
        gain=run.gain(campaign.goal),
        shallow=run.gain(CostGoal.SHALLOW),
        deep=run.gain(CostGoal.DEEP),
        best_gain=_best(world)[1],
        cost_ratio=ratio,
        error=error,
        other_ratio=other_ratio,
        other_error=other_error,
        budget_use=run.cost / world.budget if np.isfinite(world.budget) else np.nan,
        recovery=recovery(run, steps[0].at) if steps else None,
    )


def expected_path(run: Run) -> tuple[Floats, Floats]:
    """Give cost and worth (T x true chances of what was won) of each slot, free of luck."""
    campaign = run.world.campaign
    worth = campaign.target * run.world.truth.of(campaign.goal)
    return run.by_slot(run.costs), run.by_slot(worth)


def recovery(run: Run, after: float, window: float = 0.05, band: float = CLOSE) -> Recovery:
    """Time from a step until expected cost is within a band of the target and stays there.

    Looks at a trailing window, a share of the period, that starts at the step at the earliest;
    steady means inside for three windows' ends in a row, or up to the end of the period.
    """
    cost, worth = expected_path(run)
    slots = len(cost)
    start = int(np.ceil(after * slots))
    width = max(1, round(window * slots))
    ends = range(start + 1, slots + 1)
    inside = [_within(cost, worth, (max(start, end - width), end), band) for end in ends]
    for first in range(len(inside)):
        if all(inside[first : first + _STEADY_WINDOWS]):
            gained = worth[start : start + first + 1].sum() / run.world.campaign.target
            return Recovery((first + 1) / slots, float(gained))
    return Recovery(np.inf, np.inf)


def table(scores: Sequence[Score]) -> list[Line]:
    """Sum scores up by bucket, empty ones left out, and over all."""
    buckets = [(name, [s for s in scores if s.bucket == name]) for _, name in BUCKETS]
    return [_line(name, some) for name, some in [*buckets, (ALL, list(scores))] if some]


def _line(bucket: str, scores: list[Score]) -> Line:
    errors = np.array([s.error for s in scores])
    recoveries = [s.recovery for s in scores if s.recovery]
    return Line(
        bucket=bucket,
        campaigns=len(scores),
        within_10=float(np.mean(errors <= CLOSE)),
        within_20=float(np.mean(errors <= FAIR)),
        median_error=float(np.median(errors)),
        p90_error=float(np.quantile(errors, 0.9)),
        over_clairvoyant=sum(s.gain for s in scores) / max(sum(s.best_gain for s in scores), 1e-9),
        budget_use=_mean(s.budget_use for s in scores),
        recovery_share=_median(r.share for r in recoveries),
        recovery_conversions=_median(r.conversions for r in recoveries),
    )


def _errors(run: Run) -> tuple[float, float, float, float]:
    """Give ratio and error of the goal, and of the other target."""
    world = run.world
    campaign, both = world.campaign, world.both
    cost, gain = _best(world)
    ratio = _ratio(run, campaign.goal, campaign.target)
    error = _error(ratio, best=cost / (campaign.target * gain) if gain else 0.0)
    if not campaign.other_target:
        return ratio, error, np.nan, np.nan
    other = CostGoal.DEEP if campaign.goal == CostGoal.SHALLOW else CostGoal.SHALLOW
    other_ratio = _ratio(run, other, campaign.other_target)
    least = both.cost / (campaign.other_target * both.shallow) if both and both.shallow else 0.0
    return ratio, error, other_ratio, _error(other_ratio, best=least)


def _error(ratio: float, best: float) -> float:
    """Give the distance from 1; only upwards where even the best run stays below."""
    return abs(ratio - 1) if best > _BINDING else max(ratio - 1, 0.0)


def _best(world: World) -> tuple[float, float]:
    """Give a clairvoyant's cost and gain."""
    best, both = world.clairvoyant, world.both
    return (both.cost, both.deep) if both else (best.cost, best.gain)


def _ratio(run: Run, goal: CostGoal, target: float) -> float:
    unit = run.world.campaign.funnel.value if goal == CostGoal.VALUE else 1.0
    return run.cost / (target * max(run.gain(goal), unit / 2))


def _expected_conversions(run: Run) -> float:
    """Give the clairvoyant's conversions, also where its gain is money."""
    campaign, gain = run.world.campaign, _best(run.world)[1]
    return gain / campaign.funnel.value if campaign.goal == CostGoal.VALUE else gain


def _bucket(conversions: float) -> str:
    return next(name for least, name in reversed(BUCKETS) if conversions >= least)


def _within(cost: Floats, worth: Floats, slots: tuple[int, int], band: float) -> bool:
    """Whether cost over worth of some slots is near 1; nothing won is not."""
    first, end = slots
    spent, due = float(cost[first:end].sum()), float(worth[first:end].sum())
    return due > 0 and abs(spent / due - 1) <= band


def _mean(values: Iterable[float]) -> float:
    known = [value for value in values if not np.isnan(value)]
    return float(np.mean(known)) if known else float("nan")


def _median(values: Iterable[float]) -> float:
    known = list(values)
    return float(np.median(known)) if known else float("nan")
