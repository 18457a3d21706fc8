"""The archive holds each event once, whoever is killed when."""

import fcntl
import os
import random
import resource
import signal
import stat
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from types import FrameType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings, strategies as st

from rta_service.domain.errors import InvalidInput, StaleWriter, StoreUnavailable
from rta_service.domain.events import Event
from rta_service.domain.sealing import Sealer
from rta_service.feedback.archive import EventArchive, merge_day
from rta_service.feedback.consuming import Taken
from rta_service.offline.archive_folder import (
    LOG_SCHEMA,
    READING_LOCK,
    SCHEMA,
    WRITING_LOCK,
    being_read,
    days_of,
    is_archive,
    parts_of,
    read_archive,
    stored_batches,
)

Kit = Any
"""The builder of conftest.py: test folders are no packages."""
DAY_MS = 86_400_000
DAY = 20_700
"""2026-09-04."""
STEPS = {
    "open",
    "mkdir",
    "rename",
    "replace",
    "unlink",
    "fchmod",
    "chmod",
    "write",
    "fsync",
    "flush",
}


def a_stream(kit: Kit, events: int, first: int = 0, every_ms: int = 1_000) -> list[Taken]:
    """Events accepted one after the other, from noon of DAY on."""
    start = DAY * DAY_MS + DAY_MS // 2
    return [
        kit.taken(
            f"{start + number * every_ms}-{number % 2}",
            kit.happening(number, start - 5 * number, Event.PAY, cents=number),
        )
        for number in range(first, first + events)
    ]


def write(folder: Path, *batches: Sequence[Taken]) -> None:
    with EventArchive(folder) as archive:
        for batch in batches:
            archive.handle(batch)


def stored(folder: Path) -> list[dict[str, Any]]:
    """Every sealed row that counts, in the order of the files."""
    batches = [
        batch
        for day in days_of(folder)
        for part in parts_of(day)
        for batch in stored_batches(part.path)
    ]
    rows: list[dict[str, Any]] = pa.Table.from_batches(batches, SCHEMA).to_pylist()
    return rows


def ids(folder: Path) -> list[str]:
    return [row["event_id"] for row in stored(folder)]


def ids_of(stream: Sequence[Taken]) -> list[str]:
    return [one.happening.event_id for one in stream]


def test_events_are_kept_as_they_were_sealed(kit: Kit, tmp_path: Path) -> None:
    stream = a_stream(kit, 30)

    write(tmp_path / "a", stream[:10], stream[10:])

    rows = stored(tmp_path / "a")
    assert [row["event_id"] for row in rows] == ids_of(stream)
    for row, one in zip(rows, stream, strict=True):
        sealed = {name: getattr(one.sealed, name) for name in SCHEMA.names}
        assert row == sealed | {"devices": list(one.sealed.devices)}


def test_the_files_tell_what_they_hold(kit: Kit, tmp_path: Path) -> None:
    stream = a_stream(kit, 3)
    write(tmp_path, stream)

    [day] = days_of(tmp_path)
    [file] = day.iterdir()

    assert day.name == "date=2026-09-04"
    assert file.name == f"{stream[0].entry_id}_{stream[-1].entry_id}.parquet"
    assert stat.S_IMODE(file.stat().st_mode) == 0o444
    assert b"u1" not in file.read_bytes()


def test_what_comes_again_is_not_written_again(kit: Kit, tmp_path: Path) -> None:
    stream = a_stream(kit, 30)
    write(tmp_path, stream[:10])

    write(tmp_path, stream[:10], stream[5:20], stream[:20], stream)

    assert ids(tmp_path) == ids_of(stream)


def test_a_batch_over_midnight_goes_into_two_days_and_the_old_one_is_merged(
    kit: Kit, tmp_path: Path
) -> None:
    stream = a_stream(kit, 40, every_ms=DAY_MS // 2 // 20)
    write(tmp_path, stream[:5], stream[5:15], stream[15:25], stream[25:])

    yesterday, today = days_of(tmp_path)

    assert [len(parts_of(day)) for day in (yesterday, today)] == [1, 2]
    assert len(list(yesterday.iterdir())) == 1
    assert ids(tmp_path) == ids_of(stream)


def test_a_merge_keeps_all_rows_and_clears_what_a_killed_one_left(kit: Kit, tmp_path: Path) -> None:
    stream = a_stream(kit, 30)
    write(tmp_path, *(stream[at : at + 3] for at in range(0, 30, 3)))
    [day] = days_of(tmp_path)
    small = {path: path.read_bytes() for path in day.iterdir()}

    assert merge_day(day)
    for path, content in small.items():
        path.write_bytes(content)
    (day / "notes.parquet").touch()

    assert ids(tmp_path) == ids_of(stream)
    assert not merge_day(day)
    assert len(list(day.glob("*_*.parquet"))) == 1
    assert (day / "notes.parquet").exists()


def test_files_are_not_merged_while_somebody_reads(kit: Kit, tmp_path: Path) -> None:
    stream = a_stream(kit, 40, every_ms=DAY_MS // 2 // 20)
    write(tmp_path, stream[:5])

    with being_read(tmp_path):
        write(tmp_path, stream[5:15], stream[15:])
        assert len(parts_of(days_of(tmp_path)[0])) == 3
    with EventArchive(tmp_path) as archive:
        archive.handle([])
        assert len(parts_of(days_of(tmp_path)[0])) == 1

    assert ids(tmp_path) == ids_of(stream)


def test_a_damaged_file_of_an_old_day_stops_its_merge_only(kit: Kit, tmp_path: Path) -> None:
    stream = a_stream(kit, 40, every_ms=DAY_MS // 2 // 20)
    write(tmp_path, stream[:5], stream[5:10])
    damaged = parts_of(days_of(tmp_path)[0])[0].path
    damaged.chmod(0o644)
    damaged.write_bytes(b"PAR1 and nothing")

    write(tmp_path, stream[10:])

    with pytest.raises(InvalidInput, match="can't be read as archived events"):
        ids(tmp_path)
    damaged.unlink()
    assert ids(tmp_path) == ids_of(stream[5:])


def test_only_one_process_writes(kit: Kit, tmp_path: Path) -> None:
    stream = a_stream(kit, 6)

    with EventArchive(tmp_path) as first, EventArchive(tmp_path) as second:
        first.handle(stream[:3])
        with pytest.raises(StaleWriter, match="another process holds writing"):
            second.handle(stream)
        first.__exit__(None, None, None)
        second.handle(stream)

    assert ids(tmp_path) == ids_of(stream)


def test_a_folder_that_cannot_be_made_is_waited_for(kit: Kit, tmp_path: Path) -> None:
    stream = a_stream(kit, 3)
    (tmp_path / "archive").write_text("a file in its place")

    with EventArchive(tmp_path / "archive") as archive:
        with pytest.raises(StoreUnavailable, match="can't be opened"):
            archive.handle(stream)
        (tmp_path / "archive").unlink()
        archive.handle(stream)

    assert ids(tmp_path / "archive") == ids_of(stream)


@contextmanager
def limited_files(most_bytes: int) -> Iterator[None]:
    """A disk that is full beyond so many bytes a file."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)


def test_a_full_disk_is_waited_out(kit: Kit, tmp_path: Path) -> None:
    stream = a_stream(kit, 30)

    with EventArchive(tmp_path) as archive:
        with limited_files(500), pytest.raises(StoreUnavailable, match="can't be written: File"):
            archive.handle(stream)
        archive.handle(stream)

    assert ids(tmp_path) == ids_of(stream)
    assert len(list(days_of(tmp_path)[0].iterdir())) == 1


def test_an_event_that_no_file_can_hold_is_none_of_the_disks_faults(
    kit: Kit, tmp_path: Path
) -> None:
    [one] = a_stream(kit, 1)
    absurd = kit.taken(one.entry_id, kit.happening(1, 1, cents=2**63))

    with EventArchive(tmp_path) as archive, pytest.raises(OverflowError):
        archive.handle([absurd])


def killer(last: int) -> Callable[[FrameType, str, Any], None]:
    """Give a profiler that kills this process before its step number `last`."""
    seen = 0

    def count(_frame: FrameType, event: str, called: Any) -> None:
        nonlocal seen
        if event == "c_call" and called.__name__ in STEPS:
            seen += 1
            if seen == last:
                os.kill(os.getpid(), signal.SIGKILL)

    return count


def write_and_die(folder: Path, batches: Sequence[Sequence[Taken]], last: int) -> bool:
    """Write in a fork that dies at a step; says whether it lived to the end."""
    pid = os.fork()
    if pid == 0:
        pa.set_cpu_count(1)
        sys.setprofile(killer(last))
        write(folder, *batches)
        sys.setprofile(None)
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status) or os.waitstatus_to_exitcode(status) == 0
    return not os.WIFSIGNALED(status)


def test_a_writer_killed_at_any_step_loses_nothing_and_writes_nothing_twice(
    kit: Kit, tmp_path: Path
) -> None:
    stream = a_stream(kit, 6, every_ms=DAY_MS // 2 // 4)
    batches = [stream[:3], stream[3:]]
    last = 1
    while True:
        folder = tmp_path / f"killed{last}"
        is_done = write_and_die(folder, batches, last)
        write(folder, *batches)
        assert ids(folder) == ids_of(stream), f"killed at step {last}"
        assert not list(folder.rglob(".writing-*"))
        if is_done:
            break
        last += 1

    assert last > 30


@settings(max_examples=10)
@given(order=st.randoms(use_true_random=False), cuts=st.lists(st.integers(1, 60), max_size=5))
def test_any_order_of_a_day_gives_the_same_rows(
    kit: Kit, order: random.Random, cuts: list[int]
) -> None:
    happened = [one.happening for one in a_stream(kit, 60)]
    order.shuffle(happened)
    stream = [kit.taken(f"{DAY * DAY_MS}-{place}", one) for place, one in enumerate(happened)]
    bounds = [0, *sorted(cuts), 60]
    batches = [stream[a:b] for a, b in pairwise(bounds)]
    repeated = [batch for batch in batches for _ in range(order.randint(1, 3))]

    with TemporaryDirectory() as folder:
        write(Path(folder), *repeated)
        rows = stored(Path(folder))

    wanted = {one.event_id: one for one in happened}
    assert sorted(row["event_id"] for row in rows) == sorted(wanted)
    assert {row["event_id"]: row["cents"] for row in rows} == {
        one.event_id: one.cents for one in happened
    }


def test_a_build_reads_a_row_for_each_id_of_an_event(kit: Kit, tmp_path: Path) -> None:
    start = DAY * DAY_MS
    both = kit.happening(1, start, Event.PAY, device_md5s=(kit.md5_of(1), kit.md5_of(2)), cents=7)
    nobody = kit.happening(2, start, Event.COST_REPORT, device_md5s=(), user_id="")
    alone = kit.happening(3, start, user_id="")
    stream = [kit.taken(f"{start}-{n}", one) for n, one in enumerate((both, nobody, alone))]
    write(tmp_path, stream)

    rows = pa.Table.from_batches(read_archive(tmp_path, kit.sealer), LOG_SCHEMA).to_pylist()

    assert [(row["event_id"], row["device_id"], row["user_id"]) for row in rows] == [
        ("e1", kit.md5_of(1), "u1"),
        ("e1", kit.md5_of(2), "u1"),
        ("e3", kit.md5_of(3), ""),
    ]
    assert rows[0]["id_form"] == "md5"
    assert (rows[0]["cents"], rows[0]["ts_ms"], rows[0]["event"]) == (7, start, "pay")


def test_events_of_another_key_are_refused_with_both_fingerprints(kit: Kit, tmp_path: Path) -> None:
    write(tmp_path, a_stream(kit, 3))
    other = Sealer(b"another")

    with pytest.raises(
        InvalidInput, match=f"{kit.sealer.key_id}.*{other.key_id}.*RTA_EARLIER_EVENT_KEYS"
    ):
        list(read_archive(tmp_path, other))


def test_events_of_earlier_keys_are_read_from_files_of_their_own_and_of_both(
    kit: Kit, tmp_path: Path
) -> None:
    newer = Sealer(b"the event key after it", [kit.event_key])
    stream = a_stream(kit, 30, every_ms=DAY_MS // 10)
    write(tmp_path, [_resealed(one, newer) if n >= 10 else one for n, one in enumerate(stream)])
    middle = days_of(tmp_path)[1]

    rows = pa.Table.from_batches(read_archive(tmp_path, newer), LOG_SCHEMA).to_pylist()

    keys = pq.read_table(middle, columns=["key_id"])["key_id"].unique().to_pylist()
    assert sorted(keys) == sorted([kit.sealer.key_id, newer.key_id])
    told = {(row["event_id"], row["device_id"], row["user_id"]) for row in rows}
    assert told == {
        (one.happening.event_id, one.happening.device_md5s[0], one.happening.user_id)
        for one in stream
    }


def _resealed(one: Taken, sealer: Sealer) -> Taken:
    return Taken(one.entry_id, one.happening, sealer.seal(one.happening))


def test_columns_that_came_after_a_file_are_read_empty(kit: Kit, tmp_path: Path) -> None:
    write(tmp_path, a_stream(kit, 3))
    [part] = parts_of(days_of(tmp_path)[0])
    older = pq.read_table(part.path).drop_columns(["step", "cost_micros"])
    part.path.chmod(0o644)
    pq.write_table(older, part.path)

    rows = stored(tmp_path)

    assert [(row["step"], row["cost_micros"]) for row in rows] == [("", 0)] * 3


def test_only_a_folder_with_archived_events_is_an_archive(kit: Kit, tmp_path: Path) -> None:
    (tmp_path / "a" / "date=2026-01-01").mkdir(parents=True)
    (tmp_path / "a" / "date=2026-01-01" / "part-0.parquet").touch()

    assert not is_archive(tmp_path / "nowhere")
    assert not is_archive(tmp_path / "a")
    write(tmp_path / "b", a_stream(kit, 1))
    assert is_archive(tmp_path / "b")


def test_a_copied_day_is_read_without_locks(kit: Kit, tmp_path: Path) -> None:
    write(tmp_path, a_stream(kit, 3))
    for name in (READING_LOCK, WRITING_LOCK):
        (tmp_path / name).unlink()

    assert len(list(read_archive(tmp_path, kit.sealer))) == 1


def test_no_file_is_merged_under_a_reader(kit: Kit, tmp_path: Path) -> None:
    write(tmp_path, a_stream(kit, 3))
    with (
        (tmp_path / READING_LOCK).open() as lock,
        being_read(tmp_path),
        pytest.raises(BlockingIOError),
    ):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
