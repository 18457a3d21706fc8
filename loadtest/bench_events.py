"""Events a second: taken in durably, folded into records, drained from a backlog; and what that
does to decisions beside it.

    python -m loadtest.bench_events [--events 400000] [--rounds 8] [--rate 2000] [--json]

The nearline process has core 0 for itself while it takes in and while it drains; the generator and
the embedded store share core 1. Nothing consumes while events are taken in, so that the backlog
grows; then the same process drains it.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any, Final

import msgspec
from pydantic import SecretStr
from rich.console import Console
from rich.table import Table

from loadtest.event_lines import BATCH, lines_of, requests_of
from loadtest.generate import Job, Measurement, measure_apart
from loadtest.prepare import DATA, READY_PATH, World, prepare
from loadtest.servers import Server, Target, free_port, on_core
from rta_service import wiring
from rta_service.config import Settings
from rta_service.domain.clock import SystemClock
from rta_service.nearline.reading import ReadingRules, read_line
from rta_service.simulation.load import LoadPlan, percentiles
from rta_service.stores.delta_store import DeltaStore, entries_of
from rta_service.stores.embedded import EmbeddedStore
from rta_service.stores.keys import event_name
from rta_service.stores.redis import AdminClient, admin_client

GROUPS: Final = ("fresh", "archive", "attribution")
_PIECES: Final = 4
_DRAIN_S: Final = 600.0
_FOLDED: Final = 100_000
_BESIDE_S: Final = 8
"""Of decisions a round. Short and by turns, so that a slow minute of the machine slows both; the
percentiles are of all rounds together."""
_RATE_PER_S: Final = 300


class Piece(msgspec.Struct, frozen=True):
    """What was taken in while the backlog grew from one size to another."""

    backlog: int
    """Events that waited at its end."""
    events_per_s: float
    cpu_s_per_100k: float
    """CPU seconds of the nearline process for 100,000 events."""
    p99_ms: float
    """Of a batch's acknowledgement, with 8 of them under way."""
    rss_mb: float


class Drained(msgspec.Struct, frozen=True):
    """How the backlog went."""

    events_per_s: dict[str, float]
    """By group: all three work at once, on one core."""
    rss_mb: float
    """The most that the process held."""


class Beside(msgspec.Struct, frozen=True):
    """Decisions with and without events being taken in, on the same core."""

    events_per_s: float
    alone_ms: dict[str, float]
    """Percentiles of all rounds' answers."""
    beside_ms: dict[str, float]
    ratio: float
    """Of the 99th percentiles."""
    by_round: list[float]
    """The same, round by round."""


class Results(msgspec.Struct, frozen=True):
    """Everything that was measured."""

    taken_in: list[Piece]
    folded_per_s: float
    """Deltas a second of one process that does nothing else."""
    drained: Drained
    beside: Beside


def cpu_s(pid: int) -> float:
    """Give the CPU seconds that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def rss_mb(pid: int) -> float:
    """Give the resident memory of a process."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


@contextmanager
def nearline(settings: Settings, folder: Path) -> Iterator[int]:
    """Run one nearline process on core 0, and give its pid."""
    code = (
        "import socket,sys;from rta_service.cli.serve import nearline_worker;"
        f"s=socket.create_server(('127.0.0.1',{settings.ingest_port}),backlog=128);"
        "nearline_worker(s.detach())"
    )
    environment = settings.as_environment()
    argv = [sys.executable, "-c", code]
    target = Target("nearline", argv, settings.ingest_port, environment, "/livez")
    with Server(target, folder / "nearline.log") as server:
        yield server.pid


def take_in(settings: Settings, pid: int, events: int, folder: Path) -> list[Piece]:
    """Send all events in pieces, as fast as they are acknowledged."""
    token = wiring.secret(settings, "control_token").decode()
    pieces = []
    size = events // _PIECES // BATCH * BATCH
    for piece in range(_PIECES):
        requests = requests_of(piece * size, size, token)
        plan = LoadPlan(connections=8, count=len(requests), duration_s=120.0, grace_s=20.0)
        before_s = cpu_s(pid)
        found = measure_apart(Job(settings.ingest_port, requests, plan), folder)
        if found.failed:
            raise RuntimeError(f"{found.failed} batches were not acknowledged")
        spent_s = cpu_s(pid) - before_s
        pieces.append(
            Piece(
                backlog=(piece + 1) * size,
                events_per_s=found.answers_per_s * BATCH,
                cpu_s_per_100k=spent_s / size * 100_000,
                p99_ms=found.latency_ms["p99"],
                rss_mb=rss_mb(pid),
            )
        )
    return pieces


def drain(client: AdminClient, namespace: str, pid: int, events: int) -> Drained:
    """Let the groups work, and watch until all have done all."""
    client.delete(event_name(namespace, "lease:consume"))
    log: Any = event_name(namespace, "log")
    began_s, most_mb = time.monotonic(), 0.0
    done_s: dict[str, float] = {}
    while len(done_s) < len(GROUPS) and time.monotonic() - began_s < _DRAIN_S:
        time.sleep(0.05)
        most_mb = max(most_mb, rss_mb(pid))
        stream: Any = client
        for facts in stream.xinfo_groups(log):
            name = facts["name"].decode()
            if name not in done_s and not facts["lag"] and not facts["pending"]:
                done_s[name] = time.monotonic() - began_s
    if len(done_s) < len(GROUPS):
        raise RuntimeError(f"only {sorted(done_s)} got through within {_DRAIN_S:g} s")
    return Drained({name: events / spent_s for name, spent_s in done_s.items()}, most_mb)


def fold(settings: Settings, client: AdminClient) -> float:
    """Fold events into deltas on core 0, doing nothing else: deltas written a second."""
    now_ms = SystemClock().now_ms()
    rules, keys = ReadingRules(now_ms), wiring.key_ring(settings)
    store = DeltaStore(client, f"{settings.namespace}-fold")
    written, spent_s = 0, 0.0
    with on_core(0):
        for first in range(0, _FOLDED, 2_000):
            found = [read_line(line, rules) for line in lines_of(first, 2_000, now_ms)]
            entries = [
                entry
                for place, one in enumerate(found)
                for entry in entries_of(f"{first + place + 1}-0".encode(), one, keys)  # type: ignore[arg-type]  # none is rejected
            ]
            began_s = time.monotonic()
            written += store.apply(entries).deltas
            spent_s += time.monotonic() - began_s
    return written / spent_s


def beside(world: World, folder: Path, rounds: int, rate: float) -> Beside:
    """Measure decisions at a steady rate, by turns alone and with events coming in beside them."""
    settings = Settings(data_dir=folder / DATA, redis_url=SecretStr(world.store_url))
    token = wiring.secret(settings, "control_token").decode()
    argv = [*world.service.argv]
    port = int(argv[argv.index("--ingest-port") + 1])
    count = _RATE_PER_S * _BESIDE_S
    plan = LoadPlan(connections=16, rate_per_s=_RATE_PER_S, count=count, duration_s=_BESIDE_S + 2.0)
    job = Job(world.service.port, world.requests, plan, goes_first=True, tells_all=True)
    alone: list[list[float]] = []
    together: list[list[float]] = []
    target = Target("service", argv, world.service.port, ready_path=READY_PATH)
    log = folder / "service.log"
    with Server(target, log):
        _move(_pid_of(log, "nearline"), core=1)
        measure_apart(job, folder)
        for number in range(rounds):
            alone.append(measure_apart(job, folder).all_ms)
            with _events(port, token, rate, number):
                together.append(measure_apart(job, folder).all_ms)
    before, after = (percentiles(list(chain.from_iterable(one))) for one in (alone, together))
    by_round = [_ratio(*map(percentiles, pair)) for pair in zip(alone, together, strict=True)]
    return Beside(rate, before, after, _ratio(before, after), by_round)


def _ratio(before: dict[str, float], after: dict[str, float]) -> float:
    return after["p99"] / before["p99"]


def _pid_of(log: Path, child: str) -> int:
    """Wait until a child of the service is ready, and give its pid."""
    for _ in range(200):
        lines = [line for line in log.read_text().splitlines() if line.startswith("{")]
        for event in map(msgspec.json.decode, lines):
            if event.get("child") == child and event["event"] == "child_ready":
                return int(event["pid"])
        time.sleep(0.1)
    raise RuntimeError(f"{child} was not ready")


def _move(pid: int, core: int) -> None:
    """Move a process with all its threads to a core."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        os.sched_setaffinity(int(task.name), {core})


@contextmanager
def _events(port: int, token: str, rate: float, number: int) -> Iterator[None]:
    """Send batches at a steady rate from core 1 while the block runs."""
    seconds = _BESIDE_S + 3.0
    requests = requests_of(10_000_000 * (number + 1), round(rate * seconds), token)
    plan = LoadPlan(connections=4, rate_per_s=rate / BATCH, duration_s=seconds)
    with (
        tempfile.TemporaryDirectory() as folder,
        _in_background(Job(port, requests, plan), Path(folder)),
    ):
        time.sleep(0.5)
        yield


@contextmanager
def _in_background(job: Job, folder: Path) -> Iterator[None]:
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(measure_apart, job, folder)
        yield
        found: Measurement = running.result()
    if found.failed:
        raise RuntimeError(f"{found.failed} batches were not acknowledged")


def run(events: int, rounds: int, rate: float) -> Results:
    """Measure everything, one after the other."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        store = EmbeddedStore(folder / DATA)
        with on_core(1):
            url = store.start()
        settings = Settings(
            data_dir=folder / DATA,
            redis_url=SecretStr(url),
            namespace="bench",
            ingest_port=free_port(),
            archive_every_s=0.0,
        )
        try:
            with admin_client(url) as client:
                lease: Any = client
                lease.set(event_name("bench", "lease:consume"), "the bench", px=3_600_000)
                with nearline(settings, folder) as pid:
                    taken_in = take_in(settings, pid, events, folder)
                    drained = drain(client, "bench", pid, taken_in[-1].backlog)
                folded = fold(settings, client)
        finally:
            store.stop()
    with tempfile.TemporaryDirectory() as name:
        world = prepare(Path(name))
        try:
            found = beside(world, Path(name), rounds, rate)
        finally:
            world.close()
    return Results(taken_in, folded, drained, found)


def show(results: Results, console: Console) -> None:
    """Print tables for people."""
    pieces = Table(
        *("backlog", "events/s", "CPU s per 100k", "p99 of a batch", "RSS"),
        title="taken in durably, batches of 500, one process on one core",
    )
    for piece in results.taken_in:
        pieces.add_row(
            f"{piece.backlog:,}",
            f"{piece.events_per_s:,.0f}",
            f"{piece.cpu_s_per_100k:.2f}",
            f"{piece.p99_ms:.0f} ms",
            f"{piece.rss_mb:.0f} MB",
        )
    console.print(pieces)
    rest = Table("what", "figure", title="what is done with them")
    rest.add_row("folded into deltas, alone", f"{results.folded_per_s:,.0f} deltas/s")
    for name, rate in results.drained.events_per_s.items():
        rest.add_row(f"drained: {name}, beside the others", f"{rate:,.0f} events/s")
    rest.add_row("memory while draining, at most", f"{results.drained.rss_mb:.0f} MB")
    found = results.beside
    rest.add_row(
        f"decisions' p99 beside {found.events_per_s:,.0f} events/s",
        f"{found.beside_ms['p99']:.2f} ms, {found.ratio:.2f} x the {found.alone_ms['p99']:.2f} ms alone"
        f" ({min(found.by_round):.2f} to {max(found.by_round):.2f} by round)",
    )
    console.print(rest)


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line, measure, show."""
    parser = argparse.ArgumentParser(description="Events a second, and decisions beside them.")
    parser.add_argument("--events", type=int, default=400_000)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--rate", type=float, default=2_000.0)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args(arguments)
    results = run(given.events, given.rounds, given.rate)
    if given.json:
        sys.stdout.write(msgspec.json.encode(results).decode() + "\n")
    else:
        show(results, Console(width=100))


if __name__ == "__main__":
    main()
