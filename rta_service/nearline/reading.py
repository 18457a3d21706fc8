"""From a line of JSON to a happening, or to the reason why not.

The columns are those of a behaviour log, so that whoever has one can send it; columns we do not
know are ignored. Nothing a line says is repeated in its rejection: it may be somebody's id.
"""

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeVar

import msgspec

from rta_service.device_key import canonical_md5
from rta_service.domain.device import IdForm, IdKind
from rta_service.domain.events import Event
from rta_service.domain.happening import MAX_STEP, Happening, LineRule, Rejection
from rta_service.nearline.row import TEXTS, IdGiven, RefusedError, Row, convert, decode, text_of

DAY_MS: Final = 86_400_000
_MAX_CENTS: Final = 10**14
_MAX_MICROS: Final = 10**15
MAX_TOUCH_MICROS: Final = 10_000_000_000
"""Ten thousand of the currency."""
_MIN_MS: Final = 946_684_800_000
"""2000-01-01; earlier instants are most often seconds taken for milliseconds."""
_MAX_MS: Final = 4_102_444_800_000
"""2100-01-01."""

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_CURRENCY: Final = re.compile(r"[A-Z]{3}\Z")
_STEP: Final = re.compile(rf"[\w.-]{{0,{MAX_STEP}}}\Z")
_MD5_OR_ABSENT: Final = re.compile(r"([0-9a-fA-F]{32}|[0:\-]*)\Z")
_PLACE: Final = re.compile(r"(.*) - at `\$\.?(.*)`\Z")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)

_EVENTS: Final = {event.value: event for event in Event}
_KINDS: Final = {kind.value: kind for kind in IdKind}
_FORMS: Final = {form.value: form for form in IdForm}
_RANK: Final = {kind: rank for rank, kind in enumerate(IdKind)}


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


_Form = TypeVar("_Form")


def read_line(line: bytes, rules: ReadingRules) -> Happening | Rejection:
    """Read one line; never raises, whatever the bytes are."""
    if len(line) > rules.max_line_bytes:
        reason = f"a line has at most {rules.max_line_bytes} bytes"
        return Rejection("line", reason, LineRule.LINE_TOO_LONG)
    return _judged(decode, line, rules, is_plain=_is_plain(line))


def read_columns(columns: Mapping[str, Any], rules: ReadingRules) -> Happening | Rejection:
    """Read what came in another form than a line, by the same rules; never raises."""
    return _judged(convert, columns, rules, is_plain=False)


def _judged(
    read: Callable[[_Form], Row], given: _Form, rules: ReadingRules, *, is_plain: bool
) -> Happening | Rejection:
    try:
        return _happening(read(given), rules, is_plain=is_plain)
    except RefusedError as refused:
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


def _happening(row: Row, rules: ReadingRules, *, is_plain: bool) -> Happening:
    if not is_plain:
        _refuse_control(row)
    event_id = text_of(row.event_id)
    if not event_id:
        raise RefusedError(
            "event_id", LineRule.MISSING_EVENT_ID, "is needed: copies are told by it"
        )
    event = _EVENTS.get(row.event)  # type: ignore[arg-type]  # a number or nothing is no key either
    if event is None:
        raise RefusedError("event", LineRule.UNKNOWN_EVENT, "is none of the words of events")
    ts_ms = _instant(row, rules)
    if event is Event.COST_REPORT:
        _check_report(row)
    currency = _currency(row)
    cost_micros = _cost(row.cost_micros)
    if event is not Event.COST_REPORT:
        check_touch_cost(cost_micros)
    cents = _cents(row, event)
    if cents or cost_micros:
        _check_currency(currency, rules)
    return Happening(
        event_id,
        ts_ms,
        event,
        _devices(row, event),
        text_of(row.user_id),
        cents,
        currency,
        text_of(row.order_id),
        text_of(row.category),
        text_of(row.item_id),
        text_of(row.campaign_id),
        text_of(row.channel),
        text_of(row.placement),
        text_of(row.os),
        text_of(row.request_id),
        text_of(row.tag),
        text_of(row.strategy_id),
        cost_micros,
        _step(row, event),
    )


def _refuse_control(row: Row) -> None:
    for name in TEXTS:
        value = getattr(row, name)
        if type(value) is str and not value.isprintable() and _CONTROL.search(value):
            raise RefusedError(
                name, LineRule.CONTROL_CHARACTER, "holds a control character or half a character"
            )


def _instant(row: Row, rules: ReadingRules) -> int:
    if row.ts_ms is not None:
        field, ts_ms = "ts_ms", _whole(row.ts_ms)
    else:
        field, ts_ms = "ts", _timestamp(row.ts)
    if ts_ms is None or not _MIN_MS <= ts_ms < _MAX_MS:
        reason = "is no instant from 2000 to 2100: give ts_ms in milliseconds UTC, or ts as text"
        raise RefusedError(field, LineRule.BAD_TS, reason)
    if ts_ms < rules.now_ms - rules.max_age_ms:
        reason = f"is more than {rules.max_age_ms / DAY_MS:g} days ago"
        raise RefusedError(field, LineRule.TOO_OLD, reason)
    if ts_ms > rules.now_ms + rules.max_ahead_ms:
        reason = f"is more than {rules.max_ahead_ms / 1000:g} s ahead of our clock"
        raise RefusedError(field, LineRule.FUTURE, reason)
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


def _check_report(row: Row) -> None:
    """A report's row says what cost how much; nobody did it, so no device is needed."""
    for field in ("channel", "cost_micros"):
        if getattr(row, field) in (None, ""):
            raise RefusedError(field, LineRule.INCOMPLETE_REPORT, "is needed in a cost_report")
    if not row.strategy_id and not row.campaign_id:
        reason = "or campaign_id is needed in a cost_report"
        raise RefusedError("strategy_id", LineRule.INCOMPLETE_REPORT, reason)


def _step(row: Row, event: Event) -> str:
    if row.step is None and event is not Event.CONVERSION:
        return ""  # nearly always
    step = text_of(row.step)
    if not _STEP.match(step) or (event is Event.CONVERSION and not step):
        reason = f"is no word of 1 to {MAX_STEP} letters, digits, '_', '-' or '.'"
        raise RefusedError("step", LineRule.BAD_STEP, reason)
    return step


def _devices(row: Row, event: Event) -> tuple[str, ...]:
    """Give the canonical MD5s; an event without one must name a request or a tag instead."""
    found: tuple[str, ...] = ()
    if row.ids is not None:
        found = tuple(dict.fromkeys(md5 for _, md5 in sorted(_ranked(row), key=_by_rank)))
    elif (md5 := _md5("device_id", IdGiven(row.id_kind, row.id_form, row.device_id))) is not None:
        found = (md5,)
    if not found and not row.request_id and not row.tag and event is not Event.COST_REPORT:
        reason = "no id that names a device, nor a request_id or tag: all zeros is no id"
        field = "device_id" if row.ids is None else "ids"
        raise RefusedError(field, LineRule.MISSING_DEVICE_ID, reason)
    return found


def _ranked(row: Row) -> Iterator[tuple[int, str]]:
    alone = IdGiven(row.id_kind, row.id_form, row.device_id)
    named = [("device_id", alone), *((f"ids[{at}]", one) for at, one in enumerate(row.ids or ()))]
    for field, one in named:
        md5 = _md5(field, one)
        if md5 is not None:
            yield _RANK.get(one.kind, len(_RANK)), md5  # type: ignore[call-overload]  # checked by _md5


def _by_rank(ranked: tuple[int, str]) -> int:
    return ranked[0]


def _md5(field: str, one: IdGiven) -> str | None:
    """Give the canonical MD5, or None for an id that is absent."""
    kind = form = None
    if one.kind and (kind := _KINDS.get(one.kind)) is None:  # type: ignore[arg-type]  # a number is no key either
        named = "id_kind" if field == "device_id" else f"{field}.kind"
        raise RefusedError(named, LineRule.BAD_ID_KIND, f"is none of {', '.join(_KINDS)}")
    if one.form and (form := _FORMS.get(one.form)) is None:  # type: ignore[arg-type]  # a number is no key either
        named = "id_form" if field == "device_id" else f"{field}.form"
        raise RefusedError(named, LineRule.BAD_ID_FORM, f"is none of {', '.join(_FORMS)}")
    if one.value is None:
        return None
    value = text_of(one.value)
    if form is IdForm.MD5 and not _MD5_OR_ABSENT.match(value):
        named = field if field == "device_id" else f"{field}.value"
        raise RefusedError(named, LineRule.BAD_ID_FORM, "is not the 32 hex digits of an MD5")
    try:
        return canonical_md5(kind, value, form)
    except UnicodeEncodeError:
        raise RefusedError(field, LineRule.CONTROL_CHARACTER, "holds half a character") from None


def _currency(row: Row) -> str:
    currency = text_of(row.currency).upper()
    if currency and not _CURRENCY.match(currency):
        raise RefusedError(
            "currency", LineRule.OTHER_CURRENCY, "is not the three letters of a currency"
        )
    return currency


def _check_currency(currency: str, rules: ReadingRules) -> None:
    if rules.currency and currency not in ("", rules.currency):
        reason = f"is not {rules.currency}: amounts of two currencies can't be added"
        raise RefusedError("currency", LineRule.OTHER_CURRENCY, reason)


def _cents(row: Row, event: Event) -> int:
    if row.cents is not None:
        field, cents = "cents", _whole(row.cents)
    elif row.amount is not None:
        field, cents = "amount", _rounded(row.amount * 100.0)
    else:
        return 0
    if cents is None or not -_MAX_CENTS < cents < _MAX_CENTS:
        reason = "is no money: whole cents, or amount in units, of less than a million million"
        raise RefusedError(field, LineRule.BAD_MONEY, reason)
    if cents < 0 and event is not Event.REFUND:
        raise RefusedError(
            field, LineRule.NEGATIVE_MONEY, "is negative; send a refund as event refund"
        )
    return abs(cents)


def _cost(given: float | None) -> int:
    if given is None:
        return 0
    micros = _whole(given)
    if micros is None or not -_MAX_MICROS < micros < _MAX_MICROS:
        reason = "is no cost: whole millionths of the currency, of less than a thousand million"
        raise RefusedError("cost_micros", LineRule.BAD_MONEY, reason)
    if micros < 0:
        raise RefusedError("cost_micros", LineRule.NEGATIVE_MONEY, "is negative")
    return micros


def check_touch_cost(micros: int, field: str = "cost_micros") -> None:
    """Refuse what no single click or exposure costs: it would end a budget's day by a wrong unit."""
    if micros > MAX_TOUCH_MICROS:
        reason = (
            f"is {micros / 1e6:,.0f} in units of the currency, for one event: costs are in "
            "millionths of the currency, of one exposure or click"
        )
        raise RefusedError(field, LineRule.BAD_MONEY, reason)


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
