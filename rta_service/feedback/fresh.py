"""Keeps records fresh: events become deltas that decisions read beside the snapshot."""

from collections.abc import Sequence
from itertools import chain

from rta_service.device_key import KeyRing
from rta_service.feedback.consuming import Taken
from rta_service.record_delta import FOLDED
from rta_service.stores.delta_store import DeltaStore, entries_of


class FreshRecords:
    """Folds events into the deltas of their devices; skips by itself what it has counted.

    Public counts: `deltas` written and `replayed` entries.
    """

    def __init__(self, store: DeltaStore, keys: KeyRing) -> None:
        self._store = store
        self._keys = keys
        self.deltas = 0
        self.replayed = 0

    def handle(self, entries: Sequence[Taken], /) -> None:
        """Count events, each under each of its device's ids; one of no device changes no record.

        Raises StaleWriter when somebody else wrote meanwhile, StoreUnavailable.
        """
        found = (
            entries_of(one.entry_id.encode(), one.happening, self._keys)
            for one in entries
            if one.happening.event in FOLDED
        )
        applied = self._store.apply(list(chain.from_iterable(found)))
        self.deltas += applied.deltas
        self.replayed += applied.replayed
