"""A sample of the rows that workers scored, in mapped rings that outlive the workers.

<run_dir>/sample-<process>.ring is a 64-byte header, a table of line-ups (which models of which
release gave a row's scores) and a ring of rows of fixed width. A file has one writer, which waits
for nobody: a reader copies the file and leaves out every row whose checksum is wrong, be it half
written at that moment, torn by a kill, or damaged. Nothing in a row leads to a person: its record
has no person key, and its tag is a keyed hash of the request's id.
"""

import mmap
import os
import re
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple, Self

import msgspec
import numpy as np
from numpy.typing import NDArray

from rta_service.domain.errors import InvalidInput
from rta_service.features import Rows
from rta_service.record import RECORD_BYTES, RECORD_DTYPE

ROWS: Final = 4_096
"""Rows of one ring: 0.7 MB; at 64 rows a second about a minute of one worker's traffic."""
HEADS: Final = 8
"""Scores of one row; a release with more heads has the rest left out."""

FLAG_CANARY: Final = 1
"""The canary's models decided, not the live ones."""
FLAG_PARTICIPATED: Final = 2
FLAG_FIRST_MET: Final = 4
"""The worker had not met this person since the release came; once among all workers of a host."""

_MAGIC: Final = b"RTASMPL1"
_HEADER: Final = struct.Struct("<8sIIII40x")
_SLOTS: Final = 32
_SLOT_BYTES: Final = 2_048
_SLOT: Final = struct.Struct("<QII")
_FIRST_ROW: Final = _HEADER.size + _SLOTS * _SLOT_BYTES
_BODY: Final = struct.Struct(f"<QqQII5B3x{RECORD_BYTES}s{HEADS}d")
_CHECK: Final = struct.Struct("<I4x")
_ROW_DTYPE: Final = np.dtype(
    [
        ("serial", "<u8"),
        ("instant_ms", "<i8"),
        ("tag", "<u8"),
        ("line_up", "<u4"),
        ("latency_us", "<u4"),
        ("platform", "u1"),
        ("os", "u1"),
        ("placement", "u1"),
        ("stage", "u1"),
        ("flags", "u1"),
        ("spare", "V3"),
        ("record", RECORD_DTYPE),
        ("scores", "<f8", (HEADS,)),
        ("check", "<u4"),
        ("unused", "<u4"),
    ]
)
_ROW_BYTES: Final = _ROW_DTYPE.itemsize
_PROCESS_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]*\Z")
_NO_KEY: Final = bytes(8)
_KEY_AT: Final = 8
"""Where a record holds its person key."""

_Table = NDArray[np.void]
"""Rows of _ROW_DTYPE."""


class LineUp(msgspec.Struct, frozen=True):
    """The models that gave the scores of a row, in the order of its scores."""

    release_id: str
    models: tuple[tuple[str, str], ...]
    """Head names with versions, at most HEADS."""


class SampledRow(NamedTuple):
    """One scored row as the writer takes it."""

    instant_ms: int
    tag: int
    """Keyed 64-bit hash of what names the request; 0 for none."""
    record: bytes
    """The 64 bytes that were scored; the person key is left out when it is written."""
    platform: int
    os: int
    placement: int
    stage: int
    """LifecycleStage at that moment."""
    flags: int
    """FLAG_*: decided by the canary, answered yes, person met for the first time."""
    latency_us: int
    """Of the batch, from ids to decisions."""
    line_up: LineUp
    scores: tuple[float, ...]
    """In the order of the line-up; NaN for a head that was not asked."""


@dataclass(frozen=True, slots=True)
class TrafficSample:
    """Sampled rows of all workers of this host, newest first; all arrays have length n."""

    rows: Rows
    """Ready for features.matrix; person keys are 0."""
    instants_ms: NDArray[np.int64]
    tags: NDArray[np.uint64]
    stages: NDArray[np.uint8]
    """LifecycleStage codes."""
    flags: NDArray[np.uint8]
    latency_us: NDArray[np.uint32]
    line_up_of: NDArray[np.int64]
    """Index into line_ups."""
    line_ups: tuple[LineUp, ...]
    scores: NDArray[np.float64]
    """[n, HEADS] as answered, in the order of each row's line-up."""

    def __len__(self) -> int:
        return len(self.instants_ms)

    def part(self, where: slice) -> "TrafficSample":
        """Give some of the rows."""
        records, *columns = self.rows
        return TrafficSample(
            rows=Rows(records[where], *(column[where] for column in columns)),
            instants_ms=self.instants_ms[where],
            tags=self.tags[where],
            stages=self.stages[where],
            flags=self.flags[where],
            latency_us=self.latency_us[where],
            line_up_of=self.line_up_of[where],
            line_ups=self.line_ups,
            scores=self.scores[where],
        )

    def has(self, flag: int) -> NDArray[np.bool_]:
        """Tell of each row whether it has a FLAG_*."""
        return (self.flags & flag) > 0

    def scores_of(self, name: str, version: str) -> NDArray[np.float64]:
        """Give what one model's version answered, [n]; NaN for rows that it did not decide."""
        found = np.full(len(self), np.nan)
        for index, line_up in enumerate(self.line_ups):
            if (name, version) in line_up.models:
                here = self.line_up_of == index
                found[here] = self.scores[here, line_up.models.index((name, version))]
        return found


def ring_path(run_dir: Path, process: str) -> Path:
    """Name a process's ring; raises InvalidInput for a name that can't be a file's."""
    if not _PROCESS_NAME.match(process):
        raise InvalidInput("a process name is of a-z, 0-9, - and _", process)
    return run_dir / f"sample-{process}.ring"


class SampleWriter:
    """Writes one process's ring, going on where an earlier process of that name ended."""

    def __init__(self, path: Path, rows: int = ROWS) -> None:
        if not _is_ours(path, rows):
            _create(path, rows)
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), 0)
        self._rows = rows
        content = self._map[:]
        table = np.frombuffer(content, _ROW_DTYPE, offset=_FIRST_ROW)
        whole = [int(table["serial"][i]) for i in _whole(content, table, np.arange(rows))]
        self._serial = max(whole, default=0)
        self._line_ups = {line_up: serial for serial, line_up in _line_ups(content).items()}
        self._last_line_up = max(self._line_ups.values(), default=0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def add(self, row: SampledRow) -> None:
        """Put a row over the oldest one: about 3 microseconds, and no lock."""
        line_up = self._line_ups.get(row.line_up) or self._enter(row.line_up)
        self._serial += 1
        record = row.record
        scores = row.scores[:HEADS]
        body = _BODY.pack(
            self._serial,
            row.instant_ms,
            row.tag,
            line_up,
            row.latency_us,
            row.platform,
            row.os,
            row.placement,
            row.stage,
            row.flags,
            record[:_KEY_AT] + _NO_KEY + record[_KEY_AT + len(_NO_KEY) :],
            *scores,
            *[np.nan] * (HEADS - len(scores)),
        )
        at = _FIRST_ROW + self._serial % self._rows * _ROW_BYTES
        self._map[at : at + _ROW_BYTES] = body + _CHECK.pack(zlib.crc32(body))

    def close(self) -> None:
        """Unmap; the file stays readable."""
        self._map.close()

    def _enter(self, line_up: LineUp) -> int:
        """Write a line-up over the oldest one and give its number; its rows are lost then."""
        kept = LineUp(line_up.release_id, line_up.models[:HEADS])
        text = msgspec.json.encode(kept)
        if len(text) > _SLOT_BYTES - _SLOT.size:
            raise InvalidInput("names are too long for the sample's table", line_up.release_id)
        self._last_line_up += 1
        number = self._last_line_up
        self._line_ups = {k: v for k, v in self._line_ups.items() if v > number - _SLOTS}
        self._line_ups[line_up] = number
        at = _HEADER.size + number % _SLOTS * _SLOT_BYTES
        slot = _SLOT.pack(number, len(text), zlib.crc32(text, number & 0xFFFFFFFF)) + text
        self._map[at : at + len(slot)] = slot
        return number


def read_sample(run_dir: Path, limit: int, after_ms: int = 0) -> TrafficSample:
    """Merge the rings of all workers, dead or alive: at most `limit` rows later than an instant.

    Newest first. A ring of another version, or one that is damaged, gives what can be trusted.
    About 1 ms a thousand rows; nothing it does is felt by a writer.
    """
    tables: list[_Table] = []
    line_ups: dict[LineUp, int] = {}
    places: list[NDArray[np.int64]] = []
    for path in sorted(run_dir.glob("sample-*.ring")):
        table, numbered = _read_ring(path, limit, after_ms)
        known = {n: line_ups.setdefault(one, len(line_ups)) for n, one in numbered.items()}
        kept = np.array([int(n) in known for n in table["line_up"]], dtype=bool)
        tables.append(table[kept])
        places.append(np.array([known[int(n)] for n in tables[-1]["line_up"]], dtype=np.int64))
    merged = np.concatenate(tables) if tables else np.zeros(0, _ROW_DTYPE)
    place = np.concatenate(places) if places else np.zeros(0, np.int64)
    newest = np.argsort(-merged["instant_ms"], kind="stable")[:limit]
    return _sample(merged[newest], place[newest], tuple(line_ups))


def _sample(
    table: _Table, line_up_of: NDArray[np.int64], line_ups: tuple[LineUp, ...]
) -> TrafficSample:
    context = [table[field].astype(np.int64) for field in ("platform", "os", "placement")]
    records = np.ascontiguousarray(table["record"])
    return TrafficSample(
        rows=Rows(records, table["instant_ms"] // 1000, *context),
        instants_ms=table["instant_ms"].copy(),
        tags=table["tag"].copy(),
        stages=table["stage"].copy(),
        flags=table["flags"].copy(),
        latency_us=table["latency_us"].copy(),
        line_up_of=line_up_of,
        line_ups=line_ups,
        scores=np.ascontiguousarray(table["scores"]),
    )


def _read_ring(path: Path, limit: int, after_ms: int) -> tuple[_Table, dict[int, LineUp]]:
    content = _content(path)
    if content is None:
        return np.zeros(0, _ROW_DTYPE), {}
    table = np.frombuffer(content, _ROW_DTYPE, offset=_FIRST_ROW)
    wanted = np.flatnonzero((table["serial"] > 0) & (table["instant_ms"] > after_ms))
    newest = wanted[np.argsort(table["serial"][wanted])[::-1]]
    trusted = list(_first(_whole(content, table, newest), limit))
    return table[trusted], _line_ups(content)


def _first(found: Iterator[int], limit: int) -> Iterator[int]:
    for _, index in zip(range(limit), found, strict=False):
        yield index


def _whole(content: bytes, table: _Table, places: NDArray[np.int64]) -> Iterator[int]:
    """Give the places of rows that were written and are whole."""
    checks = table["check"]
    for place in places.tolist():
        at = _FIRST_ROW + place * _ROW_BYTES
        body = content[at : at + _BODY.size]
        if zlib.crc32(body) == checks[place] and table["serial"][place] % len(table) == place:
            yield place


def _line_ups(content: bytes) -> dict[int, LineUp]:
    """Read the table of line-ups by number; what is damaged is left out."""
    found: dict[int, LineUp] = {}
    for slot in range(_SLOTS):
        at = _HEADER.size + slot * _SLOT_BYTES
        number, length, check = _SLOT.unpack_from(content, at)
        text = content[at + _SLOT.size : at + _SLOT.size + min(length, _SLOT_BYTES - _SLOT.size)]
        if number and zlib.crc32(text, number & 0xFFFFFFFF) == check:
            found[number] = msgspec.json.decode(text, type=LineUp)
    return found


def _content(path: Path) -> bytes | None:
    """Read a ring whole, or None for a file that is none."""
    try:
        content = path.read_bytes()
    except OSError:
        return None  # gone, or not ours to read: as if nobody had sampled
    if len(content) < _FIRST_ROW:
        return None
    magic, row_bytes, rows, slots, slot_bytes = _HEADER.unpack_from(content)
    known = (magic, row_bytes, slots, slot_bytes) == (_MAGIC, _ROW_BYTES, _SLOTS, _SLOT_BYTES)
    return content if known and len(content) == _FIRST_ROW + rows * _ROW_BYTES else None


def _is_ours(path: Path, rows: int) -> bool:
    content = _content(path)
    return content is not None and len(content) == _FIRST_ROW + rows * _ROW_BYTES


def _create(path: Path, rows: int) -> None:
    """Make an empty ring appear whole, for nobody but this user: a reader may come at any time.

    Zeros are written, or a full disk would end the process at the first row instead of here.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".new")
    unfinished.unlink(missing_ok=True)
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(_HEADER.pack(_MAGIC, _ROW_BYTES, rows, _SLOTS, _SLOT_BYTES))
        file.write(bytes(_FIRST_ROW - _HEADER.size + rows * _ROW_BYTES))
    unfinished.replace(path)
