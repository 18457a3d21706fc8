"""A canary: a release with two arms, of which each person belongs to exactly one."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st

from rta_service.domain.decision import Arm, Bid, Decision
from rta_service.domain.errors import StoreUnavailable
from rta_service.domain.platform import BidKind
from rta_service.domain.reason import ReasonCode
from rta_service.experiments import bucket, buckets, layer_salt
from rta_service.online.pipeline import Pipeline

LATER = 1e9
EVERYBODY = 1_000_000
PEOPLE = st.integers(0, 2**64 - 1)
SHARES = st.integers(1, 999_999)


async def _decide(pipeline: Pipeline, batch: Sequence[Any]) -> list[Decision]:
    return (await pipeline.decide(list(batch), LATER)).decisions


@pytest.fixture
def ask(kit: Any) -> Any:
    """Decides for people with a record, whose keys are given, in one batch."""

    async def run(live: Any, *person_keys: int, **request: Any) -> list[Decision]:
        records = {kit.md5_of(key): kit.a_record(person_key=key) for key in person_keys}
        batch = [kit.a_request(kit.md5_of(key), **request) for key in person_keys]
        return await _decide(kit.a_pipeline(kit.a_reader(records), live), batch)

    return run


async def test_scores_means_and_versions_of_an_answer_are_of_one_arm(kit: Any, ask: Any) -> None:
    live = kit.two_arms(500_000)

    decisions = await ask(live, *range(1, 101))

    assert {d.arm for d in decisions} == {Arm.LIVE, Arm.CANARY}
    told = {
        (d.arm, d.versions.models["trade"], d.strategies[0].pcvr.trade, d.strategies[0].bid)
        for d in decisions
        if d.strategies[0].pcvr is not None
    }
    assert told == {
        (Arm.LIVE, "v1", 0.01, Bid(BidKind.WEIGHT, 1.0)),
        (Arm.CANARY, "v2", 0.03, Bid(BidKind.WEIGHT, 1.5)),
    }
    assert {(d.versions.release, d.versions.snapshot) for d in decisions} == {("r1", "snap-r1")}


@given(st.lists(PEOPLE, max_size=20, unique=True), SHARES)
async def test_each_person_is_decided_as_by_their_arm_alone(
    kit: Any, people: list[int], share: int
) -> None:
    live = kit.two_arms(share)
    alone = replace(live, canary=None)
    ids = [kit.md5_of(f"person {key}") for key in people]
    records = {i: kit.a_record(person_key=key) for i, key in zip(ids, people, strict=True)}
    batch = [kit.a_request(i) for i in ids]

    together = await _decide(kit.a_pipeline(kit.a_reader(records), live), batch)

    by_arm = {
        arm: await _decide(kit.a_pipeline(kit.a_reader(records), one), batch)
        for arm, one in ((Arm.LIVE, alone), (Arm.CANARY, live.canary))
    }
    salt = layer_salt("canary:trade=v2")
    arms = [Arm.CANARY if bucket(key, salt) < share else Arm.LIVE for key in people]
    assert together == [by_arm[arm][row] for row, arm in enumerate(arms)]


REQUESTS = st.lists(
    st.fixed_dictionaries(
        {
            "device": st.sampled_from([None, *range(1, 9)]),
            "platform": st.sampled_from(["json", "tencent"]),
            "asked": st.sampled_from([(), ("s",), ("nobody",)]),
            "is_ping": st.booleans(),
        }
    ),
    max_size=12,
)


@given(REQUESTS, SHARES)
async def test_a_batch_of_two_arms_decides_as_one_by_one(
    kit: Any, asked: list[Any], share: int
) -> None:
    records = {kit.md5_of(i): kit.a_record(person_key=i) for i in range(1, 5)}
    batch = [
        kit.a_request(
            *([kit.md5_of(r["device"])] if r["device"] else []),
            platform=r["platform"],
            asked_strategies=r["asked"],
            is_ping=r["is_ping"],
        )
        for r in asked
    ]
    strangers_too = kit.a_strategy(audience=kit.an_audience(unknown=True))
    pipeline = kit.a_pipeline(kit.a_reader(records), kit.two_arms(share, strangers_too))

    outcome = await pipeline.decide(batch, LATER)

    alone = [await pipeline.decide([request], LATER) for request in batch]
    assert outcome.decisions == [one.decisions[0] for one in alone]
    assert sorted(outcome.scored, key=lambda s: s.row) == [
        scored._replace(row=row) for row, one in enumerate(alone) for scored in one.scored
    ]


@given(PEOPLE, SHARES, SHARES)
def test_a_larger_share_keeps_the_people_of_a_smaller_one(
    kit: Any, person: int, one: int, other: int
) -> None:
    smaller, larger = (kit.two_arms(share) for share in sorted((one, other)))

    kept = smaller.arm_of(person).arm is Arm.LIVE or larger.arm_of(person).arm is Arm.CANARY

    assert kept


@pytest.mark.parametrize("share", [1_000, 100_000, 500_000])
def test_the_canary_decides_for_its_share_of_people(kit: Any, share: int) -> None:
    live = kit.two_arms(share)
    people = np.random.default_rng(5).integers(0, 2**64, 50_000, dtype=np.uint64)

    canary = sum(live.arm_of(int(key)).arm is Arm.CANARY for key in people)

    expected = len(people) * share / EVERYBODY
    deviation = np.sqrt(expected * (1 - share / EVERYBODY))
    assert abs(canary - expected) < 4 * deviation
    assert canary == np.sum(buckets(people, live.canary_salt) < share)


def test_buckets_of_a_canary_are_spread_evenly(kit: Any) -> None:
    people = np.random.default_rng(6).integers(0, 2**64, 100_000, dtype=np.uint64)

    counts = np.bincount(buckets(people, kit.two_arms(1).canary_salt) // 10_000, minlength=100)

    chi_square = np.sum((counts - 1_000.0) ** 2 / 1_000.0)
    assert chi_square < 149.4  # the 99.9 % point of 99 degrees of freedom


def test_another_canary_draws_its_people_anew(kit: Any) -> None:
    one, other = kit.two_arms(100_000), kit.two_arms(100_000, version="v3")
    people = [int(k) for k in np.random.default_rng(7).integers(0, 2**64, 20_000, dtype=np.uint64)]

    both = sum(one.arm_of(k).arm is other.arm_of(k).arm is Arm.CANARY for k in people)

    assert 140 < both < 260  # 1 % of 20,000 is 200, the deviation 14


async def test_a_stranger_has_an_arm_by_the_id_that_came_first(kit: Any) -> None:
    wanted = kit.a_strategy(audience=kit.an_audience(unknown=True))
    pipeline = kit.a_pipeline(kit.a_reader(), kit.two_arms(500_000, wanted))
    batch = [kit.a_request(kit.md5_of(i), kit.md5_of("other")) for i in range(40)]

    first, second = await _decide(pipeline, batch), await _decide(pipeline, batch)

    assert {d.arm for d in first} == {Arm.LIVE, Arm.CANARY}
    assert first == second
    assert {(d.arm, d.versions.models["trade"]) for d in first} == {
        (Arm.LIVE, "v1"),
        (Arm.CANARY, "v2"),
    }


async def test_a_request_without_ids_is_the_live_arms(kit: Any) -> None:
    pipeline = kit.a_pipeline(kit.a_reader(), kit.two_arms(999_999))

    (decision,) = await _decide(pipeline, [kit.a_request()])

    assert (decision.arm, decision.reason) == (Arm.LIVE, ReasonCode.NO_DEVICE_ID)
    assert decision.versions.models == {"trade": "v1"}


async def test_what_no_model_decided_names_the_live_arm(kit: Any) -> None:
    reader = kit.a_reader(error=StoreUnavailable("gone"))

    (decision,) = await _decide(
        kit.a_pipeline(reader, kit.two_arms(999_999)), [kit.a_request(kit.md5_of(1))]
    )

    assert decision.reason is ReasonCode.STORE_UNAVAILABLE
    assert (decision.arm, decision.versions.models) == (Arm.LIVE, {"trade": "v1"})


async def test_each_head_is_called_once_an_arm(kit: Any, ask: Any) -> None:
    models = kit.some_models(), kit.some_models()

    decisions = await ask(kit.two_arms(500_000, models=models), *range(1, 21))

    moved = sum(d.arm is Arm.CANARY for d in decisions)
    assert [m.heads["trade"].rows for m in models] == [[20 - moved], [moved]]


async def test_scored_rows_lead_to_their_requests_and_arms(kit: Any) -> None:
    live = kit.two_arms(500_000)
    known = kit.a_record(person_key=3)
    pipeline = kit.a_pipeline(kit.a_reader({kit.md5_of(3): known}), live)

    outcome = await pipeline.decide([kit.a_request(kit.md5_of(i)) for i in (2, 3)], LATER)

    (scored,) = outcome.scored
    arm = live.arm_of(3)
    assert (scored.row, scored.person_key, scored.arm) == (1, 3, arm.arm)
    assert scored.scores == {"register": 0.05, "trade": 0.01 if arm is live else 0.03}
    assert outcome.decisions[scored.row].versions is arm.versions


async def test_a_price_that_needs_a_pctr_takes_the_click_heads_where_none_is_sent(
    kit: Any, ask: Any
) -> None:
    cpm = kit.a_strategy(answer=BidKind.CPM, max_bid=1e12, bindings={"json": "s"})
    models = kit.some_models(trade=0.01, click=kit.a_head(0.02))
    live = kit.a_live(cpm, models=models)

    (ours,) = await ask(live, 1)
    (theirs,) = await ask(live, 1, pctr=0.05)

    # 1000 x target cost per trade x pCVR x pCTR
    assert ours.strategies[0].bid == Bid(BidKind.CPM, 1000 * 30_000_000 * 0.01 * 0.02, "CNY")
    assert theirs.strategies[0].bid == Bid(BidKind.CPM, 1000 * 30_000_000 * 0.01 * 0.05, "CNY")


async def test_the_click_head_is_asked_only_where_a_price_needs_it(kit: Any, ask: Any) -> None:
    click = kit.a_head(0.02)

    (decision,) = await ask(kit.a_live(models=kit.some_models(click=click)), 1)

    assert decision.participate
    assert click.rows == []
