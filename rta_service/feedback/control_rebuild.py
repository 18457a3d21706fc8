"""Whether the state of cost control is what its feed and its journal make: rebuilt, and compared."""

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

import msgspec

from rta_service.domain.control_feed import rows_of
from rta_service.feedback.control_unit import is_ours, kept_of
from rta_service.feedback.feed_publishing import Told
from rta_service.nearline.control.feeding import Kept, Replay, Step
from rta_service.stores.control_store import ControlStore

_BATCHES: Final = 500


class Rebuilt(NamedTuple):
    """A unit as it is kept, and as it was made anew."""

    unit_id: str
    version: int
    steps: int
    """Of the journal that were done again."""
    kept: bytes
    rebuilt: bytes | None
    is_ours: bool
    """Made by the code that runs here; what other code makes may differ."""

    @property
    def is_same(self) -> bool:
        """Say whether both are the same to the byte."""
        return self.kept == self.rebuilt


def rebuild(
    store: ControlStore,
    ledger: Told,
    unit_ids: Sequence[str] = (),
    progress: Callable[[int, int], None] | None = None,
) -> list[Rebuilt]:
    """Rebuild units, all of them unless named, in one pass over the feed.

    Controllers may go on meanwhile: what they do after the first look is not looked at. `progress`
    gets how many numbers of the feed were passed, and of how many.
    """
    found = store.states()
    states = {unit: kept_of(state) for unit, state in found.items()}
    wanted = [unit for unit in states if not unit_ids or unit in unit_ids]
    known = {unit: Kept.from_bytes(unit, states[unit]) for unit in wanted}
    journals = {unit: _steps(store, unit, known[unit].version) for unit in wanted}
    bases = {unit: store.base(unit) for unit in wanted}
    replays = {
        unit: Replay(unit, base and kept_of(base), journals[unit]) for unit, base in bases.items()
    }
    _pass_feed(ledger, replays, max((kept.cursor for kept in known.values()), default=0), progress)
    return [
        Rebuilt(
            unit,
            known[unit].version,
            len(journals[unit]),
            states[unit],
            _end(replays[unit]),
            is_ours(found[unit]),
        )
        for unit in wanted
    ]


def _steps(store: ControlStore, unit_id: str, version: int) -> list[Step]:
    found = (msgspec.msgpack.decode(step, type=Step) for step in store.journal(unit_id))
    return [step for step in found if step.version <= version]


def _pass_feed(
    ledger: Told,
    replays: dict[str, Replay],
    last: int,
    progress: Callable[[int, int], None] | None,
) -> None:
    first = at = 0
    while batches := ledger.feed(at, _BATCHES, last):
        first = first or batches[0].number
        for batch in batches:
            for unit_id, rows in rows_of(batch.body).items():
                if unit_id in replays:
                    replays[unit_id].hear(batch.number, rows)
        at = batches[-1].number
        if progress is not None:
            progress(at - first, max(last - first, 1))


def _end(replay: Replay) -> bytes | None:
    kept = replay.end()
    return None if kept is None else kept.to_bytes()
