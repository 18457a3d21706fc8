"""Logs on disk in each of the formats that are read."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

Row = dict[str, Any]
Rows = list[Row]


@pytest.fixture
def write_log(tmp_path: Path) -> Callable[..., Path]:
    def write(rows: Rows, name: str = "log.parquet") -> Path:
        path = tmp_path / name
        names = list(dict.fromkeys(name for row in rows for name in row))
        if path.suffix == ".parquet":
            pq.write_table(pa.table({n: [row.get(n) for row in rows] for n in names}), path)
        elif path.suffix == ".csv":
            with path.open("w", newline="", encoding="utf-8") as file:
                writer = csv.DictWriter(file, names)
                writer.writeheader()
                writer.writerows(rows)
        else:
            lines = (json.dumps({k: v for k, v in row.items() if v is not None}) for row in rows)
            path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return path

    return write
