"""What one RTA target stands for: whom it wants, the goal, the price rule."""

from enum import StrEnum

import msgspec

from rta_service.domain.control_order import ControlSettings
from rta_service.domain.platform import BidKind
from rta_service.domain.user import LifecycleStage, RFMSegment, Role, ValueTier


class Goal(StrEnum):
    """The conversion an advertiser pays for in the end."""

    REGISTER = "register"
    TRADE = "trade"


class OptimisedEvent(StrEnum):
    """The event a platform's own campaign optimises; its pCVR is already in the eCPM."""

    CLICK = "click"
    ACTIVATE = "activate"
    REGISTER = "register"


class FunnelRule(StrEnum):
    """Conditions on how far a person got."""

    DOWNLOADED = "downloaded"
    ACTIVATED = "activated"
    REGISTERED = "registered"
    TRADED = "traded"
    NOT_DOWNLOADED = "not_downloaded"
    NOT_ACTIVATED = "not_activated"
    NOT_REGISTERED = "not_registered"
    NOT_TRADED = "not_traded"


class DegradedChoice(StrEnum):
    """What to answer when no decision is possible."""

    DECLINE = "decline"
    ACCEPT = "accept"


class Audience(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whom a strategy wants; every part must agree."""

    stages: frozenset[LifecycleStage]
    segments: frozenset[RFMSegment]
    tiers: frozenset[ValueTier]
    roles: frozenset[Role]
    wake_tiers: frozenset[ValueTier]
    """Tiers in which silent and churned people are worth waking."""
    funnel: frozenset[FunnelRule] = frozenset()
    unknown: bool = False


class Strategy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One strategy of an advertiser, as published; money in micros, times in seconds."""

    strategy_id: str
    bindings: dict[str, str]
    """Platform name to the id under which that platform knows this strategy."""
    audience: Audience
    optimises: OptimisedEvent
    goal: Goal
    target_cpa_micros: int
    answer: BidKind
    currency: str
    min_bid: float
    """Lower bound of the answer: a factor for weights, micros for prices."""
    max_bid: float
    """Upper bound of the answer: a factor for weights, micros for prices."""
    value_micros: int | None = None
    """Worth of one goal conversion, where it differs from the target CPA."""
    holdout_share: float = 0.0
    record_rate: float = 0.0
    """Share of its decisions that are recorded whole."""
    same_goal_exponent: float = 0.0
    accept_ttl_s: int = 3600
    reject_ttl_s: int = 3600
    degraded_ttl_s: int | None = None
    """None means the platform's minimum, since it may cache our answer for hours."""
    degraded: DegradedChoice = DegradedChoice.DECLINE
    control: ControlSettings | None = None
    """Without them prices and weights are the models' alone."""
