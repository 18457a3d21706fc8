"""The world that load tests run in: a published release, a store, and requests about its people."""

import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec
from pydantic import SecretStr
from rich.console import Console
from rich.progress import Progress

from loadtest.baseline_data import fill
from loadtest.servers import free_port, on_core
from rta_service import wiring
from rta_service.config import Settings
from rta_service.demo.world import World as Made, WorldOptions, prepare_world
from rta_service.domain.clock import SystemClock
from rta_service.simulation.load import PreparedRequest
from rta_service.simulation.people import md5_of
from rta_service.simulation.traffic import TrafficOptions, encode_json, simulate_traffic
from rta_service.stores.embedded import EmbeddedStore
from rta_service.stores.model_folder import bundle_path
from rta_service.stores.redis import admin_client

SEED: Final = 7
DATA: Final = "data"
REQUESTS: Final = 5_000
READY_PATH: Final = "/readyz"
"""The service listens before it is ready: its supervisor binds the port, a worker answers."""
SERVER_CORE: Final = 0
"""The store shares the servers' core: what it costs is part of a decision."""


class ServiceCommand(msgspec.Struct, frozen=True):
    """How to start the service on a port of the loopback."""

    argv: list[str]
    port: int


class World(msgspec.Struct, frozen=True):
    """All that a load test needs, on one machine."""

    service: ServiceCommand
    """The service with one decision worker on `store_url`, not yet started."""
    store_url: str
    """A running store that outlives the service: the baseline's profiles lie in it too."""
    register_model: Path
    trade_model: Path
    """LightGBM text models of the release, as they were uploaded."""
    requests: list[PreparedRequest]
    """Requests of the json platform, known and unknown devices mixed."""
    md5s: list[str]
    """Device ids that have a record."""
    close: Callable[[], None]
    """Stops the store."""


def prepare(folder: Path, devices: int = 10_000) -> World:
    """Simulate a market, publish its records and models into `folder`, fill the baseline's keys."""
    store = EmbeddedStore(folder / DATA)  # its files are the service's own, so it keeps events
    with on_core(SERVER_CORE):
        url = store.start()
    try:
        return _filled(folder, url, devices, store.stop)
    except BaseException:
        store.stop()
        raise


def _filled(folder: Path, url: str, devices: int, close: Callable[[], None]) -> World:
    settings = Settings(
        data_dir=folder / DATA,
        redis_url=SecretStr(url),
        host="127.0.0.1",
        port=free_port(),
        control_port=free_port(),
        ingest_host="127.0.0.1",
        ingest_port=free_port(),
    )
    now_ms = SystemClock().now_ms()
    today = datetime.fromtimestamp(now_ms / 1000, UTC).date()
    with Progress(console=Console(stderr=True)) as progress:
        options = WorldOptions(devices, SEED, today, now_ms)
        made = prepare_world(options, settings, progress)
    truth = made.truth
    md5s = [md5_of(raw) for raw, seen in zip(truth.raw, truth.seen, strict=True) if seen]
    with admin_client(url) as client:
        fill(client, made.snapshot, wiring.key_ring(settings), md5s)
    bundles = {ref.name: bundle_path(settings.models_folder, ref) for ref in made.release.models}
    return World(
        service=_service(settings, url),
        store_url=url,
        register_model=bundles["register"] / "model.txt",
        trade_model=bundles["trade"] / "model.txt",
        requests=_requests(made),
        md5s=md5s,
        close=close,
    )


def _service(settings: Settings, url: str) -> ServiceCommand:
    argv = [sys.executable, "-m", "rta_service", "serve", "--workers", "1", "--redis-url", url]
    argv += ["--host", settings.host, "--port", str(settings.port)]
    argv += ["--control-port", str(settings.control_port)]
    argv += ["--ingest-host", settings.ingest_host, "--ingest-port", str(settings.ingest_port)]
    argv += ["--data", str(settings.data_dir)]
    return ServiceCommand(argv, settings.port)


def _requests(made: Made) -> list[PreparedRequest]:
    traffic = TrafficOptions(requests=REQUESTS, seed=SEED, tencent_share=0.0)
    return [
        PreparedRequest("/rta/json", encode_json(request))
        for request in simulate_traffic(made.truth, traffic)
    ]
