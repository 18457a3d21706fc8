"""A line's columns as they were sent, before anything is made of them."""

import functools
from typing import Annotated, Final

import msgspec

from rta_service.domain.happening import MAX_ID, MAX_STEP, LineRule, Rejection

MAX_IDS: Final = 16
_MAX_TAG: Final = 1_024
_MAX_DEVICE_ID: Final = 256

_Text = Annotated[str, msgspec.Meta(max_length=MAX_ID)] | int | None
_Step = Annotated[str, msgspec.Meta(max_length=MAX_STEP)] | int | None
_Tag = Annotated[str, msgspec.Meta(max_length=_MAX_TAG)] | int | None
_DeviceId = Annotated[str, msgspec.Meta(max_length=_MAX_DEVICE_ID)] | int | None


class IdGiven(msgspec.Struct, gc=False):
    """One id of the device as sent."""

    kind: _Text = None
    form: _Text = None
    value: _DeviceId = None


class Row(msgspec.Struct, gc=False):
    """A line as sent; null counts as left out."""

    event_id: _Text = None
    event: _Text = None
    ts_ms: int | float | None = None
    ts: _Text = None
    device_id: _DeviceId = None
    id_kind: _Text = None
    id_form: _Text = None
    ids: Annotated[list[IdGiven], msgspec.Meta(max_length=MAX_IDS)] | None = None
    user_id: _Text = None
    cents: int | float | None = None
    amount: int | float | None = None
    currency: _Text = None
    order_id: _Text = None
    category: _Text = None
    item_id: _Text = None
    campaign_id: _Text = None
    channel: _Text = None
    placement: _Text = None
    os: _Text = None
    request_id: _Text = None
    tag: _Tag = None
    strategy_id: _Text = None
    cost_micros: int | float | None = None
    step: _Step = None


TEXTS: Final = (
    *("event_id", "user_id", "currency", "order_id", "category", "item_id", "campaign_id"),
    *("channel", "placement", "os", "request_id", "tag", "strategy_id", "step"),
)
"""Columns of free text."""
decode: Final = msgspec.json.Decoder(Row).decode
convert: Final = functools.partial(msgspec.convert, type=Row)


class RefusedError(Exception):
    """Carries a rejection out of the depth of reading."""

    def __init__(self, field: str, rule: LineRule, reason: str) -> None:
        super().__init__()
        self.rejection = Rejection(field, reason, rule)


def text_of(value: str | int | None) -> str:
    """Give text; whole numbers are text too, as they are in a behaviour log."""
    if type(value) is str:
        return value
    return "" if value is None else _digits(value)


def _digits(value: str | int) -> str:
    text = str(value)  # raises ValueError beyond 4,300 digits: a malformed line
    if len(text) > MAX_ID:
        raise RefusedError("line", LineRule.TOO_LONG, f"a number has more than {MAX_ID} digits")
    return text
