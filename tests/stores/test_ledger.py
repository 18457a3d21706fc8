import sqlite3
from pathlib import Path

import pytest

from rta_service.domain.attribution import (
    Applied,
    Changes,
    Conversion,
    Credit,
    Method,
    Oldest,
    Owed,
    Place,
    Refund,
    Touch,
    TouchKind,
    TouchSum,
)
from rta_service.domain.errors import InvalidInput, StoreUnavailable
from rta_service.stores.ledger import Ledger
from rta_service.stores.ledger_tables import Places

PLACE = Place(7, "json", "s1", "c1", "live", "r1")
NOTHING_OLD = Oldest(0, 0, 0, 0, 0)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "ledger.sqlite"


def a_click(ts_ms: int = 100, key: int = 1, person: int = 5) -> Touch:
    return Touch(ts_ms, key, TouchKind.CLICK, PLACE, (person,), (50,), cost_micros=9)


def counted(*touches: Touch) -> Changes:
    changes = Changes()
    for touch in touches:
        changes.touch(touch)
    changes.newest_ms = max((touch.ts_ms for touch in touches), default=0)
    changes.applied = Applied(len(touches), 1, 2, 0)
    return changes


def write_and_fail(ledger: Ledger) -> None:
    with ledger.writing("1-1") as tables:
        tables.add_sums(counted(a_click()))
        raise ZeroDivisionError


def write_much(ledger: Ledger) -> None:
    with ledger.writing("1-2") as tables:
        for key in range(2, 500):
            tables.add_conversion(Conversion(100, key, "trade", PLACE, (key,), (), 1, key))


def rows(path: Path, question: str) -> list[tuple[int, ...]]:
    with sqlite3.connect(path) as connection:
        found = connection.execute(question).fetchall()
    connection.close()
    return found


def test_what_a_transaction_wrote_is_there_after_another_opening(path: Path) -> None:
    with Ledger(path) as ledger, ledger.writing("5-1") as tables:
        assert tables.add_touch(a_click())
        tables.add_sums(counted(a_click()))

    with Ledger(path) as ledger:
        assert ledger.facts() == ("5-1", 100, 1, 1, 2)
        assert ledger.sums(0, 8).touches == {(PLACE, TouchKind.CLICK): TouchSum(1, cost_micros=9)}
        assert ledger.sums(8, 9).touches == ledger.sums(0, 7).touches == {}


def test_nobody_but_its_owner_reads_the_file(path: Path) -> None:
    Ledger(path).close()

    assert path.stat().st_mode & 0o777 == 0o600


def test_an_event_is_a_copy_only_at_its_own_instant(path: Path) -> None:
    with Ledger(path) as ledger, ledger.writing("1-1") as tables:
        added = [tables.add_touch(a_click(ts_ms)) for ts_ms in (100, 100, 101)]

    assert added == [True, False, True]


def test_a_transaction_that_fails_leaves_nothing_not_even_numbers_of_places(path: Path) -> None:
    with Ledger(path) as ledger:
        with pytest.raises(ZeroDivisionError):
            write_and_fail(ledger)
        assert ledger.facts().cursor == ""

        with ledger.writing("1-2") as tables:
            other = Touch(100, 1, TouchKind.CLICK, Place(3), ())
            tables.add_sums(counted(other, a_click()))

        assert {place for place, _ in ledger.sums(0, 9).touches} == {PLACE, Place(3)}


def test_the_clicks_and_names_of_a_batch_are_found_within_it(path: Path) -> None:
    with Ledger(path) as ledger, ledger.writing("1-1") as tables:
        for at, key in ((100, 1), (100, 2), (90, 3)):
            tables.add_touch(a_click(at, key))

        last = tables.last_click(5, 0, 100)
        earlier = tables.last_click(5, 0, 99)
        named = list(tables.named_touches(50, 95, 100))

    assert last == (TouchKind.CLICK, 100, 2, PLACE)
    assert earlier == (TouchKind.CLICK, 90, 3, PLACE)
    assert [found.key for found in named] == [2, 1]


def test_a_credit_and_what_is_taken_off_it_may_be_taken_back(path: Path) -> None:
    conversion = Conversion(100, 2, "trade", PLACE, (5,), (), 30, 8)
    credit = Credit(Method.LAST_CLICK, PLACE, 90, 1, is_first=True)
    owed = Owed((100, 2), PLACE, "trade", is_first=True)

    with Ledger(path) as ledger:
        with ledger.writing("1-1") as tables:
            tables.add_conversion(conversion)
            tables.add_refund(Refund(110, 3, 8, 10))
            tables.set_credit((100, 2), credit)
            tables.set_owed((110, 3), owed)
            assert tables.conversion((100, 2)) == (conversion, credit)
            assert tables.owed((110, 3)) == owed
        (found,) = ledger.attributions(0, 200)
        assert (found.cents, found.touch_ms, found.is_first) == (20, 90, True)

        with ledger.writing("1-2") as tables:
            tables.set_credit((100, 2), None)
            tables.set_owed((110, 3), None)
            assert tables.conversion((100, 2)) == (conversion, None)
            assert tables.owed((110, 3)) is None
        assert not list(ledger.attributions(0, 200))


def test_what_no_longer_matters_is_forgotten_after_each_table_was_searched(path: Path) -> None:
    with Ledger(path, slices=2) as ledger:
        with ledger.writing("1-1") as tables:
            for person in (-5, 5):
                tables.add_touch(a_click(100, person, person))
                tables.add_conversion(Conversion(101, person, "trade", PLACE, (person,), (), 0, 8))
            tables.add_refund(Refund(101, 3, 8, 10))
            tables.add_sums(counted(a_click()))
            tables.forget(NOTHING_OLD)
        for _ in range(2):
            with ledger.writing("1-2") as tables:
                tables.forget(Oldest(200, 200, 200, 200, 8))

    for table in ("event", "click", "named", "kin", "paid", "conversion", "refund", "place"):
        assert rows(path, f"SELECT * FROM {table}") == [], table  # noqa: S608 - the test's own names
    assert rows(path, "SELECT * FROM touch_sum") == []


def test_only_some_places_have_their_numbers_at_hand(path: Path) -> None:
    Ledger(path).close()
    connection = sqlite3.connect(path, isolation_level=None)
    places = Places(connection, most=2)

    given = {Place(hour): places.id_of(Place(hour)) for hour in (1, 2, 3)}

    assert {place: places.id_of(place) for place in given} == given
    assert [places.of(place_id) for place_id in given.values()] == list(given)
    assert len(places._ids) <= 2
    connection.close()


def test_sums_beyond_64_bits_are_refused_and_not_rounded(path: Path) -> None:
    dear = Touch(100, 1, TouchKind.CLICK, PLACE, cost_micros=2**62)

    with Ledger(path) as ledger:
        for at, is_too_much in ((1, False), (2, True)):
            changes = counted(dear)
            if is_too_much:
                with pytest.raises(sqlite3.IntegrityError), ledger.writing(f"1-{at}") as tables:
                    tables.add_sums(changes)
            else:
                with ledger.writing(f"1-{at}") as tables:
                    tables.add_sums(changes)

        assert ledger.sums(0, 9).touches[PLACE, TouchKind.CLICK].cost_micros == 2**62
        assert ledger.facts().cursor == "1-1"


def test_a_reader_reads_while_another_writes_and_can_not_write(path: Path) -> None:
    with Ledger(path) as ledger, Ledger(path, is_reader=True) as reader:
        with ledger.writing("1-1") as tables:
            tables.add_sums(counted(a_click()))
            assert reader.facts().cursor == ""
        assert reader.facts().cursor == "1-1"
        with pytest.raises(StoreUnavailable, match="readonly"), reader.writing("1-2") as tables:
            tables.add_touch(a_click())


def test_a_reader_of_no_file_is_told_so(path: Path) -> None:
    with pytest.raises(StoreUnavailable, match="unable to open"):
        Ledger(path, is_reader=True)


def test_another_writer_is_waited_for_and_then_tried_again(path: Path) -> None:
    with Ledger(path) as ledger, Ledger(path, patience_s=0.05) as other:
        locked = pytest.raises(StoreUnavailable, match="locked")
        with ledger.writing("1-1"), locked, other.writing("1-2"):
            pass
        with other.writing("1-3") as tables:
            assert tables.add_touch(a_click())


def test_a_full_disk_leaves_what_was_there(path: Path) -> None:
    with Ledger(path) as ledger:
        with ledger.writing("1-1") as tables:
            tables.add_touch(a_click())
        pages = ledger._connection.execute("PRAGMA page_count").fetchone()[0]
        ledger._connection.execute(f"PRAGMA max_page_count = {pages}")

        with pytest.raises(StoreUnavailable, match="full"):
            write_much(ledger)

        assert ledger.facts().cursor == "1-1"
        ledger._connection.execute("PRAGMA max_page_count = 1000000")
        with ledger.writing("1-2") as tables:
            assert [tables.add_touch(a_click(100, key)) for key in (1, 2)] == [False, True]


def test_a_file_of_another_version_is_left_alone(path: Path) -> None:
    Ledger(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 9")
    connection.close()

    with pytest.raises(InvalidInput, match="version 9, not a ledger of version 2"):
        Ledger(path)


def test_a_file_that_is_no_ledger_is_left_alone(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"something else" * 100)

    with pytest.raises(InvalidInput, match="damaged or no ledger"):
        Ledger(path)

    assert path.read_bytes() == b"something else" * 100


def test_a_file_that_is_damaged_inside_is_told_and_no_event_is_blamed(path: Path) -> None:
    with Ledger(path) as ledger:
        write_much(ledger)
    whole = path.read_bytes()
    path.write_bytes(whole[:4096] + bytes(len(whole) - 4096))

    with Ledger(path) as ledger, pytest.raises(StoreUnavailable, match="damaged"):
        write_much(ledger)
