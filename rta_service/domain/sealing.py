"""Hides whom an event is about, so that only who holds the event key can tell.

Deterministic: the same person looks the same in every event, so sealed events can be counted and
joined without the key. An MD5's 16 bytes are one block of AES-256, a keyed permutation; a user id
goes through AES-SIV, which also notices a wrong key. A block cannot, so every sealed happening
carries the fingerprint of its key.
"""

import hashlib
from collections.abc import Iterable
from typing import Final

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

from rta_service.domain.errors import InvalidInput
from rta_service.domain.happening import Happening, SealedHappening

MD5_BYTES: Final = 16
_ANOTHER: Final = "was sealed under another event key than RTA_EVENT_KEY and RTA_EARLIER_EVENT_KEYS"


class Sealer:
    """Seals under one event key, of any length and never shown; unseals under it and earlier ones.

    Not for two threads at once: each thread makes its own.
    """

    def __init__(self, event_key: bytes, earlier: Iterable[bytes] = ()) -> None:
        block = Cipher(
            algorithms.AES(derived_key(event_key, b"rta-seal-device", 32)),
            modes.ECB(),  # noqa: S305 - single blocks of keyed hashes, which are all different
        )
        self._seal_block = block.encryptor()
        self._open_block = block.decryptor()
        self._users = AESSIV(derived_key(event_key, b"rta-seal-user", 64))
        self.key_id = derived_key(event_key, b"rta-seal-id", 4).hex()
        self._earlier = {one.key_id: one for one in map(Sealer, earlier)}

    def knows(self, key_id: str) -> bool:
        """Say whether what was sealed under a key can be unsealed."""
        return key_id == self.key_id or key_id in self._earlier

    def under(self, key_id: str) -> "Sealer":
        """Give the sealer of what was sealed under a key; raises InvalidInput for one not known."""
        if key_id == self.key_id:
            return self
        if key_id not in self._earlier:
            raise InvalidInput(_ANOTHER, f"an event of key {key_id}")
        return self._earlier[key_id]

    def seal_md5(self, md5_hex: str) -> bytes:
        """Seal a canonical MD5 in 16 bytes."""
        return self._seal_block.update(bytes.fromhex(md5_hex))

    def unseal_md5(self, sealed: bytes) -> str:
        """Give the MD5 back; raises InvalidInput for what is no block.

        Under another key a wrong MD5 comes out: compare `key_id` first.
        """
        if len(sealed) != MD5_BYTES:
            raise InvalidInput(f"a sealed MD5 has {MD5_BYTES} bytes, not {len(sealed)}")
        return self._open_block.update(sealed).hex()

    def seal_user(self, user_id: str) -> bytes:
        """Seal a user id in 16 bytes more than it has; no user id stays none."""
        return self._users.encrypt(user_id.encode(), None) if user_id else b""

    def unseal_user(self, sealed: bytes) -> str:
        """Give the user id back; raises InvalidInput for another key's, or for a damaged one."""
        if not sealed:
            return ""
        try:
            return self._users.decrypt(sealed, None).decode()
        except (InvalidTag, ValueError):
            raise InvalidInput(f"is damaged or {_ANOTHER}", "a sealed user id") from None

    def seal(self, happening: Happening) -> SealedHappening:
        """Seal everything by which a happening's person could be found."""
        return SealedHappening(
            self.key_id,
            happening.event_id,
            happening.ts_ms,
            happening.event,
            tuple([self.seal_md5(md5) for md5 in happening.device_md5s]),
            self.seal_user(happening.user_id),
            happening.cents,
            happening.currency,
            happening.order_id,
            happening.category,
            happening.item_id,
            happening.campaign_id,
            happening.channel,
            happening.placement,
            happening.os,
            happening.request_id,
            happening.tag,
            happening.strategy_id,
            happening.cost_micros,
            happening.step,
        )

    def unseal(self, sealed: SealedHappening) -> Happening:
        """Give a happening back as it was; raises InvalidInput for a key's that is not known."""
        if sealed.key_id != self.key_id:
            return self.under(sealed.key_id).unseal(sealed)
        return Happening(
            sealed.event_id,
            sealed.ts_ms,
            sealed.event,
            tuple([self.unseal_md5(one) for one in sealed.devices]),
            self.unseal_user(sealed.user),
            sealed.cents,
            sealed.currency,
            sealed.order_id,
            sealed.category,
            sealed.item_id,
            sealed.campaign_id,
            sealed.channel,
            sealed.placement,
            sealed.os,
            sealed.request_id,
            sealed.tag,
            sealed.strategy_id,
            sealed.cost_micros,
            sealed.step,
        )


_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(SealedHappening).decode


def to_bytes(sealed: SealedHappening) -> bytes:
    """Write a sealed happening as MessagePack, as the log keeps it."""
    return _encode(sealed)


def from_bytes(data: bytes) -> SealedHappening:
    """Read what `to_bytes` wrote; raises InvalidInput for anything else."""
    try:
        return _decode(data)
    except (msgspec.MsgspecError, ValueError) as error:
        raise InvalidInput(f"not a sealed event: {error}") from None


def derived_key(event_key: bytes, purpose: bytes, size: int) -> bytes:
    """Derive a key of its own for each purpose, named in up to 16 bytes; a secret may be longer."""
    secret = hashlib.sha256(event_key).digest()
    return hashlib.blake2b(b"", digest_size=size, key=secret, person=purpose).digest()
