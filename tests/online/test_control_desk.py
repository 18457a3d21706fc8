"""Orders, money and counting of a worker, as the pipeline meets them."""

from math import log
from typing import Any

import pytest
from msgspec.structs import replace

from rta_service.domain.control import Budget, CostGoal, GoalBlock
from rta_service.domain.control_order import Grant, Shape, Usage
from rta_service.domain.decision import Bid
from rta_service.domain.platform import BidKind
from rta_service.domain.reason import ReasonCode
from rta_service.online.control_desk import ControlDesk
from rta_service.online.ghost import ghosts
from rta_service.online.pipeline import BatchOutcome, Pipeline

LATER = 1e9
DOUBLED = (GoalBlock(CostGoal.DEEP, 3e7, 1.0, log(2.0), 0.01),)


def _pipeline(kit: Any, live: Any, desk: ControlDesk | None, clock: Any = None) -> Pipeline:
    reader = kit.a_reader({kit.md5_of(1): kit.a_record()})
    pipeline = Pipeline(reader, kit.keys, clock or kit.a_clock(), None, desk)
    pipeline.live = live
    return pipeline


def _bid(outcome: BatchOutcome) -> float:
    bid = outcome.decisions[0].strategies[0].bid
    assert bid is not None
    return bid.value


def _steered(kit: Any, **changes: Any) -> Any:
    usual = {
        "answer": BidKind.CPC,
        "control": kit.settings_of(),
        "min_bid": 0.0,
        "max_bid": 1e12,
        "bindings": {"json": "s"},
    }
    return kit.a_strategy(**(usual | changes))


async def test_a_strategy_under_control_is_priced_by_its_order(kit: Any) -> None:
    desk = kit.a_desk(kit.an_order(goals=DOUBLED))
    live = kit.a_live(_steered(kit), kit.a_strategy(strategy_id="free", bindings={"json": "free"}))

    outcome = await _pipeline(kit, live, desk).decide([kit.a_request(kit.md5_of(1))], LATER)

    (steered, free) = outcome.decisions[0].strategies
    assert steered.bid == Bid(BidKind.CPC, 600_000, "CNY")
    assert steered.steered is not None
    assert steered.steered.version == 7
    assert (free.bid, free.steered) == (Bid(BidKind.WEIGHT, 1.0), None)
    report = desk.report()
    assert report.usages == [Usage("s@json", answered=1, price_micros=600_000)]
    assert desk.report().usages == []


@pytest.mark.parametrize("answer", list(BidKind))
async def test_without_control_a_desk_changes_nothing(kit: Any, answer: BidKind) -> None:
    live = kit.a_live(_steered(kit, answer=answer, control=None, max_bid=1e9))
    request = kit.a_request(kit.md5_of(1), pctr=0.02)

    with_desk = await _pipeline(kit, live, kit.a_desk(kit.an_order())).decide([request], LATER)
    without = await _pipeline(kit, live, None).decide([request], LATER)

    assert with_desk.decisions == without.decisions
    assert without.decisions[0].strategies[0].steered is None


async def test_without_a_desk_a_strategy_is_priced_as_if_it_had_no_control(kit: Any) -> None:
    live, plain = kit.a_live(_steered(kit)), kit.a_live(_steered(kit, control=None))
    request = kit.a_request(kit.md5_of(1))

    found = [await _pipeline(kit, one, None).decide([request], LATER) for one in (live, plain)]

    assert found[0].decisions == found[1].decisions


async def test_a_request_for_a_test_is_answered_and_not_told(kit: Any) -> None:
    desk = kit.a_desk(kit.an_order())
    request = kit.a_request(kit.md5_of(1), is_test=True)

    outcome = await _pipeline(kit, kit.a_live(_steered(kit)), desk).decide([request], LATER)

    assert outcome.decisions[0].participate
    assert desk.report().usages == []


async def test_people_of_a_canary_are_steered_too(kit: Any) -> None:
    desk = kit.a_desk(kit.an_order(goals=DOUBLED))
    live = kit.two_arms(1_000_000, _steered(kit))

    outcome = await _pipeline(kit, live, desk).decide([kit.a_request(kit.md5_of(1))], LATER)

    # the canary predicts three trades where ours predicts one
    assert outcome.decisions[0].strategies[0].bid == Bid(BidKind.CPC, 1_800_000, "CNY")


async def test_money_runs_out_by_the_clock_of_whoever_granted_it(kit: Any) -> None:
    clock = kit.a_clock()
    desk = kit.a_desk(kit.an_order(hold_rate=1.0), clock=clock)
    live = kit.a_live(_steered(kit, answer=BidKind.CPM))
    pipeline = _pipeline(kit, live, desk, clock)
    request = kit.a_request(kit.md5_of(1), pctr=0.02)
    store_ms = clock.now_ms() + 60_000
    grant = Grant("s@json", 10_000, store_ms + 5_000)
    desk.take(kit.exchanged(None, [grant], store_ms), clock.monotonic_s() - 0.5)

    now = await pipeline.decide([request], LATER)
    clock.monotonic += 4.5
    late = await pipeline.decide([request], LATER)

    assert [o.decisions[0].reason for o in (now, late)] == [
        ReasonCode.ACCEPTED,
        ReasonCode.NO_BUDGET,
    ]
    (usage,), wants = desk.report()
    assert (usage.held_micros, usage.no_money) == (6_000, 1)
    assert wants["s@json"] > 0


async def test_money_is_asked_for_while_anybody_asks(kit: Any) -> None:
    clock = kit.a_clock()
    desk = kit.a_desk(kit.an_order(hold_rate=0.5), kit.an_order("t@json"), clock=clock)
    live = kit.a_live(
        _steered(kit, answer=BidKind.CPM),
        _steered(kit, strategy_id="t", bindings={"json": "t"}, answer=BidKind.CPM),
    )
    pipeline = _pipeline(kit, live, desk, clock)
    before = desk.report().wants

    await pipeline.decide([kit.a_request(kit.md5_of(1))], LATER)
    clock.monotonic += 0.5
    first = desk.report().wants
    clock.monotonic += 601.0
    silent = desk.report().wants

    # a click's worth, half of which is held
    assert (before, first, silent) == ({}, {"s@json": 150_000}, {})


async def test_a_new_order_holds_from_the_next_answer_on(kit: Any) -> None:
    desk = kit.a_desk(kit.an_order())
    pipeline = _pipeline(kit, kit.a_live(_steered(kit)), desk)
    request = kit.a_request(kit.md5_of(1))

    before = await pipeline.decide([request], LATER)
    desk.take(kit.exchanged({"s@json": kit.an_order(goals=DOUBLED)}), 0.0)
    after = await pipeline.decide([request], LATER)

    assert [_bid(before), _bid(after)] == [300_000, 600_000]


async def test_a_release_with_another_target_holds_from_its_first_answer_on(kit: Any) -> None:
    desk = kit.a_desk(kit.an_order())
    pipeline = _pipeline(kit, kit.a_live(_steered(kit)), desk)
    request = kit.a_request(kit.md5_of(1))

    before = await pipeline.decide([request], LATER)
    control = kit.settings_of()
    targets = replace(control.aim.targets, deep_micros=60_000_000)
    control = replace(control, aim=replace(control.aim, targets=targets))
    pipeline.live = kit.a_live(_steered(kit, control=control), release_id="r2")
    after = await pipeline.decide([request], LATER)

    assert [_bid(before), _bid(after)] == [300_000, 600_000]


async def test_what_depends_on_the_time_is_laid_out_anew_when_that_is_over(kit: Any) -> None:
    clock = kit.a_clock()
    desk = kit.a_desk(kit.an_order(goals=DOUBLED), clock=clock)
    pipeline = _pipeline(kit, kit.a_live(_steered(kit)), desk, clock)
    request = kit.a_request(kit.md5_of(1))

    await pipeline.decide([request], LATER)
    clock.now_s += 90
    desk.refresh()
    faded = await pipeline.decide([request], LATER)

    assert _bid(faded) == round(300_000 * 2.0**0.5)
    assert desk.report().usages[0].stale == 1


async def test_a_ghost_of_a_strategy_under_control_is_priced_by_its_order_and_not_told(
    kit: Any,
) -> None:
    desk = kit.a_desk(kit.an_order(goals=DOUBLED, shape=Shape(0.01)))
    live = kit.a_live(_steered(kit, holdout_share=0.5))
    reader = kit.a_reader({kit.md5_of(1): kit.a_record(person_key=6)})
    pipeline = Pipeline(reader, kit.keys, kit.a_clock(), None, desk)
    pipeline.live = live
    request = kit.a_request(kit.md5_of(1))
    outcome = await pipeline.decide([request], LATER)
    assert outcome.decisions[0].reason is ReasonCode.HOLDOUT

    (ghost,) = ghosts(live, (request, outcome.people[0]), outcome.decisions[0], kit.now_s, desk)  # type: ignore[arg-type]  # somebody was found

    assert ghost.bid == Bid(BidKind.CPC, 600_000, "CNY")
    assert desk.report().usages == []


async def test_a_budget_that_nobody_watches_is_not_spent(kit: Any) -> None:
    control = kit.settings_of(budget=Budget(10**9))
    live = kit.a_live(_steered(kit, answer=BidKind.CPM, control=control))

    outcome = await _pipeline(kit, live, kit.a_desk()).decide(
        [kit.a_request(kit.md5_of(1), pctr=0.02)], LATER
    )

    assert outcome.decisions[0].reason is ReasonCode.NO_BUDGET
