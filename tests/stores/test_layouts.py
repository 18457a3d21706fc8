"""Cluster and Sentinel: the same store through other clients."""

import asyncio
import random
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
import redis

from rta_service.domain.audit import AuditEntry
from rta_service.domain.control import Aim, Block, Mode, Targets
from rta_service.domain.control_feed import FeedBatch
from rta_service.domain.control_order import ControlSettings, Order, UnitView, Usage
from rta_service.domain.errors import SnapshotMissing, StoreUnavailable
from rta_service.domain.release import Release
from rta_service.snapshot_folder import read_arrays
from rta_service.stores.control_feed import ControlFeed
from rta_service.stores.control_store import ControlStore, Money, Saved, WorkerControl
from rta_service.stores.profile_reader import RedisProfileReader, _Batch
from rta_service.stores.redis import (
    HotProfile,
    admin_client,
    close,
    hot_client,
    parse_url,
    watch_client,
)
from rta_service.stores.release_reader import AsyncReleaseReader
from rta_service.stores.releases import ReleaseStore
from rta_service.stores.snapshots import find_record, load_snapshot, sample_records

SnapshotMaker = Callable[..., Path]

AIMED = ControlSettings(Aim(Mode.TCPA, Targets(deep_micros=1_000_000)))
DEED = AuditEntry(1, "cli:ann", "publish", "a release")
PROFILE = HotProfile(timeout_s=0.5, connect_timeout_s=0.5, max_connections=4)


@pytest.fixture(params=["cluster_url", "sentinel_url"])
def url(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue(request.param))


async def test_a_snapshot_is_loaded_read_and_sampled(
    url: str, namespace: str, a_snapshot: SnapshotMaker
) -> None:
    folder = a_snapshot(3_000)
    admin = admin_client(url)
    manifest = load_snapshot(admin, namespace, folder)
    load_snapshot(admin, namespace, folder)
    keys, records = read_arrays(folder, manifest)
    known = {key.tobytes(): row.tobytes() for key, row in zip(keys, records, strict=True)}
    client = hot_client(url, PROFILE)
    reader = RedisProfileReader(client, namespace, 2.0)

    batches = [random.Random(seed).choices(list(known), k=60) for seed in range(10)]
    found = await asyncio.gather(*(reader.read(manifest, batch) for batch in batches))

    assert found == [[known[key] for key in batch] for batch in batches]
    assert await reader.read(manifest, [b"stranger"]) == [None]
    assert len(sample_records(admin, namespace, manifest, 10_000)) == 3_000
    assert find_record(admin, namespace, manifest, keys[7].tobytes()) == known[keys[7].tobytes()]
    admin.delete(f"{namespace}:p1:s1:0")
    with pytest.raises(SnapshotMissing):
        await reader.read(manifest, [bytes(8)])
    admin.close()
    await close(client)


async def test_releases_are_published_rolled_back_and_followed(
    url: str, namespace: str, a_snapshot: SnapshotMaker
) -> None:
    admin = admin_client(url)
    load_snapshot(admin, namespace, a_snapshot(10))
    store = ReleaseStore(admin, namespace)
    strategies = store.put_strategies("")
    store.publish(Release("r1", "s1", (), strategies, 1), DEED)
    store.publish(Release("r2", "s1", (), strategies, 2, previous_id="r1"), DEED)

    back = store.rollback(msgspec.structs.replace(DEED, at_ms=3))

    client = watch_client(url)
    assert await AsyncReleaseReader(client, namespace).pointers() == (back.release_id, "")
    assert [release.release_id for release in store.history(9)] == [back.release_id, "r2", "r1"]
    admin.close()
    await close(client)


async def test_a_read_of_a_cluster_that_is_gone_is_an_unavailable_store() -> None:
    client = hot_client("redis+cluster://127.0.0.1:1", PROFILE)
    reader = RedisProfileReader(client, "ad", 0.5)

    with pytest.raises(StoreUnavailable):
        await reader._translated(
            _Batch([b"name"], [bytes(8)], [], []), asyncio.get_running_loop().time() + 1
        )
    await close(client)


def _fail_over(sentinel_url: str) -> None:
    with redis.Redis(port=parse_url(sentinel_url).hosts[0][1]) as sentinel:
        old = sentinel.sentinel_get_master_addr_by_name("main")
        sentinel.sentinel_failover("main")
        while sentinel.sentinel_get_master_addr_by_name("main") == old:
            time.sleep(0.05)


async def test_reads_go_on_after_sentinel_made_another_server_the_primary(
    sentinel_url: str, namespace: str, a_snapshot: SnapshotMaker
) -> None:
    folder = a_snapshot(100)
    admin = admin_client(sentinel_url)
    manifest = load_snapshot(admin, namespace, folder)
    keys = [key.tobytes() for key in read_arrays(folder, manifest)[0]]
    admin.wait(1, 1_000)
    client = hot_client(sentinel_url, PROFILE)
    reader = RedisProfileReader(client, namespace, 1.0)
    before = await reader.read(manifest, keys)

    await asyncio.to_thread(_fail_over, sentinel_url)

    after: list[bytes | None] = []
    while not after:
        try:
            after = await reader.read(manifest, keys)
        except StoreUnavailable:
            await asyncio.sleep(0.05)
    assert after == before
    admin.close()
    await close(client)


async def test_cost_control_saves_and_exchanges_in_every_layout(url: str, namespace: str) -> None:
    client, hot = admin_client(url), watch_client(url)
    store, feed = ControlStore(client, namespace), ControlFeed(client, namespace)
    order = Order(Block("s@json", 1, 1, 1_000, Mode.TCPA, ()), AIMED)
    saved = Saved("s@json", 1, b"state", b"step", order, UnitView(1, 1, ()), Money(1, 900, 0, 1))

    assert feed.publish([FeedBatch(7, 0, 1, b"\x80"), FeedBatch(8, 7, 2, b"\x80")]) == 2
    store.save(0, store.take(0, "one"), [saved], 8)
    feed.trim(feed.slowest())
    got = await WorkerControl(hot, namespace, "w1").exchange(
        [Usage("s@json", 3)], {"s@json": 100, "other@json": 5}
    )

    assert feed.ends() == (0, 8, 0)
    assert 0 <= feed.now_ms() - got.now_ms < 5_000
    assert store.states() == {"s@json": b"state"}
    assert got.orders == store.orders() == {"s@json": order}
    assert [(grant.unit_id, grant.micros) for grant in got.grants] == [("s@json", 100)]
    assert store.usage_totals(["s@json"])["s@json"].answered == 3
    store.give_back(0, "one")
    client.close()
    await close(hot)
