"""Profiles for the baseline, from the very snapshot that the service answers from."""

import json
import math
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Final

import numpy as np
import redis

from loadtest.baseline import KEY_PREFIX
from rta_service.device_key import KeyRing
from rta_service.domain.platform import PLATFORM_CODES
from rta_service.features import FEATURE_NAMES, Rows, matrix
from rta_service.record import Records
from rta_service.snapshot_folder import read_arrays, read_manifest

_BATCH: Final = 1_000


def fill(client: redis.Redis, snapshot: Path, keys: KeyRing, md5s: Iterable[str]) -> int:
    """Store each device's features as JSON under `baseline:<md5>`; returns how many were found."""
    manifest = read_manifest(snapshot)
    record_keys, records = read_arrays(snapshot, manifest)
    row_of = {key.tobytes(): row for row, key in enumerate(record_keys)}
    found = ((md5, row_of.get(keys.device_key(md5))) for md5 in md5s)
    known = [(md5, row) for md5, row in found if row is not None]
    rows = records[[row for _, row in known]]
    profiles = zip((md5 for md5, _ in known), profiles_of(rows, manifest.as_of_s), strict=True)
    while batch := dict(islice(profiles, _BATCH)):
        client.mset({KEY_PREFIX + md5: profile for md5, profile in batch.items()})
    return len(known)


def profiles_of(records: Records, now_s: int) -> Iterator[str]:
    """Write the models' inputs of each record as JSON, missing values as null."""
    rows = len(records)
    zeros = np.zeros(rows, dtype=np.int64)
    platform = np.full(rows, PLATFORM_CODES["json"])
    now = np.full(rows, now_s, dtype=np.int64)
    for values in matrix(Rows(records, now, platform, zeros, zeros)).tolist():
        yield json.dumps(
            {
                name: None if math.isnan(value) else value
                for name, value in zip(FEATURE_NAMES, values, strict=True)
            }
        )
