"""The facts about an ad platform that decisions depend on."""

from enum import StrEnum
from typing import Final

import msgspec

PLATFORM_CODES: Final = {"other": 0, "json": 1, "tencent": 2, "oceanengine": 3, "openrtb": 4}
"""Platforms as model codes: never renumber, only append."""


class BidKind(StrEnum):
    """What an answer tells the platform besides yes: a weight or a price."""

    WEIGHT = "weight"
    CPA = "cpa"
    CPC = "cpc"
    CPM = "cpm"


class PlatformInfo(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A platform's facts, from its info.toml; enforced in one place for all adapters."""

    name: str
    path: str
    content_type: str
    timeout_ms: int
    max_body_bytes: int
    min_ttl_s: int
    max_ttl_s: int
    bid_kinds: tuple[BidKind, ...]
    min_weight: float
    max_weight: float
    docs: str
    currency: str = ""
    """The currency of its prices, where its wire does not name one."""
    target_id_pattern: str = ""
    """What the platform's own ids of strategies look like; empty where ours are used."""
    money_unit_micros: int = 1
    """The smallest money unit on the wire (1 fen is 10,000 micros)."""
    tags: bool = False
    """Whether it takes a tag with each yes and gives it back with clicks."""
    max_price_micros: int = 2**53
    """A dearer price is cut to this; the default is the last integer that JSON readers agree on."""

    @property
    def code(self) -> int:
        """The platform as a model's categorical value."""
        return PLATFORM_CODES.get(self.name, 0)
