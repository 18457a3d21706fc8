import asyncio
from dataclasses import dataclass, field
from typing import Any

import pytest

from rta_service.domain.decision import Decision
from rta_service.domain.reason import ReasonCode
from rta_service.domain.request import AdRequest
from rta_service.online.batcher import Batcher, BatchLimits
from rta_service.online.pipeline import BatchOutcome


@dataclass
class FakeDecider:
    """Accepts everything once `gate` opens, or fails with `error`."""

    error: Exception | None = None
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    missing: int = 0
    batches: list[tuple[list[str], float]] = field(default_factory=list)

    async def decide(self, batch: list[AdRequest], deadline_s: float) -> BatchOutcome:
        self.batches.append(([r.request_id for r in batch], deadline_s))
        self.asked.set()
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        decisions = [_decision(r, ReasonCode.ACCEPTED) for r in batch]
        return BatchOutcome(decisions[self.missing :])

    def degrade(self, request: AdRequest, reason: ReasonCode) -> Decision:
        return _decision(request, reason)


def _decision(request: AdRequest, reason: ReasonCode) -> Decision:
    return Decision(request.request_id, reason is ReasonCode.ACCEPTED, reason, (), 60)


@dataclass
class Desk:
    """A batcher with what it was given and what it reported."""

    decider: FakeDecider
    limits: BatchLimits = field(default_factory=lambda: BatchLimits(0.03))
    seen: list[tuple[list[AdRequest], BatchOutcome]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.batcher = Batcher(self.decider, self.limits, self._observe)

    def _observe(self, requests: list[AdRequest], outcome: BatchOutcome) -> None:
        self.seen.append((requests, outcome))


@pytest.fixture
def decider() -> FakeDecider:
    decider = FakeDecider()
    decider.gate.set()
    return decider


async def test_requests_of_one_tick_are_one_batch(decider: FakeDecider, a_request: Any) -> None:
    desk = Desk(decider)

    answers = await asyncio.gather(
        *(desk.batcher.submit(a_request(request_id=i), 1.0) for i in "abc")
    )

    assert [d.request_id for d in answers] == ["a", "b", "c"]
    assert decider.batches == [(["a", "b", "c"], 1.03)]
    assert [len(requests) for requests, _ in desk.seen] == [1 * 3]
    assert desk.batcher.waiting == 0


async def test_a_lone_request_waits_for_nobody(decider: FakeDecider, a_request: Any) -> None:
    desk = Desk(decider)

    await desk.batcher.submit(a_request(request_id="a"), 1.0)
    await desk.batcher.submit(a_request(request_id="b"), 2.0)

    assert [ids for ids, _ in decider.batches] == [["a"], ["b"]]


async def test_a_request_that_arrived_long_ago_makes_no_neighbour_late(
    decider: FakeDecider, a_request: Any
) -> None:
    desk = Desk(decider)

    await asyncio.gather(
        *(desk.batcher.submit(a_request(), arrived) for arrived in (1.0, 3.0, 2.0))
    )

    assert decider.batches[0][1] == pytest.approx(3.03)


async def test_a_tick_with_too_many_requests_is_cut(decider: FakeDecider, a_request: Any) -> None:
    desk = Desk(decider, BatchLimits(0.03, max_batch=2))

    await asyncio.gather(*(desk.batcher.submit(a_request(request_id=i), 1.0) for i in "abcde"))

    assert [ids for ids, _ in decider.batches] == [["a", "b"], ["c", "d"], ["e"]]


async def test_beyond_the_limit_the_answer_comes_at_once(a_request: Any) -> None:
    desk = Desk(FakeDecider(), BatchLimits(0.03, max_waiting=2))
    waiting = [desk.batcher.submit(a_request(), 1.0) for _ in range(2)]

    shed = desk.batcher.submit(a_request(), 1.0)

    assert shed.done()
    assert shed.result().reason is ReasonCode.OVERLOADED
    assert [d.reason for _, o in desk.seen for d in o.decisions] == [ReasonCode.OVERLOADED]
    desk.decider.gate.set()
    assert {d.reason for d in await asyncio.gather(*waiting)} == {ReasonCode.ACCEPTED}
    assert (await desk.batcher.submit(a_request(), 1.0)).reason is ReasonCode.ACCEPTED


@pytest.mark.parametrize("broken", [{"error": RuntimeError("a bug")}, {"missing": 1}])
async def test_a_decider_that_breaks_its_word_still_answers_everybody(
    a_request: Any, broken: Any
) -> None:
    desk = Desk(FakeDecider(**broken))
    desk.decider.gate.set()

    answers = await asyncio.gather(*(desk.batcher.submit(a_request(), 1.0) for _ in range(2)))

    assert answers[-1].reason is ReasonCode.INTERNAL_ERROR
    assert desk.seen[0][1].failure is not None
    assert desk.batcher.waiting == 0


async def test_a_caller_that_goes_away_hurts_nobody(a_request: Any) -> None:
    desk = Desk(FakeDecider())
    leaving, staying = (desk.batcher.submit(a_request(request_id=i), 1.0) for i in "ab")

    leaving.cancel()
    desk.decider.gate.set()

    assert (await staying).request_id == "b"
    assert desk.batcher.waiting == 0


async def test_a_stopping_loop_leaves_nobody_waiting(a_request: Any) -> None:
    desk = Desk(FakeDecider())
    waiting = desk.batcher.submit(a_request(), 1.0)
    async with asyncio.timeout(5):
        await desk.decider.asked.wait()

    for task in desk.batcher._tasks:
        task.cancel()

    assert (await waiting).reason is ReasonCode.INTERNAL_ERROR


async def test_what_comes_while_a_batch_is_decided_shares_the_next_one(a_request: Any) -> None:
    desk = Desk(FakeDecider(), BatchLimits(0.03, hold_s=60.0))
    first = desk.batcher.submit(a_request(request_id="a"), 1.0)
    await desk.decider.asked.wait()
    later = [desk.batcher.submit(a_request(request_id="b"), 1.0)]
    await asyncio.sleep(0)
    later.append(desk.batcher.submit(a_request(request_id="c"), 1.0))

    desk.decider.gate.set()
    await asyncio.gather(first, *later)

    assert [ids for ids, _ in desk.decider.batches] == [["a"], ["b", "c"]]


async def test_nobody_is_held_longer_than_the_bound_by_a_slow_batch(a_request: Any) -> None:
    desk = Desk(FakeDecider(), BatchLimits(0.03, hold_s=0.001))
    first = desk.batcher.submit(a_request(request_id="a"), 1.0)
    await desk.decider.asked.wait()
    desk.decider.asked.clear()
    second = desk.batcher.submit(a_request(request_id="b"), 1.0)

    await desk.decider.asked.wait()  # while the first is still being decided
    desk.decider.gate.set()
    await asyncio.gather(first, second)

    assert [ids for ids, _ in desk.decider.batches] == [["a"], ["b"]]
