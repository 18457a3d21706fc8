"""What cost control costs a request, and how old the orders are that workers follow.

    python -m loadtest.bench_steering [--rounds 25] [--seconds 20] [--json]

Microseconds for each strategy that is priced, in batches of 32 requests, under control and without:
the least of the rounds, as a disturbed one says nothing about the code. And how long an order takes from its controller to 16 workers, each of which asks every half second.
"""

import argparse
import asyncio
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from time import perf_counter, thread_time
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from rta_service.device_key import KeyRing
from rta_service.domain.clock import SystemClock
from rta_service.domain.control import Aim, Block, CostGoal, GoalBlock, Mode, Targets
from rta_service.domain.control_order import ControlSettings, Grant, Order, Shape, UnitView
from rta_service.domain.decision import Prediction
from rta_service.domain.platform import BidKind
from rta_service.domain.reason import ReasonCode
from rta_service.domain.request import AdRequest
from rta_service.domain.strategy import Audience, Goal, OptimisedEvent, Strategy
from rta_service.domain.user import LifecycleStage, RFMSegment, Role, ValueTier
from rta_service.online.control_desk import ControlDesk
from rta_service.online.control_exchange import ControlExchange
from rta_service.online.live_release import BoundStrategy, bind
from rta_service.online.person import NOBODY
from rta_service.online.pricing import price_strategy
from rta_service.platforms.registry import load_adapters
from rta_service.scoring.model_set import ValueRule
from rta_service.stores.control_store import ControlStore, Exchanged, Saved, WorkerControl
from rta_service.stores.embedded import EmbeddedStore
from rta_service.stores.redis import admin_client, close, watch_client

BATCH: Final = 32
TARGET_US: Final = 2.0
TARGET_S: Final = 1.5
_WORKERS: Final = 16
_REPEATS: Final = 40
_KEYS: Final = KeyRing(b"pepper-of-16-bytes", b"experiment-of-16-b")
_AIM: Final = Aim(Mode.TCPA, Targets(deep_micros=30_000_000), CostGoal.DEEP)
_ANYBODY: Final = Audience(
    frozenset(LifecycleStage),
    frozenset(RFMSegment),
    frozenset(ValueTier),
    frozenset(Role),
    frozenset(),
)


@dataclass(frozen=True, slots=True)
class _Head:
    """Stands in for a model: its probabilities are given beside it."""

    def probabilities(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.zeros(len(rows))


@dataclass(frozen=True, slots=True)
class _Models:
    heads: dict[str, _Head]

    def value_rule(self, goal: Goal, event: OptimisedEvent) -> ValueRule:
        return ValueRule("one") if goal.value == event.value else ValueRule("head", goal.value)


class Cost(msgspec.Struct, frozen=True):
    """Microseconds for one strategy of one request."""

    answer: str
    strategies: int
    """Of each request."""
    formula_us: float
    """The bid alone."""
    plain_us: float
    """A strategy's whole answer without control."""
    steered_us: float
    """And under it, with the request's draw."""


class Staleness(msgspec.Struct, frozen=True):
    """Seconds from saving an order to a worker that follows it."""

    orders: int
    seen: int
    p50_s: float
    p99_s: float
    most_s: float


class Report(msgspec.Struct, frozen=True):
    """What a run found."""

    costs: list[Cost]
    staleness: Staleness

    @property
    def is_met(self) -> bool:
        """Say whether both targets are met."""
        dearest = max(cost.formula_us for cost in self.costs)
        return dearest <= TARGET_US and self.staleness.p99_s <= TARGET_S


def costs(rounds: int) -> list[Cost]:
    """Measure every kind of answer, alone and among eight strategies."""
    return [_cost(kind, many, rounds) for kind in BidKind for many in (1, 8)]


def _cost(kind: BidKind, many: int, rounds: int) -> Cost:
    steered, plain = (
        [_bound(kind, f"s{number}", control) for number in range(many)]
        for control in (ControlSettings(_AIM), None)
    )
    desk = _desk(steered)
    batch = [_asked(number) for number in range(BATCH)]
    ways = [
        _bidding(steered, desk, batch),
        _answering(plain, None, batch),
        _answering(steered, desk, batch),
    ]
    times: list[list[float]] = [[], [], []]
    for _ in range(rounds):
        for way, found in zip(ways, times, strict=True):
            found.append(_us(way, BATCH * many))
    return Cost(kind.value, many, *map(min, times))


def _us(way: Callable[[], None], calls: int) -> float:
    started = thread_time()  # of the processor: a busy machine must not count
    for _ in range(_REPEATS):
        way()
    return (thread_time() - started) / (_REPEATS * calls) * 1e6


def _bidding(
    group: Sequence[BoundStrategy], desk: ControlDesk, batch: Sequence[tuple[AdRequest, Any]]
) -> Callable[[], None]:
    cases = [
        (desk.sit(request, NOBODY).case, scores, Prediction(scores["register"], scores["trade"]))
        for request, scores in batch
    ]

    def run() -> None:
        for case, scores, pcvr in cases:
            for bound in group:
                desk.steering(bound).price(bound, scores, pcvr, case)

    return run


def _answering(
    group: Sequence[BoundStrategy], desk: ControlDesk | None, batch: Sequence[tuple[AdRequest, Any]]
) -> Callable[[], None]:
    verdicts = [(bound, ReasonCode.ACCEPTED) for bound in group]

    def run() -> None:
        if desk is not None:
            desk.begin()
        for request, scores in batch:
            pcvr = Prediction(scores["register"], scores["trade"])
            sitting = None if desk is None else desk.sit(request, NOBODY)
            for verdict in verdicts:
                price_strategy(request, verdict, scores, pcvr, sitting)

    return run


def _asked(number: int) -> tuple[AdRequest, dict[str, float]]:
    chance = Random(number)
    info = load_adapters()["json"].info
    request = AdRequest(f"request-{number}", info, pctr=0.02)
    return request, {"register": chance.uniform(0.01, 0.1), "trade": chance.uniform(0.001, 0.02)}


def _bound(kind: BidKind, name: str, control: ControlSettings | None) -> BoundStrategy:
    strategy = Strategy(
        name,
        {"json": name},
        _ANYBODY,
        OptimisedEvent.CLICK,
        Goal.TRADE,
        30_000_000,
        kind,
        "CNY",
        0.2,
        1e12,
        control=control,
    )
    models = _Models({"register": _Head(), "trade": _Head()})
    return bind(strategy, load_adapters()["json"].info, models, 0.01)


def _order(unit_id: str, version: int, now_ms: int, kind: BidKind = BidKind.WEIGHT) -> Order:
    goals = (GoalBlock(CostGoal.DEEP, 3e7, 1.1, 0.2, 0.01),)
    block = Block(unit_id, version, now_ms, 15_000, Mode.TCPA, goals, 0.1, cap_micros=2e6)
    shape = Shape(0.01, 0.002) if kind is BidKind.WEIGHT else None
    return Order(block, ControlSettings(_AIM), shape, 0.3 if kind is BidKind.CPM else 0.0)


def _desk(group: Sequence[BoundStrategy]) -> ControlDesk:
    clock = SystemClock()
    desk = ControlDesk(_KEYS, clock)
    now_ms = clock.now_ms()
    orders = {one.unit: _order(one.unit, 1, now_ms, one.strategy.answer) for one in group}
    far_ms = now_ms + 3_600_000
    grants = [Grant(unit, 10**15, far_ms) for unit in orders]
    desk.take(Exchanged(orders, grants, now_ms), clock.monotonic_s())
    return desk


def staleness(seconds: float) -> Staleness:
    """Save orders at random moments, and watch when workers follow them."""
    with tempfile.TemporaryDirectory() as name, EmbeddedStore(Path(name)) as store:
        saved, seen, late = asyncio.run(_watched(store.url, seconds))
    late.sort()
    return Staleness(
        saved, seen, late[len(late) // 2], late[min(int(len(late) * 0.99), len(late) - 1)], late[-1]
    )


async def _watched(url: str, seconds: float) -> tuple[int, int, list[float]]:
    admin, clients = admin_client(url), [watch_client(url) for _ in range(_WORKERS)]
    control, clock = ControlStore(admin, "bench"), SystemClock()
    fence = control.take(0, "bench", 600_000)
    saved_s: dict[int, float] = {}
    late: list[float] = []
    exchanges = []
    for number, client in enumerate(clients):
        desk = ControlDesk(_KEYS, clock)
        counter = WorkerControl(client, "bench", f"worker-{number}")
        told = _Seen(desk, saved_s, late)
        exchanges.append(ControlExchange(desk, counter, clock, lambda: True, told))
    tasks = []
    for exchange in exchanges:  # workers do not ask all at once
        tasks.append(asyncio.create_task(exchange.run()))
        await asyncio.sleep(0.5 / _WORKERS)
    chance, ends_s = Random(7), perf_counter() + seconds
    while perf_counter() < ends_s:
        version = len(saved_s) + 1
        one = _saved(version, clock.now_ms())
        await asyncio.to_thread(control.save, 0, fence, [one], version)
        saved_s[version] = perf_counter()
        await asyncio.sleep(chance.uniform(0.6, 1.2))
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for client in clients:
        await close(client)
    admin.close()
    return len(saved_s), len(late), late


class _Seen:
    """Notes when a worker follows each version for the first time."""

    def __init__(self, desk: ControlDesk, saved_s: dict[int, float], late: list[float]) -> None:
        self._desk = desk
        self._saved_s = saved_s
        self._late = late
        self._known = 0

    def __call__(self, _told: object) -> None:
        order = self._desk.orders.get("s@json")
        if order is None or order.block.version <= self._known:
            return
        self._known = order.block.version
        if self._known in self._saved_s:
            self._late.append(perf_counter() - self._saved_s[self._known])


def _saved(version: int, now_ms: int) -> Saved:
    order = _order("s@json", version, now_ms)
    return Saved("s@json", version, b"state", b"step", order, UnitView(version, now_ms, ()))


def tables(report: Report) -> list[Table]:
    """Lay the report out for people."""
    title = f"Microseconds a strategy in batches of {BATCH}, target {TARGET_US:g} for the bid"
    cost = Table(title=title)
    for heading in ("answer", "strategies", "bid", "answer without", "answer under control"):
        cost.add_column(heading, justify="left" if heading == "answer" else "right")
    for one in report.costs:
        figures = (f"{us:.2f}" for us in (one.formula_us, one.plain_us, one.steered_us))
        cost.add_row(one.answer, str(one.strategies), *figures)
    late = Table(title=f"Seconds from saving an order to a worker, target p99 {TARGET_S:g}")
    for heading in ("orders", "seen", "p50", "p99", "most"):
        late.add_column(heading, justify="right")
    found = report.staleness
    ages = (f"{age:.2f}" for age in (found.p50_s, found.p99_s, found.most_s))
    late.add_row(str(found.orders), str(found.seen), *ages)
    return [cost, late]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="loadtest.bench_steering", description=__doc__)
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    report = Report(costs(given.rounds), staleness(given.seconds))
    if given.json:
        print(msgspec.json.format(msgspec.json.encode(report)).decode())
        return
    console = Console()
    for table in tables(report):
        console.print(table)


if __name__ == "__main__":
    main()
