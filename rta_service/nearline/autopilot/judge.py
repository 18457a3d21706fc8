"""Wait, promote or roll back: what follows from the evidence, with every figure behind it."""

from typing import Literal

import msgspec

from rta_service.domain.rollout import MILLION, Phase
from rta_service.nearline.autopilot.evidence import Evidence, Split
from rta_service.nearline.autopilot.guards import Reading, read_guards
from rta_service.nearline.autopilot.policy import Policy, Step

_MINUTE_MS = 60_000


class Standing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the candidate stands now."""

    phase: Phase
    share_millionths: int = 0
    """Of the canary; 0 in shadow."""
    since_ms: int = 0
    """When this step began."""
    claimed_auc: float | None = None
    """The AUC of its manifest's evaluation."""


class Judgement(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What to do, why, and every guard's figure."""

    action: Literal["wait", "promote", "roll_back"]
    share_millionths: int
    """The share from now on: MILLION is live, 0 is no canary."""
    reasons: tuple[str, ...]
    readings: tuple[Reading, ...] = ()


def judge(standing: Standing, evidence: Evidence, policy: Policy, now_ms: int) -> Judgement:
    """Judge one model on trial; may be called at any time and as often as one likes.

    Any guard's alarm rolls back. Promotion asks for the step's least evidence and for every guard
    to be clear, so that what can't be told apart from harm waits.
    """
    return Judgement("wait", standing.share_millionths, ("not yet implemented",))
