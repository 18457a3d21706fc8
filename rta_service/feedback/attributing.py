"""The group `attribution`: what each conversion is owed to, kept in the ledger."""

from collections.abc import Sequence

from rta_service.domain.attribution import Attribution, Cell
from rta_service.domain.clock import Clock
from rta_service.feedback.consuming import Taken
from rta_service.nearline.attribution.facts import FactReader
from rta_service.nearline.attribution.goals import AttributionRules
from rta_service.stores.ledger import Ledger


class Attributing:
    """A handler that keeps a ledger up to date."""

    def __init__(
        self, ledger: Ledger, reader: FactReader, rules: AttributionRules, clock: Clock
    ) -> None:
        self._ledger = ledger
        self._reader = reader
        self._rules = rules
        self._clock = clock

    def handle(self, entries: Sequence[Taken], /) -> None:
        """Count events and return when their effect is on the disk."""
        raise NotImplementedError


def cells(ledger: Ledger, since_ms: int, until_ms: int) -> list[Cell]:
    """Give what is known of each place of some hours, reported costs spread over them."""
    raise NotImplementedError


def attributions(ledger: Ledger, since_ms: int, until_ms: int) -> list[Attribution]:
    """Give the conversions of some time that count, in their order."""
    raise NotImplementedError
