import itertools
import multiprocessing
import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st

from rta_service.domain.errors import InvalidInput
from rta_service.features import FEATURES, matrix
from rta_service.record import RECORD_VERSION, pack_columns
from rta_service.stores.traffic_sample import (
    FLAG_CANARY,
    FLAG_FIRST_MET,
    FLAG_PARTICIPATED,
    HEADS,
    LineUp,
    SampledRow,
    SampleWriter,
    read_sample,
    ring_path,
)

PERSON = 0x1122334455667788
LINE_UP = LineUp("r1", (("register", "v1"), ("trade", "v2")))


def _record(orders: int = 3) -> bytes:
    columns = {"person_key": np.array([PERSON], np.uint64), "orders": np.array([orders])}
    return pack_columns(columns).tobytes()


def a_row(instant_ms: int = 1_000, **changes: Any) -> SampledRow:
    usual = SampledRow(instant_ms, 77, _record(), 1, 2, 3, 4, 0, 1_500, LINE_UP, (0.25, 0.125))
    return usual._replace(**changes)


def test_a_sampled_row_can_be_scored_again(tmp_path: Path) -> None:
    with SampleWriter(ring_path(tmp_path, "decision-0")) as writer:
        writer.add(a_row(1_717_286_400_123, flags=FLAG_CANARY | FLAG_FIRST_MET))

    sample = read_sample(tmp_path, 10)

    assert len(sample) == 1
    assert matrix(sample.rows).shape == (1, len(FEATURES))
    assert sample.rows.now_s.tolist() == [1_717_286_400]
    assert [sample.rows.platform[0], sample.rows.os[0], sample.rows.placement[0]] == [1, 2, 3]
    assert sample.rows.records["version"].tolist() == [RECORD_VERSION]
    assert sample.rows.records["orders"].tolist() == [3]
    assert sample.tags.tolist() == [77]
    assert sample.has(FLAG_CANARY).tolist() == sample.has(FLAG_FIRST_MET).tolist() == [True]
    assert sample.has(FLAG_PARTICIPATED).tolist() == [False]
    assert sample.stages.tolist() == [4]
    assert sample.latency_us.tolist() == [1_500]
    assert sample.scores_of("trade", "v2").tolist() == [0.125]


def test_nothing_in_the_file_leads_to_a_person(tmp_path: Path) -> None:
    path = ring_path(tmp_path, "decision-0")
    with SampleWriter(path) as writer:
        writer.add(a_row())

    assert PERSON.to_bytes(8, "little") not in path.read_bytes()
    assert read_sample(tmp_path, 1).rows.records["person_key"].tolist() == [0]
    assert path.stat().st_mode & 0o077 == 0


def test_the_oldest_rows_go_first_and_the_newest_are_given_first(tmp_path: Path) -> None:
    with SampleWriter(ring_path(tmp_path, "decision-0"), rows=4) as writer:
        for instant in range(1, 8):
            writer.add(a_row(instant))

    assert read_sample(tmp_path, 10).instants_ms.tolist() == [7, 6, 5, 4]
    assert read_sample(tmp_path, 2).instants_ms.tolist() == [7, 6]
    assert read_sample(tmp_path, 10, after_ms=5).instants_ms.tolist() == [7, 6]


def test_workers_are_merged_and_each_row_keeps_the_models_that_decided_it(tmp_path: Path) -> None:
    other = LineUp("r2", (("trade", "v3"),))
    with SampleWriter(ring_path(tmp_path, "decision-0")) as one:
        one.add(a_row(1))
        one.add(a_row(3))
    with SampleWriter(ring_path(tmp_path, "decision-1")) as two:
        two.add(a_row(2, line_up=other, scores=(0.5,)))

    sample = read_sample(tmp_path, 10)

    assert sample.instants_ms.tolist() == [3, 2, 1]
    np.testing.assert_array_equal(sample.scores_of("trade", "v2"), [0.125, np.nan, 0.125])
    np.testing.assert_array_equal(sample.scores_of("trade", "v3"), [np.nan, 0.5, np.nan])
    assert np.isnan(sample.scores_of("trade", "v4")).all()
    assert [sample.line_ups[i].release_id for i in sample.line_up_of] == ["r1", "r2", "r1"]


def test_without_a_ring_the_sample_is_empty(tmp_path: Path) -> None:
    sample = read_sample(tmp_path, 10)

    assert len(sample) == 0
    assert matrix(sample.rows).shape == (0, len(FEATURES))
    assert sample.scores_of("trade", "v1").shape == (0,)


def test_a_worker_that_starts_again_goes_on_where_it_ended(tmp_path: Path) -> None:
    path = ring_path(tmp_path, "decision-0")
    for instant in range(1, 4):
        with SampleWriter(path, rows=2) as writer:
            writer.add(a_row(instant))

    sample = read_sample(tmp_path, 10)

    assert sample.instants_ms.tolist() == [3, 2]
    assert len(sample.line_ups) == 1


def test_another_size_or_another_file_is_replaced(tmp_path: Path) -> None:
    path = ring_path(tmp_path, "decision-0")
    for rows, instant in ((4, 1), (8, 2)):
        with SampleWriter(path, rows) as writer:
            writer.add(a_row(instant))
    assert read_sample(tmp_path, 10).instants_ms.tolist() == [2]

    path.write_bytes(b"something else")
    assert len(read_sample(tmp_path, 10)) == 0
    with SampleWriter(path) as writer:
        writer.add(a_row(3))
    assert read_sample(tmp_path, 10).instants_ms.tolist() == [3]


def test_the_oldest_line_up_makes_room_and_takes_its_rows_along(tmp_path: Path) -> None:
    with SampleWriter(ring_path(tmp_path, "decision-0")) as writer:
        for index in range(40):
            writer.add(a_row(index + 1, line_up=LineUp(f"r{index}", (("trade", "v"),))))

    sample = read_sample(tmp_path, 100)

    assert len(sample) == 32
    named = {sample.line_ups[i].release_id for i in sample.line_up_of}
    assert named == {f"r{index}" for index in range(8, 40)}


def test_heads_beyond_the_row_s_width_are_left_out(tmp_path: Path) -> None:
    names = tuple((f"head{i}", "v") for i in range(HEADS + 2))
    with SampleWriter(ring_path(tmp_path, "decision-0")) as writer:
        writer.add(a_row(line_up=LineUp("r", names), scores=(0.5,) * len(names)))

    sample = read_sample(tmp_path, 1)

    assert len(sample.line_ups[0].models) == HEADS
    assert sample.scores_of(f"head{HEADS - 1}", "v").tolist() == [0.5]


def test_names_that_do_not_fit_the_table_are_told(tmp_path: Path) -> None:
    long = LineUp("r" * 3_000, ())
    with (
        SampleWriter(ring_path(tmp_path, "decision-0")) as writer,
        pytest.raises(InvalidInput, match="too long"),
    ):
        writer.add(a_row(line_up=long))


def test_a_process_name_that_is_no_file_s_is_told(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="process name"):
        ring_path(tmp_path, "../x")


@pytest.fixture(scope="module")
def a_ring(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = ring_path(tmp_path_factory.mktemp("ring"), "decision-0")
    with SampleWriter(path, rows=16) as writer:
        for instant in range(1, 13):
            writer.add(a_row(instant))
    return path


_EXAMPLE = itertools.count()
_DAMAGE = st.lists(
    st.tuples(st.integers(0, 64 + 3_000 + 16 * 176 - 1), st.integers(0, 255)),
    min_size=1,
    max_size=20,
)


@given(damage=_DAMAGE, cut=st.sampled_from([None, None, -1, 70, 10, 0]))
def test_whatever_is_damaged_only_loses_rows(
    damage: list[tuple[int, int]],
    cut: int | None,
    a_ring: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    damaged = bytearray(a_ring.read_bytes())
    used = [*range(64 + 3_000), *range(len(damaged) - 16 * 176, len(damaged))]
    for at, value in damage:
        damaged[used[at]] = value
    folder = tmp_path_factory.getbasetemp() / f"damaged{next(_EXAMPLE)}"
    folder.mkdir()
    ring_path(folder, "decision-0").write_bytes(bytes(damaged[:cut]))

    sample = read_sample(folder, 100)

    assert set(sample.instants_ms.tolist()) <= set(range(1, 13))
    assert (sample.scores_of("trade", "v2") == 0.125).all()
    assert (sample.rows.records["orders"] == 3).all()
    with SampleWriter(ring_path(folder, "decision-0"), rows=16) as writer:
        writer.add(a_row(99))
    assert 99 in read_sample(folder, 100).instants_ms


def _write_for_ever(path: Path) -> None:
    with SampleWriter(path, rows=8) as writer:
        for count in itertools.count(1):
            same = float(count)
            writer.add(a_row(count, tag=count, scores=(same, same)))


def test_a_reader_beside_a_writer_that_is_killed_sees_only_whole_rows(tmp_path: Path) -> None:
    path = ring_path(tmp_path, "decision-0")
    child = multiprocessing.get_context("spawn").Process(target=_write_for_ever, args=(path,))
    child.start()
    try:
        end_s = time.monotonic() + 30.0
        while not len(read_sample(tmp_path, 10)) and time.monotonic() < end_s:
            time.sleep(0.01)
        seen = [read_sample(tmp_path, 10) for _ in range(300)]
    finally:
        assert child.pid is not None
        os.kill(child.pid, signal.SIGKILL)
        child.join()
    seen.append(read_sample(tmp_path, 10))

    for sample in seen:
        np.testing.assert_array_equal(sample.scores_of("register", "v1"), sample.instants_ms)
        np.testing.assert_array_equal(sample.scores_of("trade", "v2"), sample.tags)
        np.testing.assert_array_equal(sample.tags, sample.instants_ms)
    assert len(seen[-1]) >= 7
