"""Recorded decisions in the store: one stream, the newest so many, each entry one record."""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import msgspec

from rta_service.domain.decision_record import DecisionRecord
from rta_service.stores.keys import event_name
from rta_service.stores.redis import AdminClient, store_errors

MOST_RECORDS: Final = 100_000
"""Kept of a namespace: about 45 MB of the store."""
_FIELD: Final = b"d"

_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(DecisionRecord).decode


class Recorded(NamedTuple):
    """A record with its place in the stream; ids grow in the order in which records came."""

    entry_id: str
    record: DecisionRecord


class DecisionRecordLog:
    """The recorded decisions of a namespace; for the patient, blocking client.

    Records are a sample to learn from, not a ledger: the oldest are dropped beyond `most`, and one
    written while a connection broke may stand there twice.
    """

    def __init__(self, client: AdminClient, namespace: str, most: int = MOST_RECORDS) -> None:
        self._client: Any = client  # the two clients are annotated apart, and replies as anything
        self._name = event_name(namespace, "decisions")
        self._most = most

    def append(self, records: Sequence[DecisionRecord]) -> None:
        """Append records in one round trip; raises StoreUnavailable, and some may be kept then."""
        if not records:
            return
        pipeline = self._client.pipeline(transaction=False)
        for record in records:
            pipeline.xadd(
                self._name, {_FIELD: _encode(record)}, maxlen=self._most, approximate=True
            )
        with store_errors("recording decisions"):
            pipeline.execute()

    def read(self, after: str = "0", count: int = 1_000) -> list[Recorded]:
        """Give the records that follow an entry, oldest first; after "0" from the oldest."""
        with store_errors("reading recorded decisions"):
            found = self._client.xrange(self._name, min=f"({after}", count=count)
        return [Recorded(one.decode(), _decode(fields[_FIELD])) for one, fields in found]

    def trim(self, before: str) -> int:
        """Drop the records before an entry and give how many there were."""
        with store_errors("dropping recorded decisions"):
            return int(self._client.xtrim(self._name, minid=before, approximate=False))

    def length(self) -> int:
        """Give how many records are kept."""
        with store_errors("counting recorded decisions"):
            return int(self._client.xlen(self._name))
