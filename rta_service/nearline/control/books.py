"""What a control unit remembers of events: integers that add up alike in any order and batches."""

from dataclasses import dataclass, field
from typing import Final, Self

import msgspec
import numpy as np
from numpy.typing import NDArray

from rta_service.domain.control import CostGoal
from rta_service.domain.errors import InvalidInput
from rta_service.nearline.control.ageing import AgedSums
from rta_service.nearline.control.delay import BINS, bins
from rta_service.nearline.control.feed import Conversions, Origin, Wins, integers, predictions

Ints = NDArray[np.int64]

COST: Final = 0
PREDICTED: Final = {CostGoal.SHALLOW: 1, CostGoal.DEEP: 2, CostGoal.VALUE: 3}
"""In billionths."""
WEIGHED: Final = {CostGoal.SHALLOW: 4, CostGoal.DEEP: 5, CostGoal.VALUE: 6}
"""Cost in micros x prediction x 1,000: for means by cost."""
ARRIVED: Final = {CostGoal.SHALLOW: 7, CostGoal.DEEP: 8, CostGoal.VALUE: 9}
"""Counts; micros of money for VALUE."""
PAYERS: Final = 10
"""Deep conversions that brought money."""
WINS: Final = 11
"""Of which something was predicted."""
BAD: Final = 12
"""Predictions that were no numbers."""
TOLD_COST: Final = 13
"""Cost of WINS, in micros."""
_COLUMNS: Final = 14
_KEPT_DAYS: Final = 3
_WEIGHED_PER_NANO: Final = 1_000_000

CAME: Final = {CostGoal.SHALLOW: 0, CostGoal.DEEP: 1}
"""Columns of `came`, and rows of `delays`."""


class _Saved(msgspec.Struct, frozen=True):
    clock_ms: int
    shapes: list[tuple[int, ...]]
    columns: list[bytes]
    origins: dict[str, int]
    spent: dict[int, int]


class Books:
    """Sums by the age of the win, by the time of conversion, by delay, and cost by day."""

    def __init__(self, day_starts_ms: int = 0, day_ms: int = 86_400_000) -> None:
        self.day_starts_ms, self.day_ms = day_starts_ms, day_ms
        self.spent: dict[int, int] = {}
        self.bought = AgedSums(_COLUMNS)
        self.came = AgedSums(len(CAME))
        self.delays: Ints = np.zeros((len(CAME), BINS), np.int64)
        self.origins: dict[str, int] = {}

    def is_replay(self, origin: Origin | None) -> bool:
        """Say whether a batch was taken before."""
        return origin is not None and origin.number <= self.origins.get(origin.sender, -1)

    def take(self, read: "Read", origin: Origin | None) -> None:
        """Add a batch that was read, and remember its origin."""
        for won, rows in read.bought:
            self.bought.add(won, rows)
            self._spend(won, rows[:, COST])
        for converted, came in read.came:
            self.came.add(converted, came)
        self.delays += read.delays
        if origin is not None:
            self.origins[origin.sender] = origin.number

    def _spend(self, won: Ints, cost: Ints) -> None:
        days, place = np.unique((won - self.day_starts_ms) // self.day_ms, return_inverse=True)
        sums = np.zeros(len(days), np.int64)
        np.add.at(sums, place, cost)
        for day, spent in zip(days.tolist(), sums.tolist(), strict=True):
            self.spent[day] = self.spent.get(day, 0) + spent

    def day(self) -> int:
        """Number the day of the clock."""
        return (self.bought.clock_ms - self.day_starts_ms) // self.day_ms

    def roll(self, now_ms: int) -> None:
        """Let time pass."""
        self.bought.roll(now_ms)
        self.came.roll(now_ms)
        oldest = self.day() - _KEPT_DAYS
        self.spent = {day: cost for day, cost in sorted(self.spent.items()) if day >= oldest}

    def to_bytes(self) -> bytes:
        """Save; the same events give the same bytes once time has passed to the same moment."""
        arrays = (
            self.bought.starts, self.bought.sums, self.came.starts, self.came.sums, self.delays
        )  # fmt: skip
        shapes = [array.shape for array in arrays]
        columns = [array.astype("<i8").tobytes() for array in arrays]
        origins = dict(sorted(self.origins.items()))
        saved = _Saved(self.bought.clock_ms, shapes, columns, origins, self.spent)
        return msgspec.msgpack.encode(saved)

    @classmethod
    def from_bytes(cls, data: bytes, day_starts_ms: int = 0, day_ms: int = 86_400_000) -> Self:
        """Load what `to_bytes` saved."""
        saved = msgspec.msgpack.decode(data, type=_Saved)
        arrays = [
            np.frombuffer(column, "<i8").astype(np.int64).reshape(shape)
            for column, shape in zip(saved.columns, saved.shapes, strict=True)
        ]
        books = cls(day_starts_ms, day_ms)
        books.bought.starts, books.bought.sums, books.came.starts, books.came.sums = arrays[:4]
        books.delays = arrays[4]
        books.bought.clock_ms = books.came.clock_ms = saved.clock_ms
        books.origins, books.spent = saved.origins, saved.spent
        return books


@dataclass
class Read:
    """A batch that was checked as a whole, so that it is added as a whole or not at all."""

    bought: list[tuple[Ints, Ints]] = field(default_factory=list)
    came: list[tuple[Ints, Ints]] = field(default_factory=list)
    delays: Ints = field(default_factory=lambda: np.zeros((len(CAME), BINS), np.int64))

    def wins(self, wins: Wins) -> None:
        """Read wins. Raises InvalidInput where columns do not fit together."""
        at = np.atleast_1d(np.asarray(wins.won_at_ms))
        count = len(at)
        rows = np.zeros((count, _COLUMNS), np.int64)
        rows[:, COST] = integers(wins.cost_micros, count, "cost_micros")
        told = integers(wins.told, count, "told")
        rows[:, WINS] = told
        rows[:, TOLD_COST] = rows[:, COST] * told
        given = zip(PREDICTED, (wins.shallow, wins.deep, wins.value), strict=True)
        for goal, column in given:
            nano, bad = predictions(column, count, goal)
            rows[:, PREDICTED[goal]] = nano
            rows[:, BAD] += bad
            # in floats only for the size of the product; rounded row by row, so still exact sums
            weighed = rows[:, COST] * (nano / _WEIGHED_PER_NANO)
            rows[:, WEIGHED[goal]] = np.rint(weighed).astype(np.int64)
        if (rows[:, COST] < 0).any():
            raise InvalidInput("cost_micros: a win cannot cost less than nothing")
        self.bought.append((integers(at, count, "won_at_ms"), rows))

    def conversions(self, batch: Conversions) -> None:
        """Read conversions, to be credited to the age of their wins. Raises InvalidInput."""
        goal = batch.goal
        if goal not in CAME:
            raise InvalidInput("conversions are of shallow or deep; money comes with the deep ones")
        at = np.atleast_1d(np.asarray(batch.won_at_ms))
        count = len(at)
        won = integers(at, count, "won_at_ms")
        converted = integers(batch.converted_at_ms, count, "converted_at_ms")
        money = integers(batch.value_micros, count, "value_micros")
        signed = integers(batch.count, count, "count")
        rows = np.zeros((count, _COLUMNS), np.int64)
        rows[:, ARRIVED[goal]] = signed
        if goal is CostGoal.DEEP:
            rows[:, ARRIVED[CostGoal.VALUE]] = money
            rows[:, PAYERS] = np.where(money * signed > 0, signed, 0)
        came = np.zeros((count, len(CAME)), np.int64)
        came[:, CAME[goal]] = signed
        self.bought.append((won, rows))
        self.came.append((converted, came))
        delay_s = (converted - won) / 1000.0
        self.delays[CAME[goal]] += bins(delay_s[signed > 0]) - bins(delay_s[signed < 0])
