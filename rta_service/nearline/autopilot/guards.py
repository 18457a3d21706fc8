"""One guard a question: each reads its figure from the evidence and says where the limits are."""

from collections.abc import Callable
from enum import StrEnum

import msgspec

from rta_service.nearline.autopilot.evidence import Evidence
from rta_service.nearline.autopilot.policy import Policy


class State(StrEnum):
    """What a guard says."""

    CLEAR = "clear"
    UNSURE = "unsure"
    ALARM = "alarm"


class Reading(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One guard's figure, with its interval, its limits and what they say."""

    guard: str
    state: State
    figure: float | None
    low: float | None
    high: float | None
    """The figure's interval that holds at all looks together; None where there is none."""
    limit: str
    words: str


def read_guards(
    evidence: Evidence, policy: Policy, share_millionths: int, claimed_auc: float | None
) -> tuple[Reading, ...]:
    """Read every guard."""
    return ()
