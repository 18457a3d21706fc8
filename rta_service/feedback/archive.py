"""Archives accepted events for later builds: sealed, as Parquet, each once.

A batch becomes one file a day of acceptance, in the order of the days, each whole and on the disk
or not there at all. Their names say how far the archive is, so what comes again after a crash is
found in them and skipped. At the end of a day its files become one.
"""

import fcntl
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from itertools import chain, groupby
from operator import attrgetter
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import pyarrow as pa
import pyarrow.parquet as pq

from rta_service.domain.errors import InvalidInput, StaleWriter, StoreUnavailable
from rta_service.domain.happening import SealedHappening
from rta_service.feedback.consuming import GroupRules, Taken
from rta_service.offline.archive_folder import (
    READING_LOCK,
    SCHEMA,
    WRITING_LOCK,
    EntryPlace,
    Part,
    days_of,
    parts_of,
    stored_batches,
)
from rta_service.stores.delta_store import stream_order
from rta_service.stores.whole_files import UNFINISHED, make_folder, sync, write_whole

ARCHIVE_RULES: Final = GroupRules(
    batch=10_000, calm=10_000, batch_bytes=16_000_000, rest_s=30.0, leaves_store=True
)
"""Few files rather than fresh ones: builds run daily, and a group's events wait in the log."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_DAY_MS: Final = 86_400_000
_NOTHING: Final[EntryPlace] = (0, -1)
_ROW_GROUP: Final = 100_000
_COLUMNS: Final = [attrgetter(name) for name in SCHEMA.names]
_OPTIONS: Final = {"compression": "zstd"}

_log: Final = logging.getLogger(__name__)


class EventArchive:
    """The one writer of an archive folder, from its first batch to its end.

    A folder that can't be had yet is a failure of `handle`, so that only this group waits for it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._locks = ExitStack()
        self._cursor: EntryPlace | None = None

    def __enter__(self) -> Self:
        """Begin; nothing is touched before the first batch."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Let another process write."""
        self._cursor = None
        self._locks.close()

    def handle(self, entries: Sequence[Taken], /) -> None:
        """Write what the archive does not have yet, and return when it is on the disk.

        Raises StaleWriter while another process has the folder, StoreUnavailable where the disk
        fails: the same entries may be given again.
        """
        cursor = self._open() if self._cursor is None else self._cursor
        placed = [(stream_order(one.entry_id.encode()), one.sealed) for one in entries]
        fresh = [(place, sealed) for place, sealed in placed if place > cursor]
        for day, found in groupby(fresh, key=lambda one: one[0][0] // _DAY_MS):
            rows = list(found)
            is_new_day = day > cursor[0] // _DAY_MS
            with _disk_errors("written"):
                self._write(day, rows)
            self._cursor = cursor = rows[-1][0]
            if is_new_day:
                self._merge_before(cursor)

    def _open(self) -> EntryPlace:
        """Take the folder, clear what a killed writer left, and find the place to go on from."""
        with _disk_errors("opened"), ExitStack() as locks:
            make_folder(self._folder)
            locks.enter_context(_locked(self._folder / WRITING_LOCK))
            (self._folder / READING_LOCK).touch()
            days = days_of(self._folder)
            for day in days:
                for left in day.glob(f"{UNFINISHED}*"):
                    left.unlink()
            newest = [part.last for day in days for part in parts_of(day)[-1:]]
            cursor = max(newest, default=_NOTHING)
            self._merge_before(cursor)
            self._locks = locks.pop_all()
            self._cursor = cursor
        return cursor

    def _write(self, day: int, rows: Sequence[tuple[EntryPlace, SealedHappening]]) -> None:
        name = _name(rows[0][0], rows[-1][0])
        sealed = [one for _, one in rows]
        arrays = [
            pa.array(map(column, sealed), field.type)
            for column, field in zip(_COLUMNS, SCHEMA, strict=True)
        ]
        buffer = pa.BufferOutputStream()
        pq.write_table(pa.Table.from_arrays(arrays, schema=SCHEMA), buffer, **_OPTIONS)
        write_whole(_day_folder(self._folder, day) / name, buffer.getvalue())

    def _merge_before(self, cursor: EntryPlace) -> None:
        """Make one file of each day that is over; what can't be merged now stays as it is."""
        today = _day_folder(self._folder, cursor[0] // _DAY_MS)
        try:
            with _locked(self._folder / READING_LOCK):
                for day in days_of(self._folder):
                    if day < today:
                        merge_day(day)
        except StaleWriter:
            return  # somebody reads, and a day of many files is read as well, only slower
        except (OSError, InvalidInput) as error:
            _log.warning("files of the archive stay unmerged: %s", error)


def merge_day(day: Path) -> bool:
    """Make one file of a day's; says whether there was more than one. Holds few rows at a time.

    Killed on the way it leaves the parts, or parts and the whole: read alike.
    """
    parts = parts_of(day)
    if len(parts) > 1:
        unfinished = day / f"{UNFINISHED}merged"
        with pq.ParquetWriter(unfinished, SCHEMA, **_OPTIONS) as writer:
            for rows in _row_groups(parts):
                writer.write_table(rows)
        sync(unfinished)
        unfinished.chmod(0o444)
        unfinished.rename(day / _name(parts[0].first, parts[-1].last))
        sync(day)
    kept = {part.path for part in parts_of(day)}
    for path in day.glob("*-*_*-*.parquet"):
        if path not in kept:
            path.unlink()
    return len(parts) > 1


def _row_groups(parts: Sequence[Part]) -> Iterator[pa.Table]:
    """Gather rows of small files into groups that are worth reading."""
    held: list[pa.RecordBatch] = []
    rows = 0
    for batch in chain.from_iterable(stored_batches(part.path) for part in parts):
        held.append(batch)
        rows += batch.num_rows
        if rows >= _ROW_GROUP:
            yield pa.Table.from_batches(held)
            held, rows = [], 0
    if held:
        yield pa.Table.from_batches(held)


def _name(first: EntryPlace, last: EntryPlace) -> str:
    return f"{first[0]}-{first[1]}_{last[0]}-{last[1]}.parquet"


def _day_folder(folder: Path, day: int) -> Path:
    return folder / f"date={_EPOCH + timedelta(days=day):%Y-%m-%d}"


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a file for ourselves; raises StaleWriter while somebody else has it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StaleWriter(f"another process holds {path.name} of the archive") from error
        yield
    finally:
        os.close(descriptor)


@contextmanager
def _disk_errors(doing: str) -> Iterator[None]:
    """Make a failing disk something to wait out: no event is at fault."""
    try:
        yield
    except OSError as error:
        why = error.strerror or type(error).__name__
        raise StoreUnavailable(f"the archive can't be {doing}: {why}") from error
