"""One process consumes; killed at any moment it loses nothing and does nothing twice."""

import asyncio
import os
import random
import signal
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from rta_service.device_key import KeyRing
from rta_service.domain.clock import SystemClock
from rta_service.domain.errors import StoreUnavailable
from rta_service.domain.events import Event
from rta_service.domain.happening import Happening
from rta_service.domain.sealing import Sealer
from rta_service.feedback.archive import EventArchive
from rta_service.feedback.consuming import Group, GroupRules, Progress, Source, Taken
from rta_service.feedback.fresh import FreshRecords
from rta_service.feedback.tenure import WORK, consume
from rta_service.feedback.watching import Watch
from rta_service.offline.archive_folder import SCHEMA, days_of, parts_of, stored_batches
from rta_service.record_delta import day_of, fold, pack_delta
from rta_service.stores.delta_store import DeltaStore
from rta_service.stores.durability import Durability, Mode, make_durable_by
from rta_service.stores.embedded import EmbeddedStore
from rta_service.stores.event_log import EventLog
from rta_service.stores.lease import Lease
from rta_service.stores.poison import PoisonStore
from rta_service.stores.redis import AdminClient, admin_client, close, watch_client
from rta_service.telemetry import Telemetry

Kit = Any
Parts = Any
"""The builders of conftest.py: test folders are no packages."""
NOW_MS = time.time_ns() // 1_000_000
KEYS = KeyRing(b"pepper", b"experiment")
GROUPS = ("fresh", "archive")
RULES = GroupRules(batch=40, block_ms=20)
LIFE_MS = 300


@contextmanager
def writing_groups(admin: AdminClient, space: str, folder: Path) -> Iterator[list[Group]]:
    """Open what the two groups write to, as the wiring does."""
    with EventArchive(folder) as archive:
        fresh = FreshRecords(DeltaStore(admin, space), KEYS)
        yield [Group("fresh", fresh, RULES), Group("archive", archive, RULES)]


async def serve(url: str, space: str, folder: Path, event_key: bytes) -> None:
    """Be a nearline process."""
    client, admin = watch_client(url, 5.0), admin_client(url)
    durable = await make_durable_by(client, "touch", Durability(Mode.WRITTEN))
    log, poison, clock = EventLog(client, space, durable), PoisonStore(client, space), SystemClock()
    lease = Lease(client, space, WORK, clock, LIFE_MS)
    progress = {name: Progress() for name in GROUPS}
    source = Source(log, poison, lambda: Sealer(event_key), lease.is_mine)
    telemetry = Telemetry.open(folder.parent, f"nearline-{os.getpid()}")
    watch = Watch(log, poison, progress, telemetry, clock)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(watch.run(0.05))
        await consume(lease, partial(writing_groups, admin, space, folder), source, progress)


def start(url: str, space: str, folder: Path, event_key: bytes) -> int:
    pid = os.fork()
    if pid == 0:
        try:
            asyncio.run(serve(url, space, folder, event_key))
        finally:
            os._exit(1)
    return pid


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def a_day(kit: Kit, events: int) -> list[Happening]:
    chance = random.Random(1)
    words = [Event.LAUNCH, Event.VIEW, Event.PAY, Event.AD_CLICK, Event.REGISTER, Event.CONVERSION]
    return [
        kit.happening(number, NOW_MS - chance.randrange(86_400_000), chance.choice(words), cents=3)
        for number in range(events)
    ]


def archived(folder: Path) -> list[str]:
    files = [part.path for day in days_of(folder) for part in parts_of(day)]
    batches = [batch for path in files for batch in stored_batches(path)]
    ids: list[str] = pa.Table.from_batches(batches, SCHEMA)["event_id"].to_pylist()
    return ids


def assert_deltas(admin: AdminClient, space: str, happened: Sequence[Happening]) -> None:
    devices: defaultdict[tuple[int, str], list[Any]] = defaultdict(list)
    for one in happened:
        if one.event != Event.CONVERSION:
            devices[day_of(one.ts_ms), one.device_md5s[0]].append(one)
    store = DeltaStore(admin, space)
    for (day, md5), events in devices.items():
        wanted = pack_delta(fold(day, KEYS.person_key(None, md5), events))
        assert store.find(KEYS.device_key(md5), [day]) == [wanted]


async def send(log: EventLog, kit: Kit, happened: Sequence[Happening]) -> None:
    """Send as a careful sender does: again until it is acknowledged, and some of it twice."""
    for at in range(0, len(happened), 50):
        batch = [kit.draft(one) for one in happened[max(0, at - 10) : at + 50]]
        while True:
            try:
                await log.append(batch)
                break
            except StoreUnavailable:
                await asyncio.sleep(0.02)
        await asyncio.sleep(0.02)


async def done(log: EventLog) -> None:
    """Wait until both groups have done all."""
    for _ in range(1_500):
        try:
            if [await log.waiting_since_ms(name) for name in GROUPS] == [0, 0]:
                return
        except StoreUnavailable:
            pass
        await asyncio.sleep(0.02)
    pytest.fail("waited in vain")


async def test_processes_killed_again_and_again_lose_nothing_and_do_nothing_twice(
    parts: Parts, log_store_url: str, space: str, tmp_path: Path
) -> None:
    happened, chance, folder = a_day(parts, 1_500), random.Random(2), tmp_path / "archive"
    for name in GROUPS:
        await parts.log.open_group(name)
    pids = [start(log_store_url, space, folder, parts.event_key) for _ in range(2)]
    sending = asyncio.create_task(send(parts.log, parts, happened))

    for _ in range(6):
        await asyncio.sleep(chance.uniform(0.05, 0.4))
        kill(pids.pop(0))
        pids.append(start(log_store_url, space, folder, parts.event_key))
    await sending
    await done(parts.log)
    for pid in pids:
        kill(pid)

    assert Counter(archived(folder)) == Counter(one.event_id for one in happened)
    with admin_client(log_store_url) as admin:
        assert_deltas(admin, space, happened)
    assert await parts.poison.count() == 0


def restart(store: EmbeddedStore) -> None:
    while store.is_alive():
        time.sleep(0.001)
    store.start()


async def test_a_store_killed_under_the_groups_loses_nothing_and_doubles_nothing(
    own_store: EmbeddedStore, kit: Kit, tmp_path: Path
) -> None:
    happened, folder = a_day(kit, 1_500), tmp_path / "archive"
    client = watch_client(own_store.url, 5.0)
    durable = await make_durable_by(client, "touch", Durability(Mode.WRITTEN))
    log = EventLog(client, "ad", durable)
    for name in GROUPS:
        await log.open_group(name)
    pid = start(own_store.url, "ad", folder, kit.event_key)
    sending = asyncio.create_task(send(log, kit, happened))

    for _ in range(3):
        await asyncio.sleep(0.3)
        assert own_store._pid is not None
        os.kill(own_store._pid, signal.SIGKILL)
        await asyncio.to_thread(restart, own_store)
    await sending
    await done(log)
    kill(pid)

    assert Counter(archived(folder)) == Counter(one.event_id for one in happened)
    with admin_client(own_store.url) as admin:
        assert_deltas(admin, "ad", happened)
    await close(client)


class Noting:
    """Notes what it is given."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def handle(self, entries: Sequence[Taken], /) -> None:
        self.seen += [one.happening.event_id for one in entries]


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(1_500):
        if condition():
            return
        await asyncio.sleep(0.01)
    pytest.fail("waited in vain")


class Process:
    """A consuming process on one loop with another one."""

    def __init__(self, parts: Parts, space: str) -> None:
        self.handler = Noting()
        self.tenures: list[str] = []
        self.progress = {"fresh": Progress()}
        self.lease = Lease(parts.client, space, WORK, SystemClock(), LIFE_MS)
        self.fails = 0
        base = parts.source
        self.source = Source(base.log, base.poison, base.make_sealer, self.lease.is_mine)

    @contextmanager
    def opened(self) -> Iterator[list[Group]]:
        if self.fails:
            self.fails -= 1
            raise StoreUnavailable("the disk is away")
        self.tenures.append("begun")
        try:
            yield [Group("fresh", self.handler, RULES)]
        finally:
            self.tenures.append("ended")

    async def run(self) -> None:
        await consume(self.lease, self.opened, self.source, self.progress)


async def test_the_next_process_goes_on_when_the_first_ends(parts: Parts, space: str) -> None:
    first, second = Process(parts, space), Process(parts, space)
    running = asyncio.create_task(first.run())
    await until(lambda: first.tenures == ["begun"])
    waiting = asyncio.create_task(second.run())
    await parts.send([parts.happening(number, NOW_MS) for number in range(5)])
    await until(lambda: len(first.handler.seen) == 5)
    assert second.tenures == []

    running.cancel()
    await asyncio.wait([running])
    await parts.send([parts.happening(number, NOW_MS) for number in range(5, 9)])
    await until(lambda: len(second.handler.seen) == 4)
    waiting.cancel()
    await asyncio.wait([waiting])

    assert first.tenures == second.tenures == ["begun", "ended"]
    assert first.handler.seen + second.handler.seen == [f"e{number}" for number in range(9)]


async def test_what_cannot_be_opened_is_tried_again(parts: Parts, space: str) -> None:
    process = Process(parts, space)
    process.fails = 1
    await parts.send([parts.happening(1, NOW_MS)])

    running = asyncio.create_task(process.run())
    await until(lambda: process.progress["fresh"].trouble == "the disk is away")
    await until(lambda: process.handler.seen == ["e1"])
    await until(lambda: process.progress["fresh"].trouble == "")
    running.cancel()
    await asyncio.wait([running])

    assert process.tenures == ["begun", "ended"]


async def test_a_lost_lease_ends_the_tenure_until_it_is_got_again(parts: Parts, space: str) -> None:
    process = Process(parts, space)
    running = asyncio.create_task(process.run())
    await until(lambda: process.tenures == ["begun"])

    [name] = await parts.client.keys(f"*{space}*lease*")
    await parts.client.set(name, "somebody else", px=400)
    await until(lambda: process.tenures == ["begun", "ended"])
    await until(lambda: process.tenures == ["begun", "ended", "begun"])
    running.cancel()
    await asyncio.wait([running])


async def test_a_bug_ends_the_process_and_frees_the_work(parts: Parts, space: str) -> None:
    process, next_one = Process(parts, space), Process(parts, space)

    def broken() -> Sealer:
        raise TypeError("a bug")

    process.source = Source(parts.log, parts.poison, broken, process.lease.is_mine)

    with pytest.raises(TypeError, match="a bug"):
        await process.run()

    assert process.tenures == ["begun", "ended"]
    assert await next_one.lease.take()


async def test_it_goes_on_when_the_store_was_away(
    own_store: EmbeddedStore, parts: Parts, caplog: pytest.LogCaptureFixture
) -> None:
    client = watch_client(own_store.url, 1.0)
    lease = Lease(client, "ad", WORK, SystemClock(), LIFE_MS)
    own_store.stop()
    running = asyncio.create_task(consume(lease, Process(parts, "ad").opened, parts.source, {}))

    await until(lambda: "the lease to consume was not renewed" in caplog.text)
    assert not lease.is_mine()
    running.cancel()
    await asyncio.wait([running])
    await close(client)
