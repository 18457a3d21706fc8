"""A small world made once, and real services started on copies of it."""

import asyncio
import shutil
import socket
import sys
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import msgspec
import pytest
from rich.progress import Progress

from rta_service import wiring, wiring_events
from rta_service.config import Settings
from rta_service.demo.judging import Oracle
from rta_service.demo.platforms import CONTENT_TYPES, ENCODERS, PATHS
from rta_service.demo.play import Played, play, running_service
from rta_service.demo.world import World
from rta_service.domain.audit import AuditEntry
from rta_service.domain.clock import SystemClock
from rta_service.domain.reason import DEGRADED
from rta_service.domain.release import ModelRef, Release
from rta_service.releasing.activation import Patience, switch
from rta_service.releasing.shelf import Shelf
from rta_service.scoring.calibration import Calibration
from rta_service.scoring.model_file import object_path, read_model
from rta_service.simulation.client import run_load
from rta_service.simulation.load import LoadPlan, PreparedRequest
from rta_service.simulation.traffic import (
    SimulatedRequest,
    TrafficOptions,
    encode_traffic,
    simulate_traffic,
)
from rta_service.stores.model_folder import EntryFacts, put_model
from rta_service.stores.releases import ReleaseStore, new_release_id
from rta_service.telemetry import read_all
from rta_service.telemetry.registry import FIRST_CELL, RELEASE_AGE, RELEASE_TAKEN
from rta_service.wiring_events import Events


@dataclass(frozen=True)
class Running:
    """A service on its own copy of the world."""

    settings: Settings
    world: World

    def ask(self, requests: list[SimulatedRequest], rate_per_s: float = 400.0) -> Played:
        return play(requests, self.settings.port, rate_per_s, Progress(disable=True))

    def oracle(self, now_s: int = 0) -> Oracle:
        """Judges by the stages of an instant, of now if none is given."""
        now_s = now_s or SystemClock().now_ms() // 1000
        return Oracle(self.world.snapshot, wiring.key_ring(self.settings), now_s)

    def with_events(self, work: Callable[[Events], Awaitable[Any]]) -> Any:
        """Do something with the log of what came back."""

        async def opened(url: str) -> Any:
            async with wiring_events.open_events(self.settings, url) as events:
                return await work(events)

        with wiring.store_url(self.settings) as url:
            return asyncio.run(opened(url))

    def requests(self, count: int, seed: int = 1) -> list[SimulatedRequest]:
        options = TrafficOptions(requests=count, seed=seed)
        return list(simulate_traffic(self.world.truth, options))


StartService = Callable[[int], AbstractContextManager[Running]]


def settings_for(folder: Path, workers: int) -> Settings:
    return Settings(
        data_dir=folder,
        redis_url=None,
        host="127.0.0.1",
        port=_free_port(),
        control_port=_free_port(),
        ingest_host="127.0.0.1",
        ingest_port=_free_port(),
        archive_every_s=0.5,
        workers=workers,
        namespace="test",
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@pytest.fixture
def start_service(made_world: World, tmp_path: Path) -> StartService:
    """Give a function that runs a service with some workers on a fresh copy of the world."""

    @contextmanager
    def start(workers: int) -> Iterator[Running]:
        folder = tmp_path / f"data-{workers}"
        shutil.copytree(made_world.events.parent, folder)
        settings = settings_for(folder, workers)
        with running_service(settings, SystemClock()):
            yield Running(settings, made_world)

    return start


DEGRADED_WORDS = {reason.label for reason in DEGRADED}
Judge = Callable[[SimulatedRequest, dict[str, Any]], str]
"""Says what is wrong with an answer of the json platform; empty for nothing."""


@dataclass
class Load:
    """Requests at a steady rate from a thread until the block ends, every answer judged."""

    service: Running = field(repr=False)
    requests: list[SimulatedRequest] = field(repr=False)
    rate_per_s: float
    judge: Judge
    faults: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    latencies_s: list[float] = field(default_factory=list, repr=False)
    judged: int = 0
    degraded: int = 0

    def __enter__(self) -> Self:
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._thread.join()

    def _run(self) -> None:
        prepared = [
            PreparedRequest(PATHS[request.platform], body, CONTENT_TYPES[request.platform])
            for request, body in encode_traffic(self.requests, ENCODERS)
        ]
        address = ("127.0.0.1", self.service.settings.port)
        plan = LoadPlan(32, self.rate_per_s, sys.maxsize, duration_s=1.0)
        while not self._ending.is_set():
            result = asyncio.run(run_load(address, prepared, plan, self._take))
            self.errors += result.errors
            self.latencies_s += result.latencies

    def _take(self, number: int, status: int, body: bytes, _latency_s: float) -> None:
        request = self.requests[number % len(self.requests)]
        if status != 200:
            self.faults[f"status {status}"] += 1
        elif request.platform == "json":
            answer = msgspec.json.decode(body)
            self.judged += 1
            if answer["reason"] in DEGRADED_WORDS:
                self.degraded += 1
            elif fault := self.judge(request, answer):
                self.faults[fault] += 1


@pytest.fixture
def a_load() -> Callable[..., Load]:
    """Makes a load on a service, repeating the requests."""

    def make(
        service: Running,
        judge: Judge,
        requests: list[SimulatedRequest] | None = None,
        rate_per_s: float = 300.0,
    ) -> Load:
        return Load(service, requests or service.requests(2_000), rate_per_s, judge)

    return make


class _Timed(ReleaseStore):
    """A store that remembers when it began to move the pointer."""

    began_ms = 0

    def publish(self, release: Release, entry: AuditEntry) -> None:
        self.began_ms = SystemClock().now_ms()
        super().publish(release, entry)


@dataclass
class Switchboard:
    """Moves a running service from release to release, and times its workers."""

    shelf: Shelf
    service: Running = field(repr=False)

    def __post_init__(self) -> None:
        self.releases = _Timed(self.shelf.client, self.shelf.namespace)

    def put(self, like: ModelRef, version: str, scale: float, shift: float = 0.0) -> ModelRef:
        """Put a version into the folder: the trees of another, y = scale x its y + shift."""
        folder = self.shelf.models_folder
        manifest, forest = read_model(object_path(folder, like.sha256), like.sha256)
        knots = manifest.calibration
        calibration = Calibration(knots.x, tuple(scale * y + shift for y in knots.y))
        changed = msgspec.structs.replace(manifest, version=version, calibration=calibration)
        return put_model(folder, changed, forest, EntryFacts(1, "storm")).ref

    def named(self, draft: Release) -> Release:
        """Give a draft its place after the current release, and its name."""
        now_ms = SystemClock().now_ms()
        current = self.releases.current()
        assert current is not None
        return msgspec.structs.replace(
            draft,
            release_id=new_release_id(now_ms),
            previous_id=current.release_id,
            created_at_ms=now_ms,
        )

    def move(self, release: Release, *, at_once: bool = False) -> list[float]:
        """Let a named release decide; gives each worker's time from the commit to its switch, ms."""
        entry = AuditEntry(release.created_at_ms, "storm", "publish", "a swap")
        if at_once:
            self.releases.publish(release, entry)
        else:
            switch(self.releases, release, entry, Patience())
        return self.lags_ms(release, self.releases.began_ms)

    def lags_ms(self, release: Release, began_ms: int) -> list[float]:
        """Wait until all workers decide by a release, and give how long after an instant, ms."""
        made_at, taken_at = FIRST_CELL[RELEASE_AGE.name], FIRST_CELL[RELEASE_TAKEN.name]
        made_s, pause = release.created_at_ms / 1000, threading.Event()
        for _ in range(2_000):
            gauges = read_all(self.service.settings.run_dir).gauges
            workers = [c for name, c in gauges.items() if name.startswith("decision-")]
            if workers and all(cells[made_at] == made_s for cells in workers):
                return [1000 * float(cells[taken_at]) - began_ms for cells in workers]
            pause.wait(0.005)
        raise AssertionError(f"workers did not switch to {release.release_id}")


@pytest.fixture
def switchboard() -> Callable[..., AbstractContextManager[Switchboard]]:
    """Opens the switchboard of a running service."""

    @contextmanager
    def opened(service: Running) -> Iterator[Switchboard]:
        with wiring.open_shelf(service.settings) as shelf:
            yield Switchboard(shelf, service)

    return opened
