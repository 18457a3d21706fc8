"""One event as it was accepted, as it is kept, and why a line was not."""

from enum import StrEnum
from typing import Final, NamedTuple

import msgspec

from rta_service.domain.events import Event

MAX_ID: Final = 128
"""Characters of an id or word; longer ones are rejected."""
MAX_STEP: Final = 64
"""Characters of a step of the funnel."""


class Happening(msgspec.Struct, frozen=True, gc=False):
    """What happened to whom and when; empty text and 0 stand for what was not said.

    Never written anywhere as it is: stores and files hold it sealed.
    """

    event_id: str
    """1 to 128 characters; copies of one id count once."""
    ts_ms: int
    """When it happened, by the sender's word: milliseconds since 1970, UTC."""
    event: Event
    device_md5s: tuple[str, ...] = ()
    """Canonical MD5s of the device's ids, the most reliable kind first."""
    user_id: str = ""
    cents: int = 0
    """Never negative: a refund's money was paid back."""
    currency: str = ""
    order_id: str = ""
    category: str = ""
    item_id: str = ""
    campaign_id: str = ""
    channel: str = ""
    """The platform's name."""
    placement: str = ""
    os: str = ""
    request_id: str = ""
    """Of the platform's request that was answered, where the platform tells."""
    tag: str = ""
    """What we gave the platform with the answer, come back."""
    strategy_id: str = ""
    cost_micros: int = 0
    """What the platform charges for it, in millionths of the currency."""
    step: str = ""
    """Which step of the funnel a `conversion` is."""


class SealedHappening(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A happening as stores and files hold it: nobody is found in it without the event key.

    Written as an array, so fields are only ever appended, with a default.
    """

    key_id: str
    """Fingerprint of the event key that sealed it."""
    event_id: str
    ts_ms: int
    event: Event
    devices: tuple[bytes, ...] = ()
    """Sealed MD5s, 16 bytes each, in the order of `device_md5s`."""
    user: bytes = b""
    """The sealed user id; empty without one."""
    cents: int = 0
    currency: str = ""
    order_id: str = ""
    category: str = ""
    item_id: str = ""
    campaign_id: str = ""
    channel: str = ""
    placement: str = ""
    os: str = ""
    request_id: str = ""
    tag: str = ""
    strategy_id: str = ""
    cost_micros: int = 0
    step: str = ""


class LineRule(StrEnum):
    """What may be wrong with a line, in the order in which it is looked for.

    The words that a behaviour log's report also uses mean the same there; the last four are of
    notices only.
    """

    LINE_TOO_LONG = "line_too_long"
    MALFORMED_LINE = "malformed_line"
    WRONG_TYPE = "wrong_type"
    TOO_LONG = "too_long"
    CONTROL_CHARACTER = "control_character"
    MISSING_EVENT_ID = "missing_event_id"
    UNKNOWN_EVENT = "unknown_event"
    BAD_TS = "bad_ts"
    TOO_OLD = "too_old"
    FUTURE = "future"
    BAD_ID_KIND = "bad_id_kind"
    BAD_ID_FORM = "bad_id_form"
    MISSING_DEVICE_ID = "missing_device_id"
    BAD_STEP = "bad_step"
    INCOMPLETE_REPORT = "incomplete_report"
    BAD_MONEY = "bad_money"
    NEGATIVE_MONEY = "negative_money"
    OTHER_CURRENCY = "other_currency"
    UNKNOWN_LINK = "unknown_link"
    BAD_SIGNATURE = "bad_signature"
    NOT_FILLED_IN = "not_filled_in"
    BAD_TAG = "bad_tag"


class Rejection(NamedTuple):
    """Why a line does not count; holds nothing of what the line said."""

    field: str
    """The column at fault; `line` for the whole line, `ids[1].form` inside of ids."""
    reason: str
    """For the sender: what is wrong and what is expected."""
    rule: LineRule
    """For counting."""
