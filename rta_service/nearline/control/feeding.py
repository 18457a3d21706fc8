"""A unit as it is kept: what its strategy asks, what the ledger told, and its steps.

State is a function of the rows of the feed and of the steps: `Kept.take` makes it, for the controller
as for a rebuild. Between two steps nothing is done; each step takes the rows up to its cursor.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Final, Self

import msgspec
import numpy as np

from rta_service.domain.control import Block, CostGoal
from rta_service.domain.control_feed import FeedRow, RowKind
from rta_service.domain.control_order import ControlSettings
from rta_service.domain.platform import BidKind
from rta_service.nearline.control.delay import DelayLaw
from rta_service.nearline.control.feed import NANO, Conversions, Wins
from rta_service.nearline.control.rta import rta_limits
from rta_service.nearline.control.unit import ControlUnit, Rules
from rta_service.nearline.control.update import Tuning

_MICROS_A_CENT: Final = 10_000
_GOALS: Final = {RowKind.SHALLOW: CostGoal.SHALLOW, RowKind.DEEP: CostGoal.DEEP}
_HALF_HOUR_MS: Final = 1_800_000
_REPORTS_STOPPED_MS: Final = 6 * 3_600_000
_MEMORY: Final = 2.0
"""Half-life of what counts towards the cost, in horizons."""


class Terms(msgspec.Struct, frozen=True):
    """What a strategy asks of a unit."""

    settings: ControlSettings
    answer: BidKind
    value_micros: int = 0
    """Money that a deep conversion is predicted to bring."""
    dead_time_s: float = 0.0
    """How long a platform keeps an answer."""
    bounds: tuple[float, float] = (0.2, 5.0)
    """Of a weight."""
    held: CostGoal | None = None
    """The goal that the platform holds by itself."""


class Step(msgspec.Struct, frozen=True, array_like=True):
    """One step, as the journal keeps it; fields are only ever appended, with a default."""

    version: int
    now_ms: int
    cursor: int
    """The last row of the feed that is in it."""
    outage: bool = False
    terms: Terms | None = None
    """Where they changed; always in a unit's first step."""
    parents: dict[CostGoal, list[float]] | None = None
    """Delay laws of the advertiser, where they changed."""
    reach: float | None = None
    """Log multipliers below have no effect; None where a price is answered."""


class _Saved(msgspec.Struct, frozen=True):
    unit: bytes
    terms: Terms
    began_ms: int
    cursor: int
    parents: dict[CostGoal, list[float]]
    reach: float | None
    reported_ms: int = 0
    held: list[FeedRow] = []


class Kept:
    """A unit with all that its state depends on."""

    def __init__(self, unit_id: str, first: Step) -> None:
        if first.terms is None:
            raise ValueError(f"the first step of {unit_id} says no terms")
        self.terms = first.terms
        self.began_ms = first.now_ms
        self.cursor = first.cursor
        self.parents: dict[CostGoal, list[float]] = first.parents or {}
        self.reach = first.reach
        self.reported_ms = 0
        """Until when reports told costs; 0 for a unit of which none came lately."""
        self.held: list[FeedRow] = []
        """Clicks since then, and what came of them: without their cost they would look cheap."""
        self.unit = ControlUnit(unit_id, self._rules())

    @property
    def version(self) -> int:
        """Count the steps so far."""
        return self.unit.levels.version

    def take(self, step: Step, rows: Sequence[FeedRow]) -> Block:
        """Do a step; `rows` are those after the last step's cursor, up to this one's."""
        self._change(step)
        self.unit.learn(*learned(self._ripe(rows, step.now_ms), self.terms, self.began_ms))
        self.cursor = step.cursor
        return self.unit.step(step.now_ms, outage=step.outage)

    def _ripe(self, rows: Sequence[FeedRow], now_ms: int) -> list[FeedRow]:
        """Give the rows that count now: clicks and conversions wait for the report of their hour.

        Where reports stop, nothing waits any more after some hours.
        """
        known = [*self.held, *rows]
        reports = [row.won_ms + _HALF_HOUR_MS for row in rows if row.kind == RowKind.REPORT]
        self.reported_ms = max([self.reported_ms, *reports])
        if now_ms - self.reported_ms > _REPORTS_STOPPED_MS:
            self.reported_ms = 0
        if not self.reported_ms:
            self.held = []
            return known
        costs = (RowKind.REPORT, RowKind.WIN)
        waits = [row.kind not in costs and row.won_ms >= self.reported_ms for row in known]
        self.held = [row for row, wait in zip(known, waits, strict=True) if wait]
        return [row for row, wait in zip(known, waits, strict=True) if not wait]

    def _change(self, step: Step) -> None:
        terms, parents = step.terms or self.terms, step.parents or self.parents
        if (terms, parents, step.reach) == (self.terms, self.parents, self.reach):
            return
        settings, unit = terms.settings, self.unit
        if settings.aim != unit.rules.aim:
            unit.aim_at(step.now_ms, settings.aim)
        if settings.budget != unit.rules.budget:
            unit.spend_at_most(settings.budget)
        self.terms, self.parents, self.reach = terms, parents, step.reach
        self.unit = ControlUnit.from_bytes(unit.unit_id, self._rules(), unit.to_bytes())

    def _rules(self) -> Rules:
        settings, terms = self.terms.settings, self.terms
        tuning = Tuning(
            horizon_s=settings.horizon_s,
            horizon_starts_ms=settings.budget.day_starts_ms if settings.budget else 0,
            memory_s=_MEMORY * settings.horizon_s,
            dead_time_s=terms.dead_time_s,
        )
        limits = settings.limits
        if terms.answer is BidKind.WEIGHT:
            limits = rta_limits(limits, self.reach)
        laws = {goal: DelayLaw(np.array(shares)) for goal, shares in self.parents.items()}
        return Rules(settings.aim, settings.budget, tuning, limits, laws)

    def to_bytes(self) -> bytes:
        """Save everything."""
        saved = _Saved(
            self.unit.to_bytes(),
            self.terms,
            self.began_ms,
            self.cursor,
            self.parents,
            self.reach,
            self.reported_ms,
            self.held,
        )
        return msgspec.msgpack.encode(saved)

    @classmethod
    def from_bytes(cls, unit_id: str, data: bytes) -> Self:
        """Load what `to_bytes` saved."""
        saved = msgspec.msgpack.decode(data, type=_Saved)
        first = Step(
            0,
            saved.began_ms,
            saved.cursor,
            terms=saved.terms,
            parents=saved.parents,
            reach=saved.reach,
        )
        kept = cls(unit_id, first)
        kept.unit = ControlUnit.from_bytes(unit_id, kept.unit.rules, saved.unit)
        kept.reported_ms, kept.held = saved.reported_ms, saved.held
        return kept


class Replay:
    """Makes a unit anew from a checkpoint, or from nothing, by its journal and the feed's rows."""

    def __init__(self, unit_id: str, base: bytes | None, steps: Iterable[Step]) -> None:
        self._unit_id = unit_id
        self._kept = None if base is None else Kept.from_bytes(unit_id, base)
        self._steps = deque(steps)
        self._due: list[FeedRow] = []

    def hear(self, number: int, rows: Sequence[FeedRow]) -> None:
        """Take rows, in the order of their numbers."""
        while self._steps and self._steps[0].cursor < number:
            self._step()
        if self._kept is not None and number > self._kept.cursor:
            self._due += rows

    def end(self) -> Kept | None:
        """Give the unit after all of its steps; None where there is neither checkpoint nor step."""
        while self._steps:
            self._step()
        return self._kept

    def _step(self) -> None:
        step = self._steps.popleft()
        if self._kept is None:
            self._kept = Kept(self._unit_id, step)
        if step.version > self._kept.version:
            rows, self._due = self._due, []
            self._kept.take(step, rows)


def learned(
    rows: Sequence[FeedRow], terms: Terms, since_ms: int
) -> tuple[Wins | None, Conversions, Conversions]:
    """Read rows as a unit learns them; what was won before it began does not count.

    Of a strategy that answers cpm the auctions cost and the clicks predict; of others the clicks do
    both. Reports of cost count for all.
    """
    counted = [row for row in rows if row.won_ms >= since_ms]
    touches = [_touch(row, terms) for row in counted if _counts(row, terms)]
    shallow, deep = (_conversions(counted, kind) for kind in _GOALS)
    if not touches:
        return None, shallow, deep
    won, cost, register, trade, told = np.array(touches, np.int64).T
    wins = Wins(
        won,
        cost,
        register / NANO,
        trade / NANO,
        trade / NANO * (terms.value_micros / 1_000_000),
        told,
    )
    return wins, shallow, deep


def _counts(row: FeedRow, terms: Terms) -> bool:
    wanted = RowKind.WIN if terms.answer is BidKind.CPM else RowKind.CLICK
    return row.kind in (wanted, RowKind.CLICK, RowKind.REPORT)


def _touch(row: FeedRow, terms: Terms) -> tuple[int, int, int, int, int]:
    is_click = row.kind == RowKind.CLICK
    costs = not is_click or terms.answer is not BidKind.CPM
    cost = row.cost_micros if costs else 0
    if not is_click:
        return row.won_ms, cost, 0, 0, 0
    return row.won_ms, cost, row.register_nanos, row.trade_nanos, row.count


def _conversions(rows: Sequence[FeedRow], kind: RowKind) -> Conversions:
    of_kind = [
        (row.won_ms, row.came_ms, row.cents * _MICROS_A_CENT, row.count)
        for row in rows
        if row.kind == kind and (row.count or row.cents)
    ]
    won, came, money, count = np.array(of_kind, np.int64).reshape(-1, 4).T
    return Conversions(_GOALS[kind], won, came, money, count)
