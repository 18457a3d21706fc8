"""A snapshot on disk: what the profile build writes and the store's loader reads.

manifest.json   SnapshotManifest, written last: a folder without it is not a snapshot
keys.bin        devices x 8 bytes, sorted, so that a store bucket is one contiguous run
records.bin     devices x 64 bytes, in the order of keys.bin
"""

import hashlib
import os
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from rta_service.device_key import KEY_BYTES
from rta_service.domain.errors import InvalidInput
from rta_service.domain.release import SnapshotManifest
from rta_service.record import RECORD_DTYPE, RECORD_VERSION, Records

MANIFEST: Final = "manifest.json"
KEYS: Final = "keys.bin"
RECORDS: Final = "records.bin"

Keys = NDArray[np.void]
"""Device keys as an array of dtype V8."""


def bucket_bits_for(devices: int) -> int:
    """Choose how many buckets hold a snapshot: about 64 records each, 2**bits of them."""
    return max(0, (max(devices, 1) // 64).bit_length())


def sha256_of(path: Path) -> str:
    """Hash a file without reading it whole."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_arrays(folder: Path, keys: Keys, records: Records) -> tuple[str, str]:
    """Write keys and records, which must be sorted by key; returns their two SHA-256."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MANIFEST).unlink(missing_ok=True)
    (folder / KEYS).write_bytes(keys.tobytes())
    (folder / RECORDS).write_bytes(records.tobytes())
    return sha256_of(folder / KEYS), sha256_of(folder / RECORDS)


def write_manifest(folder: Path, manifest: SnapshotManifest) -> None:
    """Write the manifest atomically; from then on the folder is a snapshot."""
    temporary = folder / (MANIFEST + ".tmp")
    temporary.write_bytes(msgspec.json.format(msgspec.json.encode(manifest)))
    with temporary.open("rb") as file:
        os.fsync(file.fileno())
    temporary.replace(folder / MANIFEST)


def read_manifest(folder: Path) -> SnapshotManifest:
    """Read a snapshot's manifest; raises InvalidInput naming what is wrong."""
    path = folder / MANIFEST
    if not path.is_file():
        raise InvalidInput("no manifest.json: not a finished snapshot", str(folder))
    try:
        manifest = msgspec.json.decode(path.read_bytes(), type=SnapshotManifest)
    except msgspec.MsgspecError as error:
        raise InvalidInput(str(error), str(path)) from error
    if manifest.record_version != RECORD_VERSION:
        raise InvalidInput(
            f"records of version {manifest.record_version}, this service reads {RECORD_VERSION}",
            str(path),
        )
    return manifest


def read_arrays(folder: Path, manifest: SnapshotManifest) -> tuple[Keys, Records]:
    """Map keys and records; raises InvalidInput when they are not what the manifest hashed."""
    for name, expected in ((KEYS, manifest.keys_sha256), (RECORDS, manifest.records_sha256)):
        path = folder / name
        if not path.is_file() or sha256_of(path) != expected:
            raise InvalidInput("missing or changed since the manifest was written", str(path))
    keys = np.fromfile(folder / KEYS, dtype=f"V{KEY_BYTES}")
    records = np.fromfile(folder / RECORDS, dtype=RECORD_DTYPE)
    if not len(keys) == len(records) == manifest.devices:
        raise InvalidInput("keys, records and manifest disagree on the count", str(folder))
    return keys, records
