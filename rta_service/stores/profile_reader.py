"""Reading the records of a whole batch from a Redis-protocol store in one round trip.

No caller cancels a read: cancelling is how clients came to hand one user's reply to another. A
read that is too late is abandoned by its caller and ends by itself in a task of its own: with
its replies, so that a slow store costs no reconnect, or at the client's socket time-out. A
connection goes back to the pool open only when all its replies have been read.
"""

import asyncio
import math
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol, cast

import redis
from redis.asyncio import RedisCluster

from rta_service.device_key import KEY_BYTES, bucket_of
from rta_service.domain.errors import RTAError, SnapshotMissing, StoreUnavailable
from rta_service.domain.release import SnapshotManifest
from rta_service.stores.breaker import Breaker
from rta_service.stores.keys import SENTINEL, bucket_name, bucket_prefix
from rta_service.stores.redis import STORE_ERRORS, AsyncClient

Replies = list[list[bytes | None]]
"""For each key its record, or None, and the bucket's sentinel, or None."""

_HMGET: Final = b"*4\r\n$5\r\nHMGET\r\n$%%d\r\n%%b\r\n$%d\r\n%%b\r\n$%d\r\n%b\r\n" % (
    KEY_BYTES,
    len(SENTINEL),
    SENTINEL,
)
"""One command as bytes: writing them ourselves takes a quarter of the client's own time."""

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

    Public counts, for metrics: `errors` (failed reads, those the breaker refused included) and
    `abandoned` (reads given up because they were late).
    """

    def __init__(self, client: AsyncClient, namespace: str, timeout_s: float) -> None:
        self.errors = 0
        self.abandoned = 0
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
        replies = await self._guarded(self._buckets(snapshot, keys), keys)
        if any(sentinel is None for _, sentinel in replies):
            raise SnapshotMissing(
                f"snapshot {snapshot.snapshot_id} is not, or only partly, in the store"
            )
        return [record for record, _ in replies]

    async def aclose(self) -> None:
        """Wait for abandoned reads to end; the client is its owner's to close."""
        if self._running:
            await asyncio.wait(self._running)

    def _buckets(self, snapshot: SnapshotManifest, keys: Sequence[bytes]) -> list[bytes]:
        if self._prefix[0] != snapshot.snapshot_id:
            prefix = bucket_prefix(self._namespace, snapshot.snapshot_id)
            self._prefix = (snapshot.snapshot_id, prefix)
        prefix, bits = self._prefix[1], snapshot.bucket_bits
        return [bucket_name(prefix, bucket_of(key, bits)) for key in keys]

    async def _guarded(self, names: list[bytes], keys: Sequence[bytes]) -> Replies:
        """Ask the breaker, read, and tell the breaker how it went, whatever happened."""
        now = asyncio.get_running_loop().time
        started_s = now()
        if not self._breaker.admits(started_s):
            self.errors += 1
            raise StoreUnavailable("the store has not been answering; asking again shortly")
        try:
            replies = await self._bounded(names, keys, now)
        except BaseException:
            self.errors += 1
            self._breaker.failed(now(), started_s)
            raise
        self._breaker.succeeded()
        return replies

    async def _bounded(
        self, names: list[bytes], keys: Sequence[bytes], now: Callable[[], float]
    ) -> Replies:
        task = asyncio.create_task(self._translated(names, keys, now() + self._timeout_s))
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

    async def _translated(
        self, names: list[bytes], keys: Sequence[bytes], give_up_at_s: float
    ) -> Replies:
        async with self._slots:
            if asyncio.get_running_loop().time() >= give_up_at_s:
                raise StoreUnavailable("all connections were busy until the time was up")
            try:
                if isinstance(self._client, RedisCluster):
                    return await self._through_cluster(self._client, names, keys)
                return await _through_connection(
                    cast(_Pool, self._client.connection_pool), names, keys
                )
            except RTAError:
                raise
            except STORE_ERRORS as error:
                raise StoreUnavailable(f"{type(error).__name__}: {error}") from error

    async def _through_cluster(
        self, client: RedisCluster, names: list[bytes], keys: Sequence[bytes]
    ) -> Replies:
        try:
            pipeline = client.pipeline(transaction=False)
            for name, key in zip(names, keys, strict=True):
                pipeline.execute_command("HMGET", name, key, SENTINEL)
            return await pipeline.execute()
        except STORE_ERRORS:
            # without retries the client would never learn of a failover by itself
            now_s = asyncio.get_running_loop().time()
            if now_s >= self._refresh_at_s:
                self._refresh_at_s = now_s + _REFRESH_S
                await client.aclose()
            raise


async def _through_connection(pool: _Pool, names: list[bytes], keys: Sequence[bytes]) -> Replies:
    """Write all commands at once and read all replies on one connection."""
    packed = b"".join(
        [_HMGET % (len(name), name, key) for name, key in zip(names, keys, strict=True)]
    )
    connection = await pool.get_connection()
    try:
        # one time-out around all replies: one for each would cost more than the reply itself
        async with asyncio.timeout(connection.socket_timeout):
            await connection.send_packed_command(packed, check_health=False)
            return [await connection.read_response(timeout=math.inf) for _ in keys]
    except BaseException:
        await connection.disconnect(nowait=True)
        raise
    finally:
        await pool.release(connection)


def _pool_size(client: AsyncClient) -> int:
    if isinstance(client, redis.asyncio.Redis):
        return int(client.connection_pool.max_connections)
    return int(client.connection_kwargs["max_connections"])
