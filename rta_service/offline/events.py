"""From a behaviour log to clean events: read, judged by rule, deduplicated, joined to people."""

from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Final

import ibis
import pyarrow as pa

from rta_service.domain.errors import InvalidInput
from rta_service.domain.events import Event
from rta_service.domain.sealing import Sealer
from rta_service.domain.thresholds import DAY_S
from rta_service.offline import engine, log_ids, log_inputs, log_rows, log_rules
from rta_service.offline.column_map import ColumnMap, read_column_map
from rta_service.offline.log_copies import once
from rta_service.offline.log_inputs import Inputs, Samples, Sources
from rta_service.offline.log_rules import Rejection, Skip
from rta_service.record import category_code

MAX_BAD_SHARE: Final = 0.01


@dataclass(frozen=True, slots=True)
class LogOptions:
    """How to read a log."""

    columns: Path | None = None
    """The mapping file, where the log does not speak our words."""
    as_of: date | None = None
    """00:00 UTC of this day ends the log; None means the day after the last event, or today."""
    max_bad_share: float = MAX_BAD_SHARE
    now_ms: int | None = None
    """Without `as_of`, its day is the latest that ends the log, and events more than a day after it
    are refused as future."""
    sealer: Sealer | None = None
    """Unseals an archive of accepted events, where that is the log."""


@dataclass(frozen=True, slots=True)
class CleanLog:
    """Clean events before the as-of instant, in an engine of their own; close it when done."""

    con: Any
    """The Ibis backend that holds the tables."""
    facts: Any
    """device (number), ts_s, event, cents, order_id, category, category_code, channel, ..."""
    devices: Any
    """device, device_md5, person_id, person: one row per device that did something."""
    as_of_s: int
    rows: int
    """Rows of the source, good or bad."""
    skipped: dict[str, int]
    rejected: dict[str, int]
    samples: dict[str, list[dict[str, Any]]]
    launch_events: tuple[str, ...] = ()
    """Events that the mapping also counts as launches."""
    warnings: tuple[str, ...] = ()
    is_per_id: bool = False
    """Whether an event may stand once under each of its device's ids."""

    @property
    def events(self) -> Any:
        """The facts with device_md5, person ("u:<user id>" or "d:<md5>") and person_id."""
        return self.facts.inner_join(self.devices, "device")

    def close(self) -> None:
        """Free the engine's memory."""
        self.con.disconnect()


@dataclass(slots=True)
class _Counts:
    """What the rules said, and the last instant of a good row."""

    rows: int = 0
    good: int = 0
    last_s: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    rejected: Counter[str] = field(default_factory=Counter)


def clean_log(sources: Sources, options: LogOptions) -> CleanLog:
    """Read and clean a log of one input or several; an event counts once in all of them.

    Raises InvalidInput for what can't be read, for missing columns, for an empty log, and when
    more than `max_bad_share` of the rows are wrong; the message names rules, counts and samples.
    """
    mapping = read_column_map(options.columns) if options.columns else ColumnMap()
    con = engine.open_engine()
    try:
        inputs = log_inputs.open_inputs(con, sources, mapping, options.sealer)
        return _Cleaning(inputs, mapping, options).run()
    except BaseException:
        con.disconnect()
        raise


class _Cleaning:
    """One run of the cleaning, step by step in the order of `run`."""

    def __init__(self, inputs: Inputs, mapping: ColumnMap, options: LogOptions) -> None:
        self.con = inputs.con
        self.inputs = inputs
        self.mapping = mapping
        self.options = options

    def run(self) -> CleanLog:
        """Clean the log."""
        rows = self.inputs.rows
        has_currency = self.inputs.any_has("currency")
        ids = log_ids.hash_ids(self.con, rows)
        limits = log_rules.Limits(
            latest_s=self._latest_s(),
            currency=log_rules.main_currency(rows) if has_currency else None,
        )
        coded = self.inputs.judge(ids, limits).left_join(self._categories(rows), "category")
        judged = engine.materialise(
            self.con, "judged", coded.select(*_FACTS, "archived", "verdict", "noted")
        )
        counts = _count(judged, self.inputs.malformed)
        samples = self.inputs.samples(ids, limits, counts.rejected.total())
        self._refuse_bad(counts, samples)
        as_of_s = self._as_of_s(counts)
        facts = self._facts(judged, counts, as_of_s)
        devices = log_ids.link_people(self.con, facts, has_users=self.inputs.any_has("user_id"))
        return CleanLog(
            con=self.con,
            facts=self._with_launches(facts),
            devices=devices,
            as_of_s=as_of_s,
            rows=counts.rows,
            skipped=dict(counts.skipped),
            rejected=dict(counts.rejected),
            samples=samples,
            launch_events=self.mapping.rules.launch_events,
            warnings=_warnings(facts),
            is_per_id=self.inputs.has_archive,
        )

    def _latest_s(self) -> int:
        if self.options.now_ms is None or self.options.as_of is not None:
            return log_rows.MAX_S
        return self.options.now_ms // 1000 + DAY_S

    def _refuse_bad(self, counts: _Counts, samples: Samples) -> None:
        bad, total = counts.rejected.total(), counts.rows
        if total == 0:
            raise InvalidInput("the log is empty: expected at least one event", self.inputs.place)
        if bad > self.options.max_bad_share * total:
            rules = "; ".join(_told(rule, n, samples) for rule, n in counts.rejected.most_common())
            raise InvalidInput(
                f"{bad:,} of {total:,} rows ({bad / total:.1%}) are wrong, more than"
                f" {self.options.max_bad_share:.1%}: {rules}. Nothing was written. Correct the"
                " log, name its columns and words with --columns, or raise --max-bad-share",
                self.inputs.place,
            )

    def _as_of_s(self, counts: _Counts) -> int:
        if not counts.good:
            raise InvalidInput(
                f"no row of the log is left to count; skipped: {dict(counts.skipped)}",
                self.inputs.place,
            )
        if self.options.as_of is None:
            after_last = counts.last_s // DAY_S + 1
            if self.options.now_ms is None:
                return after_last * DAY_S
            # as of tomorrow, a record would leave out what is still to happen today
            return min(after_last, self.options.now_ms // 1000 // DAY_S) * DAY_S
        day = self.options.as_of
        return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp())

    def _facts(self, judged: Any, counts: _Counts, as_of_s: int) -> Any:
        """Keep the good rows before the as-of instant, each event once, in narrow columns."""
        good = judged if counts.good == counts.rows else judged.filter(judged.verdict.isnull())
        if self.inputs.any_has("event_id"):
            good = once(good, counts.skipped, has_archive=self.inputs.has_archive)
        late = int(good.filter(good.ts_s >= as_of_s).count().to_pyarrow().as_py())
        if late:
            counts.skipped[Skip.AFTER_AS_OF] = late
            if counts.good == late + counts.skipped[Skip.DUPLICATE]:
                raise InvalidInput(self._too_early(), self.inputs.place)
            good = good.filter(good.ts_s < as_of_s)
        return good.drop("archived", "verdict", "noted")

    def _too_early(self) -> str:
        if self.options.as_of is not None:
            return "no event lies before --as-of: choose a later day"
        return (
            "holds only events of today, and without --as-of a log ends with yesterday (UTC): try"
            " again tomorrow, or say --as-of with tomorrow's date"
        )

    def _categories(self, rows: Any) -> Any:
        """Hash each distinct category once, in Python."""
        named = rows.filter(rows.category.notnull()).select("category").distinct()
        names = named.order_by("category").to_pyarrow()["category"]
        codes = [category_code(name) for name in names.to_pylist()]
        return engine.add_arrow(
            self.con,
            "categories",
            pa.table({"category": names, "category_code": pa.array(codes, pa.int64())}),
        )

    def _with_launches(self, facts: Any) -> Any:
        """Add a launch for each second in which a device did one of the launch events."""
        counted = self.mapping.rules.launch_events
        if not counted:
            return facts
        key = ["device", "ts_s"]
        launched = facts.filter(facts.event == Event.LAUNCH.value).select(*key)
        implied = facts.filter(facts.event.isin(counted)).select(*key).distinct()
        missing = implied.anti_join(launched, key)
        blank = {name: ibis.null(kind) for name, kind in facts.schema().items() if name not in key}
        launches = missing.mutate(
            **(
                blank
                | {"event": ibis.literal(Event.LAUNCH.value), "cents": ibis.literal(0, "int64")}
            )
        ).select(*facts.columns)
        return engine.materialise(self.con, "facts_and_launches", facts.union(launches))


_FACTS: Final = (
    "device",
    "user_id",
    "ts_s",
    "event",
    "cents",
    "order_id",
    "item_id",
    "event_id",
    "category",
    "category_code",
    "channel",
    "placement",
    "os",
)
_SAME_PAYMENT: Final = ("device", "ts_s", "order_id", "item_id", "cents")


def _add(counts: _Counts, group: dict[str, Any]) -> None:
    verdict, noted, rows = group["verdict"], group["noted"], group["n"]
    counts.rows += rows
    if verdict is None:
        counts.good += rows
        counts.last_s = max(counts.last_s, group["last_s"])
        if noted is not None:
            counts.skipped[noted] += rows
    elif verdict in tuple(Skip):
        counts.skipped[verdict] += rows
    else:
        counts.rejected[verdict] += rows


def _told(rule: str, rows: int, samples: Samples) -> str:
    if not samples.get(rule):
        return f"{rule} {rows:,}"
    first = samples[rule][0]
    place = f" of {first['input']}" if "input" in first else ""
    return f"{rule} {rows:,} (such as row {first['row']}{place}: {first['value']!r})"


def _count(judged: Any, malformed: int) -> _Counts:
    counts = _Counts()
    if malformed:
        counts.rejected[Rejection.MALFORMED_ROW] = counts.rows = malformed
    groups = judged.group_by("verdict", "noted").agg(n=judged.count(), last_s=judged.ts_s.max())
    for group in engine.fetch(groups):
        _add(counts, group)
    return counts


def _warnings(facts: Any) -> tuple[str, ...]:
    """Tell of oddities that are counted as they stand."""
    pays = facts.filter(facts.event == Event.PAY.value)
    nameless = pays.filter(pays.event_id.isnull())
    copies = nameless.group_by(_SAME_PAYMENT).agg(n=nameless.count())
    [free] = engine.fetch(pays.agg(n=pays.count(where=pays.cents == 0)))
    [repeated] = engine.fetch(copies.agg(n=(copies.n - 1).sum().coalesce(0)))
    told = []
    if repeated["n"]:
        told.append(
            f"{repeated['n']:,} payment rows repeat another (same device, second, order, item"
            " and money) and were counted: they have no event_id to tell copies by"
        )
    if free["n"]:
        told.append(f"{free['n']:,} payment rows move no money; they count as payments")
    return tuple(told)
