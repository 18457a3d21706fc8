"""Cost control with real processes that are killed: nothing counts twice, no money is spent twice."""

import itertools
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import md5
from pathlib import Path
from typing import Any, Self

import msgspec
import pytest

from rta_service.device_key import KeyRing
from rta_service.domain.clock import SystemClock
from rta_service.domain.control_feed import FeedBatch, FeedRow, RowKind, body_of, rows_of
from rta_service.domain.events import Event
from rta_service.domain.happening import Happening
from rta_service.domain.sealing import Sealer
from rta_service.feedback.attributing import Attributing
from rta_service.feedback.consuming import Taken
from rta_service.feedback.control_rebuild import rebuild
from rta_service.feedback.control_unit import kept_of
from rta_service.feedback.feed_publishing import FeedPublisher
from rta_service.nearline.attribution.facts import FactReader
from rta_service.nearline.attribution.goals import AttributionRules
from rta_service.nearline.control.feeding import Kept, Step
from rta_service.stores.control_feed import ControlFeed
from rta_service.stores.control_store import ControlStore
from rta_service.stores.embedded import EmbeddedStore
from rta_service.stores.ledger import Ledger
from rta_service.stores.redis import AdminClient, admin_client

PROGRAM = Path(__file__).parent / "control_process.py"
UNIT, SPACE = "s1@json", "faults"
SEALER = Sealer(b"event key")
NOTICE_S = 1.0
"""How late this market tells a win."""


@pytest.fixture
def own_store(tmp_path: Path) -> Iterator[EmbeddedStore]:
    with EmbeddedStore(tmp_path / "store") as store:
        yield store


@contextmanager
def processes() -> Iterator[Callable[..., "subprocess.Popen[bytes]"]]:
    """Start processes that are killed at the end, at the latest."""
    started: list[subprocess.Popen[bytes]] = []

    def start(*words: Any) -> "subprocess.Popen[bytes]":
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        command = [sys.executable, str(PROGRAM), *map(str, words)]
        started.append(subprocess.Popen(command, env=environment))
        return started[-1]

    try:
        yield start
    finally:
        for process in started:
            process.kill()
            process.wait()


def eventually(holds: Callable[[], bool], patience_s: float = 30.0) -> None:
    end_s = time.monotonic() + patience_s
    while not holds():
        assert time.monotonic() < end_s, "waited in vain"
        time.sleep(0.02)


class Ads:
    """Clicks and registrations that come while everything else happens, into a real ledger."""

    def __init__(self, folder: Path, client: AdminClient) -> None:
        self.happened: list[Happening] = []
        self._ledger = Ledger(folder / "ledger.sqlite")
        self.reader = Ledger(folder / "ledger.sqlite", is_reader=True)
        self._handler = handler(self._ledger)
        log: Any = None
        self._publisher = FeedPublisher(lambda: self.reader, ControlFeed(client, SPACE), log)
        self._numbers = itertools.count()
        self._chance = random.Random(1)

    def come(self, count: int) -> None:
        """Let some happen now."""
        now_ms = SystemClock().now_ms()
        fresh = [self._one(now_ms) for _ in range(count)]
        self.happened += fresh
        self._handler.handle(taken(fresh, now_ms))
        self._publisher.copy(now_ms)

    def _one(self, now_ms: int) -> Happening:
        number, person = next(self._numbers), self._chance.randrange(50)
        phone = md5(b"%d" % person, usedforsecurity=False).hexdigest()
        if self._chance.random() < 0.3:
            return Happening(f"e{number}", now_ms, Event.REGISTER, (phone,))
        return Happening(
            *(f"e{number}", now_ms, Event.AD_CLICK, (phone,)),
            channel="json",
            strategy_id="s1",
            cost_micros=300_000,
        )


def handler(ledger: Ledger) -> Attributing:
    reader = FactReader(KeyRing(b"pepper", b"experiment"))
    return Attributing(ledger, reader, AttributionRules(), SystemClock())


def taken(events: list[Happening], now_ms: int) -> list[Taken]:
    return [Taken(f"{now_ms}-{at}", one, SEALER.seal(one)) for at, one in enumerate(events)]


def rebuilt_from_all_events(folder: Path, happened: list[Happening], kept: Kept) -> Kept:
    """Attribute all events at once, mixed and twice, and make the unit of that in one step."""
    mixed = random.Random(2).sample(2 * happened, 2 * len(happened))
    with Ledger(folder / "again.sqlite") as again:
        handler(again).handle(taken(mixed, 1))
        rows = [row for b in again.feed(0, 10) for row in rows_of(b.body).get(UNIT, ())]
    made = Kept(UNIT, Step(1, kept.began_ms, 0, terms=kept.terms))
    made.take(Step(1, kept.began_ms, 0), [])
    made.take(Step(2, kept.unit.levels.stepped_ms, 1), rows)
    return made


def killed_under_load(folder: Path, url: str, kills: int) -> None:
    """Kill whoever controls, again and again, and compare what is left to what must be."""
    client, chance = admin_client(url), random.Random(kills)
    store, ads = ControlStore(client, SPACE), Ads(folder, client)
    with processes() as start:
        alive = [start("controller", url, 0) for _ in range(2)]
        eventually(lambda: store.state(UNIT) is not None)
        for _ in range(kills):
            steps = store.orders()[UNIT].block.version
            end_s = time.monotonic() + chance.uniform(0.2, 0.8)
            while time.monotonic() < end_s:
                ads.come(20)
            holder = client.get(f"{{{SPACE}}}:c1:lease:0")
            pid = int(holder.partition(b"-")[0]) if isinstance(holder, bytes) else alive[0].pid
            os.kill(pid, signal.SIGKILL)
            alive = [one for one in alive if one.pid != pid]
            alive.append(start("controller", url, 0))
            eventually(lambda steps=steps: store.orders()[UNIT].block.version > steps)  # type: ignore[misc]  # of this turn
        ads.come(20)
        last = ads.reader.feed(0, 10**6)[-1].number
        eventually(lambda: store.cursor(0) >= last)
    (found,) = rebuild(store, ads.reader)
    assert found.is_same
    kept = Kept.from_bytes(UNIT, found.kept)
    assert kept.version == found.steps >= kills
    fence = client.get(f"{{{SPACE}}}:c1:fence:0")
    assert isinstance(fence, bytes)
    assert int(fence) >= kills
    again = rebuilt_from_all_events(folder, ads.happened, kept)
    assert again.unit.books.to_bytes() == kept.unit.books.to_bytes()
    client.close()


def test_a_controller_killed_under_load_is_followed_by_another_and_nothing_counts_twice(
    tmp_path: Path, own_store: EmbeddedStore
) -> None:
    killed_under_load(tmp_path, own_store.url, 3)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_controller_killed_twenty_times_under_load_leaves_the_state_of_the_events(
    tmp_path: Path, own_store: EmbeddedStore
) -> None:
    killed_under_load(tmp_path, own_store.url, 20)


class Market:
    """Tells the wins that workers wrote down, each a second late, as long as the store answers."""

    def __init__(self, wins: Path, url: str) -> None:
        self._wins = wins
        self._feed = ControlFeed(admin_client(url, 0.5), SPACE)
        self._number = 0
        self._told = 0
        self._waiting: list[FeedBatch] = []
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._thread.join()

    def spent(self) -> int:
        return sum(cost for _, cost in self._lines())

    def _lines(self) -> list[tuple[int, int]]:
        if not self._wins.exists():
            return []
        whole = self._wins.read_bytes().rpartition(b"\n")[0].splitlines()
        return [(int(at), int(cost)) for at, _, cost in (line.partition(b" ") for line in whole)]

    def _run(self) -> None:
        while not self._ending.is_set():
            now_ms = SystemClock().now_ms()
            due_ms = now_ms - round(1000 * NOTICE_S)
            lines = self._lines()[self._told :]
            due = [line for line in lines if line[0] <= due_ms]
            if due:
                rows = [FeedRow(RowKind.WIN, at, 0, cost) for at, cost in due]
                body = body_of({UNIT: rows})
                self._waiting.append(FeedBatch(self._number + 1, self._number, now_ms, body))
                self._number, self._told = self._number + 1, self._told + len(due)
            try:
                self._feed.publish(self._waiting)
                self._waiting = []
                self._feed.show_as_of(self._number, now_ms)
            except Exception:  # noqa: BLE001, S110 - the store is away: told again
                pass
            self._ending.wait(0.2)


def sixteen(folder: Path, url: str, budget: int, share: float) -> int:
    """Let sixteen workers spend a share of a budget, one killed meanwhile; give what was spent."""
    wins = folder / "wins"
    with processes() as start, Market(wins, url) as market:
        start("controller", url, budget)
        workers = [start("worker", url, f"w{n}", wins, 100_000, 10) for n in range(16)]
        eventually(lambda: market.spent() > budget // 4, 60.0)
        workers[0].kill()
        eventually(lambda: market.spent() > share * budget, 200.0)
        time.sleep(3.0)
        return market.spent()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_sixteen_workers_of_which_one_is_killed_spend_nearly_all_of_the_budget_and_no_more(
    tmp_path: Path, own_store: EmbeddedStore
) -> None:
    spent = sixteen(tmp_path, own_store.url, 12_000_000, 0.98)

    assert spent <= 1.005 * 12_000_000


def down(folder: Path, store: EmbeddedStore, down_s: float, budget: int) -> tuple[int, int]:
    """Kill the store for a while; gives what was spent from then on until it is back, and in all."""
    wins = folder / "wins"
    with processes() as start, Market(wins, store.url) as market:
        start("controller", store.url, budget)
        for n in range(4):
            start("worker", store.url, f"w{n}", wins, 400_000, 40)
        eventually(lambda: market.spent() > 0.3 * budget, 60.0)
        assert store._pid is not None
        os.kill(store._pid, signal.SIGKILL)
        before = market.spent()
        time.sleep(down_s)
        meanwhile = market.spent() - before
        store.start()
        eventually(lambda: market.spent() > before + meanwhile + 0.05 * budget, 90.0)
        time.sleep(2.0)
        return meanwhile, market.spent()


@pytest.mark.parametrize(
    "down_s", [6.0, pytest.param(60.0, marks=[pytest.mark.slow, pytest.mark.timeout(300)])]
)
def test_with_the_store_down_only_what_was_granted_is_spent(
    tmp_path: Path, own_store: EmbeddedStore, down_s: float
) -> None:
    budget = 4_000_000

    meanwhile, spent = down(tmp_path, own_store, down_s, budget)

    assert meanwhile < 0.3 * budget
    assert spent <= 1.001 * budget


def test_what_is_kept_is_the_same_after_the_store_was_killed(
    tmp_path: Path, own_store: EmbeddedStore
) -> None:
    client = admin_client(own_store.url)
    store, ads = ControlStore(client, SPACE), Ads(tmp_path, client)
    with processes() as start:
        start("controller", own_store.url, 0)
        eventually(lambda: store.state(UNIT) is not None)
        for _ in range(20):
            ads.come(20)
        assert own_store._pid is not None
        os.kill(own_store._pid, signal.SIGKILL)
        time.sleep(1.0)
        own_store.start()
        ads.come(20)
        last = ads.reader.feed(0, 10**6)[-1].number
        eventually(lambda: store.cursor(0) >= last)

    (found,) = rebuild(store, ads.reader)
    assert found.is_same
    state = store.state(UNIT)
    assert state is not None
    kept = Kept.from_bytes(UNIT, kept_of(state))
    again = rebuilt_from_all_events(tmp_path, ads.happened, kept)
    assert again.unit.books.to_bytes() == kept.unit.books.to_bytes()
    assert msgspec.msgpack.decode(store.journal(UNIT)[0], type=Step).version == 1
    client.close()
