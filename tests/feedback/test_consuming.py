import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from rta_service.domain.errors import StoreUnavailable
from rta_service.domain.events import Event
from rta_service.domain.sealing import Sealer, to_bytes
from rta_service.feedback.consuming import Group, GroupRules, Progress, Taken, run_group
from rta_service.stores.event_log import Backlog, Draft

Parts = Any
"""The builder of conftest.py: test folders are no packages."""

NOW_MS = time.time_ns() // 1_000_000
QUICK = GroupRules(batch=20, block_ms=10)


class Noting:
    """Notes what it is given, after whatever a test wants to happen first."""

    def __init__(self, first: Callable[[Sequence[Taken]], None] = lambda _: None) -> None:
        self.seen: list[str] = []
        self.ids: list[str] = []
        self.batches: list[int] = []
        self._first = first

    def handle(self, entries: Sequence[Taken], /) -> None:
        self.batches.append(len(entries))
        self._first(entries)
        self.seen += [one.happening.event_id for one in entries]
        self.ids += [one.entry_id for one in entries]


def numbers(first: int, last: int) -> list[str]:
    return [f"e{number}" for number in range(first, last)]


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(1_500):
        if condition():
            return
        await asyncio.sleep(0.01)
    pytest.fail("waited in vain")


async def run(
    parts: Parts, handler: Noting, until_done: Callable[[], bool], rules: GroupRules = QUICK
) -> Progress:
    """Run a group until a test has seen enough, and let it end by itself."""
    progress = Progress()
    running = asyncio.create_task(run_group(Group("fresh", handler, rules), parts.source, progress))
    await until(until_done)
    parts.is_ours = False
    await running
    parts.is_ours = True
    return progress


async def send(parts: Parts, first: int, last: int) -> None:
    await parts.send([parts.happening(number, NOW_MS) for number in range(first, last)])


async def test_a_group_does_all_events_in_their_order_and_acknowledges_them(parts: Parts) -> None:
    await send(parts, 0, 70)
    handler = Noting()

    progress = await run(parts, handler, lambda: len(handler.seen) == 70)

    assert handler.seen == numbers(0, 70)
    assert handler.batches == [20, 20, 20, 10]
    assert (progress.handled, progress.acknowledged, progress.set_aside) == (70, 70, 0)
    assert await parts.log.backlog("fresh") == Backlog(0, 0)
    assert await parts.log.waiting_since_ms("fresh") == 0


async def test_a_group_takes_little_while_it_keeps_up_and_all_it_can_once_it_is_behind(
    parts: Parts,
) -> None:
    await send(parts, 0, 90)
    handler = Noting()
    rules = GroupRules(batch=20, calm=4, block_ms=10)

    await run(parts, handler, lambda: len(handler.seen) == 90, rules)
    await send(parts, 90, 97)
    await run(parts, handler, lambda: len(handler.seen) == 97, rules)

    assert handler.seen == numbers(0, 97)
    assert handler.batches == [4] * 10 + [20, 20, 10] + [4, 3]


async def test_a_handler_gets_events_as_they_were_sent(parts: Parts) -> None:
    paid = parts.happening(1, NOW_MS, Event.PAY, cents=5, order_id="o1", tag="t", step="")
    await parts.send([paid])
    got: list[Taken] = []
    handler = Noting(got.extend)

    await run(parts, handler, lambda: bool(handler.seen))

    [one] = got
    assert one.happening == paid
    assert parts.sealer.unseal(one.sealed) == paid


async def test_what_a_dead_process_had_read_is_done_first(parts: Parts) -> None:
    await parts.log.open_group("fresh")
    await send(parts, 0, 30)
    await parts.log.read("fresh", "one", 25)
    handler = Noting()

    await run(parts, handler, lambda: len(handler.seen) == 30)

    assert handler.seen == numbers(0, 30)


def fails_on(*bad: str) -> Callable[[Sequence[Taken]], None]:
    def fail(entries: Sequence[Taken]) -> None:
        for one in entries:
            if one.happening.event_id in bad:
                raise KeyError("a secret of somebody")

    return fail


async def test_a_bad_event_costs_itself_only_and_says_why_without_quoting_it(parts: Parts) -> None:
    await send(parts, 0, 20)
    handler = Noting(fails_on("e3", "e17"))

    progress = await run(parts, handler, lambda: len(handler.seen) == 18)

    wanted = [one for one in numbers(0, 20) if one not in ("e3", "e17")]
    assert handler.seen == wanted
    assert (progress.handled, progress.acknowledged, progress.set_aside) == (18, 18, 2)
    poisoned = await parts.poison.list(10)
    assert [one.group for one in poisoned] == ["fresh", "fresh"]
    assert poisoned[0].reason.startswith("KeyError in test_consuming.py, line ")
    assert poisoned[0].body == parts.draft(parts.happening(3, NOW_MS)).body
    assert await parts.log.backlog("fresh") == Backlog(0, 0)


async def test_an_event_taken_back_comes_again_to_its_group_alone(parts: Parts) -> None:
    await send(parts, 0, 5)
    broken, mended, other = Noting(fails_on("e3")), Noting(), Noting()
    await run(parts, broken, lambda: len(broken.seen) == 4)
    [poisoned] = await parts.poison.list(10)

    assert await parts.poison.take_back(poisoned.poison_id)
    assert not await parts.poison.take_back(poisoned.poison_id)
    await run(parts, mended, lambda: bool(mended.seen))
    running = asyncio.create_task(run_group(Group("archive", other, QUICK), parts.source))
    await until(lambda: len(other.seen) == 5)
    parts.is_ours = False
    await running

    assert mended.seen == ["e3"]
    assert mended.ids[0] > poisoned.entry_id
    assert other.seen == numbers(0, 5)
    assert await parts.log.backlog("archive") == Backlog(0, 0)
    assert await parts.poison.count() == 0


async def test_events_that_cannot_be_unsealed_are_set_aside(parts: Parts) -> None:
    foreign = to_bytes(Sealer(b"another").seal(parts.happening(1, NOW_MS)))
    drafts = [Draft("x1", NOW_MS, foreign), Draft("x2", NOW_MS, b"rubbish")]
    await parts.log.append([*drafts, parts.draft(parts.happening(3, NOW_MS))])
    handler = Noting()

    progress = await run(parts, handler, lambda: handler.seen == ["e3"])

    assert progress.set_aside == 2
    first, second = await parts.poison.list(10)
    assert "another event key" in first.reason
    assert "not a sealed event" in second.reason
    assert (first.body, second.body) == (foreign, b"rubbish")


async def test_events_that_wait_when_the_event_key_changes_are_still_done(parts: Parts) -> None:
    await send(parts, 0, 5)
    handler = Noting()
    changed = replace(parts.source, make_sealer=lambda: Sealer(b"the next", [parts.event_key]))
    progress = Progress()
    running = asyncio.create_task(run_group(Group("archive", handler, QUICK), changed, progress))

    await until(lambda: len(handler.seen) == 5)
    parts.is_ours = False
    await running

    assert progress.set_aside == 0


async def test_what_fails_for_a_while_brings_the_same_events_again(parts: Parts) -> None:
    await send(parts, 0, 5)
    tries: list[int] = []

    def twice(entries: Sequence[Taken]) -> None:
        tries.append(len(entries))
        if len(tries) < 3:
            raise StoreUnavailable("the disk is full")

    handler = Noting(twice)
    progress = Progress()
    running = asyncio.create_task(run_group(Group("fresh", handler, QUICK), parts.source, progress))
    await until(lambda: progress.trouble == "the disk is full")
    await until(lambda: len(handler.seen) == 5)
    await until(lambda: progress.trouble == "")
    parts.is_ours = False
    await running

    assert tries == [5, 5, 5]
    assert handler.seen == numbers(0, 5)
    assert await parts.poison.count() == 0


async def test_with_the_poison_full_a_group_waits_and_loses_nothing(parts: Parts) -> None:
    await send(parts, 0, 10)
    handler = Noting(fails_on(*numbers(0, 7)))
    progress = Progress()
    running = asyncio.create_task(run_group(Group("fresh", handler, QUICK), parts.source, progress))
    await until(lambda: "set aside already" in progress.trouble)

    assert await parts.poison.count() == 5
    assert (await parts.log.backlog("fresh")).unacknowledged == 5
    for poisoned in await parts.poison.list(5):
        await parts.poison.drop(poisoned.poison_id)
    await until(lambda: len(handler.seen) == 3)
    parts.is_ours = False
    await running

    assert progress.set_aside == 7


async def test_a_fault_of_our_own_does_not_set_everything_aside_at_once(parts: Parts) -> None:
    parts.poison = parts.poison_of(1_000)
    await send(parts, 0, 300)

    def broken(_: Sequence[Taken]) -> None:
        raise TypeError

    progress = Progress()
    running = asyncio.create_task(
        run_group(Group("fresh", Noting(broken), QUICK), parts.source, progress)
    )
    await until(lambda: "100 events in a row could not be done" in progress.trouble)
    await asyncio.sleep(0.3)
    slow = progress.set_aside
    parts.is_ours = False
    await running
    parts.is_ours = True
    mended = Noting()
    await run(parts, mended, lambda: len(mended.seen) == 300 - progress.set_aside)

    assert 100 < slow < 110
    assert "TypeError" in progress.trouble


async def test_a_heavy_batch_is_handled_in_parts(parts: Parts) -> None:
    await send(parts, 0, 10)
    weight = len(parts.draft(parts.happening(0, NOW_MS)).body)
    handler = Noting()

    rules = GroupRules(batch=20, batch_bytes=3 * weight, block_ms=10)
    await run(parts, handler, lambda: len(handler.seen) == 10, rules)
    await send(parts, 10, 12)
    await run(parts, handler, lambda: len(handler.seen) == 12, GroupRules(batch_bytes=1))

    assert handler.batches == [3, 3, 3, 1, 1, 1]


async def test_a_group_that_rests_lets_events_gather(parts: Parts) -> None:
    handler = Noting()
    rules = GroupRules(batch=20, block_ms=10, rest_s=0.6)
    await send(parts, 0, 1)
    running = asyncio.create_task(run_group(Group("archive", handler, rules), parts.source))
    await until(lambda: len(handler.seen) == 1)

    for number in range(1, 5):
        await send(parts, number, number + 1)
        await asyncio.sleep(0.02)
    await until(lambda: len(handler.seen) == 5)
    parts.is_ours = False
    started_s = time.monotonic()
    await running

    assert handler.batches == [1, 4]
    assert time.monotonic() - started_s < 1.0


async def test_who_loses_the_lease_does_no_further_part(parts: Parts) -> None:
    await send(parts, 0, 10)

    def lose(_: Sequence[Taken]) -> None:
        parts.is_ours = False

    handler = Noting(lose)
    weight = len(parts.draft(parts.happening(0, NOW_MS)).body)
    rules = GroupRules(batch=20, batch_bytes=4 * weight, block_ms=10)

    await run_group(Group("fresh", handler, rules), parts.source)

    assert handler.batches == [4]
    assert (await parts.log.backlog("fresh")).unacknowledged == 6


async def test_a_cancelled_group_ends_when_its_handler_has_returned(parts: Parts) -> None:
    await send(parts, 0, 5)
    started: list[int] = []

    def slow(_: Sequence[Taken]) -> None:
        started.append(1)
        time.sleep(0.3)

    handler = Noting(slow)
    running = asyncio.create_task(run_group(Group("fresh", handler, QUICK), parts.source))
    await until(lambda: bool(started))
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running

    assert handler.seen == numbers(0, 5)


async def test_effects_outside_the_store_wait_until_it_keeps_the_events(
    parts: Parts, monkeypatch: Any
) -> None:
    order: list[str] = []

    class Settling:
        """A log that notes when it is asked to keep what was read."""

        def __getattr__(self, name: str) -> Any:
            if name == "settle":
                order.append("settled")
            return getattr(parts.log, name)

    await send(parts, 0, 3)
    handler = Noting(lambda _: order.append("handled"))
    rules = GroupRules(batch=20, block_ms=10, leaves_store=True)
    source = parts.source.__class__(
        Settling(),
        parts.poison,
        parts.source.make_sealer,
        lambda: parts.is_ours,
    )
    running = asyncio.create_task(run_group(Group("archive", handler, rules), source))
    await until(lambda: len(handler.seen) == 3)
    parts.is_ours = False
    await running

    assert order[:2] == ["settled", "handled"]


async def test_a_log_that_was_emptied_is_read_from_its_new_beginning(parts: Parts) -> None:
    await send(parts, 0, 3)
    handler = Noting()
    running = asyncio.create_task(run_group(Group("fresh", handler, QUICK), parts.source))
    await until(lambda: len(handler.seen) == 3)

    for name in await parts.client.keys("*"):
        await parts.client.delete(name)
    await send(parts, 3, 5)
    await until(lambda: len(handler.seen) == 5)
    parts.is_ours = False
    await running

    assert handler.seen == numbers(0, 5)
