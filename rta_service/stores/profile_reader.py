"""Reading the records of a whole batch from a Redis-protocol store in one round trip.

No caller cancels a read: cancelling is how clients came to hand one user's reply to another. A
read that is too late is abandoned by its caller and ends by itself in a task of its own: with
its replies, so that a slow store costs no reconnect, or at the client's socket time-out. A
connection goes back to the pool open only when all its replies have been read.

Where it is told which days are fresh, it asks for their deltas in the same round trip and gives
merged records: two more commands a key on most days, and nothing where it is not told.
"""

import asyncio
import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, Final, NamedTuple, Protocol, cast

import redis
from redis.asyncio import RedisCluster

from rta_service.device_key import KEY_BYTES, bucket_of
from rta_service.domain.errors import RTAError, SnapshotMissing, StoreUnavailable
from rta_service.domain.release import SnapshotManifest
from rta_service.record_delta import apply_deltas
from rta_service.stores.breaker import Breaker
from rta_service.stores.keys import (
    DELTA_BUCKET_BITS,
    SENTINEL,
    bucket_name,
    bucket_prefix,
    delta_prefix,
)
from rta_service.stores.redis import STORE_ERRORS, AsyncClient

FreshDays = Callable[[SnapshotManifest], Sequence[int]]
"""The UTC days, counted from 1970, whose deltas are newer than a snapshot: `days_between`."""

Replies = list[Any]
"""For each key its record, or None, and the bucket's sentinel, or None; then, key after key, each
day's delta, or None."""


class _Batch(NamedTuple):
    """What one round trip asks for."""

    names: list[bytes]
    """Each key's bucket."""
    keys: Sequence[bytes]
    delta_names: list[bytes]
    """Each key's buckets of deltas, key after key, day after day."""
    delta_keys: list[bytes]


_HMGET: Final = b"*4\r\n$5\r\nHMGET\r\n$%%d\r\n%%b\r\n$%d\r\n%%b\r\n$%d\r\n%b\r\n" % (
    KEY_BYTES,
    len(SENTINEL),
    SENTINEL,
)
"""One command as bytes: writing them ourselves takes a quarter of the client's own time."""

_HGET: Final = b"*3\r\n$4\r\nHGET\r\n$%%d\r\n%%b\r\n$%d\r\n%%b\r\n" % KEY_BYTES

_delta_prefix: Final = lru_cache(64)(delta_prefix)

_REFRESH_S: Final = 1.0
"""A cluster's topology is asked for at most this often while it fails."""


class _Connection(Protocol):
    """What we use of redis-py's connection, which carries no annotations."""

    socket_timeout: float | None

    async def send_packed_command(self, command: bytes, *, check_health: bool) -> None: ...
    async def read_response(self, *, timeout: float | None) -> Any: ...  # noqa: ASYNC109 - redis-py's signature
    async def disconnect(self, *, nowait: bool) -> None: ...


class _Pool(Protocol):
    async def get_connection(self) -> _Connection: ...
    async def release(self, connection: _Connection) -> None: ...


class RedisProfileReader:
    """Reads records by key; `timeout_s` bounds a whole batch, waiting for a connection included.

    Public counts, for metrics: `errors` (failed reads, those the breaker refused included),
    `abandoned` (reads given up because they were late), `fresh` (records that deltas changed or
    made) and `unreadable` (records or deltas that don't merge: the record is given as it is).
    """

    def __init__(
        self,
        client: AsyncClient,
        namespace: str,
        timeout_s: float,
        fresh_days: FreshDays | None = None,
    ) -> None:
        self.errors = 0
        self.abandoned = 0
        self.fresh = 0
        self.unreadable = 0
        self._fresh_days = fresh_days
        self._client = client
        self._namespace = namespace
        self._timeout_s = timeout_s
        self._breaker = Breaker()
        self._slots = asyncio.Semaphore(_pool_size(client))
        self._running: set[asyncio.Task[Replies]] = set()
        self._prefix = ("", b"")
        self._refresh_at_s = 0.0

    @property
    def breaker_open(self) -> bool:
        """Whether reads are refused without asking the store."""
        return self._breaker.is_open

    async def read(self, snapshot: SnapshotManifest, keys: Sequence[bytes]) -> list[bytes | None]:
        """Give each key's record, or None for an unknown device, in the order of the keys.

        Raises StoreUnavailable within the time-out, SnapshotMissing when a bucket is gone.
        """
        if not keys:
            return []
        days = () if self._fresh_days is None else self._fresh_days(snapshot)
        replies = await self._guarded(self._batch(snapshot, keys, days))
        rows = replies[: len(keys)]
        if any(sentinel is None for _, sentinel in rows):
            raise SnapshotMissing(
                f"snapshot {snapshot.snapshot_id} is not, or only partly, in the store"
            )
        records = [record for record, _ in rows]
        return self._merged(records, replies[len(keys) :]) if days else records

    async def aclose(self) -> None:
        """Wait for abandoned reads to end; the client is its owner's to close."""
        if self._running:
            await asyncio.wait(self._running)

    def _batch(
        self, snapshot: SnapshotManifest, keys: Sequence[bytes], days: Sequence[int]
    ) -> _Batch:
        if self._prefix[0] != snapshot.snapshot_id:
            prefix = bucket_prefix(self._namespace, snapshot.snapshot_id)
            self._prefix = (snapshot.snapshot_id, prefix)
        prefix, bits = self._prefix[1], snapshot.bucket_bits
        names = [bucket_name(prefix, bucket_of(key, bits)) for key in keys]
        if not days:
            return _Batch(names, keys, [], [])
        prefixes = [_delta_prefix(self._namespace, day) for day in days]
        buckets = [bucket_of(key, DELTA_BUCKET_BITS) for key in keys]
        return _Batch(
            names,
            keys,
            [bucket_name(prefix, bucket) for bucket in buckets for prefix in prefixes],
            [key for key in keys for _ in days],
        )

    def _merged(
        self, records: list[bytes | None], deltas: list[bytes | None]
    ) -> list[bytes | None]:
        """Put each key's deltas on its record; a key without any keeps it, or None."""
        if not any(deltas):
            return records
        days = len(deltas) // len(records)
        merged = []
        for place, record in enumerate(records):
            found = [delta for delta in deltas[place * days : (place + 1) * days] if delta]
            merged.append(self._one_merged(record, found) if found else record)
        return merged

    def _one_merged(self, record: bytes | None, deltas: list[bytes]) -> bytes | None:
        try:
            fresh = apply_deltas(record, deltas)
        except ValueError:
            self.unreadable += 1
            return record
        self.fresh += 1
        return fresh

    async def _guarded(self, batch: _Batch) -> Replies:
        """Ask the breaker, read, and tell the breaker how it went, whatever happened."""
        now = asyncio.get_running_loop().time
        started_s = now()
        if not self._breaker.admits(started_s):
            self.errors += 1
            raise StoreUnavailable("the store has not been answering; asking again shortly")
        try:
            replies = await self._bounded(batch, now)
        except BaseException:
            self.errors += 1
            self._breaker.failed(now(), started_s)
            raise
        self._breaker.succeeded()
        return replies

    async def _bounded(self, batch: _Batch, now: Callable[[], float]) -> Replies:
        task = asyncio.create_task(self._translated(batch, now() + self._timeout_s))
        self._running.add(task)
        task.add_done_callback(self._ended)
        await asyncio.wait((task,), timeout=self._timeout_s)
        if not task.done():
            self.abandoned += 1
            raise StoreUnavailable(f"no answer within {self._timeout_s * 1000:.0f} ms")
        return task.result()

    def _ended(self, task: asyncio.Task[Replies]) -> None:
        self._running.discard(task)
        if not task.cancelled():
            task.exception()  # looked at, so that an abandoned read's failure is no warning

    async def _translated(self, batch: _Batch, give_up_at_s: float) -> Replies:
        async with self._slots:
            if asyncio.get_running_loop().time() >= give_up_at_s:
                raise StoreUnavailable("all connections were busy until the time was up")
            try:
                if isinstance(self._client, RedisCluster):
                    return await self._through_cluster(self._client, batch)
                return await _through_connection(cast(_Pool, self._client.connection_pool), batch)
            except RTAError:
                raise
            except STORE_ERRORS as error:
                raise StoreUnavailable(f"{type(error).__name__}: {error}") from error

    async def _through_cluster(self, client: RedisCluster, batch: _Batch) -> Replies:
        try:
            pipeline = client.pipeline(transaction=False)
            for name, key in zip(batch.names, batch.keys, strict=True):
                pipeline.execute_command("HMGET", name, key, SENTINEL)
            for name, key in zip(batch.delta_names, batch.delta_keys, strict=True):
                pipeline.execute_command("HGET", name, key)
            return await pipeline.execute()
        except STORE_ERRORS:
            # without retries the client would never learn of a failover by itself
            now_s = asyncio.get_running_loop().time()
            if now_s >= self._refresh_at_s:
                self._refresh_at_s = now_s + _REFRESH_S
                await client.aclose()
            raise


async def _through_connection(pool: _Pool, batch: _Batch) -> Replies:
    """Write all commands at once and read all replies on one connection."""
    commands = [
        _HMGET % (len(name), name, key) for name, key in zip(batch.names, batch.keys, strict=True)
    ]
    if batch.delta_names:
        commands += [
            _HGET % (len(name), name, key)
            for name, key in zip(batch.delta_names, batch.delta_keys, strict=True)
        ]
    packed = b"".join(commands)
    connection = await pool.get_connection()
    try:
        # one time-out around all replies: one for each would cost more than the reply itself
        async with asyncio.timeout(connection.socket_timeout):
            await connection.send_packed_command(packed, check_health=False)
            return [await connection.read_response(timeout=math.inf) for _ in commands]
    except BaseException:
        await connection.disconnect(nowait=True)
        raise
    finally:
        await pool.release(connection)


def _pool_size(client: AsyncClient) -> int:
    if isinstance(client, redis.asyncio.Redis):
        return int(client.connection_pool.max_connections)
    return int(client.connection_kwargs["max_connections"])
