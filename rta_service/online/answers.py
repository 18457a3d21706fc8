"""Putting whole answers together: complete, degraded, and plain refusals."""

from collections.abc import Sequence
from typing import Final

from rta_service.domain.decision import NO_VERSIONS, Arm, Decision, StrategyDecision
from rta_service.domain.reason import ReasonCode
from rta_service.domain.request import AdRequest
from rta_service.online.live_release import LiveRelease
from rta_service.online.person import NOBODY, Person

_DISTANT: Final = {
    reason: place
    for place, reason in enumerate(
        (
            ReasonCode.UNKNOWN_STRATEGY,
            ReasonCode.STAGE_NOT_WANTED,
            ReasonCode.ALREADY_REGISTERED,
            ReasonCode.FUNNEL_NOT_WANTED,
            ReasonCode.ROLE_NOT_WANTED,
            ReasonCode.SEGMENT_NOT_WANTED,
            ReasonCode.TIER_NOT_WANTED,
        )
    )
}
"""Reasons that only say a strategy is meant for others, the farthest from a yes first."""


def decline_all(
    request: AdRequest, reason: ReasonCode, live: LiveRelease | None = None
) -> Decision:
    """Say no to everything, with the shortest cache time the platform allows."""
    versions = NO_VERSIONS if live is None else live.versions
    return Decision(
        request.request_id,
        participate=False,
        reason=reason,
        strategies=(),
        ttl_s=request.platform.min_ttl_s,
        versions=versions,
        arm=Arm.LIVE if live is None else live.arm,
    )


def degrade_all(live: LiveRelease, request: AdRequest, reason: ReasonCode) -> Decision:
    """Answer without a decision, as each asked strategy chose for such a moment."""
    if request.is_ping:
        return decline_all(request, ReasonCode.PING, live)
    if not request.ids:
        return decline_all(request, ReasonCode.NO_DEVICE_ID, live)
    bound = live.asked(request)
    answers = [*(b.degraded(reason) for b in bound), *refuse_unknown(live, request)]
    return finish(live, request, answers, [b.degraded_ttl_s for b in bound])


def refuse_unknown(live: LiveRelease, request: AdRequest) -> list[StrategyDecision]:
    """Name the strategies asked for that do not exist or are not bound to this platform."""
    if not request.asked_strategies:
        return []
    by_id = live.by_id.get(request.platform.name, {})
    return [
        StrategyDecision(asked, "", ReasonCode.UNKNOWN_STRATEGY)
        for asked in dict.fromkeys(request.asked_strategies)
        if asked not in by_id
    ]


def finish(
    live: LiveRelease,
    request: AdRequest,
    answers: Sequence[StrategyDecision],
    ttls_s: Sequence[int],
    person: Person = NOBODY,
) -> Decision:
    """Join strategies' answers: one yes makes a yes, the shortest cache time holds for all.

    The reason of a no is that of the strategy that came closest to a yes.
    """
    shown = next((a for a in answers if a.participate), None)
    if shown is None:
        shown = max(answers, key=_nearness, default=None)
    return Decision(
        request.request_id,
        shown is not None and shown.participate,
        ReasonCode.NO_STRATEGY if shown is None else shown.reason,
        tuple(answers),
        min(ttls_s, default=request.platform.min_ttl_s),
        live.versions,
        person.stage,
        person.tier,
        live.arm,
    )


def _nearness(answer: StrategyDecision) -> int:
    return _DISTANT.get(answer.reason, len(_DISTANT))
