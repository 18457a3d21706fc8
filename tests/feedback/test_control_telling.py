"""What attribution tells cost control adds up to what the ledger counts, however events come."""

import random
from collections import Counter
from hashlib import md5
from pathlib import Path

import pytest

from rta_service.device_key import KeyRing
from rta_service.domain.clock import SystemClock
from rta_service.domain.control_feed import FeedRow, RowKind, rows_of
from rta_service.domain.events import Event
from rta_service.domain.happening import Happening
from rta_service.domain.sealing import Sealer
from rta_service.feedback.attributing import Attributing, cells
from rta_service.feedback.consuming import Taken
from rta_service.nearline.attribution.facts import FactReader
from rta_service.nearline.attribution.goals import DAY_MS, AttributionRules
from rta_service.stores.ledger import Ledger

DAWN_MS = 1_790_035_200_000
SEALER = Sealer(b"event key")
EVENTS = (Event.AD_CLICK, Event.AD_CLICK, Event.AD_WIN, Event.REGISTER, Event.PAY, Event.REFUND)


def a_day(seed: int) -> list[Happening]:
    chance = random.Random(seed)
    return [an_event(at, chance) for at in range(400)]


def an_event(at: int, chance: random.Random) -> Happening:
    event, person = chance.choice(EVENTS), chance.randrange(25)
    is_ad = event in EVENTS[:3]
    return Happening(
        f"event {at}",
        DAWN_MS + chance.randrange(DAY_MS),
        event,
        (md5(b"%d" % person, usedforsecurity=False).hexdigest(),),
        cents=chance.randrange(10_000),
        order_id=f"o{chance.randrange(20)}",
        channel="json" if is_ad else "",
        strategy_id=f"s{chance.randrange(3)}" if is_ad else "",
        cost_micros=chance.randrange(1_000_000) if is_ad else 0,
    )


def handle(path: Path, events: list[Happening], batch: int) -> Ledger:
    reader = FactReader(KeyRing(b"pepper", b"experiment"))
    ledger = Ledger(path)
    handler = Attributing(ledger, reader, AttributionRules(), SystemClock())
    taken = [Taken(f"1-{at}", one, SEALER.seal(one)) for at, one in enumerate(events)]
    for first in range(0, len(taken), batch):
        handler.handle(taken[first : first + batch])
    return ledger


def net(ledger: Ledger) -> Counter[tuple[str, FeedRow]]:
    """Give the rows that are left when those taken back are cancelled, refunds added up."""
    left: Counter[tuple[str, FeedRow]] = Counter()
    for batch in ledger.feed(0, 10_000):
        for unit, rows in rows_of(batch.body).items():
            for row in rows:
                left[unit, _positive(row)] += 1 if row == _positive(row) else -1
    return Counter({row: count for row, count in left.items() if count})


def _positive(row: FeedRow) -> FeedRow:
    sign = -1 if row.count < 0 or (row.count == 0 and row.cents > 0) else 1
    return FeedRow(
        row.kind, row.won_ms, sign * row.count, row.cost_micros, row.register_nanos,
        row.trade_nanos, row.came_ms, sign * row.cents,
    )  # fmt: skip


@pytest.mark.parametrize("seed", range(4))
def test_moved_conversions_and_refunds_leave_the_same_rows_in_any_order(
    tmp_path: Path, seed: int
) -> None:
    day = a_day(seed)
    mixed = random.Random(seed).sample(day + day[:50], len(day) + 50)

    plain, late = handle(tmp_path / "plain", day, 1_000), handle(tmp_path / "mixed", mixed, 7)
    with plain, late:
        assert net(late) == net(plain)
        assert len(late.feed(0, 10_000)) > 20


def test_the_rows_add_up_to_the_cells_of_the_ledger(tmp_path: Path) -> None:
    with handle(tmp_path / "ledger", a_day(9), 50) as ledger:
        counted = [cell for cell in cells(ledger, 0, DAWN_MS + 9 * DAY_MS) if cell.place.strategy]
        rows = [(unit, row) for (unit, row), n in net(ledger).items() for _ in range(n)]

    for unit in ("s0@json", "s1@json", "s2@json"):
        own = [cell for cell in counted if f"{cell.place.strategy}@json" == unit]
        told = [row for of, row in rows if of == unit]
        deep = [row for row in told if row.kind == RowKind.DEEP]
        shallow = [row for row in told if row.kind == RowKind.SHALLOW]
        trades = [cell.goals["trade"] for cell in own if "trade" in cell.goals]
        assert sum(row.count for row in deep) == sum(goal.conversions for goal in trades) > 0
        assert sum(row.cents for row in deep) == sum(goal.cents for goal in trades)
        assert len(shallow) == sum(
            cell.goals["register"].conversions for cell in own if "register" in cell.goals
        )
        clicks = [row for row in told if row.kind == RowKind.CLICK]
        assert len(clicks) == sum(cell.clicks for cell in own)
        assert all(row.came_ms >= row.won_ms for row in [*deep, *shallow] if row.count)
