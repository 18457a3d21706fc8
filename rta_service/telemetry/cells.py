"""One process's counters as float64 cells in a mapped file that outlives the process.

<run_dir>/metrics/<process>.cells is a 64-byte header and the cells of `registry`. A file has one
writer, so an increment needs no lock: it is a load and a store of 8 aligned bytes. Float64 counts
exactly up to 2**53.
"""

import math
import mmap
import os
import re
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from rta_service.domain.errors import InvalidInput
from rta_service.telemetry.metric import PER_PROCESS, Metric
from rta_service.telemetry.registry import (
    CELLS,
    FIRST_CELL,
    LAYOUT_ID,
    METRICS,
)

Cells = NDArray[np.float64]

SUFFIX: Final = ".cells"
_MAGIC: Final = b"RTACELL1"
_HEADER: Final = struct.Struct("<8s16sQQ24x")
_SIZE: Final = _HEADER.size + 8 * CELLS
_PROCESS_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]*\Z")


def cells_of(metric: Metric) -> slice:
    """Where a metric's cells lie."""
    first = FIRST_CELL[metric.name]
    return slice(first, first + math.prod(metric.shape))


def metrics_folder(run_dir: Path) -> Path:
    """Where the processes of one service keep their counter files."""
    return run_dir / "metrics"


class CellFile:
    """The mapped cells of this process; `cells` is a memoryview of float64."""

    def __init__(self, path: Path) -> None:
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), _SIZE)
        self._bytes = memoryview(self._map)
        self.cells = self._bytes[_HEADER.size :].cast("d")

    @classmethod
    def open(cls, run_dir: Path, process: str) -> Self:
        """Map a process's file, going on from what an earlier process of that name counted.

        Gauges are forgotten: they told the state of the earlier process. A file of another layout
        is replaced. Raises InvalidInput for a name that can't be a file's.
        """
        if not _PROCESS_NAME.match(process):
            raise InvalidInput("a process name is of a-z, 0-9, - and _", process)
        path = metrics_folder(run_dir) / (process + SUFFIX)
        if not _is_ours(path):
            _create(path)
        opened = cls(path)
        _HEADER.pack_into(opened._map, 0, _MAGIC, LAYOUT_ID, os.getpid(), CELLS)
        opened.forget_gauges()
        return opened

    def forget_gauges(self) -> None:
        """Set all gauges to "not known", as NaN."""
        for metric in METRICS:
            if metric.kind in PER_PROCESS:
                place = cells_of(metric)
                for cell in range(place.start, place.stop):
                    self.cells[cell] = math.nan

    def close(self) -> None:
        """Unmap; the file stays and goes on being added up."""
        self.cells.release()
        self._bytes.release()
        self._map.close()


def _is_ours(path: Path) -> bool:
    if not path.is_file() or path.stat().st_size != _SIZE:
        return False
    with path.open("rb") as file:
        magic, layout, _, _ = _HEADER.unpack(file.read(_HEADER.size))
    return (magic, layout) == (_MAGIC, LAYOUT_ID)


def _create(path: Path) -> None:
    """Make an empty file appear whole, since a scrape may come at any time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".new")
    header = _HEADER.pack(_MAGIC, LAYOUT_ID, os.getpid(), CELLS)
    unfinished.write_bytes(header.ljust(_SIZE, b"\0"))
    unfinished.replace(path)


@dataclass(frozen=True, slots=True)
class Reading:
    """What one file held when it was read; `cells` is float64[CELLS]."""

    process: str
    pid: int
    cells: Cells

    @property
    def is_running(self) -> bool:
        """Whether the writer still lives; a dead one's gauges mean nothing."""
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True
        return True


def read_file(path: Path) -> Reading | str:
    """Read a counter file, or say why it can't be counted."""
    content = path.read_bytes()
    if len(content) < _HEADER.size:
        return f"{path.name}: shorter than its header"
    magic, layout, pid, _ = _HEADER.unpack_from(content)
    if (magic, layout) != (_MAGIC, LAYOUT_ID) or len(content) != _SIZE:
        return f"{path.name}: written by another version of the service"
    return Reading(path.stem, pid, np.frombuffer(content, np.float64, offset=_HEADER.size))
