import itertools
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from rta_service.domain.reason import ReasonCode
from rta_service.domain.strategy import FunnelRule, Goal, OptimisedEvent
from rta_service.domain.user import LifecycleStage, RFMSegment, Role, ValueTier
from rta_service.online import policy
from rta_service.record import FLAG_OPTED_OUT


def _some(members: Any) -> st.SearchStrategy[Any]:
    return st.frozensets(st.sampled_from(list(members)))


AUDIENCES = st.fixed_dictionaries(
    {
        "stages": _some(LifecycleStage),
        "segments": _some(RFMSegment),
        "tiers": _some(ValueTier),
        "roles": _some(Role),
        "wake_tiers": _some(ValueTier),
    }
)
EVERYBODY = list(itertools.product(LifecycleStage, ValueTier, Role, RFMSegment))


def _admit(strategy: Any, record: Any, stage: LifecycleStage) -> ReasonCode:
    return policy.admit(strategy, policy.trait_table(strategy.audience), record, stage)


@settings(max_examples=8)
@given(AUDIENCES)
def test_the_table_says_what_the_plain_form_says(an_audience: Any, parts: Any) -> None:
    audience = an_audience(**parts)

    table = policy.trait_table(audience)

    assert [table[policy.trait_index(*map(int, who))] for who in EVERYBODY] == [
        policy.admit_traits(audience, *who) for who in EVERYBODY
    ]


@settings(max_examples=8)
@given(AUDIENCES)
def test_tier_x_is_never_wanted_whatever_a_strategy_says(an_audience: Any, parts: Any) -> None:
    audience = an_audience(**parts)

    said = {policy.admit_traits(audience, *who) for who in EVERYBODY if who[1] is ValueTier.X}

    assert said == {ReasonCode.NEVER_BID}


@pytest.mark.parametrize("stage", [LifecycleStage.SILENT, LifecycleStage.CHURNED])
@pytest.mark.parametrize("tier", "SABCD")
def test_sleepers_are_woken_from_tier_b_up_by_default(
    a_strategy: Any, a_record: Any, stage: LifecycleStage, tier: str
) -> None:
    reason = _admit(a_strategy(), a_record(tier=ValueTier[tier]), stage)

    asleep = ReasonCode[f"{stage.name}_LOW_VALUE"]
    assert reason is (ReasonCode.WOKEN if tier in "SAB" else asleep)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, ReasonCode.ACCEPTED),
        ({"flags": FLAG_OPTED_OUT, "tier": ValueTier.X}, ReasonCode.OPTED_OUT),
        ({"tier": ValueTier.X, "registered_at": 1}, ReasonCode.NEVER_BID),
        ({"tier": ValueTier.D}, ReasonCode.TIER_NOT_WANTED),
        ({"role": Role.PROFESSIONAL_SELLER}, ReasonCode.ROLE_NOT_WANTED),
        ({"segment": RFMSegment.NONE}, ReasonCode.SEGMENT_NOT_WANTED),
        ({"activated_at": 0}, ReasonCode.FUNNEL_NOT_WANTED),
        ({"traded_at": 1}, ReasonCode.FUNNEL_NOT_WANTED),
    ],
)
def test_the_first_objection_is_the_reason(
    a_strategy: Any, an_audience: Any, a_record: Any, changes: Any, reason: ReasonCode
) -> None:
    audience = an_audience(
        tiers=frozenset({ValueTier.C}),
        segments=frozenset({RFMSegment.GENERAL_DEVELOP}),
        funnel=frozenset({FunnelRule.ACTIVATED, FunnelRule.NOT_TRADED}),
    )

    assert _admit(a_strategy(audience=audience), a_record(**changes), LifecycleStage.GROWTH) is (
        reason
    )


def test_a_stage_outside_the_audience_is_not_wanted(
    a_strategy: Any, an_audience: Any, a_record: Any
) -> None:
    strategy = a_strategy(audience=an_audience(stages=frozenset({LifecycleStage.GROWTH})))

    assert _admit(strategy, a_record(), LifecycleStage.MATURITY) is ReasonCode.STAGE_NOT_WANTED


@pytest.mark.parametrize(
    ("goal", "optimises", "reason"),
    [
        (Goal.REGISTER, OptimisedEvent.CLICK, ReasonCode.ALREADY_REGISTERED),
        (Goal.TRADE, OptimisedEvent.REGISTER, ReasonCode.ALREADY_REGISTERED),
        (Goal.TRADE, OptimisedEvent.CLICK, ReasonCode.ACCEPTED),
    ],
)
def test_the_registered_are_not_bid_for_where_registrations_are_bought(
    a_strategy: Any, a_record: Any, goal: Goal, optimises: OptimisedEvent, reason: ReasonCode
) -> None:
    strategy = a_strategy(goal=goal, optimises=optimises)

    assert _admit(strategy, a_record(registered_at=1), LifecycleStage.GROWTH) is reason


@pytest.mark.parametrize(
    ("rule", "reason"),
    [
        (FunnelRule.ACTIVATED, ReasonCode.ALREADY_REGISTERED),
        (FunnelRule.NOT_REGISTERED, ReasonCode.ALREADY_REGISTERED),
        (FunnelRule.REGISTERED, ReasonCode.ACCEPTED),
    ],
)
def test_only_an_explicit_rule_lets_the_registered_in(
    a_strategy: Any, an_audience: Any, a_record: Any, rule: FunnelRule, reason: ReasonCode
) -> None:
    strategy = a_strategy(goal=Goal.REGISTER, audience=an_audience(funnel=frozenset({rule})))

    assert _admit(strategy, a_record(registered_at=1), LifecycleStage.GROWTH) is reason


@given(st.integers(0, 2**64 - 1), st.floats(0, 0.5), st.floats(0, 0.5))
def test_a_larger_holdout_contains_the_smaller(
    a_strategy: Any, a_record: Any, person_key: int, first: float, second: float
) -> None:
    small, large = sorted((first, second))
    record = a_record(person_key=person_key)

    held_small = _admit(a_strategy(holdout_share=small), record, LifecycleStage.GROWTH)
    held_large = _admit(a_strategy(holdout_share=large), record, LifecycleStage.GROWTH)

    assert held_small is not ReasonCode.HOLDOUT or held_large is ReasonCode.HOLDOUT


def test_a_holdout_takes_its_share_of_the_wanted_only(a_strategy: Any, a_record: Any) -> None:
    strategy = a_strategy(holdout_share=0.3)
    table = policy.trait_table(strategy.audience)

    def reasons(tier: ValueTier) -> list[ReasonCode]:
        people = [a_record(person_key=key, tier=tier) for key in range(2000)]
        return [policy.admit(strategy, table, who, LifecycleStage.GROWTH) for who in people]

    assert reasons(ValueTier.C).count(ReasonCode.HOLDOUT) == pytest.approx(600, abs=80)
    assert set(reasons(ValueTier.X)) == {ReasonCode.NEVER_BID}


@pytest.mark.parametrize(
    ("unknown", "funnel", "reason"),
    [
        (False, (), ReasonCode.UNKNOWN_DEVICE),
        (True, (), ReasonCode.UNKNOWN_ACCEPTED),
        (True, (FunnelRule.NOT_REGISTERED,), ReasonCode.UNKNOWN_ACCEPTED),
        (True, (FunnelRule.ACTIVATED,), ReasonCode.FUNNEL_NOT_WANTED),
    ],
)
def test_strangers_have_done_nothing_yet(
    a_strategy: Any, an_audience: Any, unknown: bool, funnel: Any, reason: ReasonCode
) -> None:
    strategy = a_strategy(audience=an_audience(unknown=unknown, funnel=frozenset(funnel)))

    assert policy.admit_stranger(strategy, 7) is reason


def test_strangers_are_held_out_too(a_strategy: Any, an_audience: Any) -> None:
    strategy = a_strategy(audience=an_audience(unknown=True), holdout_share=0.5)

    reasons = {policy.admit_stranger(strategy, key) for key in range(64)}

    assert reasons == {ReasonCode.HOLDOUT, ReasonCode.UNKNOWN_ACCEPTED}
