"""Words and plain structs of bid control: what a unit aims at, and what workers read of it.

A control unit is a strategy on a platform. Its controller writes a Block; workers only read it.
"""

from enum import StrEnum
from typing import Final

import msgspec

from rta_service.domain.errors import InvalidInput

MICROS: Final = 1_000_000


class CostGoal(StrEnum):
    """What money is spent for. The "conversion" of VALUE is one unit of currency."""

    SHALLOW = "shallow"
    DEEP = "deep"
    VALUE = "value"


class Mode(StrEnum):
    """How targets, predictions and budget make a bid."""

    TCPA = "tcpa"
    COST_CAP = "cost_cap"
    MAX_CONVERSIONS = "max_conversions"
    DUAL_GUARANTEE = "dual_guarantee"
    DEEP_BOOST = "deep_boost"
    ROAS = "roas"


class Reason(StrEnum):
    """Why a multiplier moved, or why it did not; REASON_WORDS says it to people."""

    STARTED = "started"
    ON_TARGET = "on_target"
    TOO_DEAR = "too_dear"
    TOO_CHEAP = "too_cheap"
    SPEED_LIMIT = "speed_limit"
    LEVEL_LIMIT = "level_limit"
    NO_EVIDENCE = "no_evidence"
    PROBING = "probing"
    FOLLOWS_ACTIVE = "follows_active"
    CAP_CLOSED = "cap_closed"
    TARGET_CHANGED = "target_changed"
    BUDGET_CHANGED = "budget_changed"
    BUDGET_ACTIVE = "budget_active"
    BUDGET_SPENT = "budget_spent"
    DEEP_PHASE = "deep_phase"
    NO_CONVERSIONS = "no_conversions"
    STOPPED = "stopped"
    POSTBACK_OUTAGE = "postback_outage"
    MODEL_OFF = "model_off"
    MODEL_UNSOUND = "model_unsound"
    BID_CAPPED = "bid_capped"
    STALE = "stale"
    BAD_NUMBER = "bad_number"


REASON_WORDS: Final[dict[Reason, str]] = {
    Reason.STARTED: "no step was made yet",
    Reason.ON_TARGET: "the cost is at its target",
    Reason.TOO_DEAR: "conversions cost more than the target: bid less",
    Reason.TOO_CHEAP: "conversions cost less than the target: bid more",
    Reason.SPEED_LIMIT: "the move was cut to the speed limit",
    Reason.LEVEL_LIMIT: "the multiplier is at its lowest or highest value",
    Reason.NO_EVIDENCE: "nothing was won since the last step",
    Reason.PROBING: "nothing was won for long: bid a little more to see",
    Reason.FOLLOWS_ACTIVE: "another goal decides the bid; this one follows it",
    Reason.CAP_CLOSED: "a cost cap bids above the target only after a proven surplus",
    Reason.TARGET_CHANGED: "the target changed: the bid was rescaled at once",
    Reason.BUDGET_CHANGED: "the budget changed: its pace was rescaled at once",
    Reason.BUDGET_ACTIVE: "the budget's pace decides the bid",
    Reason.BUDGET_SPENT: "the day's budget is spent: no bids",
    Reason.DEEP_PHASE: "too few deep conversions for a guarantee: the deep goal only shapes",
    Reason.NO_CONVERSIONS: "three targets spent and nothing converted: bids are halved",
    Reason.STOPPED: "five targets spent and nothing converted: no bids",
    Reason.POSTBACK_OUTAGE: "far too few postbacks of every goal: everything is frozen",
    Reason.MODEL_OFF: "predictions are off by more than two; the scale corrects them",
    Reason.MODEL_UNSOUND: "predictions are off by more than ten: the mean is used instead",
    Reason.BID_CAPPED: "a single bid is capped by the mean bid",
    Reason.STALE: "the control block is old: the multipliers fade to neutral",
    Reason.BAD_NUMBER: "a figure was negative or not a number: the neutral bid is used",
}


class Targets(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a conversion may cost, in micros of the account's currency."""

    shallow_micros: int | None = None
    deep_micros: int | None = None
    roas: float | None = None
    """Money that must come back for each unit spent."""
    deep_rate: float | None = None
    """Deep over shallow conversions; shallow over deep target where it is not given."""

    def price(self, goal: CostGoal) -> float | None:
        """Give the target cost of one conversion in micros; of one currency unit for VALUE."""
        match goal:
            case CostGoal.SHALLOW:
                return self.shallow_micros
            case CostGoal.DEEP:
                return self.deep_micros
            case CostGoal.VALUE:
                return MICROS / self.roas if self.roas else None

    @property
    def wanted_deep_rate(self) -> float | None:
        """Give the deep rate at which both targets cost the same."""
        if self.deep_rate is not None or not self.shallow_micros or not self.deep_micros:
            return self.deep_rate
        return self.shallow_micros / self.deep_micros


class Aim(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a unit is to reach. Raises InvalidInput where the mode lacks a target."""

    mode: Mode
    targets: Targets
    goal: CostGoal = CostGoal.DEEP
    """The goal of the modes that steer one of the two."""

    def __post_init__(self) -> None:
        for goal in self.goals:
            price = self.targets.price(goal)
            if price is None or not 0 < price < float("inf"):
                raise InvalidInput(f"{self.mode} needs a positive target for {goal}, not {price}")
        if self.mode is Mode.DEEP_BOOST and not self.targets.wanted_deep_rate:
            raise InvalidInput("deep_boost needs a deep_rate, or a deep target beside the shallow")

    @property
    def goals(self) -> tuple[CostGoal, ...]:
        """Give the goals whose cost is steered; the first makes the bid."""
        match self.mode:
            case Mode.DUAL_GUARANTEE:
                return (CostGoal.SHALLOW, CostGoal.DEEP)
            case Mode.DEEP_BOOST:
                return (CostGoal.SHALLOW,)
            case Mode.ROAS:
                return (CostGoal.VALUE,)
            case Mode.TCPA | Mode.COST_CAP | Mode.MAX_CONVERSIONS:
                return (self.goal,)


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How far and how fast a unit may go."""

    lowest: float = -2.5
    highest: float = 3.0
    """Of a log multiplier: e^-2.5 = 0.08 to e^3 = 20. Speeds are clamped, levels hardly."""
    budget_lowest: float | None = None
    """Of the budget's log multiplier, where its end is another."""
    per_minute: float = 0.1
    """A bid moves by at most this share a minute."""
    max_bid_micros: int | None = None
    mean_bids: float = 5.0
    """No bid exceeds so many mean bids."""
    max_theta: float = 1.0


class Budget(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A day's money and how the day's traffic is spread."""

    daily_micros: int
    curve: tuple[float, ...] = (1.0,)
    """Expected value by equal slots of the day, on any scale; flat until known."""
    day_starts_ms: int = 0
    """When a day begins, modulo a day: midnight of the account's time zone in UTC."""
    day_ms: int = 86_400_000
    """A day's length; shorter in simulations."""

    def __post_init__(self) -> None:
        if self.daily_micros < 0 or self.day_ms <= 0:
            raise InvalidInput("a budget is at least 0 and its day longer than 0")
        if not self.curve or min(self.curve) < 0 or not 0 < sum(self.curve) < float("inf"):
            raise InvalidInput("a traffic curve has shares of at least 0, and one above")


class GoalBlock(msgspec.Struct, frozen=True):
    """One goal of a Block: bid = target_micros x scale x exp(log_multiplier) x prediction."""

    goal: CostGoal
    target_micros: float
    scale: float
    """Conversions over predicted conversions, as far as known."""
    log_multiplier: float
    mean_prediction: float
    """Of the wins so far, by their cost; stands in where predictions are unsound."""
    reason: Reason = Reason.STARTED


class Block(msgspec.Struct, frozen=True):
    """All that workers need of a unit; `modes.lines` turns it into prices."""

    unit_id: str
    version: int
    made_at_ms: int
    period_ms: int
    mode: Mode
    """In force now: dual_guarantee runs as deep_boost until deep conversions are enough."""
    goals: tuple[GoalBlock, ...]
    log_budget: float | None = None
    theta: float = 0.0
    mean_deep_rate: float = 0.0
    """Predicted deep over predicted shallow conversions of the wins."""
    throttle: float = 1.0
    """1, a half, or 0 for no bids."""
    cap_micros: float | None = None
    neutral_micros: float = 0.0
    """The bid where a prediction is no number: a mean win at the target."""
    flags: tuple[Reason, ...] = ()


class GoalStanding(msgspec.Struct, frozen=True):
    """Where a goal's cost stands, for people."""

    goal: CostGoal
    target_micros: float
    cost_micros: float
    arrived: float
    predicted: float
    matured: float
    """Of the predicted conversions, those that had the time to come."""
    scale: float
    expected: float
    expected_low: float
    expected_high: float
    """Final conversions of what was bought, with a 90 % interval."""
    log_multiplier: float
    reason: Reason

    @property
    def expected_cost_micros(self) -> float | None:
        """Give the cost of a conversion once the late ones have come."""
        return self.cost_micros / self.expected if self.expected > 0 else None
