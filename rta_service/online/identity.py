"""Which record keys a request's device ids stand for, most trustworthy first."""

from typing import Final, NamedTuple

from rta_service.device_key import KeyRing, canonical_md5
from rta_service.domain.device import DeviceId, IdKind
from rta_service.domain.request import AdRequest

MAX_IDS: Final = 16
"""Ids looked up per request: more would let one caller multiply the store's work."""


class ResolvedId(NamedTuple):
    """One usable id: its kind, its canonical MD5 and the key of its record."""

    kind: IdKind
    md5: str
    key: bytes


def resolve(request: AdRequest, keys: KeyRing) -> list[ResolvedId]:
    """Turn ids as sent into record keys; absent ids vanish, doubtful ones come last.

    Among equally trusted ids the adapter's order stands: it knows which id keys the platform's
    own cache.
    """
    resolved: dict[str, ResolvedId] = {}
    for device_id in sorted(request.ids, key=_is_doubtful):
        md5 = canonical_md5(device_id.kind, device_id.value, device_id.form)
        if md5 is None or md5 in resolved:
            continue
        resolved[md5] = ResolvedId(device_id.kind, md5, keys.device_key(md5))
        if len(resolved) == MAX_IDS:
            break
    return list(resolved.values())


def _is_doubtful(device_id: DeviceId) -> bool:
    return not device_id.trusted
