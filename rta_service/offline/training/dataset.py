"""From a clean log to training rows: what was known at the impression, and what came of it.

A row stands for one click, or for one activation or registration that followed a click. All that
is known of the person is taken as of the impression before that click, the instant at which the
service would decide; also which devices are theirs. Events without a click before them are left
out: no decision led to them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import ibis
import numpy as np
from numpy.typing import NDArray

from rta_service.domain.device import OperatingSystem, Placement
from rta_service.domain.events import Event
from rta_service.domain.platform import PLATFORM_CODES
from rta_service.domain.strategy import Goal, OptimisedEvent
from rta_service.domain.thresholds import DAY_S
from rta_service.features import Rows, matrix
from rta_service.offline import engine
from rta_service.offline.events import CleanLog
from rta_service.offline.history import record_columns, to_records
from rta_service.record import RECORD_DTYPE, Records

GIVEN: Final = {
    OptimisedEvent.CLICK: Event.AD_CLICK,
    OptimisedEvent.ACTIVATE: Event.ACTIVATE,
    OptimisedEvent.REGISTER: Event.REGISTER,
}
_GIVEN_CODES: Final = {given: code for code, given in enumerate(GIVEN)}
_ROW: Final = ("person_id", "t_s", "device", "as_of_s", "platform", "os", "placement")
_HASH_STEPS: Final = 1_000_003

Column = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class DatasetOptions:
    """Windows of the labels and of the joins, in seconds, and the size at which rows are sampled."""

    register_window_s: int = 7 * DAY_S
    trade_window_s: int = 14 * DAY_S
    exposure_s: int = 3_600
    """An exposure counts as a click's impression for this long."""
    attribution_s: int = 7 * DAY_S
    """An activation or registration counts as a click's for this long."""
    max_rows: int = 1_000_000
    """Beyond this, rows are sampled by hash: 24 features of a million rows are 192 MB."""

    def window_s(self, goal: Goal) -> int:
        """How long after the given event a goal counts."""
        return self.register_window_s if goal is Goal.REGISTER else self.trade_window_s


@dataclass(frozen=True, slots=True)
class HeadRows:
    """The rows of one head, in the order of their impressions; n rows."""

    matrix: NDArray[np.float64]
    """features.matrix [n, F], as of the impression."""
    labels: NDArray[np.bool_]
    as_of_s: Column
    """The impression's instant, by which rows are split."""
    dropped: Mapping[str, int]
    """Rows left out: `unmatured` label windows, people `already_registered`."""


@dataclass(frozen=True, slots=True)
class Dataset:
    """The rows of all heads, computed once; columns of length n, in the order of impressions."""

    matrix: NDArray[np.float64]
    given: Column
    t_s: Column
    """The given event's instant."""
    as_of_s: Column
    first_register_s: Column
    """The person's first registration, 0 for never."""
    known_registered: NDArray[np.bool_]
    """Whether the record as of the impression says so; it may not know of other devices."""
    next_trade_s: Column
    """The first payment or sale after `t_s`, 0 for never."""
    end_s: int
    """Where the log ends: what happens later is not known."""
    unattributed: int
    """Activations and registrations without a click before them."""
    sampled_share: float
    options: DatasetOptions

    def head_rows(self, goal: Goal, given: OptimisedEvent) -> HeadRows:
        """Select the rows of one head and label them."""
        window_s = self.options.window_s(goal)
        of_head = self.given == _GIVEN_CODES[given]
        mature = self.t_s + window_s <= self.end_s
        if goal is Goal.REGISTER:
            goal_s = self.first_register_s
            between = (goal_s >= self.as_of_s) & (goal_s < self.t_s)
            wanted = ~(self.known_registered | between)
        else:
            wanted = np.ones(len(self.t_s), dtype=np.bool_)
            goal_s = self.next_trade_s
        kept = of_head & mature & wanted
        hit = (goal_s >= self.t_s) & (goal_s <= self.t_s + window_s)
        return HeadRows(
            matrix=self.matrix[kept],
            labels=hit[kept],
            as_of_s=self.as_of_s[kept],
            dropped={
                "unmatured": int(np.count_nonzero(of_head & ~mature)),
                "already_registered": int(np.count_nonzero(of_head & mature & ~wanted)),
            },
        )


def read_dataset(log: CleanLog, options: DatasetOptions) -> Dataset:
    """Build the rows of all heads from a clean log."""
    events = engine.materialise(log.con, "linked_events", _linked(log.events))
    clicks = engine.materialise(log.con, "clicks", _clicks(events, options))
    follow = [_following(events, clicks, given, options) for given in list(GIVEN)[1:]]
    all_rows = ibis.union(_rows_of(clicks, OptimisedEvent.CLICK), *follow)
    all_rows = engine.materialise(log.con, "all_rows", all_rows)
    share = min(1.0, options.max_rows / max(_count(all_rows), 1))
    rows = engine.materialise(log.con, "labelled_rows", _labelled(events, _sample(all_rows, share)))
    subjects = engine.materialise(log.con, "subjects", _subjects(rows))
    columns = _columns(_ordered(rows, subjects))
    records = _records(events, subjects)[columns["subject"]]
    context = (columns[name] for name in ("platform", "os", "placement"))
    return Dataset(
        matrix=matrix(Rows(records, columns["as_of_s"], *context)),
        given=columns["given"],
        t_s=columns["t_s"],
        as_of_s=columns["as_of_s"],
        first_register_s=columns["first_register_s"],
        known_registered=records["registered_at"] > 0,
        next_trade_s=columns["next_trade_s"],
        end_s=log.as_of_s,
        unattributed=_unattributed(events, all_rows),
        sampled_share=share,
        options=options,
    )


def _linked(events: Any) -> Any:
    """Add `linked_s`, when the log first told whose the event's device is; null for never."""
    signed = events.filter(ibis.literal("u:") + events.user_id == events.person)
    links = signed.group_by(owned=signed.device).agg(linked_s=signed.ts_s.min())
    return events.left_join(links, events.device == links.owned).drop("owned")


def _clicks(events: Any, options: DatasetOptions) -> Any:
    """One row per person and second with a click, with its impression's instant."""
    clicked = events.filter(events.event == Event.AD_CLICK.value)
    clicks = clicked.group_by("person_id", t_s=clicked.ts_s).agg(
        device=clicked.device.min(),
        platform=_code(clicked.channel, PLATFORM_CODES, 0).max(),
        os=_code(clicked.os, {kind.label: kind for kind in OperatingSystem}, 0).max(),
        placement=_code(
            clicked.placement, {kind.label: kind for kind in Placement}, Placement.OTHER
        ).max(),
    )
    exposed = events.filter(events.event == Event.AD_EXPOSURE.value)
    shown = exposed.select(shown_to=exposed.person_id, shown_s=exposed.ts_s)
    pairs = clicks.left_join(
        shown,
        [
            clicks.person_id == shown.shown_to,
            shown.shown_s <= clicks.t_s,
            shown.shown_s >= clicks.t_s - options.exposure_s,
        ],
    )
    keys = [name for name in _ROW if name != "as_of_s"]
    return pairs.group_by(keys).agg(as_of_s=ibis.coalesce(pairs.shown_s.max(), pairs.t_s.max()))


def _code(words: Any, codes: Mapping[str, int], other: int) -> Any:
    """Turn words into model codes; a missing word is 0, one we don't know is `other`."""
    known = [(words.lower() == word, ibis.literal(int(code))) for word, code in codes.items()]
    return ibis.cases((words.isnull(), ibis.literal(0)), *known, else_=int(other)).cast("int64")


def _following(events: Any, clicks: Any, given: OptimisedEvent, options: DatasetOptions) -> Any:
    """One row per event that a click led to, with the impression and context of the latest one."""
    done = events.filter(events.event == GIVEN[given].value)
    done = done.select(doer=done.person_id, done_s=done.ts_s).distinct()
    pairs = done.inner_join(
        clicks,
        [
            done.doer == clicks.person_id,
            clicks.t_s <= done.done_s,
            clicks.t_s >= done.done_s - options.attribution_s,
        ],
    )
    last = {name: pairs[name].argmax(pairs.t_s) for name in _ROW[2:]}
    latest = pairs.group_by("person_id", "done_s").agg(**last)
    return _rows_of(latest.rename(t_s="done_s"), given)


def _rows_of(table: Any, given: OptimisedEvent) -> Any:
    code = ibis.literal(_GIVEN_CODES[given]).cast("int64")
    return table.select(*_ROW, given=code)


def _sample(rows: Any, share: float) -> Any:
    """Keep a share of the rows, the same ones every time."""
    if share >= 1.0:
        return rows
    mixed = (rows.person_id * 2_654_435_761 + rows.t_s * 40_503) % _HASH_STEPS
    return rows.filter(mixed < int(share * _HASH_STEPS))


def _labelled(events: Any, rows: Any) -> Any:
    """Add when the goals happened: `first_register_s` and `next_trade_s`, 0 for never."""
    registered = events.filter(events.event == Event.REGISTER.value)
    first = registered.group_by(newcomer=registered.person_id).agg(first_s=registered.ts_s.min())
    rows = rows.left_join(first, rows.person_id == first.newcomer)
    traded = events.filter(events.event.isin([Event.PAY.value, Event.SOLD.value]))
    trades = traded.select(trader=traded.person_id, trade_s=traded.ts_s).distinct()
    pairs = rows.left_join(trades, [rows.person_id == trades.trader, trades.trade_s > rows.t_s])
    return pairs.group_by(*_ROW, "given").agg(
        first_register_s=pairs.first_s.min().coalesce(0),
        next_trade_s=pairs.trade_s.min().coalesce(0),
    )


def _subjects(rows: Any) -> Any:
    """Number the distinct pairs of device and instant: one record each, whatever hangs on it."""
    pairs = rows.select("person_id", "device", "as_of_s").distinct()
    order = [pairs.as_of_s, pairs.device]
    return pairs.mutate(subject=ibis.row_number().over(order_by=order))


def _ordered(rows: Any, subjects: Any) -> Any:
    joined = rows.inner_join(subjects.drop("person_id"), ["device", "as_of_s"])
    return joined.order_by("as_of_s", "t_s", "device", "given")


def _records(events: Any, subjects: Any) -> Records:
    """Rebuild the record of every subject through the codec; zeros where nothing came before."""
    columns = _columns(record_columns(_seen_by(events, subjects)))
    records = np.zeros(_count(subjects), dtype=RECORD_DTYPE)
    records[columns["subject"]] = to_records(columns)
    return records


def _seen_by(events: Any, subjects: Any) -> Any:
    """Give each subject its device's events, and those of devices known to be the same person's.

    People who register link their devices, so a record that joined them before the log had told
    would give the registration away.
    """
    links = events.select(linked=events.device, own_link_s=events.linked_s).distinct()
    subjects = subjects.left_join(links, subjects.device == links.linked).drop("linked")
    pairs = events.inner_join(subjects.rename(asked="device"), "person_id")
    both_known = (pairs.linked_s < pairs.as_of_s) & (pairs.own_link_s < pairs.as_of_s)
    return pairs.filter((pairs.device == pairs.asked) | both_known)


def _columns(table: Any) -> dict[str, Column]:
    """Pull a table of integers into memory, a numpy column each."""
    pulled = table.to_pyarrow()
    return {
        name: pulled[name].to_numpy(zero_copy_only=False).astype(np.int64)
        for name in pulled.column_names
    }


def _count(table: Any) -> int:
    return int(engine.fetch(table.agg(n=table.count()))[0]["n"])


def _unattributed(events: Any, rows: Any) -> int:
    followed = [GIVEN[given].value for given in list(GIVEN)[1:]]
    done = events.filter(events.event.isin(followed)).select("person_id", "ts_s", "event")
    return _count(done.distinct()) - _count(rows.filter(rows.given > 0))
