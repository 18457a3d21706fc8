"""Putting whole answers together: complete, degraded, and plain refusals."""

from collections.abc import Sequence

from rta_service.domain.decision import NO_VERSIONS, Decision, StrategyDecision
from rta_service.domain.reason import ReasonCode
from rta_service.domain.request import AdRequest
from rta_service.online.live_release import LiveRelease


def decline_all(
    request: AdRequest, reason: ReasonCode, live: LiveRelease | None = None
) -> Decision:
    """Say no to everything, with the shortest cache time the platform allows."""
    versions = NO_VERSIONS if live is None else live.versions
    ttl_s = request.platform.min_ttl_s
    return Decision(request.request_id, False, reason, (), ttl_s, versions)  # noqa: FBT003 - the struct's second field is `participate`


def degrade_all(live: LiveRelease, request: AdRequest, reason: ReasonCode) -> Decision:
    """Answer without a decision, as each asked strategy chose for such a moment."""
    if request.is_ping:
        return decline_all(request, ReasonCode.PING, live)
    asked = request.asked_strategies
    bound = [
        b
        for b in live.bound.get(request.platform.name, ())
        if not asked or b.strategy.strategy_id in asked
    ]
    if not bound:
        return decline_all(request, reason, live)
    answers = [*(b.degraded(reason) for b in bound), *refuse_asked(live, request)]
    return finish(live, request, answers, [b.degraded_ttl_s for b in bound])


def refuse_asked(live: LiveRelease, request: AdRequest) -> list[StrategyDecision]:
    """Name the strategies asked for that do not exist or are not bound to this platform."""
    if not request.asked_strategies:
        return []
    by_id = live.by_id.get(request.platform.name, {})
    return [
        StrategyDecision(asked, "", ReasonCode.UNKNOWN_STRATEGY)
        for asked in request.asked_strategies
        if asked not in by_id
    ]


def finish(
    live: LiveRelease,
    request: AdRequest,
    answers: Sequence[StrategyDecision],
    ttls_s: Sequence[int],
) -> Decision:
    """Join strategies' answers: one yes makes a yes, the shortest cache time holds for all."""
    yes = next((a for a in answers if a.participate), None)
    if yes is not None:
        reason = yes.reason
    else:
        reason = answers[0].reason if answers else ReasonCode.NO_STRATEGY
    return Decision(
        request.request_id,
        yes is not None,
        reason,
        tuple(answers),
        min(ttls_s, default=request.platform.min_ttl_s),
        live.versions,
    )
