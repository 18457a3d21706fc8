"""The outbox of the ledger and the stream that it is copied to."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from rta_service.domain.attribution import Changes, Place, Touch, TouchKind
from rta_service.domain.control_feed import (
    FEED_KEPT_MS,
    FeedBatch,
    FeedRow,
    RowKind,
    body_of,
    rows_of,
)
from rta_service.domain.errors import InvalidInput
from rta_service.stores.control_feed import ControlFeed
from rta_service.stores.keys import control_name
from rta_service.stores.ledger import Ledger
from rta_service.stores.redis import AdminClient

HOUR_MS = 3_600_000
ROW = FeedRow(RowKind.CLICK, 100, 1, register_nanos=7)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger(tmp_path / "ledger.sqlite") as opened:
        yield opened


@pytest.fixture
def feed(admin: AdminClient, namespace: str) -> ControlFeed:
    return ControlFeed(admin, namespace)


def tell(ledger: Ledger, cursor: str, *told: tuple[str, FeedRow]) -> None:
    changes = Changes()
    changes.told += told
    with ledger.writing(cursor) as tables:
        tables.add_sums(changes)


def report(ledger: Ledger, about: Place, micros: int) -> dict[str, int]:
    changes = Changes()
    changes.reported[about] = micros
    with ledger.writing("9-0") as tables:
        tables.add_sums(changes)
    told = [rows_of(batch.body) for batch in ledger.feed(0, 100)]
    return {unit: rows[0].cost_micros for unit, rows in told[-1].items()} if told else {}


def test_each_transaction_that_tells_something_is_one_batch_in_order(ledger: Ledger) -> None:
    tell(ledger, "5-1", ("s1@json", ROW), ("s2@json", ROW), ("s1@json", ROW))
    tell(ledger, "6-1")
    tell(ledger, "7-1", ("s1@json", ROW))

    first, second = ledger.feed(0, 100)

    assert (first.before, first.at_ms, rows_of(first.body)) == (
        0,
        5,
        {"s1@json": [ROW, ROW], "s2@json": [ROW]},
    )
    assert (second.before, second.at_ms) == (first.number, 7)
    assert ledger.feed(first.number, 100) == [second]
    assert ledger.feed(0, 100, first.number) == ledger.feed(0, 1) == [first]


def test_batches_are_kept_for_three_days(ledger: Ledger) -> None:
    for at_ms in (1, 2, FEED_KEPT_MS + 2):
        tell(ledger, f"{at_ms}-0", ("s1@json", ROW))

    assert [batch.at_ms for batch in ledger.feed(0, 9)] == [2, FEED_KEPT_MS + 2]
    assert ledger.feed(0, 9)[0].before == 0


def test_a_ledger_of_the_first_version_is_brought_up_to_date_by_its_writer(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    Ledger(path).close()
    with closing(sqlite3.connect(path)) as old:
        old.executescript("DROP TABLE control_feed; PRAGMA user_version = 1")
        old.execute("UPDATE fact SET value = 8 WHERE name = 'counted'")
        old.commit()

    with pytest.raises(InvalidInput, match="older version: the service brings it up to date"):
        Ledger(path, is_reader=True)
    with Ledger(path) as ledger:
        tell(ledger, "5-1", ("s1@json", ROW))
        assert len(ledger.feed(0, 9)) == 1
        assert ledger.facts().counted == 8


def test_numbers_of_a_new_ledger_are_higher_than_those_of_an_old_one(ledger: Ledger) -> None:
    tell(ledger, "5-1", ("s1@json", ROW))

    assert ledger.feed(0, 1)[0].number > 1_700_000_000_000


def test_a_report_of_a_campaign_is_shared_by_the_clicks_of_its_strategies(ledger: Ledger) -> None:
    changes = Changes()
    for strategy, clicks in (("s1", 2), ("s2", 1), ("", 5)):
        for key in range(clicks):
            place = Place(7, "json", strategy, "c1")
            changes.touch(Touch(7 * HOUR_MS, key, TouchKind.CLICK, place))
    changes.touch(Touch(7 * HOUR_MS, 9, TouchKind.WIN, Place(7, "json", "s3", "c1")))
    with ledger.writing("8-0") as tables:
        tables.add_sums(changes)

    shared = report(ledger, Place(7, "json", "", "c1"), 100)

    assert shared == {"s1@json": 67, "s2@json": 33}
    assert report(ledger, Place(7, "json", "s2", ""), 10) == {"s2@json": 10}
    assert len(ledger.feed(0, 9)) == 2
    report(ledger, Place(8, "json", "", "c1"), 100)
    assert len(ledger.feed(0, 9)) == 2, "of no touch nobody knows whose the cost is"


def test_copying_again_adds_nothing_and_numbers_never_go_back(feed: ControlFeed) -> None:
    batches = [FeedBatch(n, n - 1, n * 10, body_of({"s1@json": [ROW]})) for n in (1, 2, 3)]

    assert feed.ends() == (0, 0, 0)
    assert feed.publish(batches[:2]) == 2
    assert feed.publish(batches) == 1
    assert feed.read(1, 9) == batches[1:]
    assert feed.ends() == (1, 3, 3)


def test_what_every_shard_has_is_dropped(
    feed: ControlFeed, admin: AdminClient, namespace: str
) -> None:
    feed.publish([FeedBatch(n, n - 1, 0, b"\x80") for n in (1, 2, 3)])
    assert feed.slowest() == 0
    admin.hset(control_name(namespace, "cursor"), mapping={"0": 3, "1": 2})

    feed.trim(feed.slowest())

    assert feed.ends() == (3, 3, 1)
    feed.trim(3)
    assert feed.ends() == (0, 3, 0)
    feed.begin_again()
    assert feed.publish([FeedBatch(2, 1, 0, b"\x80")]) == 1


def test_how_far_the_feed_is_is_shown_by_the_stores_clock(feed: ControlFeed) -> None:
    assert feed.as_of() == (0, 0)

    feed.show_as_of(7, feed.now_ms())

    number, at_ms = feed.as_of()
    assert number == 7
    assert 0 <= feed.now_ms() - at_ms < 5_000
