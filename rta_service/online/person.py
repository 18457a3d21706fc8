"""Who stands behind a request: the record found, and what follows from it at this moment."""

from collections.abc import Sequence
from typing import Final, NamedTuple

from rta_service.device_key import KeyRing
from rta_service.domain.thresholds import Thresholds
from rta_service.domain.user import LifecycleStage, ValueTier
from rta_service.features import UNKNOWN_RECORD
from rta_service.online.identity import ResolvedId
from rta_service.record import FLAG_NEWCOMER, FLAG_OPTED_OUT, UserRecord, stage_at, unpack


class Person(NamedTuple):
    """Who stands behind one request."""

    key: int
    data: bytes
    """The record's bytes; zeros for a stranger."""
    record: UserRecord | None
    stage: LifecycleStage
    tier: ValueTier


NOBODY: Final = Person(0, UNKNOWN_RECORD, None, LifecycleStage.UNKNOWN, ValueTier.UNKNOWN)
"""For answers given without knowing whom they are about."""

_NEWCOMER_OR_OUT: Final = FLAG_NEWCOMER | FLAG_OPTED_OUT


def find_person(
    thresholds: Thresholds,
    keys: KeyRing,
    ids: Sequence[ResolvedId],
    records: Sequence[bytes | None],
    now_s: int,
) -> Person | None:
    """Find the person under the most trustworthy id that has a record; None without ids.

    Ids that a snapshot knows come before those that only the newest events know: those say what
    happened today, and nothing of what the person did under another id before. But a no to ads
    counts under whichever id it was said first.

    Raises ValueError for bytes that are no record.
    """
    if not ids:
        return None
    newcomer = None
    for data in records:
        if data is None:
            continue
        record = unpack(data)
        if record.flags & _NEWCOMER_OR_OUT != FLAG_NEWCOMER:
            return _person(thresholds, data, record, now_s)
        newcomer = newcomer or (data, record)
    if newcomer is not None:
        return _person(thresholds, *newcomer, now_s)
    return NOBODY._replace(key=keys.person_key(None, ids[0].md5))


def _person(thresholds: Thresholds, data: bytes, record: UserRecord, now_s: int) -> Person:
    stage = stage_at(record, now_s, thresholds)
    return Person(record.person_key, data, record, stage, ValueTier(record.tier))
