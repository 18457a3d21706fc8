"""What we give a platform with an answer, so that it comes back with clicks and conversions.

A tag says which release decided for which strategy, what was predicted and bid: the decision need
not be stored to be learned from. 27 bytes, shown as 36 characters of A-Z a-z 0-9 - and _; only who
holds the event key can read one or make one.

    3  version     12  P(register)     24  minutes since 2020     6 bytes  MAC, over all before it
    1  arm         12  P(trade)        40  the request's mark
    1  held out     2  kind of bid     32  the release's mark
    3  stage       13  bid             22  the strategy's mark    (bits, 168 in all, hidden under a
    3  tier                                                       key stream that the MAC begins)
"""

import binascii
import hashlib
import hmac
import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Final

import msgspec

from rta_service.domain.decision import Arm, Bid, Prediction
from rta_service.domain.platform import BidKind
from rta_service.domain.sealing import derived_key
from rta_service.domain.user import LifecycleStage, ValueTier

TAG_CHARACTERS: Final = 36

_VERSION: Final = 1
_VERSION_BITS: Final = _VERSION << 8
_BODY: Final = 21
_MAC: Final = 6
_FIRST_MINUTE: Final = 26_297_280
"""2020 in UTC; 24 bits of minutes last until 2051."""
_MOST_MINUTES: Final = 0xFFFFFF
_KINDS: Final = tuple(BidKind)
_KIND_BITS: Final = {kind: code << 13 for code, kind in enumerate(_KINDS)}
# a member looked up by its class costs 0.1 microseconds on Python 3.11
_IS_CANARY: Final = Arm.CANARY
_IS_WEIGHT: Final = BidKind.WEIGHT

_log: Final = math.log
_LEAST_RATE: Final = 0.999e-8
"""A hair below code 2, which must be read back as itself."""
_MOST_RATE_CODE: Final = 4095
_RATE_SCALE: Final = (_MOST_RATE_CODE - 2) / -math.log(1e-8)
"""Steps of 0.45 %."""
_RATE_SHIFT: Final = _MOST_RATE_CODE + 0.5
_BID_STEP: Final = 0.0048
_MOST_BID_CODE: Final = 8191
_MOST_VALUE: Final = math.exp((_MOST_BID_CODE - 1) * _BID_STEP)
"""Millionths or micros: more than any platform takes."""

_TO_URL: Final = bytes.maketrans(b"+/", b"-_")
_FROM_URL: Final = bytes.maketrans(b"-_+/", b"+/!!")
"""Each tag has one spelling."""


class Tag(msgspec.Struct, frozen=True, gc=False):
    """What a tag says; ids as marks, that is, hashes to compare with `release_mark(id)` and so on."""

    release: int
    strategy: int
    minute: int
    """Of the decision, since 1970 in UTC. Platforms keep answers: a click may be days younger."""
    request: int = 0
    """`TagCodec.request_mark`; 0 where the request had no id."""
    pcvr: Prediction | None = None
    """Rounded to 0.25 %; rates below 1e-8 are 0."""
    bid: Bid | None = None
    """Rounded to 0.25 %, without its currency."""
    stage: LifecycleStage = LifecycleStage.UNKNOWN
    tier: ValueTier = ValueTier.UNKNOWN
    arm: Arm = Arm.LIVE
    held_out: bool = False
    """Whether another strategy asked about held this person out."""

    @property
    def decided_ms(self) -> int:
        """The beginning of the minute of the decision."""
        return self.minute * 60_000


@lru_cache(maxsize=1024)
def release_mark(release_id: str) -> int:
    """Hash a release's id to the 32 bits that tags carry."""
    return _hash_bits(release_id, 32)


@lru_cache(maxsize=1024)
def strategy_mark(strategy_id: str) -> int:
    """Hash a strategy's id to 22 bits: among 50 strategies two are alike once in 3,400 times."""
    return _hash_bits(strategy_id, 22)


class TagCodec:
    """Writes and reads tags under the event key; safe to share between threads."""

    def __init__(self, event_key: bytes) -> None:
        # half the time of BLAKE2b, and of making a keyed hash anew for each tag
        self._mac = hashlib.blake2s(digest_size=_MAC, key=derived_key(event_key, b"rta-tag", 32))
        self._stream = hashlib.blake2s(
            digest_size=_BODY, key=derived_key(event_key, b"rta-tag-stream", 32)
        )
        self._request = hashlib.blake2s(
            digest_size=5, key=derived_key(event_key, b"rta-tag-request", 32)
        )

    def request_mark(self, platform: str, request_id: str) -> int:
        """Hash a platform's request id to the 40 bits that tags carry; 0 for none."""
        if not request_id:
            return 0
        hasher = self._request.copy()
        hasher.update(f"{platform}:{request_id}".encode())
        return int.from_bytes(hasher.digest(), "big")

    def write(self, tag: Tag) -> str:
        """Write a tag; the same facts always give the same text."""
        packed = _packed(tag)
        hasher = self._mac.copy()
        hasher.update(packed.to_bytes(_BODY, "big"))
        mac = hasher.digest()
        hidden = (packed ^ self._key_stream(mac)).to_bytes(_BODY, "big")
        return binascii.b2a_base64(hidden + mac, newline=False).translate(_TO_URL).decode()

    def read(self, text: str) -> Tag | None:
        """Read a tag; None for anything that was not written under this key."""
        if len(text) != TAG_CHARACTERS or not text.isascii():
            return None
        try:
            sealed = binascii.a2b_base64(text.encode().translate(_FROM_URL), strict_mode=True)
        except binascii.Error:
            return None
        if len(sealed) != _BODY + _MAC:
            return None
        given = sealed[_BODY:]
        packed = int.from_bytes(sealed[:_BODY], "big") ^ self._key_stream(given)
        hasher = self._mac.copy()
        hasher.update(packed.to_bytes(_BODY, "big"))
        if not hmac.compare_digest(hasher.digest(), given):
            return None
        return _unpacked(packed)

    def _key_stream(self, mac: bytes) -> int:
        """Give the bits that hide a body: platforms need not know what a person is worth to us."""
        hasher = self._stream.copy()
        hasher.update(mac)
        return int.from_bytes(hasher.digest(), "big")


def reader_of(codecs: Sequence[TagCodec]) -> Callable[[str], Tag | None]:
    """Give what reads the tags of several keys, such as today's and earlier ones; else None."""
    if len(codecs) == 1:
        return codecs[0].read

    def read(text: str) -> Tag | None:
        return next(filter(None, (codec.read(text) for codec in codecs)), None)

    return read


def _packed(tag: Tag) -> int:
    # in parts that fit machine words, since Python is slower with longer numbers
    pcvr, bid = tag.pcvr, tag.bid
    rates = 0 if pcvr is None else _rate_code(pcvr.register) << 12 | _rate_code(pcvr.trade)
    offered = 0 if bid is None else _bid_code(bid)
    who = (_VERSION_BITS | (tag.arm is _IS_CANARY) << 7 | tag.held_out << 6) | tag.stage << 3
    minute = tag.minute - _FIRST_MINUTE
    if not 0 <= minute <= _MOST_MINUTES:
        minute = 0 if minute < 0 else _MOST_MINUTES
    first = (who | tag.tier) << 39 | rates << 15 | offered
    second = tag.release << 22 | tag.strategy
    return (first << 64 | minute << 40 | tag.request) << 54 | second


def _unpacked(body: int) -> Tag | None:
    if body >> 165 != _VERSION:
        return None
    try:
        stage, tier = LifecycleStage(body >> 160 & 7), ValueTier(body >> 157 & 7)
    except ValueError:
        return None
    register, trade = body >> 145 & 0xFFF, body >> 133 & 0xFFF
    bid = body >> 118 & 0x1FFF
    return Tag(
        release=body >> 22 & 0xFFFFFFFF,
        strategy=body & 0x3FFFFF,
        minute=_FIRST_MINUTE + (body >> 94 & 0xFFFFFF),
        request=body >> 54 & 0xFFFFFFFFFF,
        pcvr=Prediction(_rate(register), _rate(trade)) if register else None,
        bid=_bid(_KINDS[body >> 131 & 3], bid) if bid else None,
        stage=stage,
        tier=tier,
        arm=Arm.CANARY if body >> 164 & 1 else Arm.LIVE,
        held_out=bool(body >> 163 & 1),
    )


def _rate_code(rate: float) -> int:
    """Round a probability on a scale of equal ratios: 1 for nothing, 2 to 4095 for 1e-8 to 1."""
    if not _LEAST_RATE < rate < 1.0:
        return _MOST_RATE_CODE if rate >= 1.0 else 1
    return int(_log(rate) * _RATE_SCALE + _RATE_SHIFT)


def _rate(code: int) -> float:
    return 0.0 if code < 2 else min(math.exp((code - _RATE_SHIFT + 0.5) / _RATE_SCALE), 1.0)  # noqa: PLR2004 - as in _rate_code


def _bid_code(bid: Bid) -> int:
    """Round a bid on a scale of equal ratios, from a millionth or a micro; the kind comes first."""
    if bid.kind is _IS_WEIGHT:  # a weight's bits are 0, and hashing an enum's member is slow
        value, kind_bits = bid.value * 1e6, 0
    else:
        value, kind_bits = bid.value, _KIND_BITS[bid.kind]
    if not 1.0 < value < _MOST_VALUE:
        return kind_bits | (_MOST_BID_CODE if value >= _MOST_VALUE else 1)
    return kind_bits | int(_log(value) / _BID_STEP + 1.5)


def _bid(kind: BidKind, code: int) -> Bid:
    value = math.exp((code - 1) * _BID_STEP)
    return Bid(kind, value / 1e6 if kind is _IS_WEIGHT else value)


def _hash_bits(text: str, bits: int) -> int:
    digest = hashlib.blake2b(text.encode(), digest_size=4).digest()
    return int.from_bytes(digest, "big") >> (32 - bits)
