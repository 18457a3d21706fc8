"""Writing the deltas of the newest days, so that each event counts once whoever dies when.

Entries of the event stream come in its order. Every bucket keeps the id of the last entry in it,
written in one step with the deltas: what comes again after a crash is older and is skipped, and a
writer that slept while another wrote finds another id than it read, and changes nothing. The order
is the caller's duty: after a restart first what was read and never acknowledged, then the rest.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from itertools import chain
from typing import Any, Final, NamedTuple

import hiredis
from redis import RedisCluster

from rta_service.device_key import KeyRing, bucket_of
from rta_service.domain.errors import StaleWriter
from rta_service.domain.happening import Happening
from rta_service.domain.thresholds import DAY_S
from rta_service.record_delta import FOLDED, Happened, day_of, fold, merge, pack_delta, unpack_delta
from rta_service.stores.keys import DELTA_BUCKET_BITS, SENTINEL, bucket_name, delta_prefix
from rta_service.stores.redis import AdminClient, store_errors

KEPT_DAYS: Final = 8
"""A day's deltas are read while a snapshot from before that day may be live: a bucket of one lives
for 3 days. The rest is for builds that don't come."""

_COMPARE_AND_SET: Final = """
local written, at = {}, 2
for i = 1, #KEYS do
  local last = at + 2 + tonumber(ARGV[at + 2])
  written[i] = 0
  if (redis.call('HGET', KEYS[i], ARGV[1]) or '') == ARGV[at] then
    redis.call('HSET', KEYS[i], unpack(ARGV, at + 3, last))
    if ARGV[at] == '' then
      redis.call('EXPIREAT', KEYS[i], ARGV[at + 1])
    end
    written[i] = 1
  end
  at = last + 1
end
return written
"""
_FEW: Final = 400
"""Buckets up to which a call is of a writer that keeps up, and gives way to decisions."""


class _Pieces(NamedTuple):
    """What goes to the store in one go: it is done before anybody else is answered."""

    buckets_a_script: int
    """In a cluster every bucket has its own place, and its own script."""
    reads: int


_SMALL: Final = _Pieces(16, 32)
_LARGE: Final = _Pieces(64, 128)
"""An eighth cheaper a delta: for a writer that is behind."""

_prefix: Final = lru_cache(64)(delta_prefix)

Place = tuple[int, int]
"""A day, counted from 1970, and the bucket of a device key."""


class Entry(NamedTuple):
    """An event of the stream under one device key; an event of several ids has several entries."""

    stream_id: bytes
    """As the stream gives it: `<milliseconds>-<number>`."""
    key: bytes
    person_key: int
    """KeyRing.person_key(None, md5): whom a stranger's experiments go by."""
    happened: Happened


def entries_of(stream_id: bytes, happening: Happening, keys: KeyRing) -> list[Entry]:
    """Give an event's entries, one under each of its ids: platforms may send any of them."""
    return [
        Entry(stream_id, keys.device_key(md5), keys.person_key(None, md5), happening)
        for md5 in dict.fromkeys(happening.device_md5s)
    ]


class Applied(NamedTuple):
    """What became of a call's entries."""

    deltas: int
    """Written: one per device and day."""
    entries: int
    """Counted in them."""
    replayed: int
    """Skipped, because they had been counted before."""


def stream_order(stream_id: bytes) -> tuple[int, int]:
    """Give a stream id as numbers, which compare as the stream orders them; b"" comes first."""
    time_ms, _, number = stream_id.partition(b"-")
    return int(time_ms or 0), int(number or 0)


def days_between(as_of_s: int, now_s: int, kept_days: int = KEPT_DAYS) -> range:
    """Give the UTC days, counted from 1970, whose deltas a record as of an instant may lack.

    Today is always among them.
    """
    today = now_s // DAY_S
    # of a snapshot as of tomorrow too: it was built today, and what came since is only here. What
    # came before may count twice then, but nobody's opt-out is passed over
    first = min(as_of_s // DAY_S, today)
    return range(max(first, today - kept_days), today + 1)


class DeltaStore:
    """Reads and writes deltas. A day's are forgotten `kept_days` after its end. Blocks."""

    def __init__(self, client: AdminClient, namespace: str, kept_days: int = KEPT_DAYS) -> None:
        self._client = client
        self._namespace = namespace
        self._kept_days = kept_days

    def apply(self, entries: Sequence[Entry]) -> Applied:
        """Count entries, in a few round trips; all entries of one event belong into one call.

        Words that leave no mark on records are passed over.

        Raises StaleWriter or StoreUnavailable when some or all may not have been written: give
        the same entries again before any later ones, and none is lost or counted twice.
        """
        places: defaultdict[Place, list[Entry]] = defaultdict(list)
        for entry in entries:
            if entry.happened.event in FOLDED:
                places[_place(entry)].append(entry)
        with store_errors("reading deltas"):
            found = self._read(places)
        changes = [
            _change(place, fresh, *stored)
            for (place, of_bucket), stored in zip(places.items(), found, strict=True)
            if (fresh := _after(stored[0], of_bucket))
        ]
        with store_errors("writing deltas"):
            written = self._write(changes)
        refused = written.count(0)
        if refused:
            raise StaleWriter(
                f"another writer changed {refused} of {len(changes)} buckets of deltas meanwhile;"
                " if this one still holds the lease, let it give the same entries again"
            )
        counted = sum(change.entries for change in changes)
        deltas = sum(len(change.deltas) for change in changes)
        return Applied(deltas, counted, sum(map(len, places.values())) - counted)

    def find(self, key: bytes, days: Iterable[int]) -> list[bytes]:
        """Give the deltas of a device on some days, those that exist."""
        bucket = bucket_of(key, DELTA_BUCKET_BITS)
        with store_errors("reading deltas"):
            pipeline = self._client.pipeline(transaction=False)
            for day in days:
                pipeline.execute_command("HGET", self._name((day, bucket)), key)
            found: list[bytes | None] = pipeline.execute()
        return [delta for delta in found if delta is not None]

    def _read(
        self, places: Mapping[Place, Sequence[Entry]]
    ) -> list[tuple[bytes, dict[bytes, bytes]]]:
        """Give each bucket's last id, b"" for none, and the deltas of the entries' keys."""
        keys = [list(dict.fromkeys(entry.key for entry in found)) for found in places.values()]
        commands = [
            ("HMGET", self._name(place), SENTINEL, *wanted)
            for place, wanted in zip(places, keys, strict=True)
        ]
        pieces = _SMALL if len(places) <= _FEW else _LARGE
        replies: list[list[bytes | None]] = self._run(commands, pieces.reads)
        return [
            (reply[0] or b"", {k: v for k, v in zip(wanted, reply[1:], strict=True) if v})
            for wanted, reply in zip(keys, replies, strict=True)
        ]

    def _write(self, changes: Sequence["_Change"]) -> list[int]:
        """Say of each change whether it was written, 1, or refused, 0."""
        pieces = _SMALL if len(changes) <= _FEW else _LARGE
        size = 1 if isinstance(self._client, RedisCluster) else pieces.buckets_a_script
        commands = []
        for at in range(0, len(changes), size):
            part = changes[at : at + size]
            words = [word for change in part for word in self._words(change)]
            names = [self._name(change.place) for change in part]
            commands.append(("EVAL", _COMPARE_AND_SET, len(names), *names, SENTINEL, *words))
        return [one for written in self._run(commands, 1) for one in written]

    def _run(self, commands: Sequence[tuple[Any, ...]], at_once: int) -> list[Any]:
        """Give the replies of commands, of which so many go out at once to a single server."""
        if isinstance(self._client, RedisCluster):
            pipeline: Any = self._client.pipeline(transaction=False)  # type: ignore[no-untyped-call]  # without annotations on clusters
            for command in commands:
                pipeline.execute_command(*command)
            replies: list[Any] = pipeline.execute()
            return replies
        pool, steps = self._client.connection_pool, range(0, len(commands), at_once)
        parts = (_through_connection(pool, commands[at : at + at_once]) for at in steps)
        return list(chain.from_iterable(parts))

    def _words(self, change: "_Change") -> list[bytes | int]:
        until_s = (change.place[0] + 1 + self._kept_days) * DAY_S
        fields = [SENTINEL, change.newest_id, *chain.from_iterable(change.deltas.items())]
        return [change.last_id, until_s, len(fields), *fields]

    def _name(self, place: Place) -> bytes:
        return bucket_name(_prefix(self._namespace, place[0]), place[1])


def _through_connection(pool: Any, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
    """Send everything in one piece: the client's own pipeline sends 6,000 bytes at a time, and the
    rest of it costs as much again."""
    connection = pool.get_connection()
    try:
        packed = b"".join([hiredis.pack_command(command) for command in commands])
        connection.send_packed_command([packed], check_health=False)
        return [connection.read_response() for _ in commands]
    except BaseException:
        connection.disconnect()
        raise
    finally:
        pool.release(connection)


class _Change(NamedTuple):
    """What a call does to one bucket."""

    place: Place
    entries: int
    last_id: bytes
    """What the bucket's sentinel said when it was read."""
    newest_id: bytes
    """What it will say."""
    deltas: dict[bytes, bytes]
    """Each touched device's delta, old and new merged."""


def _after(last_id: bytes, entries: list[Entry]) -> list[Entry]:
    """Give the entries that a bucket does not have yet."""
    if not last_id:
        return entries
    last = stream_order(last_id)
    return [entry for entry in entries if stream_order(entry.stream_id) > last]


def _change(
    place: Place, fresh: list[Entry], last_id: bytes, stored: Mapping[bytes, bytes]
) -> _Change:
    newest = max((entry.stream_id for entry in fresh), key=stream_order)
    devices: defaultdict[bytes, list[Entry]] = defaultdict(list)
    for entry in fresh:
        devices[entry.key].append(entry)
    deltas = {}
    for key, of_device in devices.items():
        happened = [entry.happened for entry in of_device]
        delta, before = fold(place[0], of_device[0].person_key, happened), stored.get(key)
        deltas[key] = pack_delta(delta if before is None else merge(unpack_delta(before), delta))
    return _Change(place, len(fresh), last_id, newest, deltas)


def _place(entry: Entry) -> Place:
    return day_of(entry.happened.ts_ms), bucket_of(entry.key, DELTA_BUCKET_BITS)
