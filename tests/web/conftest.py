"""The real adapters over a pipeline whose store and models are fakes, and the apps in process."""

import hashlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

from rta_service.device_key import KeyRing
from rta_service.domain.decision import Decision
from rta_service.domain.platform import PlatformInfo
from rta_service.domain.release import Release, SnapshotManifest
from rta_service.domain.thresholds import DAY_S, Thresholds
from rta_service.online.batcher import Batcher, BatchLimits
from rta_service.online.live_release import LiveRelease, assemble
from rta_service.online.pipeline import Pipeline
from rta_service.online.strategy_file import parse
from rta_service.platforms.base import Adapter
from rta_service.platforms.registry import load_adapters
from rta_service.record import RECORD_DTYPE, RECORD_VERSION
from rta_service.scoring.model_set import ValueRule
from rta_service.web.decision import decision_app
from rta_service.web.lane import Lane

NOW_S = 1_717_286_400
KEYS = KeyRing(b"pepper-of-16-bytes", b"experiment-of-16-b")
KNOWN_MD5 = hashlib.md5(b"a known device", usedforsecurity=False).hexdigest()
STRATEGIES = """\
[[strategy]]
id = "s"
bindings = { json = "s", tencent = "t-s" }
optimises = "click"
goal = "trade"
target_cpa = 30
answer = "weight"
"""


class FakeClock:
    def now_ms(self) -> int:
        return NOW_S * 1000

    def monotonic_s(self) -> float:
        return 100.0


class FakeReader:
    """Knows one device."""

    async def read(self, snapshot: SnapshotManifest, keys: Sequence[bytes]) -> list[bytes | None]:
        record = np.zeros(1, dtype=RECORD_DTYPE)
        record["version"], record["tier"], record["orders"] = RECORD_VERSION, 1, 1
        record["last_active_at"] = NOW_S - DAY_S
        known = KEYS.device_key(KNOWN_MD5)
        return [record.tobytes() if key == known else None for key in keys]


class FakeHead:
    def probabilities(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.full(len(rows), 0.02)


class FakeModels:
    heads = {"register": FakeHead(), "trade": FakeHead()}  # noqa: RUF012 - a fake that nobody changes

    def value_rule(self, goal: Any, event: Any) -> ValueRule:
        return ValueRule("head", "trade")


@dataclass
class FakeMetrics:
    """Remembers what was counted."""

    invalid: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    stages: list[str] = field(default_factory=list)

    def count_invalid(self, platform: PlatformInfo) -> None:
        self.invalid.append(platform.name)

    def count_internal_error(self, place: str) -> None:
        self.errors.append(place)

    def observe(self, stage: str, seconds: float) -> None:
        self.stages.append(stage)


@dataclass
class Failing:
    """An adapter whose `render` breaks for everything but the answer of last resort."""

    inner: Adapter

    @property
    def info(self) -> PlatformInfo:
        return self.inner.info

    def parse(self, body: bytes) -> Any:
        return self.inner.parse(body)

    def render(self, decision: Decision) -> bytes:
        if decision.request_id:
            raise RuntimeError("a bug in an adapter")
        return self.inner.render(decision)

    def render_invalid(self, error: Any) -> tuple[int, bytes]:
        return self.inner.render_invalid(error)


def _live() -> LiveRelease:
    thresholds = Thresholds(18 * DAY_S, 27 * DAY_S, DAY_S, 3, 1000, 3, 2, 1)
    snapshot = SnapshotManifest(
        "snap", RECORD_VERSION, NOW_S, 0, 1, 1, 8, thresholds, {}, {}, {}, "", "", ""
    )
    means = {"s@json": 0.01, "s@tencent": 0.01}
    release = Release("r1", "snap", (), "st", 0, mean_values=means)
    infos = [adapter.info for adapter in load_adapters().values()]
    return assemble(release, snapshot, FakeModels(), parse(STRATEGIES), infos)


@dataclass
class Port:
    """The decision port in process."""

    lane: Lane
    pipeline: Pipeline
    metrics: FakeMetrics
    client: httpx.AsyncClient


@pytest.fixture(scope="session")
def known_md5() -> str:
    return KNOWN_MD5


@pytest.fixture(scope="session")
def adapters() -> dict[str, Adapter]:
    return load_adapters()


@pytest.fixture
def metrics() -> FakeMetrics:
    return FakeMetrics()


def a_client(app: Any) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://port")


@pytest.fixture
async def port(adapters: dict[str, Adapter], metrics: FakeMetrics) -> AsyncIterator[Port]:
    pipeline = Pipeline(FakeReader(), KEYS, FakeClock())
    pipeline.live = _live()
    batcher = Batcher(pipeline, BatchLimits(0.03), lambda *_: None)

    async def watch() -> None:
        """Stand in for the release watcher."""

    def ready() -> str:
        return "" if pipeline.live else "no release"

    app = decision_app(adapters, ready, watch)
    lane = Lane(adapters, batcher, metrics, FakeClock(), app)
    async with a_client(lane) as client:
        yield Port(lane, pipeline, metrics, client)


@pytest.fixture
async def broken_port(adapters: dict[str, Adapter], metrics: FakeMetrics) -> AsyncIterator[Port]:
    """A decision port whose adapters can't write answers."""
    pipeline = Pipeline(FakeReader(), KEYS, FakeClock())
    batcher = Batcher(pipeline, BatchLimits(0.03), lambda *_: None)
    failing = {name: Failing(adapter) for name, adapter in adapters.items()}

    async def nowhere(*_: Any) -> None:
        """Never reached."""

    lane = Lane(failing, batcher, metrics, FakeClock(), nowhere)
    async with a_client(lane) as client:
        yield Port(lane, pipeline, metrics, client)
