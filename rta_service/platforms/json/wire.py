"""The json platform's messages: what a caller may send, and what it gets.

Fields that are not named here are ignored, so that callers can add to their messages.
"""

from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from rta_service.domain.decision import Prediction, Versions
from rta_service.domain.device import IdForm, IdKind
from rta_service.domain.platform import BidKind
from rta_service.platforms.base import MAX_IDS, MAX_REQUEST_ID

MAX_STRATEGIES = 256
"""Strategies one request may ask about."""

OsWord = Literal["android", "ios", "harmony", "other"]
PlacementWord = Literal["splash", "app_store", "search_suggest", "search_result", "feed", "other"]

RequestId = Annotated[str, Meta(max_length=MAX_REQUEST_ID)]
IdValue = Annotated[str, Meta(max_length=256)]
StrategyId = Annotated[str, Meta(max_length=128)]
Currency = Annotated[str, Meta(max_length=8)]
Micros = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Probability = Annotated[float, Meta(ge=0.0, le=1.0)]


class Id(msgspec.Struct, frozen=True, gc=False):
    """One id of the device; a CAID's version is read and not needed."""

    kind: IdKind
    form: IdForm
    value: IdValue
    version: Annotated[str, Meta(max_length=64)] = ""
    trusted: bool = True


class Device(msgspec.Struct, frozen=True, gc=False):
    """The device that would see the ad."""

    os: OsWord
    ids: Annotated[list[Id], Meta(max_length=MAX_IDS)]


class Context(msgspec.Struct, frozen=True, gc=False):
    """What is known of the auction."""

    placement: PlacementWord | UnsetType = UNSET
    bid_floor_micros: Micros = 0
    currency: Currency = ""
    pctr: Probability | None = None


NO_CONTEXT = Context()


class Request(msgspec.Struct, frozen=True, gc=False):
    """One question."""

    request_id: RequestId
    device: Device
    strategy_ids: Annotated[list[StrategyId], Meta(max_length=MAX_STRATEGIES)] = []
    context: Context = NO_CONTEXT
    ping: bool = False
    test: bool = False


class BidAnswer(msgspec.Struct, frozen=True, gc=False):
    """A weight as a number, or a price as whole micros with its currency."""

    kind: BidKind
    value: float | int
    currency: str | UnsetType = UNSET


class StrategyAnswer(msgspec.Struct, frozen=True, gc=False):
    """One strategy's part of the answer."""

    strategy_id: str
    participate: bool
    reason: str
    bid: BidAnswer | None
    pcvr: Prediction | None
    tag: str | UnsetType = UNSET


class Answer(msgspec.Struct, frozen=True, gc=False):
    """The whole answer."""

    request_id: str
    participate: bool
    reason: str
    strategies: list[StrategyAnswer]
    ttl_s: int
    versions: Versions


class Refusal(msgspec.Struct, frozen=True, gc=False):
    """The answer to an unreadable request; `field` is the JSON path, empty for the whole body."""

    error: str
    field: str
