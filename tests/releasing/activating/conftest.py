"""A shelf with all that releases are made of, and workers that follow it."""

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import numpy as np
import pytest

from rta_service.device_key import KeyRing
from rta_service.domain.audit import AuditEntry
from rta_service.domain.clock import SystemClock
from rta_service.domain.funnel import Step
from rta_service.domain.release import ModelRef, Release, SnapshotManifest
from rta_service.domain.thresholds import DAY_S, Thresholds
from rta_service.domain.user import RFMSegment, Role, ValueTier
from rta_service.features import FEATURE_NAMES, FEATURE_SET_ID
from rta_service.online.pipeline import Pipeline
from rta_service.online.watcher import News, ReleaseWatcher
from rta_service.record import RECORD_VERSION, pack_columns
from rta_service.releasing.loading import StoredReleases, way_back
from rta_service.releasing.shelf import Shelf
from rta_service.scoring.calibration import Calibration
from rta_service.scoring.flat_forest import FlatForest
from rta_service.scoring.manifest import Evaluation, ModelManifest
from rta_service.snapshot_folder import bucket_bits_for, write_arrays, write_manifest
from rta_service.stores.model_folder import EntryFacts, put_model
from rta_service.stores.redis import close, watch_client
from rta_service.stores.release_reader import AsyncReleaseReader
from rta_service.stores.snapshots import load_snapshot

NOW_MS = 1_717_286_400_000
DEVICES = 400
POLL_S = 0.1
"""As a worker's default."""
STRATEGIES = """
[[strategy]]
id = "s"
bindings = { json = "s" }
optimises = "click"
goal = "trade"
target_cpa = 30
answer = "weight"
"""

PutVersion = Callable[..., ModelRef]


@pytest.fixture(scope="session")
def forest() -> FlatForest:
    """One tree that asks for the number of orders."""
    return FlatForest(
        objective="binary",
        sigmoid=1.0,
        feature_names=FEATURE_NAMES,
        node_start=np.array([0, 1]),
        leaf_start=np.array([0, 2]),
        cat_start=np.array([0, 0]),
        split_feature=np.array([1], np.int32),
        threshold=np.array([10.0]),
        decision_type=np.array([2 | 2 << 2], np.uint8),
        left=np.array([~0], np.int32),
        right=np.array([~1], np.int32),
        leaf_value=np.array([-2.0, -1.0]),
        node_count=np.array([100]),
        leaf_count=np.array([70, 30]),
        cat_offset=np.array([0]),
        cat_words=np.array([], np.uint32),
    )


@pytest.fixture
def put_version(shelf: Shelf, forest: FlatForest) -> PutVersion:
    """Puts a version of a model on the shelf whose every prediction is `rate`."""

    def put(name: str, version: str, rate: float) -> ModelRef:
        manifest = ModelManifest(
            name=name,
            version=version,
            goal=Step.TRADE if name == "trade" else Step.REGISTER,
            given=Step.CLICK,
            feature_set_id=FEATURE_SET_ID,
            feature_names=FEATURE_NAMES,
            window_s=7 * DAY_S,
            trained_from_s=1_710_000_000,
            trained_to_s=1_717_200_000,
            rows=2_000,
            positives=300,
            evaluation=Evaluation(rows=500, positives=70, auc=0.7, log_loss=0.3, pcoc=1.0),
            sha256="0" * 64,
            calibration=Calibration((0.0, 1.0), (rate, rate)),
            seed=7,
            lightgbm_version="4.6.0",
            created_at_ms=NOW_MS,
        )
        return put_model(shelf.models_folder, manifest, forest, EntryFacts(NOW_MS, "ann")).ref

    return put


def write_snapshot(folder: Path, snapshot_id: str) -> Path:
    """Write a snapshot of active buyers whom every strategy wants."""
    chance = np.random.default_rng(1)
    keys = np.frombuffer(b"".join(sorted(chance.bytes(8) for _ in range(DEVICES))), "V8")
    columns = {
        "person_key": 1 + np.arange(DEVICES),
        "tier": np.full(DEVICES, int(ValueTier.A)),
        "role": np.full(DEVICES, int(Role.BUYER)),
        "segment": np.full(DEVICES, int(RFMSegment.GENERAL_DEVELOP)),
        "orders": np.full(DEVICES, 1),
        "activated_at": np.full(DEVICES, NOW_MS // 1000 - DAY_S),
        "last_active_at": np.full(DEVICES, NOW_MS // 1000 - DAY_S),
    }
    hashes = write_arrays(folder, keys, pack_columns(columns))
    thresholds = Thresholds(18 * DAY_S, 27 * DAY_S, DAY_S, 3, 1000, 3, 2, 1)
    manifest = SnapshotManifest(
        snapshot_id=snapshot_id,
        record_version=RECORD_VERSION,
        as_of_s=NOW_MS // 1000,
        built_at_ms=NOW_MS,
        devices=DEVICES,
        persons=DEVICES,
        bucket_bits=bucket_bits_for(DEVICES),
        thresholds=thresholds,
        stages={},
        segments={},
        tiers={},
        pepper_id="00000000",
        keys_sha256=hashes[0],
        records_sha256=hashes[1],
    )
    write_manifest(folder, manifest)
    return folder


@dataclass(frozen=True)
class Stage:
    """A shelf on which r1 decides: snapshot s1, register v1, trade v1; trade v2 is in the folder."""

    shelf: Shelf
    register: ModelRef
    old: ModelRef
    new: ModelRef
    first: Release

    def draft(self, at_ms: int = NOW_MS + 1, **changes: object) -> Release:
        """The next release after what decides now, not tried yet."""
        current = self.shelf.releases.current()
        assert current is not None
        usual = {
            "release_id": "",
            "previous_id": current.release_id,
            "created_at_ms": at_ms,
            "mean_values": {},
        }
        return msgspec.structs.replace(current, **(usual | changes))


@pytest.fixture
def stage(shelf: Shelf, put_version: PutVersion, tmp_path: Path) -> Stage:
    load_snapshot(shelf.client, shelf.namespace, write_snapshot(tmp_path / "s1", "s1"))
    register = put_version("register", "v1", 0.2)
    old, new = put_version("trade", "v1", 0.01), put_version("trade", "v2", 0.04)
    first = Release(
        "r1",
        "s1",
        (register, old),
        shelf.releases.put_strategies(STRATEGIES),
        NOW_MS,
        mean_values={"s@json": 0.01},
    )
    shelf.releases.publish(first, AuditEntry(NOW_MS, "cli:ann", "publish", "the first"))
    return Stage(shelf, register, old, new, first)


@dataclass
class Worker:
    """A decision worker's following of releases, on a loop in a thread of its own."""

    shelf: Shelf
    pipeline: Pipeline
    news: list[News] = field(default_factory=list)
    switched_s: dict[str, float] = field(default_factory=dict)
    """Release to the monotonic instant of the switch to it."""

    @property
    def release_id(self) -> str:
        live = self.pipeline.live
        return "" if live is None else live.release.release_id

    def report(self, news: News) -> None:
        self.news.append(news)
        if news.event == "release_taken":
            self.switched_s[news.release_id] = SystemClock().monotonic_s()

    async def follow(self, url: str, name: str) -> None:
        client = watch_client(url)
        reader = AsyncReleaseReader(client, self.shelf.namespace, name)
        source = StoredReleases(reader, lambda: self.shelf, way_back)
        try:
            await ReleaseWatcher(source, self.pipeline, POLL_S, self.report).run()
        finally:
            await close(client)


class NoRecords:
    """A store that knows nobody."""

    async def read(self, snapshot: SnapshotManifest, keys: Sequence[bytes]) -> list[bytes | None]:
        return [None for _ in keys]


RunWorkers = Callable[..., AbstractContextManager[list[Worker]]]


@pytest.fixture
def run_workers(store_url: str, shelf: Shelf) -> RunWorkers:
    """Runs workers until the block ends; `folders` are their own model folders, if any."""

    @contextmanager
    def run(count: int = 2, folders: Sequence[Path] = ()) -> Iterator[list[Worker]]:
        workers = []
        for number in range(count):
            folder = folders[number] if folders else shelf.models_folder
            own = Shelf(shelf.client, shelf.namespace, folder, shelf.platforms, shelf.pepper_id)
            keys = KeyRing(b"pepper-of-16-bytes", b"experiment-of-16-b")
            workers.append(Worker(own, Pipeline(NoRecords(), keys, SystemClock())))
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever)
        thread.start()
        tasks = [
            asyncio.run_coroutine_threadsafe(worker.follow(store_url, f"decision-{n}@h:{n}"), loop)
            for n, worker in enumerate(workers)
        ]
        try:
            wait_for(lambda: len(shelf.releases.workers()) == count)
            wait_for(lambda: all(worker.release_id for worker in workers))
            yield workers
        finally:
            for task in tasks:
                task.cancel()
            wait_for(lambda: not asyncio.all_tasks(loop))
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()

    return run


def wait_for(holds: Callable[[], bool], within_s: float = 20.0) -> None:
    clock = SystemClock()
    end_s = clock.monotonic_s() + within_s
    pause = threading.Event()
    while not holds():
        assert clock.monotonic_s() < end_s, "it did not come about"
        pause.wait(0.005)


@pytest.fixture(name="wait_for")
def wait_for_fixture() -> Callable[..., None]:
    return wait_for


@pytest.fixture(name="write_snapshot")
def write_snapshot_fixture() -> Callable[[Path, str], Path]:
    return write_snapshot


@pytest.fixture
def strategies_text() -> str:
    return STRATEGIES
