"""One unit in the hands of its controller: rows wait for its next step, whose marks are all saved."""

from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Final, NamedTuple, Self

import msgspec
import numpy as np

from rta_service.domain.control import Block, CostGoal, Reason
from rta_service.domain.control_feed import FeedRow, RowKind
from rta_service.domain.control_order import Order, UnitView, Usage, cell_of
from rta_service.domain.platform import BidKind
from rta_service.domain.user import LifecycleStage, ValueTier
from rta_service.nearline import control
from rta_service.nearline.control import budget as pacing, rta
from rta_service.nearline.control.books import COST
from rta_service.nearline.control.feeding import Kept, Step, Terms
from rta_service.nearline.control.rta import Shaping, Way
from rta_service.nearline.control.viewing import view
from rta_service.stores.control_store import Money, Saved

_PERIOD_S: Final = 15.0
_STEPS_A_HORIZON: Final = 240.0
"""A short horizon, as in a trial, needs shorter steps than 15 s."""
_REPORT_PERIOD_S: Final = 3_600.0
"""Of units whose cost comes in hourly reports: in between nothing is known of it."""
_GONE_PERIOD_S: Final = 60.0
_HOLD_HALF_LIFE_S: Final = 600.0
_HOLD_MORE: Final = 1.25
"""Of what prices were seen to cost, this is held of each: chance must not overspend."""
_HOLD_PRIOR_ANSWERS: Final = 50.0


class Side(msgspec.Struct, frozen=True):
    """What is kept beside a unit's state; a rebuild does not make it."""

    shaping: Shaping = Shaping()
    counted: Usage | None = None
    """Of all workers, ever, at the last step."""
    offered_micros: float = 0.0
    """What the prices answered would have cost, if all had won; forgotten by halves. Only those
    whose wins must have been told by now."""
    offered_lately: tuple[tuple[int, float], ...] = ()
    """When, and how much: those whose wins may still be told."""
    cost_micros: float = 0.0
    cost_seen: int = 0


class Fed(NamedTuple):
    """How far the feed is."""

    until_ms: int
    """All that was accepted before is in the state."""
    win_window_ms: int
    """How long after an answer its win is told, at the latest."""


class _Whole(msgspec.Struct, frozen=True):
    kept: bytes
    side: Side
    engine: str = ""


def _engine() -> str:
    """Name the code that makes states: other code may make other ones of the same events."""
    hashed = sha256(np.__version__.encode())
    for file in sorted(Path(control.__file__).parent.glob("*.py")):
        hashed.update(file.read_bytes())
    return hashed.hexdigest()[:16]


ENGINE: Final = _engine()


def is_ours(state: bytes) -> bool:
    """Say whether a saved state was made by the code that runs here."""
    return msgspec.msgpack.decode(state, type=_Whole).engine == ENGINE


def kept_of(state: bytes) -> bytes:
    """Take from a saved state what a rebuild makes."""
    return msgspec.msgpack.decode(state, type=_Whole).kept


class Live:
    """A unit between its steps."""

    def __init__(self, unit_id: str, terms: Terms, engine: str = ENGINE) -> None:
        self.unit_id = unit_id
        self.terms = terms
        self.kept: Kept | None = None
        self.side = Side()
        self.view: UnitView | None = None
        self.flags: tuple[Reason, ...] = ()
        self.is_wanted = True
        self._waiting: list[FeedRow] = []
        self._engine = engine
        self._is_ours = True

    @classmethod
    def of_state(
        cls, unit_id: str, state: bytes, terms: Terms | None, engine: str = ENGINE
    ) -> Self:
        """Take up a unit as it was saved; without terms those that it had."""
        whole = msgspec.msgpack.decode(state, type=_Whole)
        kept = Kept.from_bytes(unit_id, whole.kept)
        live = cls(unit_id, terms or kept.terms, engine)
        live.kept, live.side, live._is_ours = kept, whole.side, whole.engine == engine
        return live

    @property
    def cursor(self) -> int:
        """Give the last row of the feed that is in its state; 0 before its first step."""
        return 0 if self.kept is None else self.kept.cursor

    def hear(self, number: int, rows: Sequence[FeedRow]) -> None:
        """Keep rows for the next step; those that it has are passed over."""
        if self.kept is not None and number > self.kept.cursor:
            self._waiting += rows

    def is_due(self, now_ms: int) -> bool:
        """Say whether a period is over, or somebody changed what is wanted."""
        if self.kept is None or (self.is_wanted and self.kept.terms != self.terms):
            return True
        period_s = min(_PERIOD_S, max(1.0, self.terms.settings.horizon_s / _STEPS_A_HORIZON))
        if not self.is_wanted:
            period_s = _GONE_PERIOD_S
        elif self.kept.reported_ms and not any(row.kind == RowKind.REPORT for row in self._waiting):
            period_s = _REPORT_PERIOD_S
        return now_ms - self.kept.unit.levels.stepped_ms >= 1000.0 * period_s

    def step(
        self, now_ms: int, cursor: int, *, outage: bool, parents: dict[CostGoal, list[float]]
    ) -> tuple[Step, Block]:
        """Do a step with all rows that waited; `cursor` is the last row that was read."""
        first = self.kept is None
        known = None if self.kept is None else self.kept.terms
        old = {} if self.kept is None else self.kept.parents
        step = Step(
            1 if self.kept is None else self.kept.version + 1,
            now_ms,
            cursor,
            outage,
            terms=None if known == self.terms else self.terms,
            parents=None if parents == old or not parents else parents,
            reach=self._reach(),
        )
        if self.kept is None:
            self.kept = Kept(self.unit_id, step)
        rows, self._waiting = self._waiting, []
        return step, self.kept.take(step, [] if first else rows)

    def _reach(self) -> float | None:
        return self.side.shaping.reach if self.terms.answer is BidKind.WEIGHT else None

    def saved(self, step: Step, block: Block, usage: Usage, fed: "Fed") -> Saved:
        """Give all that a step leaves behind; `usage` is what workers did, ever."""
        kept, as_of_ms = self._begun(), fed.until_ms
        lately = _since(usage, self.side.counted)
        self.side = self._sided(lately, usage, block)
        self.side = self._offered(block.made_at_ms, lately, fed)
        self.view = view(kept.unit, block, self.view, fed_until_ms=as_of_ms, usage=lately)
        whole = msgspec.msgpack.encode(_Whole(kept.to_bytes(), self.side, self._engine))
        is_base, self._is_ours = not self._is_ours, True
        if kept.reported_ms:  # workers are to wait for the next report before they call it old
            longest_ms = max(block.period_ms, round(1000 * _REPORT_PERIOD_S))
            block = msgspec.structs.replace(block, period_ms=longest_ms)
        order = Order(block, self.terms.settings, self.side.shaping.shape, self._hold_rate())
        return Saved(
            self.unit_id,
            step.version,
            whole,
            msgspec.msgpack.encode(step),
            order,
            self.view,
            self._money(as_of_ms),
            is_base,
        )

    def _begun(self) -> Kept:
        if self.kept is None:
            raise ValueError(f"{self.unit_id} has made no step")
        return self.kept

    def _sided(self, lately: Usage, usage: Usage, block: Block) -> Side:
        settings, side, terms = self.terms.settings, self.side, self.terms
        way = Way(
            weighs=terms.answer is BidKind.WEIGHT,
            bounds=terms.bounds,
            shares=_by_cell(settings.shares),
            held=terms.held,
            guarantee_until_ms=settings.guarantee_until_ms,
        )
        left = 0.5 ** (block.period_ms / 1000.0 / _HOLD_HALF_LIFE_S)
        cost = int(self._begun().unit.books.bought.totals()[COST])
        return msgspec.structs.replace(
            side,
            shaping=rta.advance(side.shaping, lately, block, way, block.made_at_ms),
            counted=usage,
            offered_micros=side.offered_micros * left,
            cost_micros=side.cost_micros * left + max(cost - side.cost_seen, 0),
            cost_seen=cost,
        )

    def _offered(self, now_ms: int, lately: Usage, fed: "Fed") -> Side:
        """Add what was offered, once the wins of it are known: before, it would look cheap."""
        offered = (*self.side.offered_lately, (now_ms, lately.price_micros / 1000.0))
        known_ms = min(now_ms, fed.until_ms) - fed.win_window_ms
        settled = sum(micros for at_ms, micros in offered if at_ms <= known_ms)
        return msgspec.structs.replace(
            self.side,
            offered_micros=self.side.offered_micros + settled,
            offered_lately=tuple(one for one in offered if one[0] > known_ms),
        )

    def _hold_rate(self) -> float:
        """Say what share of a price is held: of what was offered of late so much was spent.

        All of it while little is known.
        """
        if self._budget_is_plain():
            return 0.0
        side, usage = self.side, self.side.counted
        answers = usage.answered if usage else 0
        mean = usage.price_micros / 1000.0 / answers if usage and answers else 0.0
        prior = _HOLD_PRIOR_ANSWERS * mean
        if side.offered_micros + prior <= 0.0:
            return 1.0
        share = (side.cost_micros + prior) / (side.offered_micros + prior)
        return min(_HOLD_MORE * share, 1.0)

    def _budget_is_plain(self) -> bool:
        """Say whether no money is granted: only prices of auctions can be held."""
        return self.terms.settings.budget is None or self.terms.answer is not BidKind.CPM

    def _money(self, as_of_ms: int) -> Money | None:
        budget = self.terms.settings.budget
        if self._budget_is_plain() or budget is None:
            return None
        unit = self._begun().unit
        books, now_ms = unit.books, unit.levels.stepped_ms
        # bids come down too slowly for a market that could take a day's money in minutes
        ready = pacing.day_gone(budget, now_ms, self.terms.settings.ahead_ms)
        spent = books.spent.get(books.day(), 0)
        return Money(books.day(), round(budget.daily_micros * ready), spent, as_of_ms)


def _since(usage: Usage, before: Usage | None) -> Usage:
    """Give what was done since; sums of workers that are gone are missing from both."""
    if before is None:
        return usage
    since = Usage(usage.unit_id)
    for name in Usage.__struct_fields__[1:-1]:
        setattr(since, name, max(getattr(usage, name) - getattr(before, name), 0))
    since.worths = {
        place: count - before.worths.get(place, 0)
        for place, count in usage.worths.items()
        if count > before.worths.get(place, 0)
    }
    return since


_CELLS: Final = {
    f"{stage.label}.{tier.label}": cell_of(stage, tier)
    for stage in LifecycleStage
    for tier in ValueTier
}


def _by_cell(shares: dict[str, float]) -> dict[int, float]:
    return {_CELLS[name]: share for name, share in shares.items()}
