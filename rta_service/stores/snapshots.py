"""Getting a snapshot from its folder into the store: load, verify, and only then mark as loaded.

Nothing reads a snapshot before a release names it, and no release can name one whose manifest is
not in the store. So a loader that dies at any step leaves the old snapshot served and garbage
that expires by itself.
"""

import logging
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from rta_service.device_key import bucket_of
from rta_service.domain.errors import InvalidInput, SnapshotMissing
from rta_service.domain.release import SnapshotManifest
from rta_service.record import Records, read_many
from rta_service.snapshot_folder import read_arrays, read_manifest
from rta_service.stores.bulk_load import BulkLoad, LoadOptions, Progress, chunks
from rta_service.stores.keys import SENTINEL, bucket_name, bucket_prefix, manifest_name
from rta_service.stores.load_lock import LoadLock
from rta_service.stores.memory import check_memory
from rta_service.stores.redis import AdminClient, store_errors

__all__ = [
    "LoadOptions",
    "Progress",
    "extend_ttl",
    "fetch_manifest",
    "find_record",
    "load_snapshot",
    "sample_records",
]

_log = logging.getLogger(__name__)


def load_snapshot(
    client: AdminClient,
    namespace: str,
    folder: Path,
    options: LoadOptions | None = None,
    progress: Progress | None = None,
) -> SnapshotManifest:
    """Load and verify a snapshot folder; done already, it only renews the time to live.

    Raises InvalidInput for a damaged folder, too little memory or another loader at work,
    StoreUnavailable for any error of the store. The snapshot is live only through a release.
    """
    options = options or LoadOptions()
    manifest = read_manifest(folder)
    keys, records = read_arrays(folder, manifest)
    _check(manifest, folder)
    with (
        store_errors(f"loading snapshot {manifest.snapshot_id}"),
        LoadLock(client, namespace, options.lock_ms) as lock,
    ):
        if not _renewed(client, namespace, manifest, options):
            check_memory(client, manifest.devices, options.spare_memory)
            load = BulkLoad(client, namespace, manifest, keys, records)
            load.write(options, lock.renew, progress)
            load.verify(options, lock.renew)
            lock.renew()
            client.set(
                manifest_name(namespace, manifest.snapshot_id),
                msgspec.json.encode(manifest),
                ex=options.ttl_s,
            )
    return manifest


def _check(manifest: SnapshotManifest, folder: Path) -> None:
    cuts = manifest.thresholds
    wrong = [name for name, value in cuts.as_days().items() if value < 0]
    if wrong or cuts.silent_s <= 0 or cuts.churned_s <= 0:
        raise InvalidInput(
            f"thresholds must be positive: {', '.join(wrong) or 'silent_days, churned_days'}",
            str(folder),
        )
    if cuts.silent_s >= cuts.churned_s:
        _log.warning("snapshot %s: silent_days is not below churned_days", manifest.snapshot_id)


def _renewed(
    client: AdminClient, namespace: str, manifest: SnapshotManifest, options: LoadOptions
) -> bool:
    """Renew a complete snapshot; False when it must be loaded."""
    stored = fetch_manifest(client, namespace, manifest.snapshot_id)
    if stored is None:
        return False
    if stored != manifest:
        raise InvalidInput(
            "the store holds another snapshot of this id; ids are never used twice: build again",
            manifest.snapshot_id,
        )
    try:
        extend_ttl(client, namespace, manifest, options.ttl_s)
    except SnapshotMissing:
        return False
    return True


def fetch_manifest(
    client: AdminClient, namespace: str, snapshot_id: str
) -> SnapshotManifest | None:
    """Give the manifest of a completely loaded snapshot, or None."""
    with store_errors("reading a manifest"):
        text = client.get(manifest_name(namespace, snapshot_id))
    return None if text is None else msgspec.json.decode(text, type=SnapshotManifest)


def extend_ttl(client: AdminClient, namespace: str, manifest: SnapshotManifest, ttl_s: int) -> None:
    """Let a loaded snapshot live `ttl_s` from now; raises SnapshotMissing when parts are gone."""
    prefix = bucket_prefix(namespace, manifest.snapshot_id)
    alive = 0
    with store_errors("extending a snapshot's time to live"):
        for chunk in chunks(manifest, 4096):
            pipeline = client.pipeline(transaction=False)
            for bucket in chunk:
                pipeline.execute_command("EXPIRE", bucket_name(prefix, bucket), ttl_s)
            alive += sum(pipeline.execute())
        alive += client.expire(manifest_name(namespace, manifest.snapshot_id), ttl_s)
    lost = (1 << manifest.bucket_bits) + 1 - alive
    if lost:
        raise SnapshotMissing(f"snapshot {manifest.snapshot_id}: {lost} keys are gone; load again")


def sample_records(
    client: AdminClient, namespace: str, manifest: SnapshotManifest, count: int
) -> Records:
    """Give about `count` records, those of evenly spaced buckets, in the order of their keys.

    Keys are hashes, so whole buckets are a fair sample. Raises SnapshotMissing.
    """
    buckets = 1 << manifest.bucket_bits
    wanted = min(buckets, -(-count * buckets // max(manifest.devices, 1)))
    prefix = bucket_prefix(namespace, manifest.snapshot_id)
    chosen = np.unique(np.linspace(0, buckets - 1, wanted, dtype=np.int64))
    rows: list[bytes] = []
    with store_errors("sampling a snapshot"):
        for at in range(0, len(chosen), 256):
            pipeline = client.pipeline(transaction=False)
            for bucket in chosen[at : at + 256]:
                pipeline.execute_command("HGETALL", bucket_name(prefix, int(bucket)))
            for found in pipeline.execute():
                rows.extend(_bucket_rows(found, manifest.snapshot_id))
    return read_many(b"".join(rows))


def _bucket_rows(found: Any, snapshot_id: str) -> list[bytes]:
    """Give a bucket's records by key; redis-py replies with a dict or, on clusters, pairs."""
    fields: dict[bytes, bytes] = (
        found if isinstance(found, dict) else dict(zip(found[::2], found[1::2], strict=True))
    )
    if fields.pop(SENTINEL, None) is None:
        raise SnapshotMissing(f"snapshot {snapshot_id} is not (any longer) in the store")
    return [fields[key] for key in sorted(fields)]


def find_record(
    client: AdminClient, namespace: str, manifest: SnapshotManifest, key: bytes
) -> bytes | None:
    """Give one device's record, or None for an unknown device; raises SnapshotMissing."""
    name = bucket_name(
        bucket_prefix(namespace, manifest.snapshot_id), bucket_of(key, manifest.bucket_bits)
    )
    with store_errors("looking a device up"):
        found: list[Any] = client.hmget(name, [key, SENTINEL])
    record: bytes | None
    record, sentinel = found
    if sentinel is None:
        raise SnapshotMissing(f"snapshot {manifest.snapshot_id} is not (any longer) in the store")
    return record
