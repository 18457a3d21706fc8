"""One strategy's part of a decision, kept whole: what was answered, why, and how likely it was kept."""

import msgspec

from rta_service.domain.decision import NO_VERSIONS, Arm, Bid, Prediction, Steered, Versions
from rta_service.domain.reason import ReasonCode
from rta_service.domain.user import LifecycleStage, ValueTier


class Ghost(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """What a strategy would have answered for a person it held out."""

    reason: ReasonCode
    participate: bool
    bid: Bid | None = None
    pcvr: Prediction | None = None


class DecisionRecord(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A recorded answer of one strategy to one request.

    Written as an array, so fields are only ever appended, with a default. Holds no device id: the
    request and the person are keyed hashes.
    """

    ts_ms: int
    """When it was decided."""
    platform: str
    request: int
    """`KeyRing.request_tag`; 0 where the request had no id."""
    person: int
    """The person's key, by which holdout and arms are drawn; 0 where nobody was sought or found."""
    strategy_id: str
    participate: bool
    reason: ReasonCode
    propensity: float
    """How likely this decision was to be recorded: each stands for 1 / propensity of its kind."""
    bid: Bid | None = None
    pcvr: Prediction | None = None
    """Probabilities given a click; absent where no model was asked."""
    versions: Versions = NO_VERSIONS
    stage: LifecycleStage = LifecycleStage.UNKNOWN
    tier: ValueTier = ValueTier.UNKNOWN
    arm: Arm = Arm.LIVE
    tag: str = ""
    ghost: Ghost | None = None
    """Of a person held out; absent also where there was no time to score it."""
    steered: Steered | None = None
    """What cost control did to the answer, with the chance of it."""
