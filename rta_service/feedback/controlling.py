"""Cost control at work: reads what the ledger tells, steps units, saves what workers are to do.

One controller a shard, by a lease with a fencing token. What it remembers is only what the store has:
whatever fails, it forgets everything and reads the store anew.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Final, Protocol

from rta_service.domain.control import CostGoal, Reason
from rta_service.domain.control_feed import FeedBatch, rows_of
from rta_service.domain.errors import DegradedError, StaleWriter
from rta_service.feedback.control_unit import ENGINE, Fed, Live
from rta_service.nearline.control.feeding import Terms
from rta_service.nearline.control.pooling import all_silent, parent_laws
from rta_service.stores.control_feed import ControlFeed
from rta_service.stores.control_store import LEASE_MS, ControlStore, Saved

_BATCHES: Final = 1_000
"""Read of the feed at a time."""
_UNITS: Final = 64
"""Stepped and saved at a time: half a second."""
_JUDGED_EVERY_MS: Final = 5_000
_LAWS_EVERY_MS: Final = 3_600_000

_log: Final = logging.getLogger(__name__)


class Shown(Protocol):
    """Where a controller shows what it does."""

    def count_control_steps(self, steps: int, /) -> None:
        """Count steps of units."""

    def show_control(self, units: int, oldest_s: float, lag_s: float, *, outage: bool) -> None:
        """Show how many units there are, the oldest block's age, and how far behind the feed is."""

    def show_control_guards(self, flags: Mapping[Reason, int], /) -> None:
        """Show how many units each guard holds."""


@dataclass(frozen=True)
class Place:
    """Which units a controller has, and who it is."""

    holder: str
    """Its own among all controllers ever."""
    shard: int = 0
    shards: int = 1
    life_ms: int = LEASE_MS
    """How long after its death nobody controls."""
    engine: str = ENGINE
    """Names the code that makes states: after an upgrade journals begin anew."""

    @property
    def claim(self) -> tuple[int, str, int]:
        """Give what the lease is asked for with."""
        return self.shard, self.holder, self.life_ms

    def has(self, unit_id: str) -> bool:
        """Say whether a unit is of this shard."""
        hashed = blake2b(unit_id.encode(), digest_size=4).digest()
        return int.from_bytes(hashed, "big") % self.shards == self.shard


@dataclass
class _Tenure:
    """What is remembered while the lease is ours."""

    fence: int
    read: int
    """The last row of the feed that was read."""
    read_at_ms: int = 0
    """All events that were accepted before are among them."""
    units: dict[str, Live] = field(default_factory=dict)
    parents: dict[CostGoal, list[float]] = field(default_factory=dict)
    fitted_ms: int = 0
    judged_ms: int = 0
    silent: bool = False


class Controller:
    """Call `turn` about every second; it blocks. What it raises is told, and it begins anew."""

    def __init__(
        self,
        place: Place,
        store: ControlStore,
        feed: ControlFeed,
        wanted: Callable[[], Mapping[str, Terms]],
        shown: Shown,
    ) -> None:
        self._place = place
        self._store = store
        self._feed = feed
        self._wanted = wanted
        self._shown = shown
        self._tenure: _Tenure | None = None

    @property
    def is_at_work(self) -> bool:
        """Say whether the shard was this controller's at its last turn."""
        return self._tenure is not None

    def turn(self) -> int:
        """Do all that is due, and give how many units were stepped; 0 where the shard is another's.

        Raises StaleWriter or StoreUnavailable: nothing of the turn counts then.
        """
        try:
            return self._turn()
        except BaseException:
            self._tenure = None
            raise

    def give_back(self) -> None:
        """Let another controller go on at once."""
        self._tenure = None
        self._store.give_back(self._place.shard, self._place.holder)

    def _turn(self) -> int:
        fence = self._store.take(*self._place.claim)
        if not fence:
            self._tenure = None
            return 0
        if self._tenure is None or self._tenure.fence != fence:
            self._tenure = self._begun(fence)
        tenure, now_ms = self._tenure, self._feed.now_ms()
        gone = self._want(tenure, self._wanted())
        self._read(tenure)
        due = [live for live in tenure.units.values() if live.is_due(now_ms)]
        if due or gone:
            self._judge(tenure, now_ms)
            self._do(tenure, due, now_ms, gone)
        self._show(tenure, len(due), now_ms)
        return len(due)

    def _do(self, tenure: _Tenure, due: Sequence[Live], now_ms: int, gone: Sequence[str]) -> None:
        """Step and save so many units at a time that the lease lives on."""
        for first in range(0, max(len(due), 1), _UNITS):
            if first and self._store.take(*self._place.claim) != tenure.fence:
                raise StaleWriter(f"shard {self._place.shard} is another controller's by now")
            part = due[first : first + _UNITS]
            saved = self._step(tenure, part, now_ms)
            unwanted = [*gone, *(live.unit_id for live in part if not live.is_wanted)]
            self._store.save(self._place.shard, tenure.fence, saved, _cursor(tenure), unwanted)
            self._tell_guards(part, saved)

    def _begun(self, fence: int) -> _Tenure:
        """Take up what is kept."""
        states, views = self._store.states(), self._store.views()
        orders, tenure = self._store.orders(), _Tenure(fence, 0)
        wanted = self._wanted()
        for unit_id, state in states.items():
            if self._place.has(unit_id):
                live = Live.of_state(unit_id, state, wanted.get(unit_id), self._place.engine)
                live.view = views.get(unit_id)
                live.flags = orders[unit_id].block.flags if unit_id in orders else ()
                live.is_wanted = unit_id in orders or unit_id in wanted
                tenure.units[unit_id] = live
        cursors = [live.cursor for live in tenure.units.values()]
        tenure.read = min(cursors, default=self._store.cursor(self._place.shard))
        tenure.parents = next(
            (live.kept.parents for live in tenure.units.values() if live.kept), {}
        )
        return tenure

    def _want(self, tenure: _Tenure, wanted: Mapping[str, Terms]) -> list[str]:
        """Take up the terms of now; name the units that nobody wants any more."""
        gone = []
        for unit_id, terms in wanted.items():
            if not self._place.has(unit_id):
                continue
            live = tenure.units.setdefault(unit_id, Live(unit_id, terms, self._place.engine))
            live.terms, live.is_wanted = terms, True
        for unit_id, live in tenure.units.items():
            if live.is_wanted and unit_id not in wanted:
                live.is_wanted = False
                gone.append(unit_id)
        return gone

    def _read(self, tenure: _Tenure) -> None:
        """Hand out all rows that have come; stops before a gap, which the publisher mends."""
        number, at_ms = self._feed.as_of()
        while batches := self._feed.read(tenure.read, _BATCHES):
            for batch in batches:
                if batch.before not in (0, tenure.read) and tenure.read:
                    raise DegradedError(
                        f"the feed lacks rows after {tenure.read}: waiting for them"
                    )
                self._hand_out(tenure, batch)
        if number <= tenure.read:
            tenure.read_at_ms = max(tenure.read_at_ms, at_ms)

    def _hand_out(self, tenure: _Tenure, batch: FeedBatch) -> None:
        for unit_id, rows in rows_of(batch.body).items():
            live = tenure.units.get(unit_id)
            if live is not None:
                live.hear(batch.number, rows)
        tenure.read = batch.number
        tenure.read_at_ms = max(tenure.read_at_ms, batch.at_ms)

    def _judge(self, tenure: _Tenure, now_ms: int) -> None:
        """See whether all are silent, and learn the advertiser's delays now and then."""
        units = [live.kept.unit for live in tenure.units.values() if live.kept is not None]
        if now_ms - tenure.fitted_ms >= _LAWS_EVERY_MS:
            tenure.parents, tenure.fitted_ms = parent_laws(units) or tenure.parents, now_ms
        if now_ms - tenure.judged_ms < _JUDGED_EVERY_MS:
            return
        silent, tenure.judged_ms = len(units) > 1 and all_silent(units), now_ms
        if silent != tenure.silent:
            _log.warning(
                "postbacks of all units %s",
                "are far too few: all are frozen" if silent else "come again: none is frozen",
            )
        tenure.silent = silent

    def _step(self, tenure: _Tenure, due: Sequence[Live], now_ms: int) -> list[Saved]:
        usages = self._store.usage_totals([live.unit_id for live in due])
        saved, fed = [], Fed(tenure.read_at_ms, self._store.win_window_ms)
        for live in due:
            step, block = live.step(
                now_ms, tenure.read, outage=tenure.silent, parents=tenure.parents
            )
            saved.append(live.saved(step, block, usages[live.unit_id], fed))
        return saved

    def _tell_guards(self, due: Sequence[Live], saved: Sequence[Saved]) -> None:
        for live, one in zip(due, saved, strict=True):
            flags = one.order.block.flags
            for flag in flags:
                if flag not in live.flags:
                    _log.warning("guard %s begins for %s", flag, live.unit_id)
            for flag in live.flags:
                if flag not in flags:
                    _log.warning("guard %s ends for %s", flag, live.unit_id)
            live.flags = flags

    def _show(self, tenure: _Tenure, steps: int, now_ms: int) -> None:
        wanted = [live for live in tenure.units.values() if live.is_wanted]
        made = [live.kept.unit.levels.stepped_ms for live in wanted if live.kept is not None]
        oldest_s = max((now_ms - at_ms for at_ms in made), default=0) / 1000.0
        lag_s = max(now_ms - tenure.read_at_ms, 0) / 1000.0 if tenure.read_at_ms else 0.0
        self._shown.count_control_steps(steps)
        self._shown.show_control(len(wanted), oldest_s, lag_s, outage=tenure.silent)
        self._shown.show_control_guards(
            {flag: sum(flag in live.flags for live in wanted) for flag in Reason}
        )


def _cursor(tenure: _Tenure) -> int:
    """Give the last row that all units have."""
    return min((live.cursor for live in tenure.units.values()), default=tenure.read)
