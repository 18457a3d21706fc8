"""Writing a snapshot's buckets in large pipelines, and proving that they arrived."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

from rta_service.device_key import KEY_BYTES, bucket_of
from rta_service.domain.errors import InvalidInput, StoreUnavailable
from rta_service.domain.release import SnapshotManifest
from rta_service.domain.thresholds import DAY_S
from rta_service.record import RECORD_BYTES, Records
from rta_service.snapshot_folder import Keys
from rta_service.stores.keys import SENTINEL, SENTINEL_VALUE, bucket_name, bucket_prefix
from rta_service.stores.redis import AdminClient

_WRITE_BUCKET: Final = """
redis.call('HSET', KEYS[1], unpack(ARGV, 2))
return redis.call('EXPIRE', KEYS[1], ARGV[1])
"""
# one step, so that a loader killed between the two leaves no bucket that lives for ever

Progress = Callable[[int, int], None]
"""Called with the records loaded so far and their total."""


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """How a snapshot is loaded; the defaults fit a daily build."""

    ttl_s: int = 3 * DAY_S
    """Life of the buckets: long enough to roll back to the day before yesterday."""
    chunk: int = 256
    """Buckets in one pipeline: at most 16,000 records, 1.2 MB."""
    sample: int = 10_000
    """Records read back and compared."""
    spare_memory: float = 1.2
    """The needed memory is multiplied by this before it is compared with what is free."""
    lock_ms: int = 30_000
    """A dead loader keeps others out for this long."""


def chunks(manifest: SnapshotManifest, size: int) -> Iterator[range]:
    """Cut a snapshot's buckets into ranges of at most `size`."""
    buckets = 1 << manifest.bucket_bits
    return (range(at, min(at + size, buckets)) for at in range(0, buckets, size))


@dataclass(frozen=True)
class BulkLoad:
    """One load: the sorted arrays, cut into buckets. Each step calls `alive` before it writes."""

    client: AdminClient
    namespace: str
    manifest: SnapshotManifest
    keys: Keys
    records: Records

    @cached_property
    def _prefix(self) -> bytes:
        return bucket_prefix(self.namespace, self.manifest.snapshot_id)

    @cached_property
    def _starts(self) -> NDArray[np.int64]:
        """Where each bucket's run begins in the sorted keys, and where the last one ends."""
        halves = self.keys.view(np.dtype([("top", ">u4"), ("rest", ">u4")]))
        bits = self.manifest.bucket_bits
        buckets = halves["top"].astype(np.int64) >> (32 - bits)
        if (np.diff(buckets) < 0).any():
            raise InvalidInput("keys are not sorted; build the snapshot again", "keys.bin")
        return np.searchsorted(buckets, np.arange((1 << bits) + 1)).astype(np.int64)

    def write(
        self, options: LoadOptions, alive: Callable[[], None], progress: Progress | None
    ) -> None:
        """Write all buckets, empty ones too; repeating it changes nothing."""
        for chunk in chunks(self.manifest, options.chunk):
            alive()
            pipeline = self.client.pipeline(transaction=False)
            for bucket in chunk:
                name = bucket_name(self._prefix, bucket)
                fields = self._fields(bucket)
                words = (name, options.ttl_s, SENTINEL, SENTINEL_VALUE, *fields)
                pipeline.execute_command("EVAL", _WRITE_BUCKET, 1, *words)
            pipeline.execute()
            if progress is not None:
                progress(int(self._starts[chunk.stop]), self.manifest.devices)

    def _fields(self, bucket: int) -> Iterator[bytes]:
        start, stop = self._starts[bucket : bucket + 2]
        keys, records = self.keys[start:stop].tobytes(), self.records[start:stop].tobytes()
        for row in range(stop - start):
            yield keys[row * KEY_BYTES : (row + 1) * KEY_BYTES]
            yield records[row * RECORD_BYTES : (row + 1) * RECORD_BYTES]

    def verify(self, options: LoadOptions, alive: Callable[[], None]) -> None:
        """Compare every bucket's size and evenly spaced records; raises StoreUnavailable."""
        wrong = 0
        for chunk in chunks(self.manifest, 16 * options.chunk):
            alive()
            pipeline = self.client.pipeline(transaction=False)
            for bucket in chunk:
                pipeline.execute_command("HLEN", bucket_name(self._prefix, bucket))
            expected = np.diff(self._starts[chunk.start : chunk.stop + 1]) + 1
            wrong += int((np.array(pipeline.execute()) != expected).sum())
        differ = self._sample_differs(min(options.sample, self.manifest.devices))
        if wrong or differ:
            raise StoreUnavailable(
                f"snapshot {self.manifest.snapshot_id} is not in the store as it was written: "
                f"{wrong} buckets of another size, {differ} records differ; check the store's "
                "memory limit and eviction policy, then build and load again"
            )

    def _sample_differs(self, count: int) -> int:
        rows = np.linspace(0, self.manifest.devices - 1, count, dtype=np.int64)
        pipeline = self.client.pipeline(transaction=False)
        for row in rows:
            key = self.keys[row].tobytes()
            bucket = bucket_of(key, self.manifest.bucket_bits)
            pipeline.execute_command("HGET", bucket_name(self._prefix, bucket), key)
        found = pipeline.execute() if count else []
        return sum(
            value != self.records[row].tobytes() for row, value in zip(rows, found, strict=True)
        )
