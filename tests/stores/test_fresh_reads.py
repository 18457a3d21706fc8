"""Records come with what happened since their snapshot, in the same round trip."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest

from rta_service.device_key import KeyRing, bucket_of
from rta_service.domain.errors import SnapshotMissing
from rta_service.domain.events import Event
from rta_service.domain.happening import Happening
from rta_service.domain.release import SnapshotManifest
from rta_service.domain.thresholds import DAY_S
from rta_service.record import FLAG_NEWCOMER, unpack
from rta_service.record_delta import apply_deltas
from rta_service.snapshot_folder import read_arrays
from rta_service.stores.delta_store import DeltaStore, Entry, days_between, entries_of
from rta_service.stores.keys import DELTA_BUCKET_BITS, bucket_name, delta_prefix
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
AS_OF_DAY = 1_700_006_400 // DAY_S
KEPT_DAYS = 100_000
"""The snapshots of these tests are old."""


def entry(number: int, key: bytes, word: Event, days: int = 0) -> Entry:
    """An event so many days after the as-of instant, at the second of its number."""
    at_s = (AS_OF_DAY + days) * DAY_S + number
    happening = Happening(f"e{number}", at_s * 1000, word, cents=100)
    return Entry(b"1-%d" % number, key, 77, happening)


def three_days(snapshot: SnapshotManifest) -> range:
    return days_between(snapshot.as_of_s, (AS_OF_DAY + 2) * DAY_S, KEPT_DAYS)


class Loaded(NamedTuple):
    """A loaded snapshot with a writer of deltas and a reader of both."""

    manifest: SnapshotManifest
    known: dict[bytes, bytes]
    keys: list[bytes]
    deltas: DeltaStore
    reader: RedisProfileReader
    plain: RedisProfileReader


@pytest.fixture(params=["store_url", "cluster_url"])
def url(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue(request.param))


@pytest.fixture
async def client(store_url: str) -> AsyncIterator[AsyncClient]:
    client = hot_client(store_url, PATIENT)
    yield client
    await close(client)


@pytest.fixture
def loaded(
    client: AsyncClient, admin: AdminClient, namespace: str, a_snapshot: SnapshotMaker
) -> Loaded:
    return a_loaded(client, admin, namespace, a_snapshot())


def a_loaded(client: AsyncClient, admin: AdminClient, namespace: str, folder: Path) -> Loaded:
    manifest = load_snapshot(admin, namespace, folder)
    keys, records = read_arrays(folder, manifest)
    known = {key.tobytes(): row.tobytes() for key, row in zip(keys, records, strict=True)}
    return Loaded(
        manifest,
        known,
        list(known),
        DeltaStore(admin, namespace, KEPT_DAYS),
        RedisProfileReader(client, namespace, 5.0, three_days),
        RedisProfileReader(client, namespace, 5.0),
    )


async def test_a_record_comes_with_its_deltas_and_others_come_as_they_are(loaded: Loaded) -> None:
    one, other, stranger = loaded.keys[0], loaded.keys[1], b"stranger"
    loaded.deltas.apply([entry(1, one, Event.REGISTER), entry(2, one, Event.PAY, days=2)])

    found = await loaded.reader.read(loaded.manifest, [one, other, stranger, one])

    deltas = loaded.deltas.find(one, range(AS_OF_DAY, AS_OF_DAY + 3))
    fresh = apply_deltas(loaded.known[one], deltas)
    assert len(deltas) == 2
    assert found == [fresh, loaded.known[other], None, fresh]
    assert unpack(fresh).registered_at == AS_OF_DAY * DAY_S + 1
    assert (loaded.reader.fresh, loaded.reader.unreadable) == (2, 0)


async def test_without_fresh_days_records_are_the_snapshot_s(loaded: Loaded) -> None:
    loaded.deltas.apply([entry(n, key, Event.PAY) for n, key in enumerate(loaded.keys, 1)])

    assert await loaded.plain.read(loaded.manifest, loaded.keys) == list(loaded.known.values())


async def test_a_device_that_only_deltas_know_is_a_newcomer(loaded: Loaded) -> None:
    loaded.deltas.apply([entry(1, b"newcomer", Event.REGISTER)])

    [data] = await loaded.reader.read(loaded.manifest, [b"newcomer"])

    assert data is not None
    newcomer = unpack(data)
    assert newcomer.flags & FLAG_NEWCOMER
    assert (newcomer.person_key, newcomer.registered_at) == (77, AS_OF_DAY * DAY_S + 1)


async def test_an_event_of_several_ids_is_read_under_each_of_them(loaded: Loaded) -> None:
    ring, md5s = KeyRing(b"pepper-of-16-bytes", b"experiment-of-16-b"), ("1" * 32, "2" * 32)
    happening = Happening("e1", AS_OF_DAY * DAY_S * 1000, Event.LAUNCH, (*md5s, md5s[0]))

    loaded.deltas.apply(entries_of(b"1-1", happening, ring))

    found = await loaded.reader.read(loaded.manifest, [ring.device_key(md5) for md5 in md5s])
    assert [data and unpack(data).launches for data in found] == [1, 1]
    assert [data and unpack(data).person_key for data in found] == [
        ring.person_key(None, md5) for md5 in md5s
    ]


async def test_deltas_from_before_the_snapshot_count_no_second_time(loaded: Loaded) -> None:
    key = loaded.keys[0]
    loaded.deltas.apply([entry(1, key, Event.LAUNCH, days=-1), entry(2, key, Event.LAUNCH)])

    [data] = await loaded.reader.read(loaded.manifest, [key])

    assert data is not None
    assert unpack(data).launches == 1


async def test_two_snapshots_read_at_once_have_the_deltas_of_their_own_days(
    loaded: Loaded, client: AsyncClient, admin: AdminClient, namespace: str
) -> None:
    key = loaded.keys[0]
    loaded.deltas.apply([entry(n, key, Event.LAUNCH, days=n) for n in range(3)])
    newer = msgspec.structs.replace(loaded.manifest, as_of_s=(AS_OF_DAY + 1) * DAY_S)

    old, new = await asyncio.gather(
        loaded.reader.read(loaded.manifest, [key]), loaded.reader.read(newer, [key])
    )

    assert old[0] is not None
    assert new[0] is not None
    assert (unpack(old[0]).launches, unpack(new[0]).launches) == (3, 2)


async def test_a_lost_bucket_is_a_missing_snapshot_whatever_deltas_say(
    loaded: Loaded, admin: AdminClient, namespace: str
) -> None:
    loaded.deltas.apply([entry(1, bytes(8), Event.REGISTER)])
    admin.delete(f"{namespace}:p1:s1:0")

    with pytest.raises(SnapshotMissing, match="snapshot s1"):
        await loaded.reader.read(loaded.manifest, [bytes(8)])


async def test_a_delta_that_cannot_be_read_costs_no_record(
    loaded: Loaded, admin: AdminClient, namespace: str
) -> None:
    key = loaded.keys[0]
    bucket = bucket_of(key, DELTA_BUCKET_BITS)
    name = bucket_name(delta_prefix(namespace, AS_OF_DAY), bucket)
    admin.hset(name.decode(), key, b"of another version")

    assert await loaded.reader.read(loaded.manifest, [key]) == [loaded.known[key]]
    assert loaded.reader.unreadable == 1


async def test_any_layout_reads_what_was_written_in_the_order_of_the_keys(
    url: str, namespace: str, a_snapshot: SnapshotMaker
) -> None:
    admin, client = admin_client(url), hot_client(url, PATIENT)
    loaded, chance = a_loaded(client, admin, namespace, a_snapshot(300)), random.Random(1)
    words = list(Event)
    for start in range(1, 400, 100):
        loaded.deltas.apply(
            [
                entry(n, chance.choice(loaded.keys), chance.choice(words), chance.randint(0, 2))
                for n in range(start, start + 100)
            ]
        )
    asked = chance.choices([*loaded.keys, b"stranger"], k=500)

    found = await loaded.reader.read(loaded.manifest, asked)

    days = range(AS_OF_DAY, AS_OF_DAY + 3)
    deltas = {key: loaded.deltas.find(key, days) for key in set(asked)}
    assert found == [
        apply_deltas(loaded.known[key], deltas[key]) if deltas[key] else loaded.known.get(key)
        for key in asked
    ]
    admin.close()
    await close(client)
