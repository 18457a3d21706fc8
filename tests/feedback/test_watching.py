"""What operators see of the groups."""

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from rta_service.domain.clock import SystemClock
from rta_service.feedback.consuming import Progress
from rta_service.feedback.watching import GroupState, Watch
from rta_service.stores.durability import Durability, Mode, make_durable_by
from rta_service.stores.embedded import EmbeddedStore
from rta_service.stores.event_log import EventLog
from rta_service.stores.poison import Aside, PoisonStore
from rta_service.stores.redis import close, watch_client
from rta_service.telemetry import Telemetry, exposition

Parts = Any
"""The builder of conftest.py: test folders are no packages."""
NOW_MS = time.time_ns() // 1_000_000


class SetClock(SystemClock):
    """A clock that is ahead of the machine's by what a test says."""

    ahead_s = 0.0

    def now_ms(self) -> int:
        return super().now_ms() + round(1000 * self.ahead_s)

    def monotonic_s(self) -> float:
        return super().monotonic_s() + self.ahead_s


@pytest.fixture
def telemetry(tmp_path: Path) -> Telemetry:
    return Telemetry.open(tmp_path, "nearline")


def shown(tmp_path: Path, name: str) -> list[str]:
    text = exposition(tmp_path, NOW_MS).decode()
    return [line for line in text.splitlines() if line.startswith(name) and 'group="fresh"' in line]


async def test_it_shows_what_groups_did_and_what_they_have_still_to_do(
    parts: Parts, telemetry: Telemetry, tmp_path: Path
) -> None:
    progress, clock = {"fresh": Progress(handled=7, acknowledged=6)}, SetClock()
    watch = Watch(parts.log, parts.poison, progress, telemetry, clock)
    await parts.send([parts.happening(number, NOW_MS) for number in range(5)])
    await parts.log.open_group("fresh")
    read = await parts.log.read("fresh", "one", 2)
    clock.ahead_s = 100.0

    await watch.look()
    progress["fresh"].handled += 3
    await watch.look()

    state = watch.states["fresh"]
    assert (state.unread, state.unacknowledged, state.trouble, state.is_stuck) == (3, 2, "", False)
    assert 100 <= state.lag_s < 110
    assert shown(tmp_path, "rta_events_handled_total") == [
        'rta_events_handled_total{group="fresh"} 10.0'
    ]
    assert shown(tmp_path, "rta_events_backlog") == [
        'rta_events_backlog{group="fresh",process="nearline"} 5.0'
    ]

    await parts.log.ack("fresh", [read[0].entry_id])
    await parts.poison.set_aside("fresh", [Aside(read[1].entry_id, "why", read[1].body)])
    await watch.look()
    assert watch.poisoned == 1
    assert watch.states["fresh"].unacknowledged == 0
    assert watch.states["fresh"].lag_s >= 100

    await parts.log.ack("fresh", [e.entry_id for e in await parts.log.read("fresh", "one", 9)])
    await watch.look()
    assert watch.states["fresh"] == GroupState()


async def test_a_group_in_trouble_counts_as_stuck_after_a_while(
    parts: Parts, telemetry: Telemetry
) -> None:
    progress, clock = {"archive": Progress()}, SetClock()
    watch = Watch(parts.log, parts.poison, progress, telemetry, clock)
    await parts.log.open_group("archive")

    seen = []
    for ahead_s, trouble in ((0.0, "the disk is full"), (11.0, "the disk is full"), (11.0, "")):
        clock.ahead_s, progress["archive"].trouble = ahead_s, trouble
        await watch.look()
        seen.append((watch.states["archive"].trouble, watch.states["archive"].is_stuck))

    assert seen == [("the disk is full", False), ("the disk is full", True), ("", False)]


async def test_it_trims_what_all_groups_have_done_and_outlives_the_store(
    own_store: EmbeddedStore, telemetry: Telemetry, parts: Parts
) -> None:
    client, clock = watch_client(own_store.url), SetClock()
    durable = await make_durable_by(client, "touch", Durability(Mode.WRITTEN))
    log = EventLog(client, "ad", durable)
    watch = Watch(log, PoisonStore(client, "ad"), {"fresh": Progress()}, telemetry, clock)
    happened = [parts.happening(number, NOW_MS) for number in range(1_000)]
    await log.append([parts.draft(one) for one in happened])
    await log.open_group("fresh")
    await log.ack("fresh", [entry.entry_id for entry in await log.read("fresh", "one", 1_000)])

    running = asyncio.create_task(watch.run(0.01))
    await until(lambda: watch.states["fresh"] == GroupState())
    for _ in range(300):
        if len(await log.after("0", 2_000)) < 500:
            break
        await asyncio.sleep(0.01)
    own_store.stop()
    await until(lambda: "the store failed" in watch.states["fresh"].trouble)
    clock.ahead_s = 11.0
    await until(lambda: watch.states["fresh"].is_stuck)
    own_store.start()
    await until(lambda: watch.states["fresh"].trouble == "")

    assert len(await log.after("0", 2_000)) < 500
    running.cancel()
    await asyncio.wait([running])
    await close(client)


async def until(condition: Any) -> None:
    for _ in range(1_500):
        if condition():
            return
        await asyncio.sleep(0.01)
    pytest.fail("waited in vain")


async def test_a_group_that_does_not_exist_waits_for_nothing(parts: Parts) -> None:
    await parts.send([parts.happening(1, NOW_MS)])

    assert await parts.log.waiting_since_ms("nobody") == 0
