"""Sixteen workers' desks on a real store hold no more than a budget, also while the store is away."""

import asyncio
from pathlib import Path

import pytest

from rta_service.device_key import KeyRing
from rta_service.domain.clock import SystemClock
from rta_service.domain.control import Aim, Block, Budget, CostGoal, GoalBlock, Mode, Targets
from rta_service.domain.control_order import ControlSettings, Order, UnitView
from rta_service.domain.decision import Prediction
from rta_service.domain.platform import BidKind
from rta_service.domain.request import AdRequest
from rta_service.domain.strategy import Audience, Goal, OptimisedEvent, Strategy
from rta_service.online.control_desk import ControlDesk
from rta_service.online.control_exchange import ControlExchange
from rta_service.online.live_release import BoundStrategy, bind
from rta_service.online.person import NOBODY
from rta_service.platforms.registry import load_adapters
from rta_service.scoring.model_set import ModelSet
from rta_service.stores.control_store import ControlStore, Money, Saved, WorkerControl
from rta_service.stores.embedded import EmbeddedStore
from rta_service.stores.redis import admin_client, close, watch_client

WORKERS = 16
PRICE = 6_000
"""Held of each answer, in micros."""
SETTINGS = ControlSettings(
    Aim(Mode.TCPA, Targets(shallow_micros=6_000_000), CostGoal.SHALLOW), Budget(10**12)
)
KEYS = KeyRing(b"pepper-of-16-bytes", b"experiment-of-16-b")
SCORES = {"register": 0.05, "trade": 0.01}


def _bound() -> BoundStrategy:
    nobody = Audience(frozenset(), frozenset(), frozenset(), frozenset(), frozenset())
    strategy = Strategy(
        "s",
        {"json": "s"},
        nobody,
        OptimisedEvent.REGISTER,
        Goal.REGISTER,
        6_000_000,
        BidKind.CPM,
        "CNY",
        0.0,
        1e12,
        control=SETTINGS,
    )
    return bind(strategy, load_adapters()["json"].info, ModelSet({}), 1.0)


def _saved(budget: int, now_ms: int) -> Saved:
    """An order by which each answer costs 6 a thousand, all of which is held."""
    goals = (GoalBlock(CostGoal.SHALLOW, 6e6, 1.0, 0.0, 0.05),)
    block = Block("s@json", 1, now_ms, 15_000, Mode.TCPA, goals, neutral_micros=300_000.0)
    order = Order(block, SETTINGS, None, 1.0)
    money = Money(1, budget, 0, now_ms)
    return Saved("s@json", 1, b"state", b"s", order, UnitView(1, now_ms, ()), money)


async def _bids(
    desk: ControlDesk, bound: BoundStrategy, asked: list[int], ends: asyncio.Event
) -> None:
    info = load_adapters()["json"].info
    while not ends.is_set():
        desk.begin()
        for _ in range(8):
            request = AdRequest(f"q{len(asked)}", info, pctr=0.02)
            offered, _ = desk.sit(request, NOBODY).price(bound, SCORES, Prediction(0.05, 0.01))
            asked.append(int(not isinstance(offered, int)))
        await asyncio.sleep(0.01)


async def _run(store: EmbeddedStore, budget: int, after_s: float) -> tuple[list[int], int]:
    """Let all workers bid, with the store and then without it.

    Gives each one's answers, and how many came in the last half second.
    """
    clock, bound, ends = SystemClock(), _bound(), asyncio.Event()
    admin = admin_client(store.url)
    control = ControlStore(admin, "test")
    fence = control.take(0, "test", 60_000)
    control.save(0, fence, [_saved(budget, clock.now_ms())], 1)
    clients = [watch_client(store.url, 0.5) for _ in range(WORKERS)]
    tasks: list[asyncio.Task[None]] = []
    asked: list[list[int]] = []
    for number, client in enumerate(clients):
        desk = ControlDesk(KEYS, clock)
        counter = WorkerControl(client, "test", f"w{number}")
        exchange = ControlExchange(desk, counter, clock, lambda: True, lambda _: None)
        asked.append([])
        tasks.append(asyncio.create_task(exchange.run()))
        tasks.append(asyncio.create_task(_bids(desk, bound, asked[-1], ends)))
    await asyncio.sleep(2.0)
    admin.close()
    await asyncio.to_thread(store.stop)
    await asyncio.sleep(after_s)
    before = sum(map(sum, asked))
    await asyncio.sleep(0.5)
    ends.set()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    for client in clients:
        await close(client)
    answered = [sum(count) for count in asked]
    return answered, sum(answered) - before


def test_no_more_is_held_than_the_budget(tmp_path: Path) -> None:
    with EmbeddedStore(tmp_path) as store:
        answered, _ = asyncio.run(_run(store, 2_000_000, after_s=0.0))

    assert 0.5 * 2_000_000 < sum(answered) * PRICE <= 2_000_000
    assert sum(count > 0 for count in answered) == WORKERS


@pytest.mark.slow
def test_without_the_store_money_runs_out_in_five_seconds(tmp_path: Path) -> None:
    with EmbeddedStore(tmp_path) as store:
        answered, late = asyncio.run(_run(store, 10**12, after_s=5.0))

    assert sum(answered) > 1_000
    assert late == 0
