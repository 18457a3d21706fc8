"""From a line of JSON to a happening, or to the reason why not.

The columns are those of a behaviour log, so that whoever has one can send it; columns we do not
know are ignored. Nothing a line says is repeated in its rejection: it may be somebody's id.
"""

import functools
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final, TypeVar

import msgspec

from rta_service.device_key import canonical_md5
from rta_service.domain.device import IdForm, IdKind
from rta_service.domain.events import Event
from rta_service.domain.happening import MAX_ID, MAX_STEP, Happening, LineRule, Rejection

DAY_MS: Final = 86_400_000
MAX_IDS: Final = 16
_MAX_TAG: Final = 1_024
_MAX_DEVICE_ID: Final = 256
_MAX_CENTS: Final = 10**14
_MAX_MICROS: Final = 10**15
_MIN_MS: Final = 946_684_800_000
"""2000-01-01; earlier instants are most often seconds taken for milliseconds."""
_MAX_MS: Final = 4_102_444_800_000
"""2100-01-01."""

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_CURRENCY: Final = re.compile(r"[A-Z]{3}\Z")
_STEP: Final = re.compile(r"[\w.-]*\Z")
_MD5_OR_ABSENT: Final = re.compile(r"([0-9a-fA-F]{32}|[0:\-]*)\Z")
_PLACE: Final = re.compile(r"(.*) - at `\$\.?(.*)`\Z")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)

_EVENTS: Final = {event.value: event for event in Event}
_KINDS: Final = {kind.value: kind for kind in IdKind}
_FORMS: Final = {form.value: form for form in IdForm}
_RANK: Final = {kind: rank for rank, kind in enumerate(IdKind)}

_Text = Annotated[str, msgspec.Meta(max_length=MAX_ID)] | int | None
_Step = Annotated[str, msgspec.Meta(max_length=MAX_STEP)] | int | None
_Tag = Annotated[str, msgspec.Meta(max_length=_MAX_TAG)] | int | None
_DeviceId = Annotated[str, msgspec.Meta(max_length=_MAX_DEVICE_ID)] | int | None


@dataclass(frozen=True, slots=True)
class ReadingRules:
    """What lines are judged against besides their form."""

    now_ms: int
    max_age_ms: int = 8 * DAY_MS
    """Older events are rejected: copies of them could no longer be told."""
    max_ahead_ms: int = 600_000
    """How far a sender's clock may be ahead of ours."""
    currency: str = ""
    """The one currency of this advertiser's money; empty takes any."""
    max_line_bytes: int = 8_192


class _Id(msgspec.Struct, gc=False):
    kind: _Text = None
    form: _Text = None
    value: _DeviceId = None


class _Line(msgspec.Struct, gc=False):
    """A line as sent; null counts as left out."""

    event_id: _Text = None
    event: _Text = None
    ts_ms: int | float | None = None
    ts: _Text = None
    device_id: _DeviceId = None
    id_kind: _Text = None
    id_form: _Text = None
    ids: Annotated[list[_Id], msgspec.Meta(max_length=MAX_IDS)] | None = None
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


_TEXTS: Final = (
    *("event_id", "user_id", "currency", "order_id", "category", "item_id", "campaign_id"),
    *("channel", "placement", "os", "request_id", "tag", "strategy_id", "step"),
)
_decode: Final = msgspec.json.Decoder(_Line).decode
_convert: Final = functools.partial(msgspec.convert, type=_Line)
_Form = TypeVar("_Form")


class _RefusedError(Exception):
    """Carries a rejection out of the depth of reading."""

    def __init__(self, field: str, rule: LineRule, reason: str) -> None:
        super().__init__()
        self.rejection = Rejection(field, reason, rule)


def read_line(line: bytes, rules: ReadingRules) -> Happening | Rejection:
    """Read one line; never raises, whatever the bytes are."""
    if len(line) > rules.max_line_bytes:
        reason = f"a line has at most {rules.max_line_bytes} bytes"
        return Rejection("line", reason, LineRule.LINE_TOO_LONG)
    return _judged(_decode, line, rules, is_plain=_is_plain(line))


def read_columns(columns: Mapping[str, Any], rules: ReadingRules) -> Happening | Rejection:
    """Read what came in another form than a line, by the same rules; never raises."""
    return _judged(_convert, columns, rules, is_plain=False)


def _judged(
    read: Callable[[_Form], _Line], given: _Form, rules: ReadingRules, *, is_plain: bool
) -> Happening | Rejection:
    try:
        return _happening(read(given), rules, is_plain=is_plain)
    except _RefusedError as refused:
        return refused.rejection
    except msgspec.ValidationError as error:
        return _misfit(str(error))
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return Rejection("line", "is not a JSON object in UTF-8", LineRule.MALFORMED_LINE)


def _is_plain(line: bytes) -> bool:
    """Tell that no text of a readable line can hold anything but printable ASCII.

    JSON has control characters only as escapes, and looking once at the line is cheaper than
    looking at each text.
    """
    return line.isascii() and b"\\" not in line and b"\x7f" not in line


def _misfit(message: str) -> Rejection:
    """Say what the decoder found; its words name types and lengths, never values."""
    found = _PLACE.match(message)
    text, field = found.groups() if found else (message, "")
    rule = LineRule.TOO_LONG if " of length " in text else LineRule.WRONG_TYPE
    return Rejection(field or "line", text.replace("`", "").lower(), rule)


def _happening(row: _Line, rules: ReadingRules, *, is_plain: bool) -> Happening:
    if not is_plain:
        _refuse_control(row)
    event_id = _text(row.event_id)
    if not event_id:
        raise _RefusedError(
            "event_id", LineRule.MISSING_EVENT_ID, "is needed: copies are told by it"
        )
    event = _EVENTS.get(row.event)  # type: ignore[arg-type]  # a number or nothing is no key either
    if event is None:
        raise _RefusedError("event", LineRule.UNKNOWN_EVENT, "is none of the words of events")
    ts_ms = _instant(row, rules)
    if event is Event.COST_REPORT:
        _check_report(row)
    currency = _currency(row)
    cost_micros = _cost(row.cost_micros)
    cents = _cents(row, event)
    if cents or cost_micros:
        _check_currency(currency, rules)
    return Happening(
        event_id,
        ts_ms,
        event,
        _devices(row, event),
        _text(row.user_id),
        cents,
        currency,
        _text(row.order_id),
        _text(row.category),
        _text(row.item_id),
        _text(row.campaign_id),
        _text(row.channel),
        _text(row.placement),
        _text(row.os),
        _text(row.request_id),
        _text(row.tag),
        _text(row.strategy_id),
        cost_micros,
        _step(row, event),
    )


def _text(value: str | int | None) -> str:
    """Give text; whole numbers are text too, as they are in a behaviour log."""
    if type(value) is str:
        return value
    return "" if value is None else _digits(value)


def _digits(value: str | int) -> str:
    text = str(value)  # raises ValueError beyond 4,300 digits: a malformed line
    if len(text) > MAX_ID:
        raise _RefusedError("line", LineRule.TOO_LONG, f"a number has more than {MAX_ID} digits")
    return text


def _refuse_control(row: _Line) -> None:
    for name in _TEXTS:
        value = getattr(row, name)
        if type(value) is str and not value.isprintable() and _CONTROL.search(value):
            raise _RefusedError(
                name, LineRule.CONTROL_CHARACTER, "holds a control character or half a character"
            )


def _instant(row: _Line, rules: ReadingRules) -> int:
    if row.ts_ms is not None:
        field, ts_ms = "ts_ms", _whole(row.ts_ms)
    else:
        field, ts_ms = "ts", _timestamp(row.ts)
    if ts_ms is None or not _MIN_MS <= ts_ms < _MAX_MS:
        reason = "is no instant from 2000 to 2100: give ts_ms in milliseconds UTC, or ts as text"
        raise _RefusedError(field, LineRule.BAD_TS, reason)
    if ts_ms < rules.now_ms - rules.max_age_ms:
        reason = f"is more than {rules.max_age_ms / DAY_MS:g} days ago"
        raise _RefusedError(field, LineRule.TOO_OLD, reason)
    if ts_ms > rules.now_ms + rules.max_ahead_ms:
        reason = f"is more than {rules.max_ahead_ms / 1000:g} s ahead of our clock"
        raise _RefusedError(field, LineRule.FUTURE, reason)
    return ts_ms


def _timestamp(text: str | int | None) -> int | None:
    """Read ISO 8601; without an offset it is UTC."""
    if type(text) is not str:
        return None
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        return None
    if instant.tzinfo is None:
        instant = instant.replace(tzinfo=UTC)
    return (instant - _EPOCH) // _MILLISECOND


def _check_report(row: _Line) -> None:
    """A report's row says what cost how much; nobody did it, so no device is needed."""
    for field in ("channel", "cost_micros"):
        if getattr(row, field) in (None, ""):
            raise _RefusedError(field, LineRule.INCOMPLETE_REPORT, "is needed in a cost_report")
    if not row.strategy_id and not row.campaign_id:
        reason = "or campaign_id is needed in a cost_report"
        raise _RefusedError("strategy_id", LineRule.INCOMPLETE_REPORT, reason)


def _step(row: _Line, event: Event) -> str:
    if row.step is None and event is not Event.CONVERSION:
        return ""  # nearly always
    step = _text(row.step)
    if not _STEP.match(step) or (event is Event.CONVERSION and not step):
        reason = f"is no word of 1 to {MAX_STEP} letters, digits, '_', '-' or '.'"
        raise _RefusedError("step", LineRule.BAD_STEP, reason)
    return step


def _devices(row: _Line, event: Event) -> tuple[str, ...]:
    """Give the canonical MD5s; an event without one must name a request or a tag instead."""
    found: tuple[str, ...] = ()
    if row.ids is not None:
        found = tuple(dict.fromkeys(md5 for _, md5 in sorted(_ranked(row), key=_by_rank)))
    elif (md5 := _md5("device_id", _Id(row.id_kind, row.id_form, row.device_id))) is not None:
        found = (md5,)
    if not found and not row.request_id and not row.tag and event is not Event.COST_REPORT:
        reason = "no id that names a device, nor a request_id or tag: all zeros is no id"
        field = "device_id" if row.ids is None else "ids"
        raise _RefusedError(field, LineRule.MISSING_DEVICE_ID, reason)
    return found


def _ranked(row: _Line) -> Iterator[tuple[int, str]]:
    alone = _Id(row.id_kind, row.id_form, row.device_id)
    named = [("device_id", alone), *((f"ids[{at}]", one) for at, one in enumerate(row.ids or ()))]
    for field, one in named:
        md5 = _md5(field, one)
        if md5 is not None:
            yield _RANK.get(one.kind, len(_RANK)), md5  # type: ignore[call-overload]  # checked by _md5


def _by_rank(ranked: tuple[int, str]) -> int:
    return ranked[0]


def _md5(field: str, one: _Id) -> str | None:
    """Give the canonical MD5, or None for an id that is absent."""
    kind = form = None
    if one.kind and (kind := _KINDS.get(one.kind)) is None:  # type: ignore[arg-type]  # a number is no key either
        named = "id_kind" if field == "device_id" else f"{field}.kind"
        raise _RefusedError(named, LineRule.BAD_ID_KIND, f"is none of {', '.join(_KINDS)}")
    if one.form and (form := _FORMS.get(one.form)) is None:  # type: ignore[arg-type]  # a number is no key either
        named = "id_form" if field == "device_id" else f"{field}.form"
        raise _RefusedError(named, LineRule.BAD_ID_FORM, f"is none of {', '.join(_FORMS)}")
    if one.value is None:
        return None
    value = _text(one.value)
    if form is IdForm.MD5 and not _MD5_OR_ABSENT.match(value):
        named = field if field == "device_id" else f"{field}.value"
        raise _RefusedError(named, LineRule.BAD_ID_FORM, "is not the 32 hex digits of an MD5")
    try:
        return canonical_md5(kind, value, form)
    except UnicodeEncodeError:
        raise _RefusedError(field, LineRule.CONTROL_CHARACTER, "holds half a character") from None


def _currency(row: _Line) -> str:
    currency = _text(row.currency).upper()
    if currency and not _CURRENCY.match(currency):
        raise _RefusedError(
            "currency", LineRule.OTHER_CURRENCY, "is not the three letters of a currency"
        )
    return currency


def _check_currency(currency: str, rules: ReadingRules) -> None:
    if rules.currency and currency not in ("", rules.currency):
        reason = f"is not {rules.currency}: amounts of two currencies can't be added"
        raise _RefusedError("currency", LineRule.OTHER_CURRENCY, reason)


def _cents(row: _Line, event: Event) -> int:
    if row.cents is not None:
        field, cents = "cents", _whole(row.cents)
    elif row.amount is not None:
        field, cents = "amount", _rounded(row.amount * 100.0)
    else:
        return 0
    if cents is None or not -_MAX_CENTS < cents < _MAX_CENTS:
        reason = "is no money: whole cents, or amount in units, of less than a million million"
        raise _RefusedError(field, LineRule.BAD_MONEY, reason)
    if cents < 0 and event is not Event.REFUND:
        raise _RefusedError(
            field, LineRule.NEGATIVE_MONEY, "is negative; send a refund as event refund"
        )
    return abs(cents)


def _cost(given: float | None) -> int:
    if given is None:
        return 0
    micros = _whole(given)
    if micros is None or not -_MAX_MICROS < micros < _MAX_MICROS:
        reason = "is no cost: whole millionths of the currency, of less than a thousand million"
        raise _RefusedError("cost_micros", LineRule.BAD_MONEY, reason)
    if micros < 0:
        raise _RefusedError("cost_micros", LineRule.NEGATIVE_MONEY, "is negative")
    return micros


def _whole(number: float) -> int | None:
    """Give a whole number as one, also where it was written as 12.0; None for others."""
    if type(number) is int:
        return number
    return int(number) if math.isfinite(number) and number == math.floor(number) else None


def _rounded(number: float) -> int | None:
    """Round half away from zero, as the reading of a log does."""
    if not math.isfinite(number):
        return None
    size = abs(number)
    whole = math.floor(size)
    whole += size - whole >= 0.5  # noqa: PLR2004 - a half
    return -whole if number < 0 else whole
