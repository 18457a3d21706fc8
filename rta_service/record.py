"""The user record: its bytes, its reading, and the stage derived from it at the moment of reading.

One layout for the offline half, the online half and training. 64 bytes, little-endian, version
byte first. Instants are u32 seconds since 1970, 0 for never. Stages are never stored: they follow
from exact idle time and the thresholds that travel with the snapshot, so passing days need no
rewrite. Counts saturate. Money is a log code, exact to 0.5 %.
"""

import hashlib
import math
import struct
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rta_service.domain.thresholds import Thresholds
from rta_service.domain.user import LifecycleStage, RFMSegment

RECORD_VERSION: Final = 1

FLAG_OPTED_OUT: Final = 1
FLAG_COMPETITOR_ACTIVE: Final = 2
FLAG_INDUSTRY_ACTIVE: Final = 4
FLAG_NEWCOMER: Final = 8
"""Made of the newest events alone: no snapshot knows this device yet, so none has this flag."""

RECORD_DTYPE: Final = np.dtype(
    [
        ("version", "u1"),
        ("flags", "u1"),  # FLAG_*: opted out; a competitor's or the industry's app used in 28 days
        ("tier", "u1"),  # ValueTier, from money, orders and role; never contains the stage
        ("role", "u1"),  # Role
        ("segment", "u1"),  # RFMSegment at the snapshot's as-of instant; 255 never paid
        ("active_days_28", "u1"),  # distinct UTC days with a launch in the 28 days before as-of
        ("orders", "<u2"),
        ("person_key", "<u8"),  # decides holdout and arms
        ("first_seen_at", "<u4"),
        ("last_active_at", "<u4"),  # last launch; without any, the last payment or first sight
        ("downloaded_at", "<u4"),
        ("activated_at", "<u4"),
        ("registered_at", "<u4"),
        ("traded_at", "<u4"),  # first payment or sale
        ("last_pay_at", "<u4"),
        ("last_ad_click_at", "<u4"),
        ("launches", "<u2"),
        ("money_code", "<u2"),  # money_code(net cents paid)
        ("browses", "<u2"),  # views, searches, carts
        ("ad_exposures", "u1"),
        ("ad_clicks", "u1"),
        ("listings", "u1"),
        ("sales", "u1"),
        ("category_1", "<u2"),  # category_code() of the most browsed or bought categories
        ("category_2", "<u2"),
        ("category_3", "<u2"),
    ]
)
RECORD_BYTES: Final = RECORD_DTYPE.itemsize

Records = NDArray[np.void]
"""A structured array of RECORD_DTYPE."""

_STRUCT: Final = struct.Struct("<6BHQ8I3H4B3H")
_LOG_STEP: Final = math.log(1.01)


class UserRecord(NamedTuple):
    """One record as plain numbers, in the order of RECORD_DTYPE."""

    version: int
    flags: int
    tier: int
    role: int
    segment: int
    active_days_28: int
    orders: int
    person_key: int
    first_seen_at: int
    last_active_at: int
    downloaded_at: int
    activated_at: int
    registered_at: int
    traded_at: int
    last_pay_at: int
    last_ad_click_at: int
    launches: int
    money_code: int
    browses: int
    ad_exposures: int
    ad_clicks: int
    listings: int
    sales: int
    category_1: int
    category_2: int
    category_3: int


def unpack(data: bytes) -> UserRecord:
    """Read one record; raises ValueError for other lengths or versions."""
    if len(data) != RECORD_BYTES or data[0] != RECORD_VERSION:
        raise ValueError(f"not a record of version {RECORD_VERSION}: {len(data)} bytes")
    return UserRecord._make(_STRUCT.unpack(data))


def pack(record: UserRecord) -> bytes:
    """Write one record."""
    return _STRUCT.pack(*record)


def pack_columns(columns: dict[str, NDArray[Any]]) -> Records:
    """Write columns, named as in RECORD_DTYPE, into records; counts saturate at their width.

    Columns that are left out are 0, except the version. Negative counts become 0.
    """
    unknown = columns.keys() - set(RECORD_DTYPE.names or ())
    if unknown:
        raise ValueError(f"not fields of a record: {sorted(unknown)}")
    rows = len(next(iter(columns.values())))
    records = np.zeros(rows, dtype=RECORD_DTYPE)
    for name, column in columns.items():
        limit = np.iinfo(records.dtype[name]).max
        records[name] = column if name == "person_key" else np.clip(column, 0, limit)
    records["version"] = RECORD_VERSION
    return records


def read_many(data: bytes) -> Records:
    """Read records laid end to end, without copying; all must have this version."""
    records = np.frombuffer(data, dtype=RECORD_DTYPE)
    if not (records["version"] == RECORD_VERSION).all():
        raise ValueError(f"not all records have version {RECORD_VERSION}")
    return records


_SILENT: Final = int(LifecycleStage.SILENT)
_CHURNED: Final = int(LifecycleStage.CHURNED)
# as plain ints: looking an Enum member up costs 0.1 microseconds, and this is the request's way


def stage_code(idle_s: Any, orders: Any, thresholds: Thresholds) -> Any:
    """Derive LifecycleStage codes from idle seconds and orders, for one person or for arrays.

    The one definition that the request's way and every report share; plain arithmetic, so that
    it takes Python ints and numpy arrays alike. Churned: idle beyond `churned`, whoever. Silent:
    paid, then idle beyond `silent`. Else by orders: none, one, several.
    """
    churned = idle_s > thresholds.churned_s
    silent = (orders > 0) & (idle_s > thresholds.silent_s)
    active = (orders > 0) * 1 + (orders > 1) * 1
    return churned * _CHURNED + (1 - churned) * (silent * _SILENT + (1 - silent) * active)


def stages_at(records: Records, now_s: int, thresholds: Thresholds) -> NDArray[np.int64]:
    """Derive the stages of many records at an instant, in seconds since 1970."""
    idle_s = now_s - records["last_active_at"].astype(np.int64)
    stages: NDArray[np.int64] = stage_code(idle_s, records["orders"], thresholds)
    return stages


def stage_at(record: UserRecord, now_s: int, thresholds: Thresholds) -> LifecycleStage:
    """Derive the stage of one record at an instant, in seconds since 1970."""
    return LifecycleStage(stage_code(now_s - record.last_active_at, record.orders, thresholds))


def rfm_codes(
    recency_s: NDArray[np.int64],
    orders: NDArray[np.int64],
    cents: NDArray[np.int64],
    thresholds: Thresholds,
) -> NDArray[np.int64]:
    """Derive RFMSegment codes: recent at or below the cut, frequent and big at or above it."""
    recent = recency_s <= thresholds.recency_s
    frequent = orders >= thresholds.frequency
    big = cents >= thresholds.monetary_cents
    codes = recent * 4 + frequent * 2 + big * 1
    return np.where(orders > 0, codes, int(RFMSegment.NONE))


def money_code(cents: NDArray[np.int64]) -> NDArray[np.int64]:
    """Write net cents on a log scale of 1 % steps; negative money counts as none."""
    positive = np.maximum(cents, 0).astype(np.float64)
    return np.rint(np.log1p(positive) / _LOG_STEP).astype(np.int64)


def money_cents(code: int) -> float:
    """Read a money code back, to within 0.5 %."""
    return math.expm1(code * _LOG_STEP)


def category_code(category: str) -> int:
    """Hash a category's name to 1..65535, the same everywhere and for ever; 0 means none."""
    digest = hashlib.blake2b(category.encode(), digest_size=4).digest()
    return 1 + int.from_bytes(digest, "little") % 65_535
