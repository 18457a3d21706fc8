"""The inputs of one log: each with a format and columns of its own, all together one table of rows."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import ibis

from rta_service.domain.errors import InvalidInput
from rta_service.domain.sealing import Sealer
from rta_service.offline import engine, log_files, log_ids, log_rows, log_rules
from rta_service.offline.column_map import ColumnMap, Origin
from rta_service.offline.log_rules import SAMPLES_PER_RULE, Limits, Rejection

Sources = Path | Sequence[Path]
"""A file or a folder; or several, that make one log."""
Samples = dict[str, list[dict[str, Any]]]

_WHOLE: Final = ("ts_s", "cents")


@dataclass(frozen=True, slots=True)
class LogInput:
    """One file, folder or archive of a log, read."""

    files: log_files.LogFiles
    mapping: ColumnMap
    """Empty for an archive, which always speaks our words."""
    origins: dict[str, Origin]
    raw: Any
    rows: Any
    malformed: list[tuple[int, str]]
    """Line number and reason of what is no row at all."""

    @property
    def place(self) -> str:
        """Name the input for messages."""
        return self.files.place

    @property
    def is_archive(self) -> bool:
        """Whether an event stands once under each of its device's ids; elsewhere under one."""
        return self.files.format == log_files.ARCHIVE


@dataclass(frozen=True, slots=True)
class Inputs:
    """All inputs of a log, in an engine of their own."""

    con: Any
    all: tuple[LogInput, ...]

    @property
    def place(self) -> str:
        """Name the log for messages."""
        return " + ".join(one.place for one in self.all)

    @property
    def malformed(self) -> int:
        """How many lines are no rows."""
        return sum(len(one.malformed) for one in self.all)

    @property
    def has_archive(self) -> bool:
        """Whether an event may stand under several ids."""
        return any(one.is_archive for one in self.all)

    @property
    def rows(self) -> Any:
        """The rows of all inputs in our columns."""
        return united(one.rows for one in self.all)

    def any_has(self, column: str) -> bool:
        """Say whether some input tells of something."""
        return any(column in one.origins for one in self.all)

    def judge(self, ids: Any, limits: Limits) -> Any:
        """Judge the rows of each input by its own mapping, and mark those of archives."""
        return united(
            _judged(one, one.rows, ids, limits).mutate(archived=ibis.literal(one.is_archive))
            for one in self.all
        )

    def samples(self, ids: Any, limits: Limits, rejected: int) -> Samples:
        """Show some of what was refused; reads the inputs a second time, numbered, but only when
        more is wrong than lines that are no rows."""
        shown: Samples = {}
        if rejected > self.malformed:
            engine.keep_order(self.con)
            for one in self.all:
                numbered = one.raw.mutate(row=ibis.row_number() + 1)
                rows = log_rows.read_rows(numbered, one.origins, one.place)
                found = log_rules.samples(_judged(one, rows, ids, limits))
                for rule, of_rule in found.items():
                    self._show(shown, rule, one, of_rule)
        for one in self.all:
            lines = [{"row": line, "value": reason} for line, reason in one.malformed]
            self._show(shown, Rejection.MALFORMED_ROW, one, lines)
        return shown

    def _show(self, shown: Samples, rule: str, one: LogInput, found: list[dict[str, Any]]) -> None:
        if not found:
            return
        of_rule = shown.setdefault(rule, [])
        named = found if len(self.all) == 1 else [{"input": one.place} | row for row in found]
        of_rule += named[: SAMPLES_PER_RULE - len(of_rule)]


def open_inputs(
    con: Any, sources: Sources, mapping: ColumnMap, sealer: Sealer | None = None
) -> Inputs:
    """Open what a log consists of; the mapping is for those that are not archives.

    Raises InvalidInput for what can't be read, for missing columns, and for a file given twice.
    """
    given = [sources] if isinstance(sources, Path) else list(sources)
    found = [log_files.find_files(source) for source in given]
    _refuse_repeated(found)
    return Inputs(
        con, tuple(_open(con, n, files, mapping, sealer) for n, files in enumerate(found))
    )


def united(tables: Iterable[Any]) -> Any:
    """Give the rows of several tables of the same columns, copies too."""
    first, *others = tables
    return first.union(*others) if others else first


def _refuse_repeated(found: Sequence[log_files.LogFiles]) -> None:
    seen: set[Path] = set()
    for path in (path.resolve() for files in found for path in files.paths):
        if path in seen:
            raise InvalidInput("is given twice: its events would count twice", str(path))
        seen.add(path)


def _open(
    con: Any, number: int, files: log_files.LogFiles, mapping: ColumnMap, sealer: Sealer | None
) -> LogInput:
    raw = log_files.open_raw(con, files, sealer, f"raw_{number}")
    own = ColumnMap() if files.format == log_files.ARCHIVE else mapping
    origins = log_rows.resolve_columns(raw, own, files.place)
    rows = log_rows.read_rows(raw, origins, files.place)
    # inputs may hold whole numbers of different sizes, which make no one table
    rows = rows.mutate(**{name: rows[name].cast("int64") for name in _WHOLE})
    if files.format != "parquet":  # text is parsed once, Parquet is read twice as fast
        rows = engine.materialise(con, f"rows_{number}", rows)
    return LogInput(files, own, origins, raw, rows, log_files.malformed_lines(con, files))


def _judged(one: LogInput, rows: Any, ids: Any, limits: Limits) -> Any:
    joined = log_ids.join_ids(rows, ids)
    return log_rules.judge(joined, one.mapping, limits, is_json=one.files.format == "json")
