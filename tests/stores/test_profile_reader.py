import asyncio
import os
import random
import signal
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import pytest
from redis.asyncio import Redis

from rta_service.domain.errors import SnapshotMissing, StoreUnavailable
from rta_service.domain.release import SnapshotManifest
from rta_service.snapshot_folder import read_arrays, read_manifest
from rta_service.stores.embedded import EmbeddedStore
from rta_service.stores.keys import SENTINEL, bucket_name, bucket_prefix
from rta_service.stores.profile_reader import RedisProfileReader
from rta_service.stores.redis import (
    AdminClient,
    AsyncClient,
    HotProfile,
    admin_client,
    close,
    hot_client,
)
from rta_service.stores.snapshots import load_snapshot

SnapshotMaker = Callable[..., Path]

PATIENT = HotProfile(timeout_s=5.0, connect_timeout_s=5.0, max_connections=4)
TIGHT = HotProfile(timeout_s=0.1, connect_timeout_s=0.1, max_connections=4)


@pytest.fixture
async def client(store_url: str, request: pytest.FixtureRequest) -> AsyncIterator[AsyncClient]:
    client = hot_client(store_url, getattr(request, "param", PATIENT))
    yield client
    await close(client)


@pytest.fixture
async def own_client(own_store: EmbeddedStore) -> AsyncIterator[AsyncClient]:
    client = hot_client(own_store.url, TIGHT)
    yield client
    await close(client)


def loaded(
    url: str, namespace: str, folder: Path
) -> tuple[SnapshotManifest, dict[bytes, bytes | None]]:
    """A loaded snapshot and what each of its devices, and two strangers, should read as."""
    with admin_client(url) as admin:
        manifest = load_snapshot(admin, namespace, folder)
    keys, records = read_arrays(folder, manifest)
    known: dict[bytes, bytes | None] = {
        key.tobytes(): record.tobytes() for key, record in zip(keys, records, strict=True)
    }
    return manifest, known | {b"stranger": None, bytes(8): None}


async def fails(reader: RedisProfileReader, manifest: SnapshotManifest) -> float:
    """Read, expect the store to be unavailable, and give how long it took, in seconds."""
    start_s = time.monotonic()
    with pytest.raises(StoreUnavailable):
        await reader.read(manifest, [bytes(8)])
    return time.monotonic() - start_s


async def test_a_batch_reads_each_key_in_order_and_none_for_strangers(
    client: AsyncClient, store_url: str, namespace: str, a_snapshot: SnapshotMaker
) -> None:
    manifest, known = loaded(store_url, namespace, a_snapshot())
    reader = RedisProfileReader(client, namespace, 5.0)
    keys = random.Random(1).choices(list(known), k=500)

    assert await reader.read(manifest, keys) == [known[key] for key in keys]
    assert await reader.read(manifest, keys[:1]) == [known[keys[0]]]
    assert await reader.read(manifest, []) == []
    assert (reader.errors, reader.abandoned, reader.breaker_open) == (0, 0, False)


async def test_commands_written_as_bytes_read_what_the_client_s_own_pipeline_reads(
    client: AsyncClient, store_url: str, namespace: str, a_snapshot: SnapshotMaker
) -> None:
    manifest, known = loaded(store_url, namespace, a_snapshot())
    prefix = bucket_prefix(namespace, "s1")
    assert isinstance(client, Redis)
    pipeline = client.pipeline(transaction=False)
    for key in known:
        pipeline.hmget(bucket_name(prefix, key[0] >> 4).decode(), [key, SENTINEL])

    plain = [record for record, _ in await pipeline.execute()]

    reader = RedisProfileReader(client, namespace, 5.0)
    assert await reader.read(manifest, list(known)) == plain


async def test_one_reader_serves_two_snapshots_at_once(
    client: AsyncClient, store_url: str, namespace: str, a_snapshot: SnapshotMaker
) -> None:
    first, in_first = loaded(store_url, namespace, a_snapshot(100, "a", seed=1))
    second, in_second = loaded(store_url, namespace, a_snapshot(2_000, "b", seed=2))
    reader = RedisProfileReader(client, namespace, 5.0)

    both = [
        (manifest, known)
        for _ in range(5)
        for manifest, known in ((first, in_first), (second, in_second))
    ]
    found = await asyncio.gather(*(reader.read(m, list(known)) for m, known in both))

    assert found == [list(known.values()) for _, known in both]


async def test_a_lost_bucket_is_a_missing_snapshot_and_not_an_unknown_device(
    client: AsyncClient,
    admin: AdminClient,
    store_url: str,
    namespace: str,
    a_snapshot: SnapshotMaker,
) -> None:
    manifest, _ = loaded(store_url, namespace, a_snapshot())
    reader = RedisProfileReader(client, namespace, 5.0)
    assert await reader.read(manifest, [bytes(8)]) == [None]

    admin.delete(f"{namespace}:p1:s1:0")

    with pytest.raises(SnapshotMissing, match="snapshot s1"):
        await reader.read(manifest, [b"stranger", bytes(8)])
    assert await reader.read(manifest, [b"stranger"]) == [None]


async def test_an_expired_snapshot_is_missing_and_opens_no_breaker(
    client: AsyncClient, namespace: str, a_snapshot: SnapshotMaker
) -> None:
    manifest = read_manifest(a_snapshot())
    reader = RedisProfileReader(client, namespace, 5.0)

    for _ in range(10):
        with pytest.raises(SnapshotMissing):
            await reader.read(manifest, [bytes(8)])

    assert not reader.breaker_open


async def test_more_reads_than_connections_wait_for_their_turn(
    client: AsyncClient, store_url: str, namespace: str, a_snapshot: SnapshotMaker
) -> None:
    manifest, known = loaded(store_url, namespace, a_snapshot())
    reader = RedisProfileReader(client, namespace, 5.0)

    found = await asyncio.gather(*(reader.read(manifest, list(known)) for _ in range(50)))

    assert all(records == list(known.values()) for records in found)
    assert isinstance(client, Redis)
    assert len(client.connection_pool._available_connections) <= PATIENT.max_connections


async def test_a_hung_store_costs_the_time_out_then_nothing_and_is_read_again_when_it_wakes(
    own_store: EmbeddedStore, own_client: AsyncClient, a_snapshot: SnapshotMaker
) -> None:
    manifest, known = loaded(own_store.url, "ad", a_snapshot())
    reader = RedisProfileReader(own_client, "ad", 0.03)
    await reader.read(manifest, list(known))

    assert own_store._pid is not None
    os.kill(own_store._pid, signal.SIGSTOP)
    slow_s = [await fails(reader, manifest) for _ in range(5)]
    assert reader.breaker_open
    refused_s = await fails(reader, manifest)
    os.kill(own_store._pid, signal.SIGCONT)

    assert max(slow_s) < 0.03 + 0.04
    assert refused_s < 0.005
    assert reader.abandoned == 5
    assert await recovers(reader, manifest, known) < 1.5
    assert not reader.breaker_open


async def recovers(
    reader: RedisProfileReader, manifest: SnapshotManifest, known: dict[bytes, bytes | None]
) -> float:
    """Read until it works and give how long that took, in seconds; values must be right."""
    start_s = time.monotonic()
    while time.monotonic() < start_s + 10:
        try:
            assert await reader.read(manifest, list(known)) == list(known.values())
        except StoreUnavailable:
            await asyncio.sleep(0.02)
        else:
            break
    return time.monotonic() - start_s


async def test_a_killed_store_is_told_at_once_and_read_again_when_it_is_back_with_its_data(
    own_store: EmbeddedStore, own_client: AsyncClient, a_snapshot: SnapshotMaker
) -> None:
    manifest, known = loaded(own_store.url, "ad", a_snapshot())
    reader = RedisProfileReader(own_client, "ad", 0.1)
    await reader.read(manifest, list(known))
    await asyncio.sleep(1.1)  # appendfsync everysec

    assert own_store._pid is not None
    os.kill(own_store._pid, signal.SIGKILL)
    failed_s = [await fails(reader, manifest) for _ in range(6)]
    await asyncio.to_thread(own_store.start)

    assert max(failed_s) < 0.1
    assert reader.breaker_open
    assert await recovers(reader, manifest, known) < 1.5


async def test_an_error_reply_never_leaves_another_s_reply_behind(
    client: AsyncClient,
    admin: AdminClient,
    store_url: str,
    namespace: str,
    a_snapshot: SnapshotMaker,
) -> None:
    manifest, known = loaded(store_url, namespace, a_snapshot())
    reader = RedisProfileReader(client, namespace, 5.0)
    admin.delete(f"{namespace}:p1:s1:0")
    admin.set(f"{namespace}:p1:s1:0", "not a hash")
    rest = [key for key in known if key[0] >> 4]

    with pytest.raises(StoreUnavailable, match="WRONGTYPE"):
        await reader.read(manifest, [bytes(8), *rest])

    assert await reader.read(manifest, rest) == [known[key] for key in rest]
    assert isinstance(client, Redis)
    assert not client.connection_pool._in_use_connections


@pytest.mark.parametrize(
    "client", [PATIENT, HotProfile(0.002, 0.002, max_connections=4)], indirect=True
)
async def test_abandoned_reads_never_give_one_device_s_record_to_another(
    client: AsyncClient,
    admin: AdminClient,
    store_url: str,
    namespace: str,
    a_snapshot: SnapshotMaker,
) -> None:
    manifest, known = loaded(store_url, namespace, a_snapshot(2_000))
    chance = random.Random(1)
    reader = RedisProfileReader(client, namespace, 5.0)

    async def one(keys: Sequence[bytes]) -> int:
        reader._breaker.succeeded()  # keep asking: the crossing of replies is the question
        reader._timeout_s = chance.choice((0.0005, 0.001, 0.003, 0.01, 1.0))
        try:
            found = await reader.read(manifest, keys)
        except StoreUnavailable:
            return 0
        assert found == [known[key] for key in keys]
        return 1

    answered = 0
    for round_ in range(60):
        if round_ % 3 == 0:
            admin.client_pause(chance.randint(1, 4))
        batches = [chance.choices(list(known), k=chance.randint(1, 9)) for _ in range(30)]
        answered += sum(await asyncio.gather(*map(one, batches)))
    await reader.aclose()

    assert answered > 300
    assert reader.abandoned > 100
    assert isinstance(client, Redis)
    assert not client.connection_pool._in_use_connections


async def test_a_cancelled_caller_leaves_its_read_to_end_by_itself(
    client: AsyncClient, store_url: str, namespace: str, a_snapshot: SnapshotMaker
) -> None:
    manifest, known = loaded(store_url, namespace, a_snapshot())
    reader = RedisProfileReader(client, namespace, 5.0)
    caller = asyncio.ensure_future(reader.read(manifest, list(known)))
    await asyncio.sleep(0)
    caller.cancel()

    with pytest.raises(asyncio.CancelledError):
        await caller
    await reader.aclose()

    assert await reader.read(manifest, list(known)) == list(known.values())
