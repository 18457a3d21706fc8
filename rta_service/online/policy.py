"""Whom a strategy wants: the checks that cost nothing, before any model is asked.

The plain form is `admit_traits` and `funnel_reason`. What depends only on stage, tier, role and
segment is laid out once per strategy as a table of 1,512 reason codes, so that a request costs
one look-up; the table is filled by the plain form itself.
"""

from functools import lru_cache
from typing import Final

from rta_service.domain.reason import PARTICIPATING, ReasonCode
from rta_service.domain.strategy import Audience, FunnelRule, Goal, OptimisedEvent, Strategy
from rta_service.domain.user import LifecycleStage, RFMSegment, Role, ValueTier
from rta_service.experiments import in_holdout
from rta_service.record import FLAG_OPTED_OUT, UserRecord

_SLEEPING: Final = {
    LifecycleStage.SILENT: ReasonCode.SILENT_LOW_VALUE,
    LifecycleStage.CHURNED: ReasonCode.CHURNED_LOW_VALUE,
}
# looking up a member or the length of an Enum costs 0.1 microseconds on Python 3.11
_TIERS: Final = len(ValueTier)
_ROLES: Final = len(Role)
_SEGMENTS: Final = len(RFMSegment)
_NEVER_PAID: Final = int(RFMSegment.NONE)
_NEVER_BID: Final = ReasonCode.NEVER_BID

_FUNNEL: Final = {
    FunnelRule.DOWNLOADED: ("downloaded_at", True),
    FunnelRule.ACTIVATED: ("activated_at", True),
    FunnelRule.REGISTERED: ("registered_at", True),
    FunnelRule.TRADED: ("traded_at", True),
    FunnelRule.NOT_DOWNLOADED: ("downloaded_at", False),
    FunnelRule.NOT_ACTIVATED: ("activated_at", False),
    FunnelRule.NOT_REGISTERED: ("registered_at", False),
    FunnelRule.NOT_TRADED: ("traded_at", False),
}


def admit_traits(
    audience: Audience, stage: LifecycleStage, tier: ValueTier, role: Role, segment: RFMSegment
) -> ReasonCode:
    """Judge who a person is; ACCEPTED or WOKEN means wanted. The first objection counts."""
    asleep = stage in _SLEEPING
    objections = (
        (tier is ValueTier.X, ReasonCode.NEVER_BID),
        (stage not in audience.stages, ReasonCode.STAGE_NOT_WANTED),
        (asleep and tier not in audience.wake_tiers, _SLEEPING.get(stage)),
        (tier not in audience.tiers, ReasonCode.TIER_NOT_WANTED),
        (role not in audience.roles, ReasonCode.ROLE_NOT_WANTED),
        (segment not in audience.segments, ReasonCode.SEGMENT_NOT_WANTED),
    )
    wanted = ReasonCode.WOKEN if asleep else ReasonCode.ACCEPTED
    return next((reason for objection, reason in objections if objection and reason), wanted)


@lru_cache(maxsize=64)
def trait_table(audience: Audience) -> tuple[ReasonCode, ...]:
    """Lay `admit_traits` out over all stages, tiers, roles and segments.

    That takes 5 ms, and a switch of releases binds each strategy anew for every platform and arm:
    the tables of the audiences used last are kept.
    """
    return tuple(
        admit_traits(audience, stage, tier, role, segment)
        for stage in LifecycleStage
        for tier in ValueTier
        for role in Role
        for segment in RFMSegment
    )


def trait_index(stage: int, tier: int, role: int, segment: int) -> int:
    """Give the place of a combination in `trait_table`."""
    place = _SEGMENTS - 1 if segment == _NEVER_PAID else segment
    return ((stage * _TIERS + tier) * _ROLES + role) * _SEGMENTS + place


def buys_registrations(strategy: Strategy) -> bool:
    """Tell whether someone who has registered can't convert for this strategy any more."""
    return strategy.goal is Goal.REGISTER or strategy.optimises is OptimisedEvent.REGISTER


def funnel_reason(strategy: Strategy, record: UserRecord) -> ReasonCode | None:
    """Judge how far a person got; None means no objection.

    A registered person isn't bid for where registrations are bought, unless the strategy's own
    rules say `registered`.
    """
    rules = strategy.audience.funnel
    if record.registered_at and buys_registrations(strategy) and FunnelRule.REGISTERED not in rules:
        return ReasonCode.ALREADY_REGISTERED
    for rule in rules:
        field, wanted = _FUNNEL[rule]
        if bool(getattr(record, field)) is not wanted:
            return ReasonCode.FUNNEL_NOT_WANTED
    return None


def admit(
    strategy: Strategy,
    table: tuple[ReasonCode, ...],
    record: UserRecord,
    stage: LifecycleStage,
) -> ReasonCode:
    """Judge a known person for one strategy; ACCEPTED or WOKEN means wanted so far."""
    if record.flags & FLAG_OPTED_OUT:
        return ReasonCode.OPTED_OUT
    reason = table[trait_index(stage, record.tier, record.role, record.segment)]
    if reason is _NEVER_BID:
        return reason
    funnel = funnel_reason(strategy, record)
    if funnel is not None:
        return funnel
    if reason not in PARTICIPATING:
        return reason
    return _after_holdout(strategy, record.person_key, reason)


def admit_stranger(strategy: Strategy, person_key: int) -> ReasonCode:
    """Judge a device without a record; UNKNOWN_ACCEPTED means wanted so far."""
    audience = strategy.audience
    if not audience.unknown:
        return ReasonCode.UNKNOWN_DEVICE
    if any(not rule.value.startswith("not_") for rule in audience.funnel):
        return ReasonCode.FUNNEL_NOT_WANTED
    return _after_holdout(strategy, person_key, ReasonCode.UNKNOWN_ACCEPTED)


def _after_holdout(strategy: Strategy, person_key: int, reason: ReasonCode) -> ReasonCode:
    held_out = strategy.holdout_share > 0 and in_holdout(person_key, strategy.holdout_share)
    return ReasonCode.HOLDOUT if held_out else reason
