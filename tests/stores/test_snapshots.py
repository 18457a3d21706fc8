import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest
import redis

from rta_service.domain.errors import InvalidInput, SnapshotMissing, StoreUnavailable
from rta_service.record import RECORD_BYTES
from rta_service.snapshot_folder import KEYS, read_arrays, read_manifest, write_manifest
from rta_service.stores.bulk_load import BulkLoad
from rta_service.stores.embedded import EmbeddedStore
from rta_service.stores.keys import bucket_name, bucket_prefix, manifest_name
from rta_service.stores.load_lock import LoadLock
from rta_service.stores.redis import AdminClient, admin_client
from rta_service.stores.snapshots import (
    LoadOptions,
    extend_ttl,
    fetch_manifest,
    find_record,
    load_snapshot,
    sample_records,
)

SnapshotMaker = Callable[..., Path]


def still_alive() -> None:
    """What a loader calls to renew its lock, for tests that have none."""


@pytest.mark.parametrize(("devices", "bits"), [(1_000, None), (1, None), (0, None), (3, 6)])
def test_every_loaded_device_is_found_and_no_other(
    admin: AdminClient,
    namespace: str,
    a_snapshot: SnapshotMaker,
    devices: int,
    bits: int | None,
) -> None:
    folder = a_snapshot(devices, bucket_bits=bits)

    manifest = load_snapshot(admin, namespace, folder)

    keys, records = read_arrays(folder, manifest)
    for key, record in zip(keys, records, strict=True):
        assert find_record(admin, namespace, manifest, key.tobytes()) == record.tobytes()
    assert find_record(admin, namespace, manifest, b"stranger") is None
    assert fetch_manifest(admin, namespace, "s1") == manifest == read_manifest(folder)


def test_everything_of_a_snapshot_expires(
    admin: AdminClient, namespace: str, a_snapshot: SnapshotMaker
) -> None:
    load_snapshot(admin, namespace, a_snapshot(), LoadOptions(ttl_s=500))

    names = list(admin.scan_iter(f"{namespace}:p1:s1:*"))
    assert len(names) == 2**4 + 1
    assert all(400 < admin.ttl(name) <= 500 for name in names)


def test_progress_is_told_chunk_by_chunk(
    admin: AdminClient, namespace: str, a_snapshot: SnapshotMaker
) -> None:
    told: list[tuple[int, int]] = []

    load_snapshot(
        admin,
        namespace,
        a_snapshot(),
        LoadOptions(chunk=5),
        lambda done, total: told.append((done, total)),
    )

    assert len(told) == 4
    assert told == sorted(told)
    assert told[-1] == (1_000, 1_000)


def test_loading_again_only_renews_the_time_to_live(
    admin: AdminClient, namespace: str, a_snapshot: SnapshotMaker
) -> None:
    folder = a_snapshot()
    load_snapshot(admin, namespace, folder, LoadOptions(ttl_s=100))
    told: list[tuple[int, int]] = []

    load_snapshot(admin, namespace, folder, LoadOptions(ttl_s=500), lambda *done: told.append(done))

    assert told == []
    assert admin.ttl(f"{namespace}:p1:s1:manifest") > 400
    assert admin.ttl(f"{namespace}:p1:s1:0") > 400


def test_loading_again_repairs_a_snapshot_that_lost_a_bucket(
    admin: AdminClient, namespace: str, a_snapshot: SnapshotMaker
) -> None:
    folder = a_snapshot()
    manifest = load_snapshot(admin, namespace, folder)
    admin.delete(f"{namespace}:p1:s1:3")
    with pytest.raises(SnapshotMissing, match="1 keys are gone"):
        extend_ttl(admin, namespace, manifest, 500)

    load_snapshot(admin, namespace, folder)

    extend_ttl(admin, namespace, manifest, 500)
    assert len(sample_records(admin, namespace, manifest, 10_000)) == 1_000


def test_an_id_is_never_used_for_another_content(
    admin: AdminClient, namespace: str, a_snapshot: SnapshotMaker
) -> None:
    load_snapshot(admin, namespace, a_snapshot(seed=1))

    with pytest.raises(InvalidInput, match="another snapshot of this id"):
        load_snapshot(admin, namespace, a_snapshot(seed=2))


def test_a_damaged_folder_reaches_no_store(
    admin: AdminClient, namespace: str, a_snapshot: SnapshotMaker
) -> None:
    folder = a_snapshot()
    (folder / KEYS).write_bytes(b"x" * 8_000)

    with pytest.raises(InvalidInput, match=r"keys\.bin"):
        load_snapshot(admin, namespace, folder)

    assert admin.keys(f"{namespace}:*") == []


def test_unsorted_keys_are_refused(
    admin: AdminClient, namespace: str, a_snapshot: SnapshotMaker
) -> None:
    folder = a_snapshot()
    keys = np.fromfile(folder / KEYS, "V8")[::-1]
    keys.tofile(folder / KEYS)
    manifest = read_manifest(folder)
    records = read_arrays(a_snapshot(snapshot_id="s2"), manifest)[1]

    with pytest.raises(InvalidInput, match="not sorted"):
        BulkLoad(admin, namespace, manifest, keys, records).write(LoadOptions(), still_alive, None)


@pytest.mark.parametrize("cut", ["silent_s", "churned_s", "recency_s"])
def test_thresholds_that_cannot_be_are_refused(
    admin: AdminClient, namespace: str, a_snapshot: SnapshotMaker, cut: str
) -> None:
    folder = a_snapshot(**{cut: -1})

    with pytest.raises(InvalidInput, match="must be positive"):
        load_snapshot(admin, namespace, folder)


def test_silent_after_churned_is_a_warning(
    admin: AdminClient,
    namespace: str,
    a_snapshot: SnapshotMaker,
    caplog: pytest.LogCaptureFixture,
) -> None:
    load_snapshot(admin, namespace, a_snapshot(silent_s=2_000, churned_s=2_000))

    assert "silent_days is not below churned_days" in caplog.text


def test_two_loaders_do_not_work_at_once(
    admin: AdminClient, namespace: str, a_snapshot: SnapshotMaker
) -> None:
    with LoadLock(admin, namespace, 5_000), pytest.raises(InvalidInput, match="another loader"):
        load_snapshot(admin, namespace, a_snapshot())

    load_snapshot(admin, namespace, a_snapshot())


def test_a_loader_that_slept_too_long_stops_and_leaves_the_other_its_lock(
    admin: AdminClient, namespace: str
) -> None:
    sleeper, other = LoadLock(admin, namespace, 10), LoadLock(admin, namespace, 5_000)

    with sleeper:
        time.sleep(0.05)
        with other:
            with pytest.raises(InvalidInput, match="slept too long"):
                sleeper.renew()
            sleeper.__exit__(None, None, None)
            other.renew()

    assert other.token == sleeper.token + 1


def test_a_change_between_writing_and_reading_back_is_found(
    admin: AdminClient, namespace: str, a_snapshot: SnapshotMaker
) -> None:
    folder = a_snapshot()
    manifest = read_manifest(folder)
    keys, records = read_arrays(folder, manifest)
    load = BulkLoad(admin, namespace, manifest, keys, records)
    load.write(LoadOptions(), still_alive, None)
    load.verify(LoadOptions(), still_alive)

    prefix = bucket_prefix(namespace, "s1")
    admin.hset(bucket_name(prefix, 0), keys[0].tobytes(), b"x" * RECORD_BYTES)
    admin.hdel(bucket_name(prefix, 15), keys[-1].tobytes())

    with pytest.raises(StoreUnavailable, match="1 buckets of another size, 2 records differ"):
        load.verify(LoadOptions(), still_alive)


def test_a_sample_is_evenly_spread_the_same_each_time_and_about_as_large_as_asked(
    admin: AdminClient, namespace: str, a_snapshot: SnapshotMaker
) -> None:
    manifest = load_snapshot(admin, namespace, a_snapshot(20_000))

    sample = sample_records(admin, namespace, manifest, 2_000)

    assert 1_600 < len(sample) < 2_600
    assert (np.diff(sample["person_key"].astype(np.int64)) > 0).all()
    assert sample["person_key"].min() < 100
    assert sample["person_key"].max() > 19_900
    again = sample_records(admin, namespace, manifest, 2_000)
    assert (sample["person_key"] == again["person_key"]).all()


def test_a_snapshot_that_expired_is_missing_and_not_empty(
    admin: AdminClient, namespace: str, a_snapshot: SnapshotMaker
) -> None:
    manifest = read_manifest(a_snapshot())

    assert fetch_manifest(admin, namespace, "s1") is None
    with pytest.raises(SnapshotMissing):
        find_record(admin, namespace, manifest, b"12345678")
    with pytest.raises(SnapshotMissing):
        sample_records(admin, namespace, manifest, 10)


def test_too_little_memory_is_told_before_anything_is_written(
    own_store: EmbeddedStore, a_snapshot: SnapshotMaker, caplog: pytest.LogCaptureFixture
) -> None:
    with admin_client(own_store.url) as client:
        assert isinstance(client, redis.Redis)
        client.config_set("maxmemory", "20mb")
        folder = a_snapshot(10)
        manifest = msgspec.structs.replace(read_manifest(folder), snapshot_id="big")

        with pytest.raises(InvalidInput, match="MiB free and the snapshot needs"):
            load_snapshot(client, "ad", folder, LoadOptions(spare_memory=1e6))
        client.config_set("maxmemory-policy", "volatile-lru")
        write_manifest(folder, manifest)
        load_snapshot(client, "ad", folder)

    assert "a snapshot may lose buckets" in caplog.text


def test_a_full_store_stops_the_load_and_nothing_is_marked_as_loaded(
    own_store: EmbeddedStore, a_snapshot: SnapshotMaker
) -> None:
    with admin_client(own_store.url) as client:
        assert isinstance(client, redis.Redis)
        folder = a_snapshot(50_000)
        used = int(client.info("memory")["used_memory"])
        client.config_set("maxmemory", used + 2_000_000)

        with pytest.raises(StoreUnavailable, match=r"loading snapshot s1.*used memory"):
            load_snapshot(client, "ad", folder, LoadOptions(spare_memory=0.0))

        assert fetch_manifest(client, "ad", "s1") is None


_LOADER = """
import sys
from pathlib import Path
from rta_service.stores.redis import admin_client
from rta_service.stores.snapshots import LoadOptions, load_snapshot
url, namespace, folder = sys.argv[1:]
def progress(done, total):
    print(done, flush=True)
load_snapshot(admin_client(url), namespace, Path(folder), LoadOptions(chunk=1, lock_ms=300), progress)
"""


def test_a_loader_killed_midway_leaves_the_old_snapshot_whole_and_can_be_repeated(
    store_url: str, admin: AdminClient, namespace: str, a_snapshot: SnapshotMaker
) -> None:
    old = load_snapshot(admin, namespace, a_snapshot(snapshot_id="old"))
    folder = a_snapshot(100_000, snapshot_id="new", seed=2)

    _kill_midway(store_url, namespace, folder)

    assert admin.exists(f"{namespace}:p1:new:0")
    assert admin.ttl(f"{namespace}:p1:new:0") > 0
    assert not admin.exists(manifest_name(namespace, "new"))
    assert len(sample_records(admin, namespace, old, 10_000)) == 1_000
    time.sleep(0.35)
    load_snapshot(admin, namespace, folder)
    assert admin.exists(manifest_name(namespace, "new"))


def _kill_midway(store_url: str, namespace: str, folder: Path) -> None:
    command = [sys.executable, "-c", _LOADER, store_url, namespace, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as loader:
        assert loader.stdout is not None
        loader.stdout.readline()
        loader.send_signal(signal.SIGKILL)
    assert loader.returncode == -signal.SIGKILL
