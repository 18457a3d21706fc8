"""What the ledger tells cost control: what was bought and what converted, by control unit.

Rows are signed whole numbers, so that what attribution moves is taken back exactly. Kept as arrays,
so fields are only ever appended, with a default.
"""

from enum import IntEnum
from typing import Final

import msgspec

FEED_KEPT_MS: Final = 3 * 86_400_000
"""How long the ledger keeps rows: as far back as a rebuild begins, and some more."""


class RowKind(IntEnum):
    """What a row is about; numbers are kept, so only ever append."""

    WIN = 0
    CLICK = 1
    REPORT = 2
    """A platform's report of cost; in the middle of its hour."""
    SHALLOW = 3
    DEEP = 4


class FeedRow(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One touch, cost or conversion of a unit."""

    kind: int
    won_ms: int
    """When the touch was; of a refund the middle of the hour in which it is owed."""
    count: int = 0
    """Of touches 1 if a tag told predictions; of conversions 1, -1 taken back, 0 money alone."""
    cost_micros: int = 0
    register_nanos: int = 0
    trade_nanos: int = 0
    came_ms: int = 0
    cents: int = 0


Rows = dict[str, list[FeedRow]]
"""By control unit."""


class FeedBatch(msgspec.Struct, frozen=True):
    """What one transaction of the ledger brought."""

    number: int
    """Later ones have higher numbers, without a gap within one ledger."""
    before: int
    """The number before it; 0 where the ledger keeps none."""
    at_ms: int
    """All events that were accepted before are in batches up to this one."""
    body: bytes
    """Rows; `rows_of` reads them."""


_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(Rows).decode


def body_of(rows: Rows) -> bytes:
    """Write rows."""
    return _encode(rows)


def rows_of(body: bytes) -> Rows:
    """Read rows."""
    return _decode(body)
