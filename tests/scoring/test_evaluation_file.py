"""evaluation.parquet: what comes back, and what is refused."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from rta_service.domain.errors import ModelRefused
from rta_service.features import FEATURE_NAMES
from rta_service.scoring import evaluation_file
from rta_service.scoring.evaluation_file import read_evaluation, write_evaluation


@pytest.fixture
def path(tmp_path: Path, rows: NDArray[np.float64]) -> Path:
    path = tmp_path / "evaluation.parquet"
    write_evaluation(path, rows, np.arange(len(rows)) % 2 == 0, np.arange(len(rows)) % 6)
    return path


def test_every_bit_comes_back(path: Path, rows: NDArray[np.float64]) -> None:
    found = read_evaluation(path)

    assert found.matrix.tobytes() == rows.tobytes()
    assert found.matrix.flags.c_contiguous
    assert found.labels.tolist() == [1.0, 0.0] * 1_000
    assert found.stages.tolist() == [i % 6 for i in range(2_000)]


def altered(path: Path, **columns: object) -> None:
    """Write the file again with columns replaced, or removed where None."""
    table = pq.read_table(path)
    for name, values in columns.items():
        if name in table.column_names:
            table = table.drop_columns([name])
        if values is not None:
            table = table.append_column(name, pa.array(values))
    pq.write_table(table, path)


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"label": None}, r"other columns than expected: \['label'\]"),
        ({"user_id": ["x"] * 2_000}, r"other columns than expected: \['user_id'\]"),
        ({"label": [-1.0] * 2_000}, "a label is negative or not finite"),
        ({"label": [float("inf")] * 2_000}, "a label is negative or not finite"),
        ({"label": [None] * 2_000}, "a label is negative or not finite"),
        ({"label": ["x"] * 2_000}, "can't be read"),
        ({"stage": [6] * 2_000}, "a stage is not a LifecycleStage"),
        ({"stage": [0.5] * 2_000}, "a stage is not a LifecycleStage"),
    ],
)
def test_other_columns_and_impossible_values_are_refused(
    columns: dict[str, list[object] | None], words: str, path: Path
) -> None:
    altered(path, **columns)

    with pytest.raises(ModelRefused, match=rf"evaluation\.parquet: .*{words}"):
        read_evaluation(path)


def test_columns_may_stand_in_another_order(path: Path, rows: NDArray[np.float64]) -> None:
    table = pq.read_table(path)
    pq.write_table(table.select(table.column_names[::-1]), path)

    assert read_evaluation(path).matrix.tobytes() == rows.tobytes()
    assert FEATURE_NAMES[0] == table.column_names[0]


def test_no_rows_and_too_many_are_refused(path: Path) -> None:
    pq.write_table(pq.read_table(path).slice(0, 0), path)
    with pytest.raises(ModelRefused, match="0 rows, not 1 to 2,000,000"):
        read_evaluation(path)

    assert evaluation_file.MAX_ROWS == 2_000_000


@pytest.mark.parametrize("cut", [0, 4, 1_000, -8])
def test_a_damaged_file_is_refused(cut: int, path: Path) -> None:
    path.write_bytes(path.read_bytes()[:cut])

    with pytest.raises(ModelRefused, match=r"evaluation\.parquet: can't be read"):
        read_evaluation(path)
