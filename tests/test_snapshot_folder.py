"""A snapshot on disk is whole, or it is refused by name."""

from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
import pytest

from rta_service.domain.errors import InvalidInput
from rta_service.domain.release import SnapshotManifest
from rta_service.domain.thresholds import Thresholds
from rta_service.record import pack_columns
from rta_service.snapshot_folder import (
    KEYS,
    MANIFEST,
    RECORDS,
    bucket_bits_for,
    read_arrays,
    read_manifest,
    write_arrays,
    write_manifest,
)


@dataclass(frozen=True)
class Written:
    folder: Path
    manifest: SnapshotManifest


@pytest.fixture
def written(tmp_path: Path) -> Written:
    folder = tmp_path / "snapshot"
    keys = np.arange(3, dtype=">u8").view("V8")
    hashes = write_arrays(folder, keys, pack_columns({"orders": np.arange(3)}))
    manifest = SnapshotManifest(
        snapshot_id="s1",
        record_version=1,
        as_of_s=86_400,
        built_at_ms=1,
        devices=3,
        persons=3,
        bucket_bits=0,
        thresholds=Thresholds(1, 2, 3, 4, 5, 6, 7, 8),
        stages={},
        segments={},
        tiers={},
        pepper_id="p",
        keys_sha256=hashes[0],
        records_sha256=hashes[1],
    )
    write_manifest(folder, manifest)
    return Written(folder, manifest)


def test_what_was_written_is_read_back(written: Written) -> None:
    manifest = read_manifest(written.folder)
    keys, records = read_arrays(written.folder, manifest)

    assert manifest == written.manifest
    assert [key.tobytes() for key in keys] == [n.to_bytes(8, "big") for n in range(3)]
    assert records["orders"].tolist() == [0, 1, 2]


def test_writing_anew_makes_the_folder_unfinished_until_its_manifest(written: Written) -> None:
    write_arrays(written.folder, np.zeros(1, dtype="V8"), pack_columns({"orders": np.ones(1)}))

    with pytest.raises(InvalidInput, match="not a finished snapshot"):
        read_manifest(written.folder)


@pytest.mark.parametrize("name", [KEYS, RECORDS])
def test_arrays_that_changed_or_vanished_are_refused_by_name(written: Written, name: str) -> None:
    path = written.folder / name
    path.write_bytes(path.read_bytes()[::-1])
    with pytest.raises(InvalidInput, match="changed") as caught:
        read_arrays(written.folder, written.manifest)
    assert caught.value.place == str(path)

    path.unlink()
    with pytest.raises(InvalidInput, match="missing"):
        read_arrays(written.folder, written.manifest)


def test_a_manifest_of_another_count_is_refused(written: Written) -> None:
    other = msgspec.structs.replace(written.manifest, devices=4)

    with pytest.raises(InvalidInput, match="disagree on the count"):
        read_arrays(written.folder, other)


@pytest.mark.parametrize(
    ("text", "message"), [("{", "truncated"), ('{"record_version": 1}', "missing required field")]
)
def test_a_damaged_manifest_is_refused(written: Written, text: str, message: str) -> None:
    (written.folder / MANIFEST).write_text(text)

    with pytest.raises(InvalidInput, match=message):
        read_manifest(written.folder)


def test_records_of_another_version_are_refused(written: Written) -> None:
    write_manifest(written.folder, msgspec.structs.replace(written.manifest, record_version=9))

    with pytest.raises(InvalidInput, match="records of version 9"):
        read_manifest(written.folder)


@pytest.mark.parametrize(
    ("devices", "bits"), [(0, 0), (1, 0), (64, 1), (127, 1), (128, 2), (1_000_000, 14)]
)
def test_buckets_hold_about_64_records(devices: int, bits: int) -> None:
    assert bucket_bits_for(devices) == bits
