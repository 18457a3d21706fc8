"""Which rows of a log count: the closed list of rules, what they refuse, and samples of it."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import ibis

from rta_service.domain.device import IdForm, IdKind
from rta_service.domain.events import UNRECORDED, Event
from rta_service.offline.column_map import IGNORE, ColumnMap
from rta_service.offline.engine import fetch

SAMPLES_PER_RULE: Final = 5
HIDDEN: Final = "<hidden>"
_MAX_SHOWN: Final = 40


class Rejection(StrEnum):
    """What is wrong with a row, in the order in which it is looked for."""

    MALFORMED_ROW = "malformed_row"
    MISSING_DEVICE_ID = "missing_device_id"
    BAD_ID_KIND = "bad_id_kind"
    BAD_ID_FORM = "bad_id_form"
    UNKNOWN_EVENT = "unknown_event"
    BAD_TS = "bad_ts"
    FUTURE = "future"
    BAD_MONEY = "bad_money"
    NEGATIVE_MONEY = "negative_money"
    OTHER_CURRENCY = "other_currency"


class Skip(StrEnum):
    """Rows that are as the log's owner meant them, but not counted, or counted as refunds."""

    IGNORED_EVENT = "ignored_event"
    ANONYMOUS = "anonymous"
    DUPLICATE = "duplicate"
    AFTER_AS_OF = "after_as_of"
    CANCELLATION = "cancellation"
    REFUND = "refund"


@dataclass(frozen=True, slots=True)
class Limits:
    """What rows are judged against besides the mapping."""

    latest_s: int
    """Events after this instant are in the future."""
    currency: str | None
    """The one currency of the log's money; None where rows name none."""


def main_currency(rows: Any) -> str | None:
    """Find the currency of most rows with money: amounts of two currencies can't be added."""
    counted = rows.filter(rows.currency.notnull(), rows.cents != 0)
    ranked = (
        counted.group_by("currency")
        .agg(n=counted.count())
        .order_by(ibis.desc("n"), "currency")
        .limit(1)
    )
    found = fetch(ranked)
    return str(found[0]["currency"]) if found else None


def judge(rows: Any, mapping: ColumnMap, limits: Limits, *, is_json: bool) -> Any:
    """Add `event` and `cents` as they count, `verdict` (null for good rows) and `noted`.

    `noted` marks good rows that became refunds by a rule of the mapping.
    """
    meant = rows.mutate(meaning=_meaning(rows.word, mapping))
    noted = _noted(meant, mapping)
    marked = meant.mutate(noted=noted)
    is_refund = marked.noted.notnull()
    return marked.mutate(
        verdict=_verdict(marked, mapping, limits, is_json=is_json),
        event=ibis.cases((is_refund, Event.REFUND.value), else_=marked.meaning),
        cents=ibis.cases((is_refund, marked.cents.abs()), else_=marked.cents).coalesce(0),
    )


def samples(judged: Any) -> dict[str, list[dict[str, Any]]]:
    """Give the first rows each rule refused: row number from 1, and the value, never an id."""
    refused = judged.filter(judged.verdict.isin(list(Rejection)))
    shown = refused.select("row", "verdict", "device_id", "user_id", value=_offending(refused))
    place = ibis.row_number().over(group_by="verdict", order_by="row")
    first = shown.mutate(place=place).filter(ibis._.place < SAMPLES_PER_RULE).order_by("row")
    found: dict[str, list[dict[str, Any]]] = {}
    for row in fetch(first):
        found.setdefault(row["verdict"], []).append({"row": row["row"], "value": _shown(row)})
    return found


def _meaning(word: Any, mapping: ColumnMap) -> Any:
    means = {event.value: event.value for event in Event} | dict(mapping.events)
    known = [event for event, ours in means.items() if event == ours and ours not in UNRECORDED]
    others = {theirs: ours for theirs, ours in means.items() if theirs not in known}
    branches = [
        (word == theirs, IGNORE if ours in UNRECORDED else ours) for theirs, ours in others.items()
    ]
    return ibis.cases((word.isin(known), word), *branches, else_=ibis.null("string"))


def _noted(rows: Any, mapping: ColumnMap) -> Any:
    rules = mapping.rules
    prefix = rules.cancellation_prefix
    no = ibis.literal(value=False)
    paid = rows.meaning == Event.PAY.value
    is_cancelled = rows.order_id.startswith(prefix) & paid if prefix else no
    is_negative = (rows.cents < 0) if rules.refund_negative else no
    moves_money = rows.meaning.isin([Event.PAY.value, Event.REFUND.value])
    return ibis.cases(
        (is_cancelled, Skip.CANCELLATION.value),
        (is_negative & moves_money, Skip.REFUND.value),
        else_=ibis.null("string"),
    )


def _verdict(rows: Any, mapping: ColumnMap, limits: Limits, *, is_json: bool) -> Any:
    absent = Skip.ANONYMOUS if mapping.rules.skip_anonymous else Rejection.MISSING_DEVICE_ID
    malformed_md5 = (
        rows.device_id.notnull()
        & (rows.id_form == IdForm.MD5.value)
        & ~rows.device_id.re_search(r"^([0-9a-fA-F]{32}|[0:\-]*)$")
    )
    is_empty = ibis.literal(value=False)
    if is_json:  # a line that is no JSON comes back as a row of nulls
        is_empty = rows.device_id.isnull() & rows.word.isnull() & rows.ts_s.isnull()
    foreign = ibis.literal(value=False)
    if limits.currency is not None:
        foreign = (rows.currency != limits.currency) & (rows.cents != 0)
    rules = (
        (is_empty, Rejection.MALFORMED_ROW),
        (rows.meaning == IGNORE, Skip.IGNORED_EVENT),
        (rows.device_id.isnull(), absent),
        (~rows.id_kind.isin(list(IdKind)), Rejection.BAD_ID_KIND),
        (~rows.id_form.isin(list(IdForm)) | malformed_md5, Rejection.BAD_ID_FORM),
        (rows.device.isnull(), absent),
        (rows.meaning.isnull(), Rejection.UNKNOWN_EVENT),
        (rows.ts_s.isnull(), Rejection.BAD_TS),
        (rows.ts_s > limits.latest_s, Rejection.FUTURE),
        (rows.cents.isnull() & rows.has_money, Rejection.BAD_MONEY),
        ((rows.cents < 0) & rows.noted.isnull(), Rejection.NEGATIVE_MONEY),
        (foreign, Rejection.OTHER_CURRENCY),
    )
    return ibis.cases(
        *((condition, name.value) for condition, name in rules), else_=ibis.null("string")
    )


def _offending(rows: Any) -> Any:
    hidden = ibis.literal(HIDDEN)
    has_wrong_form = ~rows.id_form.isin(list(IdForm))
    return ibis.cases(
        (rows.verdict.isin([Rejection.BAD_TS, Rejection.FUTURE]), rows.ts_text),
        (rows.verdict == Rejection.UNKNOWN_EVENT.value, rows.word),
        (rows.verdict == Rejection.BAD_ID_KIND.value, rows.id_kind),
        ((rows.verdict == Rejection.BAD_ID_FORM.value) & has_wrong_form, rows.id_form),
        (rows.verdict == Rejection.OTHER_CURRENCY.value, rows.currency),
        (rows.verdict.isin([Rejection.BAD_MONEY, Rejection.NEGATIVE_MONEY]), rows.money_text),
        (rows.device_id.notnull(), hidden),
        else_=ibis.literal(""),
    )


def _shown(row: dict[str, Any]) -> str:
    value = row["value"] or ""
    is_id = value in (row["device_id"], row["user_id"])  # columns may have been mixed up
    return HIDDEN if is_id or len(value) > _MAX_SHOWN else value
