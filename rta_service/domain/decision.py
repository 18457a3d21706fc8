"""The answer to one request, before a platform's own words."""

from enum import StrEnum

import msgspec

from rta_service.domain.platform import BidKind
from rta_service.domain.reason import ReasonCode
from rta_service.domain.user import LifecycleStage, ValueTier


class Versions(msgspec.Struct, frozen=True):
    """What decided: every answer carries it, and one answer never mixes two releases."""

    release: str = ""
    snapshot: str = ""
    models: dict[str, str] = {}
    strategies: str = ""


NO_VERSIONS = Versions()
"""For answers given while no release is loaded."""


class Arm(StrEnum):
    """Which of a release's models decided for a person."""

    LIVE = "live"
    CANARY = "canary"


class Bid(msgspec.Struct, frozen=True, gc=False):
    """How strongly: a weight factor, or a price in micros of the currency."""

    kind: BidKind
    value: float
    currency: str = ""


class Prediction(msgspec.Struct, frozen=True, gc=False):
    """Calibrated probabilities given a click."""

    register: float
    trade: float


class Steered(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """What cost control had to do with an answer."""

    version: int
    """Of the order; 0 before the first."""
    factor: float = 1.0
    """By which chance moved the bid or the weight, to learn what that does."""
    density: float = 1.0
    """How likely that was: of a moved one the density of ln(factor), else the chance of no move."""
    control_group: bool = False
    """Whether the platform ignores weights at the time."""
    unsent: float | None = None
    """The weight that would have been answered otherwise."""


class StrategyDecision(msgspec.Struct, frozen=True, gc=False):
    """One strategy's yes with its bid, or no with its reason."""

    strategy_id: str
    target_id: str
    """The platform's own id of the strategy; empty when it is not bound there."""
    reason: ReasonCode
    participate: bool = False
    bid: Bid | None = None
    pcvr: Prediction | None = None
    tag: str = ""
    """Of a yes: what the platform gives back with clicks; empty where it takes none."""
    steered: Steered | None = None
    """Of strategies under cost control."""


class Decision(msgspec.Struct, frozen=True):
    """The answer to one request, and the facts that metrics want of it."""

    request_id: str
    participate: bool
    reason: ReasonCode
    strategies: tuple[StrategyDecision, ...]
    ttl_s: int
    versions: Versions = NO_VERSIONS
    stage: LifecycleStage = LifecycleStage.UNKNOWN
    tier: ValueTier = ValueTier.UNKNOWN
    arm: Arm = Arm.LIVE
