"""Kill what takes events in, what consumes them and the store: nothing acknowledged is lost,
nothing counts twice.

RTA_STORM_KILLS is how often the nearline process is killed in the long form, RTA_STORM_STOPS how
often the store is.
"""

import logging
import os
import random
import signal
import threading
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pyarrow.parquet as pq
import pytest

from rta_service import wiring, wiring_events
from rta_service.domain.attribution import Cell, Fact, Place
from rta_service.domain.clock import SystemClock
from rta_service.domain.errors import StoreUnavailable
from rta_service.domain.events import Event
from rta_service.domain.happening import Happening, SealedHappening
from rta_service.feedback.attributing import cells
from rta_service.feedback.sending import EventSender, Port
from rta_service.nearline.attribution.facts import FactReader
from rta_service.nearline.attribution.goals import AttributionRules
from rta_service.nearline.attribution.model import attribute
from rta_service.offline.archive_folder import days_of, parts_of
from rta_service.record_delta import FOLDED, day_of, fold, pack_delta
from rta_service.stores.delta_store import DeltaStore
from rta_service.stores.ledger import Ledger
from rta_service.stores.redis import admin_client

KILLS = int(os.environ.get("RTA_STORM_KILLS", "50"))
STOPS = int(os.environ.get("RTA_STORM_STOPS", "10"))
SENDERS = 3
BATCH = 60
DEVICES = 300
RESENT = 0.2
"""Share of the acknowledged batches that are sent again."""
BACK_S = 0.5
"""Rest between a restart and the next blow."""
DAY_MS = 86_400_000
WORDS = (Event.LAUNCH, Event.VIEW, Event.PAY, Event.AD_CLICK, Event.AD_EXPOSURE, Event.REGISTER)

log = logging.getLogger(__name__)


@dataclass
class Sender:
    """Sends batches until it is told to end, and remembers what was acknowledged."""

    number: int
    port: Port
    ending: threading.Event
    sent: set[str] = field(default_factory=set)
    acknowledged: set[str] = field(default_factory=set)
    given_up: int = 0
    faults: list[str] = field(default_factory=list)

    def run(self) -> None:
        chance = random.Random(self.number)
        with EventSender(self.port) as sender:
            while not self.ending.is_set():
                self._send(sender, chance)

    def _send(self, sender: EventSender, chance: random.Random) -> None:
        first = len(self.sent)
        names = [f"{self.number}-{first + place}" for place in range(BATCH)]
        lines = [_line(name, chance) for name in names]
        self.sent.update(names)
        try:
            receipt = sender.send(lines)
        except StoreUnavailable:
            self.given_up += 1
            return
        if receipt.rejected or receipt.accepted + receipt.duplicate != BATCH:
            self.faults.append(str(receipt))
        self.acknowledged.update(names)
        if chance.random() < RESENT and sender.send(lines).accepted:
            self.faults.append("an acknowledged event was accepted again")


def _line(name: str, chance: random.Random) -> bytes:
    event = chance.choice(WORDS)
    facts: dict[str, Any] = {
        "event_id": name,
        "event": event,
        "ts_ms": SystemClock().now_ms() - chance.randrange(2 * DAY_MS),
        "device_id": _device(chance.randrange(DEVICES)),
        "id_kind": "oaid",
        "channel": "json",
        "strategy_id": "new_users",
    }
    if event is Event.PAY:
        facts |= {"cents": chance.randrange(1, 10_000), "order_id": f"o{chance.randrange(50)}"}
    if event is Event.AD_CLICK:
        facts["cost_micros"] = chance.randrange(1_000_000)
    return msgspec.json.encode(facts)


def _device(number: int) -> str:
    return f"storm-device-{number}"


@dataclass
class Nemesis:
    """Deals blows, and waits after each until the process is back."""

    service: Any
    dealt: dict[str, int] = field(default_factory=lambda: defaultdict(int))

    def deal(self, kills: int, stops: int) -> None:
        chance = random.Random(7)
        blows = ["nearline"] * kills + ["store killed", "store hung"] * (stops // 2 + stops % 2)
        blows = blows[: kills + stops]
        chance.shuffle(blows)
        for blow in blows:
            threading.Event().wait(BACK_S + chance.random())
            if blow == "nearline":
                self._kill_nearline()
            else:
                self._strike_store(hang=blow == "store hung")
            self.dealt[blow] += 1

    def _kill_nearline(self) -> None:
        pids = self._nearline_pids()
        os.kill(pids[-1], signal.SIGKILL)
        for _ in range(600):
            if len(self._nearline_pids()) > len(pids):
                return
            threading.Event().wait(0.1)
        raise AssertionError("the nearline process was not started again")

    def _strike_store(self, *, hang: bool) -> None:
        pid = int((self.service.settings.data_dir / "store.pid").read_text())
        if hang:
            os.kill(pid, signal.SIGSTOP)
            threading.Event().wait(2.0)
            os.kill(pid, signal.SIGCONT)
        else:
            os.kill(pid, signal.SIGKILL)

    def _nearline_pids(self) -> list[int]:
        lines = (self.service.settings.data_dir / "serve.log").read_text().splitlines()
        events = [msgspec.json.decode(line) for line in lines if line.startswith("{")]
        ready = [e for e in events if e["event"] == "child_ready" and e["child"] == "nearline"]
        return [event["pid"] for event in ready]


def await_drained(service: Any) -> None:
    """Wait until every group has done every event."""

    async def backlogs(events: Any) -> int:
        left = [await events.log.backlog(name) for name in wiring_events.GROUPS]
        return sum(map(sum, left))

    for _ in range(600):
        if service.with_events(backlogs) == 0:
            return
        threading.Event().wait(0.2)
    raise AssertionError("the groups did not get through the log")


def archived(settings: Any) -> list[Happening]:
    """Give all events of the archive, in the order in which they were accepted."""
    sealer, found = wiring_events.sealer(settings), []
    for day in days_of(settings.archive_folder):
        for part in parts_of(day):
            for row in pq.read_table(part.path).to_pylist():
                row |= {"event": Event(row["event"]), "devices": tuple(row["devices"])}
                found.append(sealer.unseal(SealedHappening(**row)))
    return found


def check_deltas(settings: Any, url: str, kept: list[Happening]) -> None:
    """Compare each device's deltas in the store with those of the archived events."""
    keys = wiring.key_ring(settings)
    days = defaultdict[tuple[str, int], list[Happening]](list)
    for one in kept:
        if one.event in FOLDED:
            days[one.device_md5s[0], day_of(one.ts_ms)].append(one)
    store = DeltaStore(admin_client(url), settings.namespace)
    for (md5, day), events in days.items():
        (stored,) = store.find(keys.device_key(md5), [day])
        assert stored == pack_delta(fold(day, keys.person_key(None, md5), events))


def check_ledger(settings: Any, kept: list[Happening]) -> None:
    """Compare the ledger with what the plain model makes of the archived events."""
    rules = AttributionRules()
    reader = FactReader(wiring.key_ring(settings), wiring.tag_codec(settings).read)
    people = defaultdict[str, list[Fact]](list)
    for one in kept:
        fact = reader.read(one)
        if fact is not None:
            people[one.device_md5s[0]].append(fact)
    now_ms = SystemClock().now_ms()
    with Ledger(wiring_events.ledger_path(settings), is_reader=True) as ledger:
        found = cells(ledger, now_ms - 5 * DAY_MS, now_ms + DAY_MS)
    # each person by itself: the plain model compares each conversion with each other
    expected: Counter[tuple[Place, str]] = Counter()
    for facts in people.values():
        expected += _counts(attribute(facts, rules).cells)
    assert _counts(found) == expected


def _counts(cells: list[Cell]) -> Counter[tuple[Place, str]]:
    """Give everything that cells count, by place and name."""
    counts: Counter[tuple[Place, str]] = Counter()
    for cell in cells:
        of_touches = {
            "exposures": cell.exposures,
            "clicks": cell.clicks,
            "wins": cell.wins,
            "cost_micros": cell.cost_micros,
        }
        for name, count in of_touches.items():
            counts[cell.place, name] += count
        for goal, found in cell.goals.items():
            counts[cell.place, f"{goal} conversions"] += found.conversions
            counts[cell.place, f"{goal} cents"] += found.cents
    return +counts


@pytest.mark.parametrize(
    ("kills", "stops"),
    [(4, 2), pytest.param(KILLS, STOPS, marks=[pytest.mark.slow, pytest.mark.timeout(1_800)])],
)
def test_killed_again_and_again_nothing_acknowledged_is_lost_and_nothing_counts_twice(
    start_service: Any, kills: int, stops: int
) -> None:
    with start_service(1) as service:
        settings = service.settings
        token = wiring.secret(settings, "control_token").decode()
        port = Port(f"http://127.0.0.1:{settings.ingest_port}", token, patience_s=60.0)
        ending = threading.Event()
        senders = [Sender(number, port, ending) for number in range(SENDERS)]
        threads = [threading.Thread(target=sender.run) for sender in senders]
        for thread in threads:
            thread.start()
        nemesis = Nemesis(service)
        try:
            nemesis.deal(kills, stops)
        finally:
            ending.set()
            for thread in threads:
                thread.join()
        await_drained(service)
    kept = archived(settings)
    with wiring.store_url(settings) as url:
        check_deltas(settings, url, kept)
        counts = service.with_events(lambda events: events.log.counts())
    check_ledger(settings, kept)

    names = [one.event_id for one in kept]
    sent = set[str]().union(*(sender.sent for sender in senders))
    acknowledged = set[str]().union(*(sender.acknowledged for sender in senders))
    log.warning(
        "%s: %d sent, %d acknowledged, %d archived, %d batches given up",
        *(dict(nemesis.dealt), len(sent), len(acknowledged), len(names)),
        sum(sender.given_up for sender in senders),
    )
    assert [sender.faults for sender in senders] == [[]] * SENDERS
    assert len(names) == len(set(names))
    assert acknowledged <= set(names) <= sent
    assert counts["accepted"] == len(names)
    assert len(acknowledged) > 100 * (kills + stops)
