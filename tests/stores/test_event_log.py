import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from rta_service.domain.errors import StoreUnavailable
from rta_service.stores.durability import (
    Durability,
    MakeDurable,
    Mode,
    make_durable_by,
    parse_durability,
)
from rta_service.stores.embedded import EmbeddedStore
from rta_service.stores.event_log import DAY_MS, Backlog, Draft, Entry, EventLog, LogRules
from rta_service.stores.keys import event_name
from rta_service.stores.redis import AdminClient, AsyncClient, admin_client, close, watch_client

TODAY = 20_700
NOON_MS = TODAY * DAY_MS + DAY_MS // 2


@pytest.fixture
async def client(store_url: str) -> AsyncIterator[AsyncClient]:
    client = watch_client(store_url, 5.0)
    yield client
    await close(client)


@pytest.fixture
async def written(client: AsyncClient) -> MakeDurable:
    return await make_durable_by(client, "touch", Durability(Mode.WRITTEN))


@pytest.fixture
def log(client: AsyncClient, namespace: str, written: MakeDurable) -> EventLog:
    return EventLog(client, namespace, written)


def drafts(first: int, last: int, ts_ms: int = NOON_MS) -> list[Draft]:
    return [Draft(f"e{number}", ts_ms, b"body %d" % number) for number in range(first, last)]


async def bodies(log: EventLog) -> list[bytes]:
    return [entry.body for entry in await everything(log)]


async def everything(log: EventLog) -> list[Entry]:
    found: list[Entry] = []
    while more := await log.after(found[-1].entry_id if found else "0", 1_000):
        found.extend(more)
    return found


async def test_events_are_kept_in_the_order_in_which_they_came(log: EventLog) -> None:
    assert await log.append(drafts(0, 600)) == [True] * 600
    assert await log.append([]) == []
    assert await log.append(drafts(600, 601)) == [True]

    assert await bodies(log) == [b"body %d" % number for number in range(601)]


async def test_the_latest_events_are_shown_in_their_order(log: EventLog) -> None:
    assert await log.latest(3) == []
    await log.append(drafts(0, 10))

    assert [entry.body for entry in await log.latest(3)] == [b"body 7", b"body 8", b"body 9"]


async def test_more_senders_than_connections_wait_for_their_turn(log: EventLog) -> None:
    fates = await asyncio.gather(*(log.append(drafts(i, i + 10)) for i in range(0, 500, 5)))

    assert sum(map(sum, fates)) == len(await bodies(log)) == 505


async def test_a_copy_is_told_in_the_batch_and_after_it(log: EventLog) -> None:
    twice = [*drafts(0, 2), *drafts(1, 3)]

    assert await log.append(twice) == [True, True, False, True]
    assert await log.append(twice) == [False] * 4

    assert len(await bodies(log)) == 3
    assert await log.counts() == {"accepted": 3, "duplicate": 5}


async def test_ids_of_a_day_are_remembered_while_its_events_are_let_in(
    log: EventLog, admin: AdminClient, namespace: str
) -> None:
    await log.append(drafts(0, 50, NOON_MS))

    keys: Any = list(admin.scan_iter(match=f"{event_name(namespace, 'seen')}:{TODAY}:*"))
    lives_s: list[Any] = [admin.ttl(key) for key in keys]
    assert len(keys) > 40
    assert all(10 * DAY_MS < life * 1000 <= 11 * DAY_MS for life in lives_s)
    assert all(admin.object("encoding", key) == b"listpack" for key in keys)


async def test_a_script_that_the_store_forgot_is_sent_again(
    log: EventLog, admin: AdminClient
) -> None:
    admin.script_flush()

    assert await log.append(drafts(0, 1)) == [True]


async def test_a_full_log_takes_nothing_and_says_so(
    client: AsyncClient, namespace: str, written: MakeDurable
) -> None:
    log = EventLog(client, namespace, written, LogRules(max_length=10))
    await log.append(drafts(0, 8))

    with pytest.raises(StoreUnavailable, match="holds 10 events"):
        await log.append(drafts(8, 11))

    assert len(await bodies(log)) == 8
    assert await log.append(drafts(8, 10)) == [True, True]


@pytest.mark.parametrize(
    ("trouble", "cure"),
    [
        ("CONFIG SET maxmemory 1", "CONFIG SET maxmemory 0"),
        ("REPLICAOF 127.0.0.1 1", "REPLICAOF NO ONE"),
    ],
)
async def test_a_store_that_refuses_writes_keeps_nothing_of_a_batch(
    own_store: EmbeddedStore, trouble: str, cure: str
) -> None:
    client = watch_client(own_store.url, 5.0)
    log = EventLog(client, "ad", await make_durable_by(client, "t", parse_durability("written")))
    await log.append(drafts(0, 1))
    with admin_client(own_store.url) as admin:
        admin.execute_command(*trouble.split())

        with pytest.raises(StoreUnavailable, match="appending events"):
            await log.append(drafts(1, 500))

        admin.execute_command(*cure.split())
    assert len(await bodies(log)) == 1
    assert await log.append(drafts(1, 500)) == [True] * 499
    await close(client)


async def test_nothing_is_acknowledged_that_could_not_be_made_durable(
    client: AsyncClient, namespace: str
) -> None:
    async def fails() -> None:
        raise StoreUnavailable("no disk")

    with pytest.raises(StoreUnavailable, match="no disk"):
        await EventLog(client, namespace, fails).append(drafts(0, 1))


async def test_a_copy_is_acknowledged_only_when_the_first_is_durable(
    client: AsyncClient, namespace: str
) -> None:
    rounds = []

    async def counts() -> None:
        rounds.append(1)

    log = EventLog(client, namespace, counts)

    await log.append(drafts(0, 1))
    await log.append(drafts(0, 1))

    assert len(rounds) == 2


async def test_each_group_gets_every_event_and_each_consumer_its_own(log: EventLog) -> None:
    await log.open_group("records")
    await log.append(drafts(0, 10))
    await log.open_group("files")
    await log.open_group("files")

    first = await log.read("records", "a", 6)
    second = await log.read("records", "b", 6)
    files = await log.read("files", "a", 100)

    assert [entry.body for entry in first + second] == [entry.body for entry in files]
    assert (len(first), len(second)) == (6, 4)
    assert await log.read("records", "a", 6) == []
    assert await log.read("records", "a", 6, block_ms=10) == []


async def test_a_long_read_comes_in_pages_that_leave_the_store_free_between_them(
    client: AsyncClient, log: EventLog
) -> None:
    await log.open_group("fresh")
    await log.append(drafts(0, 450))
    commands: Any = client
    await commands.config_resetstat()

    found = await log.read("fresh", "one", 430)
    done = await log.ack("fresh", [entry.entry_id for entry in found])

    assert [entry.body for entry in found] == [b"body %d" % number for number in range(430)]
    assert done == 430
    assert await log.backlog("fresh") == Backlog(20, 0)
    called = await commands.info("commandstats")
    assert called["cmdstat_xreadgroup"]["calls"] == 3
    assert called["cmdstat_xack"]["calls"] == 3


async def test_who_died_reads_again_what_it_had_not_acknowledged(log: EventLog) -> None:
    await log.open_group("records")
    await log.append(drafts(0, 10))
    read = await log.read("records", "a", 10)

    assert await log.ack("records", [entry.entry_id for entry in read[:4]]) == 4
    assert await log.ack("records", []) == 0

    assert await log.unacknowledged("records", "a", 3) == read[4:7]
    assert await log.unacknowledged("records", "a", 9, read[6].entry_id) == read[7:]


async def test_what_another_let_lie_is_taken_over(log: EventLog) -> None:
    await log.open_group("records")
    await log.append(drafts(0, 10))
    read = await log.read("records", "dead", 10)

    assert await log.claim("records", "alive", 60_000, 10) == []
    assert await log.claim("records", "alive", 0, 6) == read[:6]

    assert await log.unacknowledged("records", "alive", 10) == read[:6]


async def test_an_event_deleted_by_hand_does_not_come_back_for_ever(
    log: EventLog, admin: AdminClient, namespace: str
) -> None:
    await log.open_group("records")
    await log.append(drafts(0, 3))
    read = await log.read("records", "a", 3)
    admin.xdel(event_name(namespace, "log"), read[1].entry_id)

    assert await log.unacknowledged("records", "a", 3) == [read[0], read[2]]
    assert (await log.backlog("records")).unacknowledged == 2


async def test_the_backlog_is_what_is_unread_and_what_is_unacknowledged(log: EventLog) -> None:
    await log.open_group("records")
    await log.append(drafts(0, 10))
    read = await log.read("records", "a", 6)
    await log.ack("records", [read[0].entry_id])

    assert await log.backlog("records") == Backlog(unread=4, unacknowledged=5)
    assert await log.backlog("nobody") == Backlog(unread=10, unacknowledged=0)


async def test_what_is_unread_waits_also_when_what_was_read_is_done_meanwhile(
    log: EventLog, client: AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    await log.open_group("one")
    await log.append(drafts(0, 2))
    read = await log.read("one", "me", 1)
    asked = client.xpending

    async def acknowledge_first(*given: Any) -> Any:
        await log.ack("one", [entry.entry_id for entry in read])
        return await asked(*given)

    monkeypatch.setattr(client, "xpending", acknowledge_first)

    assert await log.waiting_since_ms("one") > 0


async def test_only_what_every_group_has_done_is_trimmed(log: EventLog) -> None:
    assert await log.trim() == 0
    await log.append(drafts(0, 5_000))
    assert await log.trim() == 0
    await log.open_group("records")
    await log.open_group("files")
    assert await log.trim() == 0

    fast = await log.read("records", "a", 5_000)
    await log.ack("records", [entry.entry_id for entry in fast])
    slow = await log.read("files", "a", 3_000)
    await log.ack("files", [entry.entry_id for entry in slow[:500] + slow[501:]])
    dropped = await log.trim()

    assert 300 < dropped <= 500
    assert (await everything(log)) == fast[dropped:]
    assert await log.backlog("files") == Backlog(2_000, 1)
    assert await log.backlog("records") == Backlog(0, 0)

    await log.ack("files", [slow[500].entry_id])
    assert 2_300 < dropped + await log.trim() <= 3_000
    assert await log.unacknowledged("files", "a", 10) == []


async def test_a_cluster_keeps_events_in_one_slot(cluster_url: str, namespace: str) -> None:
    client = watch_client(cluster_url)
    durable = await make_durable_by(client, "touch", Durability(Mode.WRITTEN))
    log = EventLog(client, namespace, durable)
    await log.open_group("records")

    assert await log.append(drafts(0, 100)) == [True] * 100
    assert len(await log.read("records", "a", 100)) == 100
    assert await log.trim() == 0
    assert await log.backlog("records") == Backlog(0, 100)

    await close(client)


async def send(log: EventLog, sender: int, batches: int, kept: list[Draft]) -> int:
    """Send batches as a careful sender does: the same one again until it is acknowledged."""
    again = 0
    for number in range(batches):
        batch = [Draft(f"s{sender}-{number}-{i}", NOON_MS, b"%d" % i) for i in range(20)]
        while True:
            try:
                await log.append(batch)
            except StoreUnavailable:
                again += 1
                await asyncio.sleep(0.02)
            else:
                break
        kept.extend(batch)
    return again


def wait_for_length(kept: list[Draft], length: int) -> None:
    end_s = time.monotonic() + 30
    while len(kept) < length and time.monotonic() < end_s:
        time.sleep(0.002)


def kill(store: EmbeddedStore) -> None:
    assert store._pid is not None
    os.kill(store._pid, signal.SIGKILL)
    while store.is_alive():
        pass


@pytest.mark.parametrize("durability", ["disk", "written"])
async def test_a_killed_store_loses_no_acknowledged_event_and_keeps_none_twice(
    own_store: EmbeddedStore, tmp_path: Path, durability: str
) -> None:
    client = watch_client(own_store.url, 5.0)
    durable = await make_durable_by(client, "t", parse_durability(durability), tmp_path / "own")
    log = EventLog(client, "ad", durable)
    kept: list[Draft] = []
    senders = [asyncio.create_task(send(log, number, 120, kept)) for number in range(4)]

    for reached in (400, 3_000, 6_000):
        await asyncio.to_thread(wait_for_length, kept, reached)
        kill(own_store)
        await asyncio.to_thread(own_store.start)
    sent_again = await asyncio.gather(*senders)

    stored = await everything(log)
    assert sum(sent_again) > 0
    assert len(stored) == 4 * 120 * 20 == len(kept)
    assert await log.append(kept) == [False] * len(kept)
    assert (await log.counts())["accepted"] == len(stored)
    await close(client)
