"""Where accepted events lie for later builds: sealed, in Parquet, a folder for each day.

<folder>/date=2026-01-31/<first entry id>_<last entry id>.parquet

The day is that of acceptance (UTC), so a day that is over changes no more. A file holds all that
its group had to do between its two ids; where one file's ids lie within another's, as after a
killed merge, the wider one has its rows too. Both halves share this module: the nearline process
writes such folders, builds read them.
"""

import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from rta_service.domain.errors import InvalidInput
from rta_service.domain.happening import SealedHappening
from rta_service.domain.sealing import Sealer

WRITING_LOCK: Final = "writing.lock"
"""Held by the one process that writes."""
READING_LOCK: Final = "reading.lock"
"""Shared by those who read; files are only merged while nobody does."""
_BATCH: Final = 50_000
"""Rows unsealed at a time."""
_PART: Final = re.compile(r"(\d+)-(\d+)_(\d+)-(\d+)\.parquet\Z")
_NAMED: Final = 5
"""Strange files that a message names."""
_DAY: Final = re.compile(r"date=\d{4}-\d\d-\d\d\Z")

EntryPlace = tuple[int, int]
"""An entry id as numbers, which compare as the log orders its entries."""


class Part(NamedTuple):
    """A file of an archive."""

    first: EntryPlace
    last: EntryPlace
    path: Path


def _kind_of(annotation: Any) -> pa.DataType:
    if annotation is bytes:
        return pa.binary()
    if annotation is int:
        return pa.int64()
    return pa.list_(pa.binary()) if annotation == tuple[bytes, ...] else pa.string()


SCHEMA: Final = pa.schema(
    [(field.name, _kind_of(field.type)) for field in msgspec.structs.fields(SealedHappening)]
)
"""A sealed event's fields; files of earlier versions may lack the last of them."""

_SAME: Final = (
    *("event_id", "ts_ms", "event", "cents", "currency", "order_id", "category", "item_id"),
    *("campaign_id", "channel", "placement", "os"),
)
LOG_SCHEMA: Final = pa.schema(
    [
        ("device_id", pa.string()),
        ("id_form", pa.string()),
        ("user_id", pa.string()),
        *((name, SCHEMA.field(name).type) for name in _SAME),
    ]
)
"""What an archive gives to a build: the columns of a behaviour log."""


def days_of(folder: Path) -> list[Path]:
    """Give the folders of an archive's days, oldest first; none for what is no archive."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if _DAY.fullmatch(path.name))


def parts_of(day: Path) -> list[Part]:
    """Give the files of a day that count, in the order of the log."""
    found = sorted(filter(None, map(_part, day.iterdir())), key=lambda p: (p.first, _back(p.last)))
    kept: list[Part] = []
    for part in found:
        if not kept or part.last > kept[-1].last:
            kept.append(part)
    return kept


def is_archive(folder: Path) -> bool:
    """Say whether a folder holds sealed events as the nearline process archives them."""
    return any(True for day in days_of(folder) for _ in filter(None, map(_part, day.iterdir())))


def refuse_strays(folder: Path) -> None:
    """Raise InvalidInput for files of an archive's folder that nobody would read, naming them."""
    known = {READING_LOCK, WRITING_LOCK}
    strays = [
        str(place)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        for place in [path.relative_to(folder)]
        if not (_is_part(place) or str(place) in known)
    ]
    if strays:
        more = f" and {len(strays) - _NAMED} more" if len(strays) > _NAMED else ""
        raise InvalidInput(
            f"holds files that are no part of this archive: {', '.join(strays[:_NAMED])}{more}; "
            "move them elsewhere, and give logs among them as inputs of their own beside it",
            str(folder),
        )


def _is_part(place: Path) -> bool:
    return len(place.parts) == 2 and bool(_DAY.fullmatch(place.parts[0]) and _part(place))  # noqa: PLR2004 - a day's folder and a name


def read_archive(folder: Path, sealer: Sealer) -> Iterator[pa.RecordBatch]:
    """Give an archive's events as the rows of a behaviour log (LOG_SCHEMA), one for each device id.

    Holds one batch at a time. Events of no device are left out: nobody's record can tell of them.
    Raises InvalidInput for events sealed under another key, and for damaged files.
    """
    with being_read(folder):
        for day in days_of(folder):
            for part in parts_of(day):
                yield from _rows_of(part.path, sealer)


@contextmanager
def being_read(folder: Path) -> Iterator[None]:
    """Keep the files of an archive from being merged meanwhile; new ones may come."""
    try:
        lock = os.open(folder / READING_LOCK, os.O_RDONLY)
    except FileNotFoundError:  # a copy of some days, to which nobody writes
        yield
        return
    try:
        fcntl.flock(lock, fcntl.LOCK_SH)
        yield
    finally:
        os.close(lock)


def stored_batches(path: Path, rows: int = _BATCH) -> Iterator[pa.RecordBatch]:
    """Give a file's sealed rows in the columns of SCHEMA; raises InvalidInput for a damaged file."""
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(rows):
                yield _completed(batch)
    except (pa.ArrowException, OSError) as error:
        raise InvalidInput(f"can't be read as archived events: {error}", str(path)) from error


def _completed(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Add the columns that came after the file was written, empty."""
    given = set(batch.schema.names)
    columns = [
        batch.column(field.name) if field.name in given else _blank(field.type, batch.num_rows)
        for field in SCHEMA
    ]
    return pa.RecordBatch.from_arrays(columns, schema=SCHEMA)


def _blank(kind: pa.DataType, rows: int) -> pa.Array:
    empty = pa.scalar(0 if pa.types.is_integer(kind) else "", kind)
    return pa.repeat(empty, rows)


def _rows_of(path: Path, sealer: Sealer) -> Iterator[pa.RecordBatch]:
    for batch in stored_batches(path):
        keys = batch.column("key_id").unique().to_pylist()
        others = [key for key in keys if not sealer.knows(key)]
        if others:
            raise InvalidInput(
                f"holds events sealed under an event key ({', '.join(sorted(others))}) that is "
                f"neither today's ({sealer.key_id}) nor one of RTA_EARLIER_EVENT_KEYS: name there "
                "a file with the key of that time",
                str(path),
            )
        for key in keys:
            of_key = batch if len(keys) == 1 else batch.filter(pc.field("key_id") == key)
            yield _unsealed(of_key, sealer.under(key))


def _unsealed(batch: pa.RecordBatch, sealer: Sealer) -> pa.RecordBatch:
    """Turn sealed events into rows of a log: as many as they have ids."""
    devices = batch.column("devices")
    rows = batch.take(pc.list_parent_indices(devices))
    md5s = _translated(pc.list_flatten(devices), sealer.unseal_md5)
    users = _translated(rows.column("user"), sealer.unseal_user)
    form = pa.repeat(pa.scalar("md5"), len(md5s))
    same = [rows.column(name) for name in _SAME]
    return pa.RecordBatch.from_arrays([md5s, form, users, *same], schema=LOG_SCHEMA)


def _translated(sealed: pa.Array, unseal: Any) -> pa.Array:
    """Unseal each distinct value once: the same is always sealed the same."""
    coded = sealed.dictionary_encode()
    plain = pa.array([unseal(value) for value in coded.dictionary.to_pylist()], pa.string())
    return plain.take(coded.indices)


def _part(path: Path) -> Part | None:
    found = _PART.fullmatch(path.name)
    if found is None:
        return None
    first_ms, first, last_ms, last = map(int, found.groups())
    return Part((first_ms, first), (last_ms, last), path)


def _back(place: EntryPlace) -> EntryPlace:
    return -place[0], -place[1]
