"""A small world made once, and real services started on copies of it."""

import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from rich.progress import Progress

from rta_service import wiring
from rta_service.config import Settings
from rta_service.demo.judging import Oracle
from rta_service.demo.play import Played, play, running_service
from rta_service.demo.world import World
from rta_service.domain.clock import SystemClock
from rta_service.simulation.traffic import SimulatedRequest, TrafficOptions, simulate_traffic


@dataclass(frozen=True)
class Running:
    """A service on its own copy of the world."""

    settings: Settings
    world: World

    def ask(self, requests: list[SimulatedRequest], rate_per_s: float = 400.0) -> Played:
        return play(requests, self.settings.port, rate_per_s, Progress(disable=True))

    def oracle(self) -> Oracle:
        now_s = SystemClock().now_ms() // 1000
        return Oracle(self.world.snapshot, wiring.key_ring(self.settings), now_s)

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
        workers=workers,
        namespace="test",
        release_poll_ms=100,
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
