import math
from typing import Any

import pytest
from hypothesis import given, strategies as st

from rta_service.domain.decision import NO_VERSIONS, Bid, Decision, StrategyDecision
from rta_service.domain.device import DeviceId, IdKind
from rta_service.domain.errors import DeadlineExceeded, SnapshotMissing, StoreUnavailable
from rta_service.domain.platform import BidKind
from rta_service.domain.reason import DEGRADED, ReasonCode
from rta_service.domain.strategy import DegradedChoice, Goal, OptimisedEvent
from rta_service.domain.thresholds import DAY_S
from rta_service.domain.user import LifecycleStage, ValueTier
from rta_service.online.pipeline import Pipeline
from rta_service.scoring.model_set import ValueRule

LATER = 1e9
"""A deadline that nothing here misses."""


async def _one(pipeline: Pipeline, request: Any, deadline_s: float = LATER) -> Decision:
    return (await pipeline.decide([request], deadline_s)).decisions[0]


async def test_a_known_device_gets_the_weight_of_its_value_over_the_mean(kit: Any) -> None:
    pipeline = kit.a_pipeline(kit.a_reader({kit.md5_of(1): kit.a_record()}))

    decision = await _one(pipeline, kit.a_request(kit.md5_of(1)))

    assert decision.participate
    assert decision.reason is ReasonCode.ACCEPTED
    assert decision.strategies[0].bid == Bid(BidKind.WEIGHT, 1.0)
    assert decision.strategies[0].pcvr is not None
    assert (decision.stage, decision.tier) == (LifecycleStage.GROWTH, ValueTier.C)
    assert decision.ttl_s == 3600
    assert decision.versions.release == "r1"
    assert decision.versions.snapshot == "snap-r1"
    assert decision.versions.strategies == "st-r1"


async def test_one_read_and_one_call_a_head_serve_the_whole_batch(kit: Any) -> None:
    models = kit.some_models()
    reader = kit.a_reader({kit.md5_of(i): kit.a_record() for i in range(1, 4)})
    pipeline = kit.a_pipeline(reader, kit.a_live(models=models))

    outcome = await pipeline.decide([kit.a_request(kit.md5_of(i)) for i in range(1, 6)], LATER)

    assert [d.participate for d in outcome.decisions] == [True] * 3 + [False] * 2
    assert len(reader.calls) == 1
    assert models.heads["trade"].rows == models.heads["register"].rows == [3]
    assert outcome.seen_kinds == [[IdKind.OAID]] * 5
    assert outcome.matched_kinds == [[IdKind.OAID]] * 3 + [[]] * 2
    assert outcome.failure is None


async def test_nobody_wanted_costs_no_scoring(kit: Any) -> None:
    models = kit.some_models()
    pipeline = kit.a_pipeline(kit.a_reader(), kit.a_live(models=models))

    decision = await _one(pipeline, kit.a_request(kit.md5_of(1)))

    assert decision.reason is ReasonCode.UNKNOWN_DEVICE
    assert decision.strategies[0].pcvr is None
    assert models.heads["trade"].rows == []


async def test_the_first_id_with_a_record_decides(kit: Any) -> None:
    pipeline = kit.a_pipeline(kit.a_reader({kit.md5_of(2): kit.a_record(tier=ValueTier.S)}))
    ids = (DeviceId(IdKind.OAID, kit.md5_of(1)), DeviceId(IdKind.IMEI, kit.md5_of(2)))

    decision = await _one(pipeline, kit.a_request(ids=ids))

    assert decision.tier is ValueTier.S


async def test_a_stranger_is_bid_for_where_strangers_are_wanted(kit: Any) -> None:
    live = kit.a_live(kit.a_strategy(audience=kit.an_audience(unknown=True)))

    decision = await _one(kit.a_pipeline(kit.a_reader(), live), kit.a_request(kit.md5_of(1)))

    assert decision.reason is ReasonCode.UNKNOWN_ACCEPTED
    assert decision.stage is LifecycleStage.UNKNOWN


async def test_a_sleeper_worth_it_is_woken(kit: Any) -> None:
    clock = kit.a_clock()
    asleep = kit.a_record(tier=ValueTier.B, last_active_at=clock.now_s - 20 * DAY_S)

    decision = await _one(
        kit.a_pipeline(kit.a_reader({kit.md5_of(1): asleep}), clock=clock),
        kit.a_request(kit.md5_of(1)),
    )

    assert decision.reason is ReasonCode.WOKEN
    assert decision.stage is LifecycleStage.SILENT


async def test_passing_days_put_a_person_to_sleep_without_a_rewrite(kit: Any) -> None:
    clock = kit.a_clock()
    pipeline = kit.a_pipeline(kit.a_reader({kit.md5_of(1): kit.a_record()}), clock=clock)

    clock.now_s += 30 * DAY_S
    decision = await _one(pipeline, kit.a_request(kit.md5_of(1)))

    assert decision.reason is ReasonCode.CHURNED_LOW_VALUE
    assert decision.stage is LifecycleStage.CHURNED


async def test_a_probe_is_declined_as_a_probe(kit: Any) -> None:
    pipeline = kit.a_pipeline(kit.a_reader({kit.md5_of(1): kit.a_record()}))

    decision = await _one(pipeline, kit.a_request(kit.md5_of(1), is_ping=True))

    assert (decision.participate, decision.reason) == (False, ReasonCode.PING)
    assert decision.strategies == ()


async def test_a_request_without_a_usable_id_asks_no_store(kit: Any) -> None:
    reader = kit.a_reader(error=StoreUnavailable("gone"))

    decision = await _one(kit.a_pipeline(reader), kit.a_request("0" * 32))

    assert decision.reason is ReasonCode.NO_DEVICE_ID
    assert decision.ttl_s == 60
    assert reader.calls == []


async def test_asked_strategies_are_answered_once_each_in_the_order_asked(kit: Any) -> None:
    live = kit.a_live(*(kit.a_strategy(strategy_id=i, bindings={"json": i}) for i in "abc"))
    asked = ("c", "nowhere", "a", "c", "nowhere")

    decision = await _one(
        kit.a_pipeline(kit.a_reader(), live), kit.a_request(kit.md5_of(1), asked_strategies=asked)
    )

    assert [(s.strategy_id, s.reason) for s in decision.strategies] == [
        ("c", ReasonCode.UNKNOWN_DEVICE),
        ("a", ReasonCode.UNKNOWN_DEVICE),
        ("nowhere", ReasonCode.UNKNOWN_STRATEGY),
    ]


async def test_asking_only_for_unknown_strategies_says_so(kit: Any) -> None:
    decision = await _one(
        kit.a_pipeline(kit.a_reader()), kit.a_request(kit.md5_of(1), asked_strategies=("nowhere",))
    )

    assert (decision.reason, decision.ttl_s) == (ReasonCode.UNKNOWN_STRATEGY, 60)


async def test_a_platform_without_strategies_is_told_so(kit: Any) -> None:
    live = kit.a_live(kit.a_strategy(bindings={"tencent": "t"}))

    decision = await _one(kit.a_pipeline(kit.a_reader(), live), kit.a_request(kit.md5_of(1)))

    assert (decision.reason, decision.ttl_s) == (ReasonCode.NO_STRATEGY, 60)


async def test_one_yes_makes_a_yes_and_the_shortest_cache_time_holds(kit: Any) -> None:
    picky = kit.a_strategy(
        strategy_id="picky",
        audience=kit.an_audience(tiers=frozenset({ValueTier.S})),
        reject_ttl_s=600,
    )
    live = kit.a_live(picky, kit.a_strategy(accept_ttl_s=7200))

    decision = await _one(
        kit.a_pipeline(kit.a_reader({kit.md5_of(1): kit.a_record()}), live),
        kit.a_request(kit.md5_of(1)),
    )

    assert [s.participate for s in decision.strategies] == [False, True]
    assert decision.strategies[0].pcvr is not None
    assert (decision.participate, decision.reason) == (True, ReasonCode.ACCEPTED)
    assert decision.ttl_s == 600


async def test_the_reason_of_a_no_is_of_the_strategy_that_came_closest(kit: Any) -> None:
    newcomers = kit.an_audience(stages=frozenset({LifecycleStage.INTRODUCTION}))
    strategies = [
        kit.a_strategy(strategy_id="new", bindings={"json": "n"}, audience=newcomers),
        kit.a_strategy(strategy_id="wake", bindings={"json": "w"}),
    ]
    asleep = kit.a_record(last_active_at=1)
    pipeline = kit.a_pipeline(kit.a_reader({kit.md5_of(1): asleep}), kit.a_live(*strategies))

    decision = await _one(pipeline, kit.a_request(kit.md5_of(1)))

    assert [s.reason for s in decision.strategies] == [
        ReasonCode.STAGE_NOT_WANTED,
        ReasonCode.CHURNED_LOW_VALUE,
    ]
    assert decision.reason is ReasonCode.CHURNED_LOW_VALUE


@pytest.mark.parametrize(
    ("answer", "mean", "asked", "reason"),
    [
        (BidKind.CPM, 0.01, {}, ReasonCode.NO_PCTR),
        (BidKind.CPM, 0.01, {"pctr": 0.1, "bid_floor_micros": 10**9}, ReasonCode.BELOW_FLOOR),
        (BidKind.WEIGHT, math.nan, {}, ReasonCode.NO_VALUE),
    ],
)
async def test_a_wanted_person_without_a_valid_bid_is_declined(
    kit: Any, answer: BidKind, mean: float, asked: Any, reason: ReasonCode
) -> None:
    live = kit.a_live(
        kit.a_strategy(answer=answer, bindings={"json": "s"}, max_bid=1e12), mean=mean
    )
    pipeline = kit.a_pipeline(kit.a_reader({kit.md5_of(1): kit.a_record()}), live)

    decision = await _one(pipeline, kit.a_request(kit.md5_of(1), **asked))

    assert (decision.participate, decision.reason) == (False, reason)


async def test_who_has_registered_is_not_predicted_to_register(kit: Any) -> None:
    reader = kit.a_reader(
        {kit.md5_of(1): kit.a_record(registered_at=5), kit.md5_of(2): kit.a_record()}
    )
    batch = [kit.a_request(kit.md5_of(1)), kit.a_request(kit.md5_of(2))]

    outcome = await kit.a_pipeline(reader).decide(batch, LATER)

    assert [d.strategies[0].pcvr.register for d in outcome.decisions] == [0.0, 0.05]


@pytest.mark.parametrize(
    ("rule", "exponent", "mean", "weight"),
    [
        (ValueRule("head", "special"), 0.0, 0.2, 2.0),
        (ValueRule("ratio", "trade", "register"), 0.0, 0.1, 2.0),
        (ValueRule("ratio", "trade", "nothing"), 0.0, 0.1, None),
        (ValueRule("one"), 0.0, 1.0, 1.0),
        (ValueRule("one"), 1.0, 0.005, 2.0),
    ],
)
async def test_the_value_follows_from_the_heads_as_the_models_rule_it(
    kit: Any, rule: ValueRule, exponent: float, mean: float, weight: float | None
) -> None:
    models = kit.some_models(
        rules={(Goal.TRADE, OptimisedEvent.CLICK): rule},
        special=kit.a_head(0.4),
        nothing=kit.a_head(0.0),
    )
    live = kit.a_live(kit.a_strategy(same_goal_exponent=exponent), models=models, mean=mean)

    decision = await _one(
        kit.a_pipeline(kit.a_reader({kit.md5_of(1): kit.a_record()}), live),
        kit.a_request(kit.md5_of(1)),
    )

    bid = decision.strategies[0].bid
    assert (None if bid is None else bid.value) == (weight and pytest.approx(weight))


async def test_without_a_release_every_answer_is_a_plain_no(kit: Any) -> None:
    clock = kit.a_clock()
    pipeline = Pipeline(kit.a_reader(), kit.keys, clock)

    decision = await _one(pipeline, kit.a_request(kit.md5_of(1)))

    pipeline.absence = ReasonCode.STORE_UNAVAILABLE
    unasked = await _one(pipeline, kit.a_request(kit.md5_of(1)))

    assert (decision.participate, decision.reason) == (False, ReasonCode.NO_RELEASE)
    assert unasked.reason is ReasonCode.STORE_UNAVAILABLE
    assert (decision.ttl_s, decision.versions) == (60, NO_VERSIONS)
    assert pipeline.degrade(kit.a_request(kit.md5_of(1)), ReasonCode.OVERLOADED).reason is (
        ReasonCode.OVERLOADED
    )


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (StoreUnavailable("gone"), ReasonCode.STORE_UNAVAILABLE),
        (SnapshotMissing("expired"), ReasonCode.SNAPSHOT_MISSING),
        (DeadlineExceeded(), ReasonCode.DEADLINE_EXCEEDED),
        (KeyError("a bug"), ReasonCode.INTERNAL_ERROR),
    ],
)
async def test_a_read_that_fails_degrades_the_answer(
    kit: Any, error: Exception, reason: Any
) -> None:
    pipeline = kit.a_pipeline(kit.a_reader(error=error))

    outcome = await pipeline.decide([kit.a_request(kit.md5_of(1))], LATER)

    decision = outcome.decisions[0]
    assert outcome.failure is error
    assert decision.reason is reason
    assert decision.reason in DEGRADED
    assert decision.ttl_s == 60
    assert decision.strategies == (StrategyDecision("s", "s", reason),)
    assert decision.versions.release == "r1"


@pytest.mark.parametrize(
    ("answer", "is_yes"), [(BidKind.WEIGHT, True), (BidKind.CPC, False), (BidKind.CPM, False)]
)
async def test_a_strategy_may_choose_to_accept_when_degraded(
    kit: Any, answer: BidKind, is_yes: bool
) -> None:
    daring = kit.a_strategy(
        answer=answer,
        bindings={"json": "s"},
        degraded=DegradedChoice.ACCEPT,
        degraded_ttl_s=300,
    )
    pipeline = kit.a_pipeline(kit.a_reader(error=StoreUnavailable("gone")), kit.a_live(daring))

    decision = await _one(pipeline, kit.a_request(kit.md5_of(1), asked_strategies=("s", "nowhere")))

    assert decision.participate is is_yes
    assert decision.reason is (
        ReasonCode.DEGRADED_ACCEPTED if is_yes else ReasonCode.STORE_UNAVAILABLE
    )
    assert decision.ttl_s == 300
    assert [s.strategy_id for s in decision.strategies] == ["s", "nowhere"]


async def test_probes_and_requests_without_ids_are_told_so_even_when_degraded(kit: Any) -> None:
    pipeline = kit.a_pipeline(kit.a_reader(error=StoreUnavailable("gone")))
    batch = [
        kit.a_request(kit.md5_of(1)),
        kit.a_request(kit.md5_of(1), is_ping=True),
        kit.a_request(),
    ]

    outcome = await pipeline.decide(batch, LATER)

    assert [d.reason for d in outcome.decisions] == [
        ReasonCode.STORE_UNAVAILABLE,
        ReasonCode.PING,
        ReasonCode.NO_DEVICE_ID,
    ]


async def test_a_batch_that_starts_too_late_reads_nothing(kit: Any) -> None:
    clock = kit.a_clock()
    reader = kit.a_reader()

    decision = await _one(
        kit.a_pipeline(reader, clock=clock), kit.a_request(kit.md5_of(1)), clock.monotonic - 0.001
    )

    assert decision.reason is ReasonCode.DEADLINE_EXCEEDED
    assert reader.calls == []


async def test_a_read_that_outlasts_the_deadline_costs_the_decision(kit: Any) -> None:
    clock = kit.a_clock()

    async def slowly() -> None:
        clock.monotonic += 1.0

    reader = kit.a_reader({kit.md5_of(1): kit.a_record()}, meanwhile=slowly)

    decision = await _one(
        kit.a_pipeline(reader, clock=clock), kit.a_request(kit.md5_of(1)), clock.monotonic + 0.5
    )

    assert decision.reason is ReasonCode.DEADLINE_EXCEEDED


async def test_a_release_that_switches_during_the_read_decides_from_the_next_batch_on(
    kit: Any,
) -> None:
    async def switch() -> None:
        pipeline.live = kit.a_live(release_id="r2")

    reader = kit.a_reader({kit.md5_of(1): kit.a_record()}, meanwhile=switch)
    pipeline = kit.a_pipeline(reader, kit.a_live(release_id="r1"))
    batch = [kit.a_request(kit.md5_of(1)), kit.a_request(kit.md5_of(2))]

    first = await pipeline.decide(batch, LATER)
    second = await pipeline.decide(batch, LATER)

    for outcome, release in ((first, "r1"), (second, "r2")):
        assert {
            (d.versions.release, d.versions.snapshot, d.versions.strategies)
            for d in outcome.decisions
        } == {(release, f"snap-{release}", f"st-{release}")}
    assert [snapshot for snapshot, _ in reader.calls] == ["snap-r1", "snap-r2"]


async def test_a_damaged_record_costs_only_its_own_request(kit: Any) -> None:
    reader = kit.a_reader({kit.md5_of(1): kit.a_record(), kit.md5_of(2): kit.a_record(tier=99)})
    batch = [
        kit.a_request(kit.md5_of(1)),
        kit.a_request(kit.md5_of(2)),
        kit.a_request(kit.md5_of(3)),
    ]

    outcome = await kit.a_pipeline(reader).decide(batch, LATER)

    assert isinstance(outcome.failure, ValueError)
    assert [d.reason for d in outcome.decisions] == [
        ReasonCode.ACCEPTED,
        ReasonCode.INTERNAL_ERROR,
        ReasonCode.UNKNOWN_DEVICE,
    ]


async def test_a_broken_head_degrades_only_those_it_is_asked_for(kit: Any) -> None:
    def broken(_rows: Any) -> Any:
        raise RuntimeError("a bug in a head")

    live = kit.a_live(models=kit.some_models(trade=0.1, extra=kit.a_head()))
    live.models.heads["trade"].formula = broken
    pipeline = kit.a_pipeline(kit.a_reader({kit.md5_of(1): kit.a_record()}), live)

    alone = await pipeline.decide([kit.a_request(kit.md5_of(1))], LATER)
    batch = await pipeline.decide(
        [kit.a_request(kit.md5_of(1)), kit.a_request(kit.md5_of(2))], LATER
    )

    assert [d.reason for d in alone.decisions] == [ReasonCode.INTERNAL_ERROR]
    assert [d.reason for d in batch.decisions] == [
        ReasonCode.INTERNAL_ERROR,
        ReasonCode.UNKNOWN_DEVICE,
    ]
    assert str(alone.failure) == str(batch.failure) == "a bug in a head"


async def test_a_reader_that_loses_records_is_an_internal_error(kit: Any) -> None:
    class Losing:
        async def read(self, snapshot: Any, keys: Any) -> list[bytes | None]:
            return []

    decision = await _one(kit.a_pipeline(Losing()), kit.a_request(kit.md5_of(1)))

    assert decision.reason is ReasonCode.INTERNAL_ERROR


REQUESTS = st.lists(
    st.fixed_dictionaries(
        {
            "device": st.integers(0, 7),
            "asked": st.sampled_from([(), ("s",), ("nowhere", "s"), ("nowhere",)]),
            "is_ping": st.booleans(),
            "platform": st.sampled_from(["json", "tencent"]),
        }
    ),
    min_size=1,
    max_size=12,
)


@given(REQUESTS)
async def test_a_batch_decides_as_one_by_one(kit: Any, asked: Any) -> None:
    records = {
        kit.md5_of(1): kit.a_record(),
        kit.md5_of(2): kit.a_record(tier=ValueTier.X),
        kit.md5_of(3): kit.a_record(last_active_at=1),
        kit.md5_of(4): kit.a_record(last_active_at=1, tier=ValueTier.S, registered_at=9),
    }
    batch = [
        kit.a_request(
            *([kit.md5_of(r["device"])] if r["device"] else []),
            platform=r["platform"],
            asked_strategies=r["asked"],
            is_ping=r["is_ping"],
        )
        for r in asked
    ]
    pipeline = kit.a_pipeline(kit.a_reader(records))

    together = (await pipeline.decide(batch, LATER)).decisions

    assert together == [await _one(pipeline, request) for request in batch]
