"""A release with models on trial in a real store, sampled traffic, and outcomes of known chance."""

import functools
import hashlib
import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lightgbm
import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from rta_service.device_key import KeyRing
from rta_service.domain import rollout
from rta_service.domain.access import Actor
from rta_service.domain.audit import AuditEntry
from rta_service.domain.command import Command, Pending
from rta_service.domain.errors import OutOfDate
from rta_service.domain.funnel import Step
from rta_service.domain.release import ModelRef, Release, SnapshotManifest
from rta_service.domain.rollout import Action
from rta_service.domain.thresholds import DAY_S, Thresholds
from rta_service.features import CATEGORICAL, FEATURE_NAMES, FEATURE_SET_ID
from rta_service.platforms.registry import load_adapters
from rta_service.record import RECORD_VERSION, pack_columns
from rta_service.releasing.shelf import Shelf
from rta_service.scoring.calibration import Calibration, fit_calibration
from rta_service.scoring.forest_text import parse_forest
from rta_service.scoring.manifest import Evaluation, ModelManifest
from rta_service.stores.keys import manifest_name
from rta_service.stores.model_folder import EntryFacts, put_model
from rta_service.stores.redis import admin_client
from rta_service.stores.releases import new_release_id
from rta_service.stores.traffic_sample import (
    FLAG_PARTICIPATED,
    LineUp,
    SampledRow,
    SampleWriter,
    ring_path,
)

Matrix = NDArray[np.float64]

NOW_MS = 1_717_286_400_000
KEYS = KeyRing(b"pepper-of-16-bytes", b"experiment-of-16-b")
THRESHOLDS = Thresholds(18 * DAY_S, 27 * DAY_S, DAY_S, 3, 1000, 3, 2, 1)


_COUNTER = itertools.count()


@dataclass
class FakeClock:
    """Moves when it is told to."""

    at_ms: int = NOW_MS

    def now_ms(self) -> int:
        return self.at_ms

    def monotonic_s(self) -> float:
        return self.at_ms / 1000

    def pass_s(self, seconds: float) -> None:
        self.at_ms += round(seconds * 1000)


@dataclass
class Town:
    """What decides, and the ways to change it."""

    shelf: Shelf
    clock: FakeClock
    run_dir: Path
    live: tuple[ModelRef, ...]
    publish: Callable[..., ModelRef]
    counter: Any = field(default_factory=itertools.count)

    def shelves(self) -> Shelf:
        return self.shelf

    def release(self) -> Release:
        current = self.shelf.releases.current()
        assert current is not None
        return current

    def move(self, draft: Release) -> Release:
        """Let a draft decide."""
        current = self.shelf.releases.current()
        now_ms = self.clock.now_ms() + next(self.counter)
        release = msgspec.structs.replace(
            draft,
            release_id=new_release_id(now_ms),
            previous_id=current.release_id if current else "",
            created_at_ms=now_ms,
        )
        self.shelf.releases.publish(release, AuditEntry(now_ms, "test", "move", ""))
        return release

    def shadow(self, *refs: ModelRef) -> Release:
        return self.move(rollout.to_shadow(self.release(), refs))

    def canary(self, share_millionths: int, *refs: ModelRef) -> Release:
        now_ms = self.clock.now_ms()
        return self.move(rollout.to_canary(self.release(), refs, share_millionths, now_ms))


@dataclass
class Deputy:
    """Moves versions as `Rollouts` does, but without trying them out; remembers every wish."""

    town: Town
    two_person: bool = False
    wishes: list[tuple[Command, Actor]] = field(default_factory=list)

    def act(self, command: Command, who: Actor) -> Release | Pending:
        self.wishes.append((command, who))
        current = self.town.release()
        if command.release_id != current.release_id:
            raise OutOfDate("the release moved", "rollout")
        if self.two_person and command.action is Action.LIVE:
            return Pending("p1", command, who.name, 0, 1)
        found = {(ref.name, ref.version): ref for ref in rollout.all_refs(current)}
        refs = tuple(found[model] for model in command.models)
        now_ms = self.town.clock.now_ms()
        match command.action:
            case Action.CANARY:
                share = command.share_millionths
                return self.town.move(rollout.to_canary(current, refs, share, now_ms))
            case Action.LIVE:
                return self.town.move(rollout.to_live(current, refs))
            case Action.STOP:
                return self.town.move(rollout.stop(current))
            case _:
                return self.town.move(rollout.roll_back(current))


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@dataclass(frozen=True)
class Head:
    """One trained and calibrated head."""

    text: bytes
    calibration: Calibration


def world(count: int, seed: int) -> tuple[Matrix, Matrix]:
    """Rows float64 [n, F] and the chance [n] that each registers."""
    chance = np.random.default_rng(seed)
    matrix = chance.normal(10.0, 5.0, (count, len(FEATURE_NAMES)))
    matrix[:, CATEGORICAL] = chance.integers(0, 4, (count, len(CATEGORICAL)))
    matrix[chance.random(matrix.shape) < 0.05] = np.nan
    lean = np.nan_to_num(matrix[:, 1] - 10.0) * 0.3 + (matrix[:, 23] == 2)
    return matrix, 1.0 / (1.0 + np.exp(1.5 - lean))


def train(seed: int) -> Head:
    matrix, rate = world(24_000, seed)
    labels = np.random.default_rng(seed + 1).random(len(rate)) < rate
    learn, fit = slice(0, 12_000), slice(12_000, None)
    data = lightgbm.Dataset(
        matrix[learn],
        labels[learn],
        feature_name=list(FEATURE_NAMES),
        categorical_feature=list(CATEGORICAL),
    )
    params = {"objective": "binary", "num_leaves": 7, "num_threads": 1, "verbosity": -1}
    booster = lightgbm.train({**params, "seed": seed}, data, num_boost_round=40)
    calibration = fit_calibration(np.asarray(booster.predict(matrix[fit])), labels[fit])
    return Head(booster.model_to_string().encode(), calibration)


@pytest.fixture(scope="session")
def one_head() -> Head:
    return train(5)


@pytest.fixture(scope="session")
def other_head() -> Head:
    return train(50)


@pytest.fixture
def shelf(store_url: str, tmp_path: Path) -> Iterator[Shelf]:
    """A shelf of its own, nothing on it."""
    platforms = tuple(adapter.info for adapter in load_adapters().values())
    client = admin_client(store_url)
    yield Shelf(client, f"trial{next(_COUNTER)}", tmp_path / "models", platforms, "00000000")
    client.close()


@pytest.fixture
def publish(shelf: Shelf, one_head: Head) -> Callable[..., ModelRef]:
    """Puts a model into the registry; manifest fields can be altered."""

    def put(name: str, version: str, head: Head = one_head, **changes: Any) -> ModelRef:
        manifest = ModelManifest(
            name=name,
            version=version,
            goal=Step.TRADE if name == "trade" else Step.REGISTER,
            given=Step.CLICK,
            feature_set_id=FEATURE_SET_ID,
            feature_names=FEATURE_NAMES,
            window_s=7 * 86_400,
            trained_from_s=1_710_000_000,
            trained_to_s=1_717_200_000,
            rows=24_000,
            positives=8_000,
            evaluation=Evaluation(rows=500, positives=70, auc=0.8, log_loss=0.3, pcoc=1.0),
            sha256=hashlib.sha256(head.text).hexdigest(),
            calibration=head.calibration,
            seed=7,
            lightgbm_version=lightgbm.__version__,
            created_at_ms=NOW_MS,
        )
        manifest = msgspec.structs.replace(manifest, **changes)
        forest = parse_forest(head.text, version)
        return put_model(shelf.models_folder, manifest, forest, EntryFacts(NOW_MS, "test")).ref

    return put


@pytest.fixture
def town(shelf: Shelf, clock: FakeClock, tmp_path: Path, publish: Callable[..., ModelRef]) -> Town:
    """A release of register v1 and trade v1."""
    snapshot = SnapshotManifest(
        "s1", RECORD_VERSION, 0, 0, 1, 1, 8, THRESHOLDS, {}, {}, {}, "00000000", "", ""
    )
    shelf.client.set(manifest_name(shelf.namespace, "s1"), msgspec.json.encode(snapshot))
    strategies = shelf.releases.put_strategies("")
    live = tuple(publish(name, "v1") for name in ("register", "trade"))
    town = Town(shelf, clock, tmp_path / "run", live, publish)
    town.move(Release("", "s1", live, strategies, 0))
    return town


@pytest.fixture
def a_good_one(town: Town, other_head: Head) -> ModelRef:
    """Trained on other rows of the same world."""
    return town.publish("register", "good", other_head)


@pytest.fixture
def a_greedy_one(town: Town, one_head: Head) -> ModelRef:
    """The live model, promising a fifth too much."""
    x, y = one_head.calibration.x, one_head.calibration.y
    higher = Calibration(x, tuple(min(value * 1.2, 0.999) for value in y))
    return town.publish("register", "greedy", calibration=higher)


def sampled(town: Town, count: int, *, seed: int = 1, process: str = "decision-0") -> list[str]:
    """Write rows as workers would, and give their requests' names."""
    chance = np.random.default_rng(seed)
    records = pack_columns(
        {
            "last_active_at": NOW_MS // 1000
            - (np.abs(chance.normal(10.0, 5.0, count)) * DAY_S).astype(np.int64),
            "orders": chance.integers(0, 9, count),
        }
    )
    release = town.release()
    line_up = LineUp(release.release_id, tuple((r.name, r.version) for r in release.models))
    names = [f"{process}-{seed}-{row}" for row in range(count)]
    with SampleWriter(ring_path(town.run_dir, process)) as writer:
        for row, name in enumerate(names):
            tag = KEYS.request_tag("json", name)
            instant = town.clock.now_ms() + row
            record = records[row].tobytes()
            placement = int(chance.integers(0, 4))
            writer.add(
                SampledRow(
                    instant,
                    tag,
                    record,
                    1,
                    2,
                    placement,
                    4,
                    FLAG_PARTICIPATED,
                    900,
                    line_up,
                    (0.1, 0.1),
                )
            )
    town.clock.at_ms += count
    return names


def matured(
    count: int, *, seed: int = 1, truth: float = 1.0, day_ms: int = NOW_MS, **fields: Any
) -> list[bytes]:
    """Write outcomes that carry their features; `truth` times the chance that trainers saw."""
    matrix, rate = world(count, 1_000 + seed)
    labels = np.random.default_rng(seed).random(count) < truth * rate
    usual = {
        "ts_ms": day_ms,
        "platform": "json",
        "stage": "silent",
        "models": {"register": "v1"},
        "value_micros": 30_000_000,
    }
    return [
        json.dumps(
            {
                "id": f"{seed}-{row}",
                "features": _nulls(matrix[row]),
                "labels": {"register": int(labels[row])},
                **usual,
                **fields,
            }
        ).encode()
        for row in range(count)
    ]


def _nulls(row: NDArray[np.float64]) -> Sequence[float | None]:
    return [None if np.isnan(value) else float(value) for value in row]


@pytest.fixture(scope="session")
def outcome_lines() -> Callable[..., list[bytes]]:
    return functools.cache(matured)


@pytest.fixture(scope="session")
def sample_rows() -> Callable[..., list[str]]:
    return sampled


@pytest.fixture(scope="session")
def keys() -> KeyRing:
    return KEYS


@pytest.fixture
def deputy(town: Town) -> Deputy:
    return Deputy(town)
