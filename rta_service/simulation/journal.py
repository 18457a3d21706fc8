"""What the simulated day writes down: the events so far, and where each person stands."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from rta_service.domain.events import RECORDED, Event
from rta_service.simulation.people import Array, People, toss

DAY_MS: Final = 86_400_000
NEVER_MS: Final = np.iinfo(np.int64).max
EVENTS: Final = RECORDED
NONE: Final = -1
"""Stands for a missing value in the integer columns of the journal."""

COLUMNS: Final = {
    "event": 0,
    "person": 0,
    "ts_ms": 0,
    "cents": 0,
    "order": NONE,
    "item": NONE,
    "category": NONE,
    "placement": NONE,
    "channel": 0,
}
"""The journal's columns with the value of rows that leave them out; all int64."""


class Journal:
    """An append-only list of event blocks, joined once at the end."""

    def __init__(self) -> None:
        self._blocks: list[dict[str, Array]] = []
        self._orders = 0

    def write(
        self, event: Event, person: Array, ts_ms: Array, extra: Mapping[str, Array] | None = None
    ) -> None:
        """Add one event per person; `extra` holds further columns of COLUMNS."""
        block = {"person": person, "ts_ms": ts_ms, **(extra or {})}
        block["event"] = np.full(len(person), EVENTS.index(event))
        self._blocks.append(block)

    def new_orders(self, count: int) -> NDArray[np.int64]:
        """Number the next orders."""
        self._orders += count
        return np.arange(self._orders - count, self._orders)

    def columns(self) -> dict[str, NDArray[np.int64]]:
        """Join the blocks; rows in the order in which they were written."""
        return {
            name: np.concatenate(
                [
                    block.get(name, np.full(len(block["person"]), default)).astype(np.int64)
                    for block in self._blocks
                ]
            )
            for name, default in COLUMNS.items()
        }


@dataclass(slots=True)
class State:
    """Where each person stands this morning, as columns; the days change it in place."""

    people: People
    downloaded: NDArray[np.bool_] = field(init=False)
    activated: NDArray[np.bool_] = field(init=False)
    registered: NDArray[np.bool_] = field(init=False)
    will_register: NDArray[np.bool_] = field(init=False)
    registered_ms: NDArray[np.int64] = field(init=False)
    orders: NDArray[np.int64] = field(init=False)
    browses: NDArray[np.int64] = field(init=False)
    ad_clicks: NDArray[np.int64] = field(init=False)
    last_launch_ms: NDArray[np.int64] = field(init=False)
    next_launch_ms: NDArray[np.int64] = field(init=False)

    def __post_init__(self) -> None:
        persons = len(self.people)
        for name in ("downloaded", "activated", "registered", "will_register"):
            setattr(self, name, np.zeros(persons, dtype=np.bool_))
        for name in ("orders", "browses", "ad_clicks", "last_launch_ms"):
            setattr(self, name, np.zeros(persons, dtype=np.int64))
        self.registered_ms = np.full(persons, NEVER_MS)
        self.next_launch_ms = np.full(persons, NEVER_MS)

    def idle_days(self, person: Array, now_ms: int) -> NDArray[np.float64]:
        """Days since the last launch; 60 for those who never launched."""
        last = self.last_launch_ms[person]
        return np.asarray(np.where(last > 0, (now_ms - last) / DAY_MS, 60.0))


@dataclass(frozen=True, slots=True)
class Day:
    """One day's instant, chance and pen, handed to whatever happens on it."""

    number: int
    start_ms: int
    rng: np.random.Generator
    journal: Journal

    @property
    def end_ms(self) -> int:
        """00:00 of the next day."""
        return self.start_ms + DAY_MS

    def toss(self, count: int, share: float | Array) -> NDArray[np.bool_]:
        """Toss `count` coins that fall on true with a probability, one for all or one each."""
        return toss(self.rng, count, share)

    def times(self, count: int) -> NDArray[np.int64]:
        """Draw instants of the day, mostly in the afternoon and evening."""
        return self.start_ms + (self.rng.beta(3.0, 1.8, count) * DAY_MS).astype(np.int64)


def chance(logit: Array) -> NDArray[np.float64]:
    """Turn log odds into probabilities."""
    return np.asarray(1.0 / (1.0 + np.exp(-logit)))
