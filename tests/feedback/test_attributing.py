import asyncio
import random
import subprocess
import sys
from collections.abc import Sequence
from hashlib import md5
from pathlib import Path
from typing import Any

import msgspec
import pytest

from rta_service.device_key import KeyRing
from rta_service.domain.clock import SystemClock
from rta_service.domain.decision import Arm, Prediction
from rta_service.domain.events import Event
from rta_service.domain.happening import Happening
from rta_service.domain.sealing import Sealer
from rta_service.domain.tag import Tag, TagCodec, release_mark, strategy_mark
from rta_service.feedback.attributing import Attributing, cells
from rta_service.feedback.consuming import Group, GroupRules, Progress, Taken, run_group
from rta_service.nearline.attribution.facts import FactReader
from rta_service.nearline.attribution.goals import DAY_MS, AttributionRules
from rta_service.nearline.attribution.model import Book, attribute
from rta_service.stores.ledger import Ledger

Parts = Any
"""The builder of conftest.py: test folders are no packages."""

DAWN_MS = 1_790_035_200_000
EVENTS = 300
PEOPLE = 40
KEYS = KeyRing(b"pepper", b"experiment")
CODEC = TagCodec(b"event key")
READER = FactReader(KEYS, CODEC.read)
RULES = AttributionRules()
SEALER = Sealer(b"event key")
ADS = (Event.AD_WIN, Event.AD_EXPOSURE, Event.AD_CLICK, Event.AD_CLICK)
STEPS = (Event.ACTIVATE, Event.REGISTER, Event.PAY, Event.PAY, Event.CONVERSION, Event.REFUND)
OTHERS = (Event.LAUNCH, Event.COST_REPORT)


def a_day(seed: int) -> list[Happening]:
    """Make a day's events, in order: ads with tags, what people did, reports of cost."""
    chance = random.Random(seed)
    instants = sorted(chance.randrange(DAY_MS) for _ in range(EVENTS))
    return [an_event(at, DAWN_MS + ms, chance) for at, ms in enumerate(instants)]


def an_event(at: int, ts_ms: int, chance: random.Random) -> Happening:
    event = chance.choice(chance.choice((ADS, STEPS, OTHERS)))
    person, request = chance.randrange(PEOPLE), chance.randrange(2 * PEOPLE)
    is_ad = event in ADS
    is_named = is_ad or chance.random() < 0.2
    strategy = f"s{request % 3}"
    tag = Tag(
        release_mark(f"r{request % 2}"),
        strategy_mark(strategy),
        (ts_ms if is_ad else DAWN_MS) // 60_000,
        pcvr=Prediction(chance.random(), chance.random()),
        arm=chance.choice(list(Arm)),
    )
    phone = md5(b"%d" % person, usedforsecurity=False).hexdigest()
    return Happening(
        f"event {at}",
        ts_ms,
        event,
        () if event is Event.COST_REPORT else (phone,),
        user_id="" if is_ad else f"u{person // 2}",
        cents=chance.randrange(10_000),
        order_id=f"o{chance.randrange(20)}",
        channel=chance.choice(("json", "tencent")),
        request_id=f"r{request}" if is_named else "",
        tag=CODEC.write(tag) if chance.random() < 0.5 else "",
        strategy_id=strategy if is_ad or event is Event.COST_REPORT else "",
        cost_micros=chance.randrange(1_000_000),
        step="loan" if event is Event.CONVERSION else "",
    )


def a_click(ts_ms: int) -> Happening:
    return Happening(f"at {ts_ms}", ts_ms, Event.AD_CLICK, user_id="u1", channel="json")


def taken(events: Sequence[Happening]) -> list[Taken]:
    return [Taken(f"1-{at}", event, SEALER.seal(event)) for at, event in enumerate(events)]


def expected(events: Sequence[Happening]) -> Book:
    facts = [fact for event in events if (fact := READER.read(event)) is not None]
    return attribute(facts, RULES)


def said(ledger: Ledger) -> Book:
    until_ms = DAWN_MS + 100 * DAY_MS
    return Book(list(ledger.attributions(0, until_ms)), cells(ledger, 0, until_ms))


def handle(ledger: Ledger, events: Sequence[Happening], batch: int) -> None:
    handler = Attributing(ledger, READER, RULES, SystemClock())
    entries = taken(events)
    for first in range(0, len(entries), batch):
        handler.handle(entries[first : first + batch])


def test_a_day_in_order_is_attributed_by_name_by_tag_and_by_last_click(tmp_path: Path) -> None:
    day = a_day(1)

    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        handle(ledger, day, 50)
        found = said(ledger)

    assert found == expected(day)
    assert len({one.method for one in found.attributions}) == 4
    assert sum(cell.clicks for cell in found.cells) == sum(
        event.event is Event.AD_CLICK for event in day
    )


@pytest.mark.parametrize("seed", range(3))
def test_shuffled_duplicated_and_delayed_copies_of_a_day_give_the_same(
    seed: int, tmp_path: Path
) -> None:
    day = a_day(seed)
    chance = random.Random(seed)
    copies = [event for event in day for _ in range(chance.randint(1, 5))]
    chance.shuffle(copies)

    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        handle(ledger, copies, 200)

        assert said(ledger) == expected(day)


async def until_acknowledged(progress: Progress, count: int) -> None:
    for _ in range(2_000):
        if progress.acknowledged >= count:
            return
        await asyncio.sleep(0.01)
    pytest.fail("waited in vain")


async def test_an_event_that_can_not_be_counted_costs_itself_only(
    parts: Parts, tmp_path: Path
) -> None:
    day = a_day(5)
    bad = Happening("bad", DAWN_MS, Event.PAY, user_id="u1", cents=2**63)
    await parts.send([*day[:150], bad, *day[150:]])

    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        handler = Attributing(ledger, READER, RULES, SystemClock())
        group = Group("attribution", handler, GroupRules(batch=100, block_ms=10))
        progress = Progress()
        running = asyncio.create_task(run_group(group, parts.source, progress))
        await until_acknowledged(progress, len(day))
        parts.is_ours = False
        await running

        assert said(ledger) == expected(day)
    assert progress.set_aside == 1


def test_an_event_older_than_is_remembered_is_told_and_not_counted(tmp_path: Path) -> None:
    click = a_click(DAWN_MS)
    old = a_click(DAWN_MS - RULES.late_ms - 1)

    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        handle(ledger, [click, old], 1)

        assert ledger.facts().late == 1
        assert said(ledger) == expected([click])


def test_a_clock_that_was_ahead_for_a_while_makes_nothing_late(tmp_path: Path) -> None:
    now_ms = SystemClock().now_ms()
    ahead, sound = a_click(now_ms + 400 * DAY_MS), a_click(now_ms)

    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        handle(ledger, [ahead, sound], 1)

        assert (ledger.facts().counted, ledger.facts().late) == (2, 0)


def test_no_entries_are_no_work(tmp_path: Path) -> None:
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        handle(ledger, [], 1)
        Attributing(ledger, READER, RULES, SystemClock()).handle([])

        assert ledger.facts().cursor == ""


def test_the_ledger_tells_how_far_it_is(tmp_path: Path) -> None:
    day = a_day(4)

    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        handle(ledger, [*day, *day[:10]], 500)
        facts = ledger.facts()

    counted = [event for event in day if READER.read(event) is not None]
    assert facts.cursor == f"1-{len(day) + 9}"
    assert facts.newest_ms == counted[-1].ts_ms
    assert facts.counted == len(counted)
    assert facts.copies == sum(READER.read(event) is not None for event in day[:10])


@pytest.mark.parametrize("lives", [12, pytest.param(120, marks=pytest.mark.slow)])
def test_a_kill_at_any_instant_loses_and_doubles_nothing(lives: int, tmp_path: Path) -> None:
    day = a_day(lives)
    (tmp_path / "events.msgpack").write_bytes(msgspec.msgpack.encode(day))
    program = Path(__file__).with_name("killed_attribution.py")

    subprocess.run([sys.executable, str(program), str(tmp_path), str(lives)], check=True)

    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        assert said(ledger) == expected(day)
