"""Putting tags on the answers of platforms that give them back: after everything is decided."""

from collections.abc import Sequence
from typing import Final

from rta_service.domain.decision import Decision, StrategyDecision
from rta_service.domain.reason import ReasonCode
from rta_service.domain.request import AdRequest
from rta_service.domain.tag import Tag, TagCodec, release_mark, strategy_mark

# a member looked up by its class costs 0.1 microseconds on Python 3.11
_HOLDOUT: Final = ReasonCode.HOLDOUT


def tagged(
    codec: TagCodec, requests: Sequence[AdRequest], decisions: Sequence[Decision], now_ms: int
) -> list[Decision]:
    """Give the decisions of a batch with a tag on every yes whose platform wants one.

    A no costs nothing but the look at it.
    """
    minute = now_ms // 60_000
    return [
        _tagged(codec, request, decision, minute)
        if decision.participate and request.platform.tags
        else decision
        for request, decision in zip(requests, decisions, strict=True)
    ]


def _tagged(codec: TagCodec, request: AdRequest, decision: Decision, minute: int) -> Decision:
    release = release_mark(decision.versions.release)
    mark = codec.request_mark(request.platform.name, decision.request_id)
    held_out = _holds_out(decision)
    strategies = [
        StrategyDecision(
            one.strategy_id,
            one.target_id,
            one.reason,
            True,  # noqa: FBT003 - the struct's fourth field is `participate`
            one.bid,
            one.pcvr,
            codec.write(
                Tag(
                    release,
                    strategy_mark(one.strategy_id),
                    minute,
                    mark,
                    one.pcvr,
                    one.bid,
                    decision.stage,
                    decision.tier,
                    decision.arm,
                    held_out,
                )
            ),
            one.steered,
        )
        if one.participate
        else one
        for one in decision.strategies
    ]
    return Decision(
        decision.request_id,
        True,  # noqa: FBT003 - the struct's second field is `participate`
        decision.reason,
        tuple(strategies),
        decision.ttl_s,
        decision.versions,
        decision.stage,
        decision.tier,
        decision.arm,
    )


def _holds_out(decision: Decision) -> bool:
    # a loop: any() over a generator takes three times as long
    for one in decision.strategies:  # noqa: SIM110 - see above
        if one.reason is _HOLDOUT:
            return True
    return False
