"""The group `attribution`: what each conversion is owed to, kept in the ledger."""

from collections.abc import Sequence

from rta_service.domain.attribution import HOUR_MS, Cell
from rta_service.domain.clock import Clock
from rta_service.feedback.consuming import Taken
from rta_service.nearline.attribution.cells import cells_of
from rta_service.nearline.attribution.facts import FactReader
from rta_service.nearline.attribution.goals import AttributionRules
from rta_service.nearline.attribution.state import Account
from rta_service.stores.ledger import Ledger


class Attributing:
    """A handler that keeps a ledger up to date.

    The cursor is written, not asked: each event counts once because the ledger knows its id, also
    when a new log's entries begin before an old one's end.
    """

    def __init__(
        self, ledger: Ledger, reader: FactReader, rules: AttributionRules, clock: Clock
    ) -> None:
        self._ledger = ledger
        self._reader = reader
        self._rules = rules
        self._clock = clock

    def handle(self, entries: Sequence[Taken], /) -> None:
        """Count events and return when their effect is on the disk."""
        if not entries:
            return
        read = [self._reader.read(entry.happening) for entry in entries]
        facts = [fact for fact in read if fact is not None]
        with self._ledger.writing(entries[-1].entry_id) as tables:
            Account(tables, self._rules).apply(facts, self._clock.now_ms())


def cells(ledger: Ledger, since_ms: int, until_ms: int) -> list[Cell]:
    """Give what is known of each place of some hours, reported costs spread over them.

    Whole hours: from the one of the first instant to the one before the last's.
    """
    return cells_of(ledger.sums(since_ms // HOUR_MS, until_ms // HOUR_MS))
