"""From a device id as sent to the keyed hash that is the only form stored or logged.

Platforms send MD5s and advertisers log raw ids, so both are first made the same thing, the
lower-case hex MD5 of the canonical raw id, and then hashed under a secret pepper. The result is
pseudonymous, not anonymous: whoever holds the pepper can find a known id again.
"""

import hashlib
import re
from dataclasses import dataclass
from typing import Final

from rta_service.domain.device import IdForm, IdKind

KEY_BYTES: Final = 8
"""64 bits: 0.027 expected collisions among a thousand million ids."""

_MD5_FORM: Final = re.compile(r"[0-9a-fA-F]{32}\Z")
_ZEROS: Final = re.compile(r"[0:\-]*\Z")

_NULL_RAW: Final = (
    "",
    "0",
    "00000000-0000-0000-0000-000000000000",
    "00000000000000000000000000000000",
    "000000000000000",
    "00000000000000",
    "0000000000000000",
    "000000000000",
    "00:00:00:00:00:00",
)
_NULL_MD5: Final = frozenset(
    hashlib.md5(raw.encode(), usedforsecurity=False).hexdigest() for raw in _NULL_RAW
)


def canonical_raw(kind: IdKind | None, value: str) -> str:
    """Spell a raw id as platforms do before they hash it.

    IDFA upper-case with hyphens, MAC upper-case without separators, IMEI, android id and GAID
    lower-case, OAID, CAID and ids of no stated kind as they are.
    """
    value = value.strip()
    if kind is IdKind.IDFA:
        return value.upper()
    if kind is IdKind.MAC:
        return value.upper().replace(":", "").replace("-", "")
    if kind in (IdKind.IMEI, IdKind.ANDROID_ID, IdKind.GAID):
        return value.lower()
    return value


def canonical_md5(kind: IdKind | None, value: str, form: IdForm | None = None) -> str | None:
    """Give the lower-case hex MD5 under which an id is known, or None for an absent id.

    Without a stated form, 32 hex digits are taken for an MD5 and anything else for a raw id.
    All-zero ids, the MD5 of such ids and of the empty string, and malformed MD5s count as absent.
    """
    if form is None:
        form = IdForm.MD5 if _MD5_FORM.match(value) else IdForm.RAW
    if form is IdForm.MD5:
        if not _MD5_FORM.match(value) or _ZEROS.match(value):
            return None
        digest = value.lower()
    else:
        raw = canonical_raw(kind, value)
        if _ZEROS.match(raw):
            return None
        digest = hashlib.md5(raw.encode(), usedforsecurity=False).hexdigest()
    return None if digest in _NULL_MD5 else digest


@dataclass(frozen=True, slots=True)
class KeyRing:
    """The two secrets of an advertiser: the pepper hides ids and rotates, the experiment key
    decides holdout and arms and never changes."""

    pepper: bytes
    experiment_key: bytes

    def device_key(self, md5_hex: str) -> bytes:
        """Hash a canonical MD5 to the 8 bytes under which a record is stored."""
        return hashlib.blake2b(
            md5_hex.encode(), digest_size=KEY_BYTES, key=self.pepper, person=b"rta-device"
        ).digest()

    def person_key(self, user_id: str | None, md5_hex: str) -> int:
        """Hash a person: by user id where one is known, else by the device's canonical MD5."""
        identity = f"u:{user_id}" if user_id else f"d:{md5_hex}"
        digest = hashlib.blake2b(
            identity.encode(), digest_size=8, key=self.experiment_key, person=b"rta-person"
        ).digest()
        return int.from_bytes(digest, "little")

    def request_tag(self, platform: str, request_id: str) -> int:
        """Hash what names a request, so that its outcome can be told to belong to it.

        Under the permanent key: outcomes mature for days, and the pepper may rotate meanwhile.
        """
        digest = hashlib.blake2b(
            f"{platform}:{request_id}".encode(),
            digest_size=8,
            key=self.experiment_key,
            person=b"rta-request",
        ).digest()
        return int.from_bytes(digest, "little")

    @property
    def pepper_id(self) -> str:
        """A fingerprint of the pepper that gives nothing of it away."""
        return hashlib.blake2b(
            b"", digest_size=4, key=self.pepper, person=b"rta-pepper"
        ).hexdigest()


def bucket_of(key: bytes, bucket_bits: int) -> int:
    """Give the store bucket of a device key: its top bits."""
    return int.from_bytes(key[:4], "big") >> (32 - bucket_bits)
