"""A real store with one snapshot's profiles, and two really trained boosters."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import lightgbm as lgb
import numpy as np
import pytest

from loadtest.baseline_data import fill
from rta_service.device_key import KeyRing
from rta_service.domain.release import SnapshotManifest
from rta_service.domain.thresholds import DAY_S, Thresholds
from rta_service.features import FEATURE_NAMES
from rta_service.record import RECORD_VERSION, pack_columns
from rta_service.snapshot_folder import write_arrays, write_manifest
from rta_service.stores.embedded import EmbeddedStore
from rta_service.stores.redis import admin_client

AS_OF_S = 1_772_323_200
MD5S = [f"{number:032x}" for number in range(1, 6)]
KEYS = KeyRing(b"pepper", b"experiment")
CUTS = Thresholds(DAY_S, 2 * DAY_S, DAY_S, 2, 100, 300, 200, 100)


class World(NamedTuple):
    store_url: str
    register_model: Path
    trade_model: Path
    known: list[str]
    filled: int


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def store_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with EmbeddedStore(tmp_path_factory.mktemp("store")) as store:
        yield store.url


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory, store_url: str) -> World:
    folder = tmp_path_factory.mktemp("world")
    models = []
    rng = np.random.default_rng(1)
    for name in ("register", "trade"):
        inputs = rng.random((400, len(FEATURE_NAMES)))
        labels = (rng.random(400) < inputs[:, 0]).astype(float)
        parameters = {"objective": "binary", "num_leaves": 4, "verbose": -1, "num_threads": 1}
        booster = lgb.train(parameters, lgb.Dataset(inputs, labels), 5)
        models.append(folder / f"{name}.txt")
        booster.save_model(models[-1])
    return World(store_url, models[0], models[1], MD5S, _fill(folder / "snapshot", store_url))


def _fill(snapshot: Path, url: str) -> int:
    keys = sorted(KEYS.device_key(md5) for md5 in MD5S)
    records = pack_columns(
        {
            "orders": np.arange(len(keys)),
            "last_active_at": np.full(len(keys), AS_OF_S - 3 * DAY_S),
        }
    )
    key_array = np.frombuffer(b"".join(keys), dtype="V8")
    hashes = write_arrays(snapshot, key_array, records)
    manifest = SnapshotManifest(
        snapshot_id="s1",
        record_version=RECORD_VERSION,
        as_of_s=AS_OF_S,
        built_at_ms=0,
        devices=len(keys),
        persons=len(keys),
        bucket_bits=0,
        thresholds=CUTS,
        stages={},
        segments={},
        tiers={},
        pepper_id=KEYS.pepper_id,
        keys_sha256=hashes[0],
        records_sha256=hashes[1],
    )
    write_manifest(snapshot, manifest)
    with admin_client(url) as client:
        return fill(client, snapshot, KEYS, [*MD5S, "f" * 32])
