"""evaluation.parquet: the rows behind a manifest's evaluation, for the server to judge by itself."""

from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from rta_service.domain.errors import ModelRefused
from rta_service.features import FEATURE_NAMES
from rta_service.scoring.gates import EvaluationRows

LABEL: Final = "label"
STAGE: Final = "stage"
MAX_ROWS: Final = 2_000_000
"""400 MB of features; more says nothing new about a model."""

_COLUMNS: Final = (*FEATURE_NAMES, LABEL, STAGE)
_LEVEL: Final = 9


def write_evaluation(
    path: Path,
    matrix: NDArray[np.float64],
    labels: NDArray[Any],
    stages: NDArray[Any],
) -> None:
    """Write features float64 [n, F], labels [n] and LifecycleStage codes [n] as Parquet."""
    columns = {name: matrix[:, index] for index, name in enumerate(FEATURE_NAMES)}
    columns[LABEL] = np.asarray(labels, dtype=np.float64)
    columns[STAGE] = np.asarray(stages, dtype=np.int8)
    pq.write_table(pa.table(columns), path, compression="zstd", compression_level=_LEVEL)


def read_evaluation(path: Path) -> EvaluationRows:
    """Read the file, in the disposable process only: a Parquet reader is a large native parser.

    Raises ModelRefused for other columns, too many rows, or values that are no labels or stages.
    """
    try:
        with pq.ParquetFile(path) as file:
            _check_shape(file.metadata, tuple(file.schema_arrow.names))
            table = file.read(columns=list(_COLUMNS), use_threads=False)
        columns = [table[name].to_numpy().astype(np.float64) for name in _COLUMNS]
    except (pa.ArrowException, OSError, ValueError, TypeError) as error:
        said = " ".join(str(error).split())[:300]
        raise ModelRefused(f"{path.name}: can't be read ({said})") from error
    *features, labels, stages = columns
    if not (np.isfinite(labels).all() and (labels >= 0).all()):
        raise ModelRefused(f"{path.name}: a label is negative or not finite")
    if not (np.isin(stages, range(6))).all():
        raise ModelRefused(f"{path.name}: a stage is not a LifecycleStage code (0 to 5)")
    return EvaluationRows(np.column_stack(features), labels, stages.astype(np.int64))


def _check_shape(metadata: Any, names: tuple[str, ...]) -> None:
    if sorted(names) != sorted(_COLUMNS):
        wrong = sorted(set(names) ^ set(_COLUMNS)) or ["a column twice"]
        raise ModelRefused(f"evaluation.parquet: other columns than expected: {wrong[:5]}")
    if not 0 < metadata.num_rows <= MAX_ROWS:
        raise ModelRefused(f"evaluation.parquet: {metadata.num_rows:,} rows, not 1 to {MAX_ROWS:,}")
