"""Steers where a platform lets no price through: by whom it takes part for, and weights about 1.

A platform that keeps its own cost loop undoes a level: weights can only shape, and a cost goal
beyond its own, like a budget, acts through the share of people that we take part for:

    keep   = throttle x min(k(u), exp(u_B)),    u, u_B <= 0
    k(u)   = the share of people, best worth first, whose mean worth is exp(-u) times that of all
    t      : sum over cells of max(K_c(t), floor_c) = keep x all,   floor_c = share_c x keep x all
    m      : the mean of clip(round(worth / m, 2)) over those people is 1

K_c(t) are a cell's people of at least worth t. So one threshold holds for all, but for cells that
would fall below their share of the budget; they go down their own list as far as it takes.
People are counted in bins by worth, half of them forgotten every few hours; what is lost by the
bins' width is made up by the mean of the weights that were really answered.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import exp, inf, log
from typing import Final, Self

import msgspec
import numpy as np
from numpy.typing import NDArray

from rta_service.domain.control import Block, CostGoal, Limits, Reason
from rta_service.domain.control_order import CELLS, WORTH_BINS, Shape, Usage
from rta_service.domain.errors import InvalidInput

Floats = NDArray[np.float64]

HALF_LIFE_S: Final = 6 * 3_600.0
LEAST_KEPT: Final = 0.1
"""A cost goal never leaves out more than the rest."""
_ENOUGH: Final = 200.0
"""People seen before anything is shaped."""
_STICKY: Final = 0.03
"""A share of people moves by no less, in the log: an answer that is kept for hours should not
change with every step."""
_PARTS: Final = 8
"""Of a bin, in which worths are taken to be spread evenly in the log."""
_EDGES: Final = (np.arange(WORTH_BINS * _PARTS + 1) / _PARTS - (WORTH_BINS - 1)) / 6.0
_WORTHS: Final = np.exp((_EDGES[1:] + _EDGES[:-1]) / 2.0)
_ALL: Final = 1.0 - 1e-9
_LUMP: Final = 0.25
"""A bin with so large a share of a cell's people stays whole: they may all have the same worth,
and a threshold inside it would leave out all or none of them."""
_FORGOTTEN: Final = 1e-3
_CHECK_HALF_LIFE_S: Final = 3_600.0
_CHECK_PRIOR: Final = 100.0
_CHECK_MOST: Final = 1.25
_HIGHEST_RATIO: Final = 10.0
_HALVINGS: Final = 40
_STEPS: Final = 16


@dataclass(frozen=True)
class Way:
    """How a unit's answers act, beside its block."""

    weighs: bool = True
    """It answers weights; where a price is answered the price does what thresholds do here."""
    bounds: tuple[float, float] = (0.2, 5.0)
    """Of a weight."""
    shares: Mapping[int, float] = field(default_factory=dict)
    """Least share of the budget by cell."""
    held: CostGoal | None = None
    """The goal that the platform holds by itself: its level is not ours to act on."""
    guarantee_until_ms: int = 0
    """Until then weights are answered as 1, whatever the shape says."""
    half_life_s: float = HALF_LIFE_S


class Shaping(msgspec.Struct, frozen=True):
    """What is kept from step to step; the shape goes into the order."""

    at_ms: int = 0
    worths: dict[int, float] = {}
    """People seen by cell x WORTH_BINS + bin, forgetting."""
    told: float = 0.0
    """Sum of the weights answered lately, and below what they were expected to be."""
    meant: float = 0.0
    keep: float = 1.0
    """Share of people that is aimed at."""
    kept: float = 1.0
    """Share that the thresholds really keep: more, where many are of one worth."""
    reach: float = 0.0
    """Log multipliers below this have no effect any more."""
    mean_weight: float = 1.0
    """Expected of the shape before its correction."""
    shape: Shape | None = None


@dataclass(frozen=True)
class Spread:
    """Thresholds, and what is kept by them."""

    least: float
    by_cell: dict[int, float]
    kept: Floats
    """float64[cells that have people, WORTH_BINS x 8]"""

    @property
    def mean_worth(self) -> float:
        """Give the mean worth of those who stay."""
        return _mean(self.kept)


def advance(before: Shaping, usage: Usage, block: Block, way: Way, now_ms: int) -> Shaping:
    """Shape a unit once; `usage` is what its workers did since the last time."""
    noted = _noted(before, usage, way, now_ms)
    counts = counted(noted.worths)
    people = float(counts.sum())
    if people < _ENOUGH:
        return noted
    crowd = _Crowd.of(counts, way.shares)
    keep, reach = _kept_share(crowd, block, way)
    sticks = 0.0 < keep < 1.0 and abs(log(keep / max(noted.keep, _FORGOTTEN))) < _STICKY
    keep = noted.keep if sticks else keep
    spread = crowd.best(keep * people)
    bias = (noted.told + _CHECK_PRIOR) / (noted.meant + _CHECK_PRIOR)
    bias = min(max(bias, 1.0 / _CHECK_MOST), _CHECK_MOST)
    asked = (spread.kept if keep > 0.0 else crowd.fine).sum(axis=0)
    mean = level_weights(asked, way.bounds, 1.0 / bias)
    shape = Shape(mean, spread.least, spread.by_cell)
    expected = mean_weight(asked, way.bounds, mean)
    return msgspec.structs.replace(
        noted,
        keep=keep,
        kept=float(spread.kept.sum()) / people,
        reach=reach,
        mean_weight=expected,
        shape=shape,
    )


def rta_limits(limits: Limits, reach: float | None = None) -> Limits:
    """Bound a unit's levels to what taking part can do: nothing above neutral, so no windup.

    `reach` is that of its last shaping. The budget keeps its own lower end.
    """
    farthest = log(LEAST_KEPT) if reach is None else min(reach, 0.0)
    return msgspec.structs.replace(
        limits,
        lowest=min(max(limits.lowest, farthest), 0.0),
        highest=min(limits.highest, 0.0),
        budget_lowest=limits.lowest,
    )


def counted(worths: Mapping[int, float]) -> Floats:
    """Give people float64[CELLS, WORTH_BINS] of cell x WORTH_BINS + bin -> how many."""
    counts = np.zeros(CELLS * WORTH_BINS)
    for place, people in worths.items():
        if 0 <= place < len(counts):
            counts[place] = people
    return counts.reshape(CELLS, WORTH_BINS)


def spread_budget(shares: Mapping[int, float], counts: Floats, total: float) -> Spread:
    """Keep `total` of the people float64[CELLS, WORTH_BINS], best worth first.

    Each cell keeps its share of the total, as far as it has so many. Raises InvalidInput for
    shares below 0 or of more than 1 together.
    """
    if any(not share >= 0.0 for share in shares.values()) or sum(shares.values()) > 1.0 + 1e-9:
        raise InvalidInput("shares of a budget are at least 0, and together at most 1")
    return _Crowd.of(counts, shares).best(total)


@dataclass(frozen=True)
class _Crowd:
    """The people of the cells that have any, in fine bins, and each cell's share of the budget."""

    cells: NDArray[np.int64]
    fine: Floats
    tails: Floats
    """float64[cells, edges]: the people from each edge on."""
    shares: Floats

    @classmethod
    def of(cls, counts: Floats, shares: Mapping[int, float]) -> Self:
        cells = np.flatnonzero(counts.sum(axis=1) > 0.0)
        fine = np.repeat(counts[cells] / _PARTS, _PARTS, axis=1)
        tails = np.zeros((len(cells), len(_EDGES)))
        tails[:, :-1] = np.cumsum(fine[:, ::-1], axis=1)[:, ::-1]
        return cls(cells, fine, tails, np.array([shares.get(int(cell), 0.0) for cell in cells]))

    def best(self, total: float) -> Spread:
        people = self.tails[:, 0]
        if total >= people.sum() * _ALL:
            return Spread(0.0, {}, self.fine)
        if total <= 0.0:
            return Spread(inf, {}, np.zeros_like(self.fine))
        floors = np.minimum(self.shares * total, people)
        least = _threshold(np.maximum(self.tails, floors[:, None]).sum(axis=0), total)
        least = _whole(least, self.fine.sum(axis=0))
        thresholds = np.full(len(self.cells), least)
        kept = np.array([np.interp(least, _EDGES, tail) for tail in self.tails])
        low = np.flatnonzero((kept < floors) & (floors > 0.0))
        for row in low:
            thresholds[row] = _whole(_threshold(self.tails[row], floors[row]), self.fine[row])
        above = np.clip((_EDGES[1:] - thresholds[:, None]) / np.diff(_EDGES), 0.0, 1.0)
        own = {int(self.cells[row]): _worth(thresholds[row]) for row in low}
        return Spread(_worth(least), own, self.fine * above)


def level_weights(people: Floats, bounds: tuple[float, float], wanted: float = 1.0) -> float:
    """Find the worth of weight 1, so that weights float64[fine bins] have their mean `wanted`.

    Weights are clipped and rounded as they are answered. Bounds that leave out 1 give the nearest.
    """
    seen = np.flatnonzero(people)
    low, high = _EDGES[seen[0]] - log(_HIGHEST_RATIO), _EDGES[seen[-1]] + log(_HIGHEST_RATIO)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2.0
        if mean_weight(people, bounds, exp(middle)) > wanted:
            low = middle
        else:
            high = middle
    return exp((low + high) / 2.0)


def mean_weight(people: Floats, bounds: tuple[float, float], mean_worth: float) -> float:
    """Give the mean weight as it is answered: in two decimals, within bounds."""
    weights = np.clip(np.round(_WORTHS / mean_worth, 2), *bounds)
    return float(people @ weights / people.sum())


def _noted(before: Shaping, usage: Usage, way: Way, now_ms: int) -> Shaping:
    """Forget some, and add what workers saw and answered."""
    elapsed_s = max(now_ms - before.at_ms, 0) / 1000.0 if before.at_ms else 0.0
    left = 0.5 ** (elapsed_s / way.half_life_s)
    worths = {place: people * left for place, people in before.worths.items()}
    for place, people in usage.worths.items():
        worths[place] = worths.get(place, 0.0) + people
    checked = 0.5 ** (elapsed_s / _CHECK_HALF_LIFE_S)
    told, meant = before.told * checked, before.meant * checked
    if way.weighs and before.shape is not None and before.at_ms >= way.guarantee_until_ms:
        told += usage.weight_millis / 1000.0
        meant += usage.answered * before.mean_weight
    return msgspec.structs.replace(
        before,
        at_ms=max(now_ms, before.at_ms),
        worths={place: people for place, people in worths.items() if people > _FORGOTTEN},
        told=told,
        meant=meant,
    )


def _kept_share(crowd: _Crowd, block: Block, way: Way) -> tuple[float, float]:
    """Give the share of people to keep, and the log multiplier from which on it is the least."""
    if not way.weighs:
        return 1.0, -inf
    # a held goal that follows stands for the other goal of two, or for the budget
    ours = [g for g in block.goals if g.goal is not way.held or g.reason is Reason.FOLLOWS_ACTIVE]
    level = min((goal.log_multiplier for goal in ours), default=0.0)
    by_cost, reach = _for_cost(crowd, level)
    by_budget = 1.0 if block.log_budget is None else exp(min(block.log_budget, 0.0))
    return min(by_cost, by_budget) * block.throttle, reach


def _for_cost(crowd: _Crowd, level: float) -> tuple[float, float]:
    """Find the share of people whose mean worth is exp(-level) times that of all."""
    people, everyone = float(crowd.fine.sum()), _mean(crowd.fine)

    def gain(keep: float) -> float:
        return crowd.best(keep * people).mean_worth / everyone

    most = gain(LEAST_KEPT)
    if level >= 0.0:
        return 1.0, -log(most)
    low, high = LEAST_KEPT, 1.0
    if most <= exp(-level):
        return low, -log(most)
    for _ in range(_STEPS):
        middle = (low + high) / 2.0
        low, high = (middle, high) if gain(middle) >= exp(-level) else (low, middle)
    return low, -log(most)


def _threshold(tail: Floats, total: float) -> float:
    """Find the edge, in the log, from which on there are `total` people."""
    return float(np.interp(total, tail[::-1], _EDGES[::-1]))


def _whole(edge: float, fine: Floats) -> float:
    """Lower an edge to the floor of its bin where it would cut a lump of people."""
    place = min(int(np.searchsorted(_EDGES, edge, side="right") - 1) // _PARTS, WORTH_BINS - 1)
    place = max(place, 0)
    people = float(fine[place * _PARTS : (place + 1) * _PARTS].sum())
    return float(_EDGES[place * _PARTS]) if people > _LUMP * fine.sum() else edge


def _worth(edge: float) -> float:
    return 0.0 if edge <= _EDGES[1] else exp(edge)


def _mean(fine: Floats) -> float:
    people = float(fine.sum())
    return float(fine.sum(axis=0) @ _WORTHS) / people if people > 0.0 else 0.0
