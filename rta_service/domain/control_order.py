"""What passes between a controller and the workers: settings in, orders out, usage back.

Kept as MessagePack of arrays in the store, so fields are only ever appended, with a default.
"""

from math import exp, floor, log
from typing import Final

import msgspec

from rta_service.domain.control import (
    Aim,
    Block,
    Budget,
    CostGoal,
    GoalStanding,
    Limits,
    Reason,
)
from rta_service.domain.user import LifecycleStage, ValueTier

WORTH_BINS: Final = 64
"""Bins of worth, a sixth of e wide, the last from e^0 = 1 on."""
_BINS_PER_E: Final = 6.0
CELLS: Final = len(LifecycleStage) * len(ValueTier)


class ControlSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a strategy's bids are steered, as its file says."""

    aim: Aim
    budget: Budget | None = None
    """For each of the strategy's platforms, in micros of its currency."""
    limits: Limits = Limits()
    horizon_s: float = 86_400.0
    """The time in which a cost is to be right."""
    explore_share: float = 0.02
    """Share of bids that are moved by chance, to learn what a price does."""
    guarantee_until_ms: int = 0
    """Until then the platform ignores weights: such answers are the control group."""
    shares: dict[str, float] = {}
    """Least share of the budget by `stage.tier`, as `growth.S`."""
    ahead_ms: int = 3_600_000
    """How far ahead of the day's plan money is granted for answers."""


class Shape(msgspec.Struct, frozen=True, array_like=True):
    """How a unit acts where a platform lets no price through: weights, and whom to take part for."""

    mean_worth: float
    """A weight is worth over this, so that the mean weight stays about 1."""
    least_worth: float = 0.0
    """Nobody below takes part."""
    least_by_cell: dict[int, float] = {}
    """Instead of `least_worth` for people of a cell (`cell_of`)."""


class Order(msgspec.Struct, frozen=True, array_like=True):
    """What workers are to do for one unit until the next order."""

    block: Block
    settings: ControlSettings
    shape: Shape | None = None
    """Without one: the release's mean value, and nobody is left out."""
    hold_rate: float = 0.0
    """Share of each price answered that is held of the worker's money; 0 without escrow."""


class Usage(msgspec.Struct, array_like=True):
    """What a worker did for a unit since it last told; sums only, so that they add up."""

    unit_id: str
    answered: int = 0
    """Yes answers."""
    price_micros: int = 0
    """Sum of the prices answered, in the answer's own unit (a cpm is per mille)."""
    weight_millis: int = 0
    """Sum of the weights answered, in thousandths."""
    held_micros: int = 0
    """Money held for what was answered."""
    explored: int = 0
    capped: int = 0
    stale: int = 0
    bad: int = 0
    """Predictions that were no numbers."""
    no_money: int = 0
    """Refused because the worker's share of the budget was used up."""
    not_worth: int = 0
    """Refused because of `least_worth`."""
    worths: dict[int, int] = {}
    """Wanted people, also those that were not worth it: cell x WORTH_BINS + bin -> how many."""


class Grant(msgspec.Struct, frozen=True, array_like=True):
    """Money of a unit that a worker may hold for its answers."""

    unit_id: str
    micros: int
    until_ms: int
    """By the store's clock; what is not held until then goes back."""


class BudgetPace(msgspec.Struct, frozen=True):
    """Where a unit's money of the day stands, in micros."""

    daily_micros: int
    spent_micros: int
    planned_micros: int
    """What would be spent by now if spending followed the day's traffic."""
    spent_rate: float
    """Micros a second of late."""
    planned_rate: float
    """Micros a second from now on that use up what remains."""


class Moved(msgspec.Struct, frozen=True):
    """How a log multiplier went, as long as the reason was the same."""

    since_ms: int
    at_ms: int
    goal: CostGoal
    log_before: float
    log_after: float
    reason: Reason


class UnitView(msgspec.Struct, frozen=True):
    """What people see of a unit beside its Order; `nearline.control.viewing.view` makes it."""

    version: int
    """Of the block that it belongs to."""
    at_ms: int
    standings: tuple[GoalStanding, ...]
    told: int = 0
    """Clicks so far of which something was predicted."""
    pace: BudgetPace | None = None
    moves: tuple[Moved, ...] = ()
    """The latest ones, oldest first."""
    fed_until_ms: int = 0
    """The newest event that was seen is of this moment."""
    usage: Usage | None = None
    """What workers did of late: in ten minutes half of it is forgotten; `worths` of one step."""


def unit_id(strategy_id: str, platform: str) -> str:
    """Name the control unit of a strategy on a platform."""
    return f"{strategy_id}@{platform}"


def cell_of(stage: int, tier: int) -> int:
    """Number a stage and a tier."""
    return stage * len(ValueTier) + tier


def worth_bin(worth: float) -> int:
    """Put a worth into its bin; what is no positive number goes into the lowest."""
    if not worth > 0.0:
        return 0
    if worth >= 1.0:  # infinity too, of which nobody can take the floor
        return WORTH_BINS - 1
    return max(floor(log(worth) * _BINS_PER_E) + WORTH_BINS - 1, 0)


def bin_floor(place: int) -> float:
    """Give the least worth of a bin; 0 for the lowest."""
    return 0.0 if place <= 0 else exp((place - WORTH_BINS + 1) / _BINS_PER_E)
