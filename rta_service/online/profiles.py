"""Reading the records of a whole batch in one round trip."""

from collections.abc import Sequence
from itertools import accumulate
from typing import Protocol

from rta_service.domain.release import SnapshotManifest


class ProfileReader(Protocol):
    """Where records come from."""

    async def read(self, snapshot: SnapshotManifest, keys: Sequence[bytes]) -> list[bytes | None]:
        """Give each key's record, or None for an unknown device, in the order of the keys.

        Raises StoreUnavailable when the store is slow or gone, SnapshotMissing when the
        snapshot is (partly) no longer there.
        """


async def read_batch(
    reader: ProfileReader, snapshot: SnapshotManifest, keys_by_request: Sequence[Sequence[bytes]]
) -> list[list[bytes | None]]:
    """Read the keys of many requests at once and hand each request its own records."""
    flat = [key for keys in keys_by_request for key in keys]
    if not flat:
        return [[] for _ in keys_by_request]
    found = await reader.read(snapshot, flat)
    if len(found) != len(flat):
        raise RuntimeError(f"the reader gave {len(found)} records for {len(flat)} keys")
    ends = accumulate(map(len, keys_by_request))
    return [found[end - len(keys) : end] for end, keys in zip(ends, keys_by_request, strict=True)]
