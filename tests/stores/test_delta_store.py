"""Each event counts once in its delta, whoever is killed, whoever writes twice."""

import itertools
import os
import random
import signal
import threading
import time
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings, strategies as st

from rta_service.device_key import bucket_of
from rta_service.domain.errors import StaleWriter, StoreUnavailable
from rta_service.domain.events import RECORDED, Event
from rta_service.domain.thresholds import DAY_S
from rta_service.record_delta import day_of, fold, pack_delta, unpack_delta
from rta_service.stores.delta_store import (
    KEPT_DAYS,
    Applied,
    DeltaStore,
    Entry,
    days_between,
    stream_order,
)
from rta_service.stores.embedded import EmbeddedStore
from rta_service.stores.keys import DELTA_BUCKET_BITS, bucket_name, delta_prefix
from rta_service.stores.redis import AdminClient, admin_client

TODAY = int(time.time()) // DAY_S  # noqa: TID251 - the store's own clock decides what expires
BATCH = 40
_COUNTER = itertools.count()


class Deed(msgspec.Struct, frozen=True):
    """An event as a delta sees it."""

    ts_ms: int
    event: str
    cents: int = 0
    order_id: str = ""


def entry(number: int, key: bytes = b"device-1", day: int = TODAY, **more: Any) -> Entry:
    """The event of a stream's place, in the second of that number; a launch unless told."""
    word = more.pop("event", Event.LAUNCH)
    happened = Deed((day * DAY_S + number % DAY_S) * 1000, word, **more)
    return Entry(b"1700000000000-%d" % number, key, 7, happened)


def a_stream(events: int, seed: int = 1) -> list[Entry]:
    """Events of few devices, so that buckets are written again and again; some have two keys."""
    chance = random.Random(seed)
    keys = [chance.randbytes(8) for _ in range(30)]
    entries: list[Entry] = []
    for number in range(1, events + 1):
        day, word = TODAY - chance.randint(0, 1), chance.choice(RECORDED)
        told = {"event": word, "cents": number, "order_id": "o1"}
        entries += [
            entry(number, key, day, **told) for key in chance.sample(keys, chance.randint(1, 2))
        ]
    return entries


def batches(entries: Sequence[Entry]) -> list[list[Entry]]:
    """Cut a stream into batches that keep each event's entries together."""
    by_id: defaultdict[bytes, list[Entry]] = defaultdict(list)
    for one in entries:
        by_id[one.stream_id].append(one)
    groups = list(by_id.values())
    starts = range(0, len(groups), BATCH)
    return [[one for group in groups[at : at + BATCH] for one in group] for at in starts]


def wanted_of(entries: Sequence[Entry]) -> dict[tuple[int, bytes], bytes]:
    """What all events leave when each is counted once."""
    of_device: defaultdict[tuple[int, bytes], list[Any]] = defaultdict(list)
    for one in entries:
        of_device[day_of(one.happened.ts_ms), one.key].append(one.happened)
    return {place: pack_delta(fold(place[0], 7, events)) for place, events in of_device.items()}


def assert_counted_once(store: DeltaStore, entries: Sequence[Entry]) -> None:
    wanted = wanted_of(entries)
    assert {place: store.find(place[1], [place[0]]) for place in wanted} == {
        place: [delta] for place, delta in wanted.items()
    }


def test_entries_become_one_delta_a_device_and_day(admin: AdminClient, namespace: str) -> None:
    store = DeltaStore(admin, namespace)
    stream = a_stream(300)

    done = store.apply(stream)

    assert done == Applied(len(wanted_of(stream)), len(stream), 0)
    assert_counted_once(store, stream)
    assert store.find(b"stranger", [TODAY, TODAY - 1]) == []


def test_entries_that_were_counted_are_skipped_and_later_ones_are_not(
    admin: AdminClient, namespace: str
) -> None:
    store = DeltaStore(admin, namespace)
    store.apply([entry(9), entry(10)])

    assert store.apply([entry(9), entry(10)]) == Applied(0, 0, 2)
    assert store.apply([entry(10), entry(11)]) == Applied(1, 1, 1)
    [delta] = store.find(b"device-1", [TODAY])
    assert unpack_delta(delta).counts[0] == 3


@settings(max_examples=8)
@given(restarts=st.lists(st.floats(0, 1), max_size=6))
def test_a_stream_that_is_given_again_from_any_earlier_place_counts_once(
    store_url: str, restarts: list[float]
) -> None:
    admin = admin_client(store_url)
    store, stream = DeltaStore(admin, f"again{next(_COUNTER)}"), a_stream(200)
    parts = batches(stream)

    done = 0
    for share in restarts:
        reached = round(share * len(parts))
        for part in parts[min(done, reached) : reached]:
            store.apply(part)
        done = max(0, reached - 2)
    for part in parts:
        store.apply(part)

    assert_counted_once(store, stream)
    admin.close()


class Sleeper(DeltaStore):
    """A writer that sleeps between reading and writing, while another one writes."""

    def __init__(self, client: AdminClient, namespace: str, other: list[Entry]) -> None:
        super().__init__(client, namespace)
        self._other = (DeltaStore(client, namespace), other)

    def _write(self, changes: Any) -> list[int]:
        self._other[0].apply(self._other[1])
        return super()._write(changes)


def test_a_writer_that_slept_while_another_wrote_is_refused_and_may_try_again(
    admin: AdminClient, namespace: str
) -> None:
    late = [entry(1), entry(2), entry(3, b"elsewhere")]

    with pytest.raises(StaleWriter, match="1 of 2 buckets"):
        Sleeper(admin, namespace, [entry(1)]).apply(late)
    store = DeltaStore(admin, namespace)
    store.apply(late)

    assert_counted_once(store, late)


def test_a_late_event_counts_on_its_own_day_and_a_forgotten_day_keeps_nothing(
    admin: AdminClient, namespace: str
) -> None:
    store = DeltaStore(admin, namespace)
    gone = TODAY - KEPT_DAYS - 1

    store.apply([entry(1), entry(2, day=TODAY - 2), entry(3, day=gone)])

    assert len(store.find(b"device-1", [TODAY, TODAY - 1, TODAY - 2, gone])) == 2
    bucket = bucket_of(b"device-1", DELTA_BUCKET_BITS)
    name = bucket_name(delta_prefix(namespace, TODAY), bucket)
    assert admin.expiretime(name.decode()) == (TODAY + 1 + KEPT_DAYS) * DAY_S
    assert admin.object("encoding", name.decode()) == b"listpack"


def test_words_that_change_no_record_are_passed_over(admin: AdminClient, namespace: str) -> None:
    store = DeltaStore(admin, namespace)

    assert store.apply([entry(1, event="cost")]) == Applied(0, 0, 0)
    assert store.apply([]) == Applied(0, 0, 0)
    assert store.find(b"device-1", [TODAY]) == []


@pytest.mark.parametrize(
    ("as_of_s", "days"),
    [
        (20_000 * DAY_S, [20_000, 20_001, 20_002]),
        (20_002 * DAY_S, [20_002]),
        (20_003 * DAY_S, [20_002]),
        (20_900 * DAY_S, [20_002]),
        (0, list(range(20_002 - KEPT_DAYS, 20_003))),
    ],
)
def test_the_days_that_a_snapshot_may_lack_go_from_its_as_of_to_today_and_always_hold_today(
    as_of_s: int, days: list[int]
) -> None:
    assert list(days_between(as_of_s, 20_002 * DAY_S + 5)) == days


def test_stream_ids_are_ordered_as_numbers() -> None:
    ids = [b"", b"9-9", b"10-2", b"10-10"]

    assert sorted([ids[2], ids[3], ids[0], ids[1]], key=stream_order) == ids


def write_all(url: str, namespace: str, parts: list[list[Entry]]) -> None:
    """Give a whole stream from its beginning, and each batch until it is taken."""
    client = admin_client(url, timeout_s=1.0)
    store = DeltaStore(client, namespace)
    for part in parts:
        while True:
            try:
                store.apply(part)
            except (StoreUnavailable, StaleWriter):
                time.sleep(0.02)
            else:
                break
    client.close()


def write_and_die(url: str, namespace: str, parts: list[list[Entry]], life_s: float) -> None:
    pid = os.fork()
    if pid == 0:
        try:
            write_all(url, namespace, parts)
        finally:
            os._exit(0)
    time.sleep(life_s)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def test_writers_killed_again_and_again_lose_no_entry_and_count_none_twice(
    store_url: str, admin: AdminClient, namespace: str
) -> None:
    stream, chance = a_stream(2_000), random.Random(1)
    parts = batches(stream)

    for _ in range(10):
        write_and_die(store_url, namespace, parts, chance.uniform(0.0, 0.15))
    write_all(store_url, namespace, parts)

    assert_counted_once(DeltaStore(admin, namespace), stream)


def test_a_store_killed_while_deltas_are_written_loses_none_and_counts_none_twice(
    own_store: EmbeddedStore,
) -> None:
    stream = a_stream(4_000)
    writer = threading.Thread(target=write_all, args=(own_store.url, "ad", batches(stream)))

    writer.start()
    for _ in range(3):
        time.sleep(0.1)
        assert own_store._pid is not None
        os.kill(own_store._pid, signal.SIGKILL)
        while own_store.is_alive():
            time.sleep(0.001)
        own_store.start()
    writer.join(60)

    assert not writer.is_alive()
    with admin_client(own_store.url) as admin:
        assert_counted_once(DeltaStore(admin, "ad"), stream)
