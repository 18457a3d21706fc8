"""Where a log lies and how DuckDB reads it: Parquet, CSV or JSON lines, one file or a folder; or
the archive of the events that were accepted."""

import csv
import gzip
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import duckdb
import pyarrow as pa

from rta_service.domain.errors import InvalidInput
from rta_service.domain.sealing import Sealer
from rta_service.offline import engine
from rta_service.offline.archive_folder import (
    LOG_SCHEMA,
    is_archive,
    read_archive,
    refuse_strays,
)

_FORMATS: Final = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".csv": "csv",
    ".tsv": "csv",
    ".jsonl": "json",
    ".ndjson": "json",
    ".json": "json",
}
_DELIMITERS: Final = ",;\t|"
RAW: Final = "raw"
ARCHIVE: Final = "archive"


@dataclass(frozen=True, slots=True)
class LogFiles:
    """The files of one log, all of one format."""

    place: str
    paths: tuple[Path, ...]
    """Of an archive its folder."""
    format: str


def find_files(source: Path) -> LogFiles:
    """Find a log's files; raises InvalidInput for none, for unknown and for mixed formats."""
    if is_archive(source):
        refuse_strays(source)
        return LogFiles(str(source), (source,), ARCHIVE)
    if source.is_dir():
        found = sorted(path for path in source.rglob("*") if _format_of(path) and path.is_file())
    elif source.is_file():
        found = [source]
    else:
        raise InvalidInput("no such file or folder", str(source))
    formats = {_format_of(path) for path in found}
    if len(formats) != 1 or "" in formats:
        held = ", ".join(sorted(formats)) or "nothing"
        raise InvalidInput(
            f"expected files of one format (.parquet, .csv, .tsv, .jsonl, .json), found {held}",
            str(source),
        )
    return LogFiles(str(source), tuple(found), formats.pop())


def open_raw(con: Any, files: LogFiles, sealer: Sealer | None = None, name: str = RAW) -> Any:
    """Make the files a view of the engine, columns as they are named in the log.

    CSV and JSON fields stay text, so that a bad one is a counted row and not a failed run. An
    archive needs the sealer of its events, and is read into the engine at once.
    """
    if files.format == ARCHIVE:
        return _read_sealed(con, files, sealer, name)
    readers = {"parquet": _read_parquet, "csv": _read_csv, "json": _read_json}
    try:
        readers[files.format](con, files).create_view(name)
    except (duckdb.Error, OSError, UnicodeDecodeError, csv.Error) as error:
        first_line = str(error).strip().splitlines()[0]
        raise InvalidInput(f"can't be read as {files.format}: {first_line}", files.place) from error
    return engine.table(con, name)


def malformed_lines(con: Any, files: LogFiles) -> list[tuple[int, str]]:
    """Give line number and reason of the CSV lines that DuckDB left out when it read these files.

    Raises InvalidInput for a quote that never ends, since it swallows all lines after it.
    """
    if files.format != "csv":
        return []
    errors = con.con.execute(
        "FROM reject_errors JOIN reject_scans USING (scan_id, file_id)"
        " SELECT line, min(error_type) WHERE file_path IN (SELECT unnest($1))"
        " GROUP BY file_path, line ORDER BY line",
        [_names(files.paths)],
    ).fetchall()
    for line, reason in errors:
        if reason == "UNQUOTED VALUE":
            raise InvalidInput(
                "a quoted field never ends, everything after it would be lost: fix this line",
                f"{files.place}:{line}",
            )
    return [(int(line), str(reason).lower()) for line, reason in errors]


def _read_sealed(con: Any, files: LogFiles, sealer: Sealer | None, name: str) -> Any:
    if sealer is None:
        raise InvalidInput("holds sealed events, which only a build of profiles reads", files.place)
    batches = read_archive(files.paths[0], sealer)
    # an error of ours would reach DuckDB as one of its own, so the batches are handed over one by one
    engine.add_arrow(con, name, LOG_SCHEMA.empty_table())
    for batch in batches:
        con.con.register("arriving", pa.Table.from_batches([batch]))
        con.con.execute(f'INSERT INTO "{name}" FROM arriving')
        con.con.unregister("arriving")
    return engine.table(con, name)


def _format_of(path: Path) -> str:
    suffixes = [suffix.lower() for suffix in path.suffixes if suffix.lower() != ".gz"]
    return _FORMATS.get(suffixes[-1], "") if suffixes else ""


def _names(paths: Iterable[Path]) -> list[str]:
    return [str(path) for path in paths]


def _read_parquet(con: Any, files: LogFiles) -> Any:
    return con.con.read_parquet(_names(files.paths), union_by_name=True)


def _read_csv(con: Any, files: LogFiles) -> Any:
    headers = {_header(path) for path in files.paths}
    if len(headers) > 1:
        raise InvalidInput("files of one log must have the same header line", files.place)
    delimiter, columns = headers.pop()
    return con.con.read_csv(
        _names(files.paths),
        columns=dict.fromkeys(columns, "VARCHAR"),
        auto_detect=False,  # a dialect guessed from dirty lines loses rows
        header=True,
        delimiter=delimiter,
        quotechar='"',
        escapechar='"',
        store_rejects=True,
    )


def _header(path: Path) -> tuple[str, tuple[str, ...]]:
    opener = gzip.open if path.suffix == ".gz" else open
    with opener(path, "rt", encoding="utf-8-sig", newline="") as file:
        line = file.readline()
    if not line.strip():
        raise InvalidInput("is empty: expected a header line", str(path))
    delimiter = max(_DELIMITERS, key=line.count)
    return delimiter, tuple(next(csv.reader([line], delimiter=delimiter)))


def _read_json(con: Any, files: LogFiles) -> Any:
    names = _names(files.paths)
    options = {"format": "newline_delimited", "ignore_errors": True}
    keys = con.con.read_json(names, sample_size=-1, **options).columns
    return con.con.read_json(names, columns=dict.fromkeys(keys, "VARCHAR"), **options)
