"""A seeded second-hand marketplace: its people, their event log, and the truth behind it."""

from dataclasses import dataclass
from datetime import UTC, datetime, time as time_of_day
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from rta_service.domain.device import IdForm, IdKind, OperatingSystem, Placement
from rta_service.domain.events import Event
from rta_service.simulation.advertising import CHANNELS, follow_clicks, meet_rivals, show_ads
from rta_service.simulation.journal import DAY_MS, EVENTS, NONE, Day, Journal, State
from rta_service.simulation.people import (
    CATEGORIES,
    Array,
    Devices,
    MarketOptions,
    People,
    make_devices,
    make_people,
    toss,
)
from rta_service.simulation.shopping import open_app

__all__ = ["Market", "MarketOptions", "Truth", "simulate_market"]

CURRENCY: Final = "CNY"
DUPLICATE_SHARE: Final = 0.0005
"""Part of the events that a log shipper sent twice, under the same event id."""

_AD_EVENTS: Final = (EVENTS.index(Event.AD_EXPOSURE), EVENTS.index(Event.AD_CLICK))


@dataclass(frozen=True, slots=True)
class Truth:
    """What is behind the log, one row a device id; columns of one length."""

    raw: list[str]
    kind: list[IdKind]
    person: NDArray[np.int64]
    """Which person owns the id: rows of one person are neighbours."""
    os: NDArray[np.int64]
    role: NDArray[np.int64]
    interest: NDArray[np.float64]
    seen: NDArray[np.bool_]
    """Whether the id occurs in the log, so that a record of it exists."""

    def __len__(self) -> int:
        return len(self.raw)


@dataclass(frozen=True, slots=True)
class Market:
    """The finished simulation: the log as columns of codes, ordered by time."""

    options: MarketOptions
    people: People
    devices: Devices
    columns: dict[str, NDArray[np.int64]]
    """journal.COLUMNS and `device`, `user` (the person once registered, else NONE), `id`."""

    def __len__(self) -> int:
        return len(self.columns["ts_ms"])

    @property
    def truth(self) -> Truth:
        """Give what each device id stands for, for players of traffic and for tests."""
        person = self.devices.person
        seen = np.zeros(len(person), dtype=np.bool_)
        seen[self.columns["device"]] = True
        return Truth(
            raw=self.devices.raw,
            kind=self.devices.kind,
            person=person,
            os=self.people.os[person],
            role=self.people.role[person],
            interest=self.people.interest[person],
            seen=seen,
        )

    def table(self) -> pa.Table:
        """Spell the log out in the columns that `rta profiles build` reads."""
        columns = self.columns
        device = columns["device"]
        kinds = [kind.value for kind in IdKind]
        kind_of = np.array([kinds.index(kind) for kind in self.devices.kind])
        rows = len(self)
        return pa.table(
            {
                "device_id": _words(self.devices.raw, device),
                "id_kind": _words(kinds, kind_of[device]),
                "id_form": _words([IdForm.RAW.value], np.zeros(rows, dtype=np.int64)),
                "ts_ms": columns["ts_ms"],
                "event": _words([event.value for event in EVENTS], columns["event"]),
                "user_id": _numbered("u", columns["user"]),
                "order_id": _numbered("o", columns["order"]),
                "cents": columns["cents"],
                "currency": _words([CURRENCY], np.where(columns["cents"] > 0, 0, NONE)),
                "item_id": _numbered("i", columns["item"]),
                "category": _words(list(CATEGORIES), columns["category"]),
                "channel": _words(list(CHANNELS), columns["channel"]),
                "placement": _words([place.label for place in Placement], columns["placement"]),
                "os": _words(
                    [os.label for os in OperatingSystem], self.people.os[columns["person"]]
                ),
                "event_id": _numbered("e", columns["id"]),
            }
        )

    def write_events(self, path: Path) -> None:
        """Write the log as one Parquet file; the same options give the same bytes."""
        pq.write_table(self.table(), path, compression="zstd", row_group_size=200_000)


def simulate_market(options: MarketOptions) -> Market:
    """Let the people of a market live their days, each a function of how they stand that morning."""
    rng = np.random.default_rng(options.seed)
    people = make_people(options, rng)
    devices = make_devices(people, rng)
    journal, state = Journal(), State(people)
    midnight = datetime.combine(options.as_of, time_of_day(), UTC)
    end_ms = int(midnight.timestamp()) * 1_000
    for number in range(options.days):
        day = Day(number, end_ms - (options.days - number) * DAY_MS, rng, journal)
        meet_rivals(state, day)
        follow_clicks(state, day, show_ads(state, day))
        open_app(state, day)
    return Market(options, people, devices, _finish(journal, state, devices, (end_ms, rng)))


def _finish(
    journal: Journal, state: State, devices: Devices, end: tuple[int, np.random.Generator]
) -> dict[str, NDArray[np.int64]]:
    """Cut what lies after the end, name users and devices, send some events twice, order by time."""
    end_ms, rng = end
    columns = journal.columns()
    columns = _take(columns, np.flatnonzero(columns["ts_ms"] < end_ms))
    person = columns["person"]
    known = columns["ts_ms"] >= state.registered_ms[person]
    columns["user"] = np.where(known, person, NONE)
    columns["device"] = devices.first_of[person] + _slots(state, columns, known, rng)
    columns["id"] = np.arange(len(person))
    again = np.flatnonzero(toss(rng, len(person), DUPLICATE_SHARE))
    rows = np.concatenate([np.arange(len(person)), again])
    return _take(columns, rows[np.argsort(columns["ts_ms"][rows], kind="stable")])


def _slots(
    state: State, columns: dict[str, Array], known: Array, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Choose by which of the person's ids an event is known.

    The app knows users by any of their ids, ads see a stranger's second id now and then, and the
    app knows a stranger by the first.
    """
    ids = state.people.id_count[columns["person"]]
    is_ad = np.isin(columns["event"], _AD_EVENTS)
    share = np.where(known, 0.3, np.where(is_ad, 0.12, 0.0))
    moved = toss(rng, len(ids), share)
    other = 1 + (rng.random(len(ids)) * np.maximum(ids - 1, 1)).astype(np.int64)
    return np.where(moved & (ids > 1), np.minimum(other, ids - 1), 0)


def _take(columns: dict[str, Array], rows: Array) -> dict[str, Array]:
    return {name: column[rows] for name, column in columns.items()}


def _words(vocabulary: list[str], codes: Array) -> Any:
    indices = pa.array(codes.astype(np.int32), mask=codes == NONE)
    return pa.DictionaryArray.from_arrays(indices, pa.array(vocabulary)).cast(pa.string())


def _numbered(prefix: str, numbers: Array) -> Any:
    """Spell numbers as ids, e.g. u17; NONE becomes null."""
    digits = pa.array(numbers, mask=numbers == NONE).cast(pa.string())
    return pc.binary_join_element_wise(prefix, digits, "")
