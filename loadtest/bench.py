"""Decisions per second on one core: this service, the obvious version, and a constant.

    python -m loadtest.bench [--rounds 3] [--seconds 3] [--connections 32] [--json]

Servers are pinned to core 0 and measured one after the other inside each round, the idle ones
standing still; the generator is a process of its own on core 1. Ratios within one run are the
result; absolute numbers move with the machine.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Final, Literal

import msgspec
from rich.console import Console
from rich.table import Table

from loadtest import baseline
from loadtest.generate import Job, Measurement, measure_apart
from loadtest.prepare import READY_PATH, World, prepare
from loadtest.servers import Server, Target, free_port
from rta_service.simulation.load import LoadPlan, PreparedRequest

SERVICE: Final = "this service"
BASELINE: Final = "baseline"
CONSTANT: Final = "constant"
OPEN_LOOP_SHARE: Final = 0.5
"""Part of the measured capacity at which latency is read."""
_WARM_UP_S: Final = 0.7
_TABLE_WIDTH: Final = 120


@dataclass(frozen=True, slots=True)
class Options:
    """How long and how wide to measure."""

    rounds: int = 3
    seconds: float = 3.0
    connections: int = 32


class Capacity(msgspec.Struct, frozen=True):
    """One server's closed-loop rounds."""

    name: str
    per_s: list[float]
    """Answers a second of each round."""
    failed: int
    participating: float
    """Share of yes: who declines everyone decides nothing."""
    degraded: float
    """Share of emergency answers, which cost nothing; anything above 0 spoils the number."""
    generator_load: float
    """The generator's CPU share, at most in any round: near 1 the server could do more."""

    @property
    def median_per_s(self) -> float:
        """The middle round: one disturbed round does not move it."""
        return median(self.per_s)


class Report(msgspec.Struct, frozen=True):
    """What a run found."""

    capacities: list[Capacity]
    open_loop_rate: float
    open_loop: Measurement

    def capacity(self, name: str) -> float:
        """Median answers a second of a server."""
        return next(one.median_per_s for one in self.capacities if one.name == name)

    def ratio(self, over: str) -> float:
        """This service's capacity over another's."""
        return self.capacity(SERVICE) / self.capacity(over)


def targets(world: World) -> list[Target]:
    """Say how the three servers start, each with one worker."""

    def uvicorn(app: str, port: int) -> list[str]:
        command = [sys.executable, "-m", "uvicorn", app, "--port", str(port)]
        return [*command, "--no-access-log", "--log-level", "warning"]

    baseline_port, constant_port = free_port(), free_port()
    environment = {
        baseline.STORE_URL: world.store_url,
        baseline.REGISTER_MODEL: str(world.register_model),
        baseline.TRADE_MODEL: str(world.trade_model),
    }
    factory = [*uvicorn("loadtest.baseline:from_environment", baseline_port), "--factory"]
    return [
        Target(SERVICE, world.service.argv, world.service.port, ready_path=READY_PATH),
        Target(BASELINE, factory, baseline_port, environment),
        Target(CONSTANT, uvicorn("loadtest.constant:app", constant_port), constant_port),
    ]


def run(
    chosen: Sequence[Target], requests: list[PreparedRequest], options: Options, folder: Path
) -> Report:
    """Measure all targets in interleaved rounds, then the first one's latency in open loop."""
    with ExitStack() as stack:
        servers = [
            stack.enter_context(Server(target, folder / f"{number}.log"))
            for number, target in enumerate(chosen)
        ]
        for server in servers:
            server.pause()
        rounds = [
            [_closed(server, requests, options, folder) for server in servers]
            for _ in range(options.rounds)
        ]
        capacities = [
            _capacity(server.target.name, [measured[number] for measured in rounds])
            for number, server in enumerate(servers)
        ]
        rate = OPEN_LOOP_SHARE * capacities[0].median_per_s
        opened = _opened(servers[0], requests, (options, rate), folder)
    return Report(capacities, rate, opened)


def _capacity(name: str, rounds: list[Measurement]) -> Capacity:
    return Capacity(
        name,
        per_s=[measured.answers_per_s for measured in rounds],
        failed=sum(measured.failed for measured in rounds),
        participating=median(measured.participating for measured in rounds),
        degraded=max(measured.degraded for measured in rounds),
        generator_load=max(measured.generator_load for measured in rounds),
    )


def _closed(
    server: Server, requests: list[PreparedRequest], options: Options, folder: Path
) -> Measurement:
    def plan(seconds: float) -> LoadPlan:
        return LoadPlan(options.connections, count=sys.maxsize, duration_s=seconds)

    port = server.target.port
    server.resume()
    try:
        measure_apart(Job(port, requests, plan(_WARM_UP_S)), folder)
        return measure_apart(Job(port, requests, plan(options.seconds)), folder)
    finally:
        server.pause()


def _opened(
    server: Server, requests: list[PreparedRequest], how: tuple[Options, float], folder: Path
) -> Measurement:
    options, rate = how
    seconds = options.seconds * options.rounds
    plan = LoadPlan(
        2 * options.connections,
        rate_per_s=rate,
        count=max(1, int(rate * seconds)),
        duration_s=seconds + 5,
        spin=True,
    )
    server.resume()
    return measure_apart(Job(server.target.port, requests, plan), folder)


def tables(report: Report) -> list[Table]:
    """Lay the report out for people."""
    capacity = Table(title="Decisions a second on one core, closed loop, median of the rounds")
    headings = ("server", "per second", "rounds", "/ baseline", "/ constant", "yes", "degraded")
    for heading in (*headings, "failed", "generator"):
        side: Literal["left", "right"] = "left" if heading == "server" else "right"
        capacity.add_column(heading, justify=side, no_wrap=True)
    for one in report.capacities:
        capacity.add_row(
            one.name,
            f"{one.median_per_s:,.0f}",
            f"{min(one.per_s):,.0f}-{max(one.per_s):,.0f}",
            f"{one.median_per_s / report.capacity(BASELINE):.2f}",
            f"{one.median_per_s / report.capacity(CONSTANT):.2f}",
            f"{one.participating:.0%}",
            f"{one.degraded:.1%}",
            str(one.failed),
            f"{one.generator_load:.0%}",
        )
    latency = Table(title=f"{SERVICE} in open loop, {report.open_loop_rate:,.0f} a second")
    latency.add_column("milliseconds")
    for name in report.open_loop.latency_ms:
        latency.add_column(name, justify="right")
    for label, values in (
        ("from the scheduled instant", report.open_loop.latency_ms),
        ("the generator's own lag", report.open_loop.send_lag_ms),
    ):
        latency.add_row(label, *(f"{value:.2f}" for value in values.values()))
    return [capacity, latency]


def as_json(report: Report) -> dict[str, Any]:
    """Give the report with its ratios as plain data."""
    found: dict[str, Any] = msgspec.to_builtins(report)
    medians = {one.name: one.median_per_s for one in report.capacities}
    ratios = {"baseline": report.ratio(BASELINE), "constant": report.ratio(CONSTANT)}
    return {**found, "medians": medians, "ratios": ratios}


def main() -> None:
    """Prepare the world, measure, print."""
    parser = argparse.ArgumentParser(prog="loadtest.bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    options = Options(given.rounds, given.seconds, given.connections)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        world = prepare(folder)
        try:
            report = run(targets(world), world.requests, options, folder)
        finally:
            world.close()
    if given.json:
        print(msgspec.json.format(msgspec.json.encode(as_json(report))).decode())
        return
    console = Console()
    console.width = max(console.width, _TABLE_WIDTH)
    for table in tables(report):
        console.print(table)


if __name__ == "__main__":
    main()
