"""The ledger of attribution: one SQLite file, changed in transactions that survive any kill.

A transaction holds all that a batch of events changes, and is on the disk when it ends: a batch is
in the ledger whole or not at all. Events are known by their ids, so one that comes again changes
nothing; that, not the cursor, is what makes each count once.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

import msgspec

from rta_service.domain.attribution import (
    Attribution,
    Conversion,
    GoalSum,
    Method,
    Place,
    Sums,
    TouchKind,
    TouchSum,
)
from rta_service.domain.control_feed import FeedBatch
from rta_service.domain.errors import InvalidInput, StoreUnavailable
from rta_service.stores.control_feed import FeedTable
from rta_service.stores.ledger_schema import MIGRATIONS, SCHEMA, VERSION
from rta_service.stores.ledger_tables import SLICES, LedgerTables, Places
from rta_service.stores.whole_files import make_folder, sync

_PAGES_KIB: Final = 65_536
_decode: Final = msgspec.msgpack.Decoder(Conversion).decode

_TOUCH_SUMS: Final = """
SELECT hour, channel, strategy, campaign, arm, release, kind, touches, told, register_nanos, trade_nanos, cost_micros
FROM place JOIN touch_sum ON place = id WHERE hour >= ? AND hour < ?
"""
_GOAL_SUMS: Final = """
SELECT hour, channel, strategy, campaign, arm, release, goal, conversions, cents
FROM place JOIN goal_sum ON place = id WHERE hour >= ? AND hour < ?
"""
_REPORTS: Final = """
SELECT hour, channel, strategy, campaign, arm, release, cost_micros FROM place JOIN report ON place = id WHERE hour >= ? AND hour < ?
"""
_ATTRIBUTIONS: Final = """
SELECT conversion.ts, conversion.key, body, method,
    hour, channel, strategy, campaign, arm, release, touch_ts, touch_key, is_first,
    (SELECT coalesce(sum(cents), 0) FROM refund
        WHERE paid_ts = conversion.ts AND paid_key = conversion.key)
FROM conversion JOIN place ON place = id WHERE ts >= ? AND ts < ? ORDER BY ts, key
"""


class LedgerFacts(NamedTuple):
    """What a ledger says of itself."""

    cursor: str
    """The last entry of the log that it holds."""
    newest_ms: int
    """When the newest event happened."""
    counted: int
    copies: int
    late: int
    """Too old to be counted when they came."""


class Ledger:
    """The ledger in a file; for one writer at a time, and any number of readers.

    Made by its first writer. `slices` is in how many batches all tables are searched once for what
    no longer matters: a power of two. `patience_s` is for another process that writes. Raises InvalidInput for a file that is no ledger of this version, and
    everywhere StoreUnavailable where the disk is full, fails, or another process writes for long.
    """

    def __init__(
        self,
        path: Path,
        *,
        is_reader: bool = False,
        slices: int = SLICES,
        patience_s: float = 5.0,
    ) -> None:
        self._path = path
        self._slices = slices
        if not is_reader:
            make_folder(path.parent)
            path.touch(mode=0o600)
            sync(path.parent)
        with self._errors():
            self._connection = sqlite3.connect(
                f"{path.absolute().as_uri()}?mode={'ro' if is_reader else 'rw'}",
                uri=True,
                timeout=patience_s,
                isolation_level=None,
                check_same_thread=False,  # batches come from a pool of threads, one at a time
                cached_statements=256,
            )
            self._places = Places(self._connection)
            self._open(is_reader=is_reader)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()

    @contextmanager
    def writing(self, cursor: str) -> Iterator[LedgerTables]:
        """Change the tables in one transaction, after which the ledger holds a log up to a cursor."""
        with self._errors(), self._transaction():
            tables = LedgerTables(self._connection, self._places, self._slices)
            yield tables
            FeedTable(self._connection).write(cursor, tables.told)
            self._connection.execute("UPDATE fact SET value = ? WHERE name = 'cursor'", (cursor,))

    def facts(self) -> LedgerFacts:
        """Say how far the ledger is."""
        found = dict(self._rows("SELECT name, value FROM fact"))
        return LedgerFacts._make(found[name] for name in LedgerFacts._fields)

    def sums(self, since_hour: int, until_hour: int) -> Sums:
        """Give what was counted in some hours, the last not included, at one instant."""
        hours = since_hour, until_hour
        with self._errors(), self._transaction("BEGIN"):
            touches = self._rows(_TOUCH_SUMS, *hours)
            goals = self._rows(_GOAL_SUMS, *hours)
            reported = self._rows(_REPORTS, *hours)
            return Sums(
                {
                    (Place._make(row[:6]), TouchKind(row[6])): TouchSum._make(row[7:])
                    for row in touches
                },
                {(Place._make(row[:6]), row[6]): GoalSum._make(row[7:]) for row in goals},
                {Place._make(row[:6]): row[6] for row in reported},
            )

    def attributions(self, since_ms: int, until_ms: int) -> Iterator[Attribution]:
        """Give the conversions of some time that count, in their order."""
        for row in self._rows(_ATTRIBUTIONS, since_ms, until_ms):
            conversion = _decode(row[2])
            yield Attribution(
                row[0],
                row[1],
                conversion.goal,
                Method(row[3]),
                Place._make(row[4:10]),
                row[10],
                row[11],
                bool(row[12]),
                conversion.cents - row[13],
            )

    def feed(self, after: int, most: int, until: int = 2**62) -> list[FeedBatch]:
        """Give what cost control is told after a number, up to another, oldest first."""
        with self._errors():
            return FeedTable(self._connection).read(after, most, until)

    def _rows(self, question: str, *given: Any) -> Iterator[tuple[Any, ...]]:
        with self._errors():
            yield from self._connection.execute(question, given)

    def _open(self, *, is_reader: bool) -> None:
        try:
            self._connection.execute(f"PRAGMA cache_size = -{_PAGES_KIB}")
            if not is_reader:
                self._make_ready()
            version = self._connection.execute("PRAGMA user_version").fetchone()[0]
        except sqlite3.DatabaseError as error:
            self.close()
            if type(error) is not sqlite3.DatabaseError:
                raise
            raise InvalidInput(f"is damaged or no ledger: {error}", str(self._path)) from error
        if version != VERSION:
            self.close()
            if version in MIGRATIONS:
                raise InvalidInput(
                    "is of an older version: the service brings it up to date when it starts",
                    str(self._path),
                )
            raise InvalidInput(
                f"is a file of version {version}, not a ledger of version {VERSION}: move it away,"
                " and a new one is begun",
                str(self._path),
            )

    def _make_ready(self) -> None:
        run = self._connection.execute
        run("PRAGMA journal_mode = WAL")
        run("PRAGMA synchronous = FULL")  # each transaction is on the disk when it ends
        run("PRAGMA temp_store = MEMORY")
        with self._transaction():
            if not run("SELECT 1 FROM sqlite_master").fetchone():
                for statement in SCHEMA.split(";\n"):
                    run(statement)
                run(f"PRAGMA user_version = {VERSION}")
            while (version := run("PRAGMA user_version").fetchone()[0]) in MIGRATIONS:
                for statement in MIGRATIONS[version].split(";\n"):
                    run(statement)
                run(f"PRAGMA user_version = {version + 1}")

    @contextmanager
    def _transaction(self, begin: str = "BEGIN IMMEDIATE") -> Iterator[None]:
        self._connection.execute(begin)
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            self._places.forget()  # the numbers of new places went with the transaction
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            raise

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Say what SQLite could not do; what a value is to blame for stays as it is."""
        try:
            yield
        except (sqlite3.OperationalError, sqlite3.InternalError) as error:
            raise StoreUnavailable(f"{self._path.name}: {error}") from error
        except sqlite3.DatabaseError as error:
            if type(error) is not sqlite3.DatabaseError:
                raise  # an event is to blame
            raise StoreUnavailable(f"{self._path.name} is damaged: {error}") from error
