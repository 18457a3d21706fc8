"""From a log's own columns to ours: text, seconds, cents; what can't be read becomes null."""

from collections.abc import Mapping
from typing import Any, Final

import ibis

from rta_service.domain.errors import InvalidInput
from rta_service.offline.column_map import ColumnMap, Constant, Named, Origin, Product

TEXTS: Final = (
    "device_id",
    "user_id",
    "id_kind",
    "id_form",
    "event_id",
    "order_id",
    "currency",
    "item_id",
    "category",
    "channel",
    "placement",
    "os",
)
MIN_S: Final = 946_684_800
"""2000-01-01; earlier instants are most often seconds taken for milliseconds."""
MAX_S: Final = 4_102_444_800
"""2100-01-01; a record's instants end in 2106."""
_MAX_MONEY: Final = 1e12
_ALTERNATIVES: Final = (
    *((name,) for name in (*TEXTS, "event")),
    ("ts_ms", "ts"),
    ("cents", "amount"),
)
"""Naming one of a group in the mapping says that the log's own columns of that group are others."""


def resolve_columns(raw: Any, mapping: ColumnMap, place: str) -> dict[str, Origin]:
    """Decide where each of our columns comes from; raises InvalidInput naming what is missing.

    A column that the mapping does not name is taken under our own name where the log has it.
    """
    origins: dict[str, Origin] = dict(mapping.columns)
    for names in _ALTERNATIVES:
        if not origins.keys() & set(names):
            origins |= {name: Named(name) for name in names if name in raw.columns}
    held = f"the log has: {', '.join(raw.columns)}"
    missing = [name for name in ("device_id", "event") if name not in origins]
    if "ts_ms" not in origins and "ts" not in origins:
        missing.append("ts_ms or ts")
    if missing:
        raise InvalidInput(
            f"no column {' and no column '.join(missing)}; {held}; name them with --columns", place
        )
    absent = sorted(set(_sources(origins)) - set(raw.columns))
    if absent:
        raise InvalidInput(f"--columns names {', '.join(absent)}, but {held}", place)
    return origins


def read_rows(raw: Any, origins: Mapping[str, Origin], place: str) -> Any:
    """Select our columns from a raw log; empty text is null.

    Gives TEXTS, `word` (their event word), `ts_s`, `cents` and `has_money`; from a log numbered
    by a column `row` also that and what stood there, `ts_text` and `money_text`.
    """
    columns = {name: _text_of(raw, origins.get(name)) for name in TEXTS}
    columns["word"] = _text_of(raw, origins["event"])
    instant = "ts_ms" if "ts_ms" in origins else "ts"
    columns["ts_s"] = _seconds(raw, instant, origins[instant], place)
    money = [origins[name] for name in ("cents", "amount") if name in origins]
    money_text = ibis.coalesce(*(_text_of(raw, origin) for origin in money), ibis.null("string"))
    columns["cents"] = _cents(raw, origins)
    columns["has_money"] = money_text.notnull()
    if "row" in raw.columns:  # texts cost a second a million rows, so only samples get them
        columns |= {"row": raw["row"], "money_text": money_text}
        columns["ts_text"] = _text_of(raw, origins[instant])
    return raw.select(**columns)


def _sources(origins: Mapping[str, Origin]) -> list[str]:
    names: list[str] = []
    for origin in origins.values():
        if isinstance(origin, Named):
            names.append(origin.name)
        elif isinstance(origin, Product):
            names.extend(origin.names)
    return names


def _text_of(raw: Any, origin: Origin | None) -> Any:
    match origin:
        case Named(name):
            return _text(raw[name])
        case Constant(value):
            return ibis.literal(str(value))
        case Product(names):
            return ibis.literal(" * ").join([_text(raw[name]) for name in names])
        case None:
            return ibis.null("string")


def _text(column: Any) -> Any:
    kind = column.type()
    if kind.is_string():
        return column.nullif("")
    if kind.is_floating():  # ids that passed through pandas beside missing ones
        whole = column.try_cast("int64")  # null, not an error, for what is no such number
        # isnan() is wrong here: DuckDB believes Parquet's statistics, which leave NaN out
        text = column.cast("string").nullif("nan")
        return ibis.cases((column == whole.cast("float64"), whole.cast("string")), else_=text)
    return column.cast("string")


def _seconds(raw: Any, name: str, origin: Origin, place: str) -> Any:
    if not isinstance(origin, Named):
        raise InvalidInput(f"{name} must be a column of the log", place)
    column = raw[origin.name]
    seconds = _from_millis(column) if name == "ts_ms" else _from_timestamp(column, place)
    return ibis.cases(((seconds >= MIN_S) & (seconds < MAX_S), seconds), else_=ibis.null("int64"))


def _from_millis(column: Any) -> Any:
    whole = column if column.type().is_integer() else column.try_cast("int64")
    return whole // 1000


def _from_timestamp(column: Any, place: str) -> Any:
    kind = column.type()
    if kind.is_numeric():
        raise InvalidInput(
            f"ts holds numbers ({kind}): name a column of UTC milliseconds ts_ms instead", place
        )
    if kind.is_string():
        column = column.try_cast("timestamp('UTC')")  # honours offsets; without one it is UTC
    elif kind.is_date():
        column = column.cast("timestamp")
    # engines differ on fractions: truncated before, the count of seconds is exact on all of them
    return column.truncate("s").epoch_seconds().cast("float64").cast("int64")


def _cents(raw: Any, origins: Mapping[str, Origin]) -> Any:
    cents, amount = origins.get("cents"), origins.get("amount")
    values = []
    if cents is not None:
        values.append(_whole(_number(raw, cents), exact=True))
    if amount is not None:
        values.append(_whole(_number(raw, amount) * 100, exact=False))
    return ibis.coalesce(*values, ibis.null("int64"))


def _number(raw: Any, origin: Origin) -> Any:
    match origin:
        case Named(name):
            return raw[name].try_cast("float64")
        case Constant(value):
            return ibis.literal(float(value))
        case Product(names):
            product = _number(raw, Named(names[0]))
            for name in names[1:]:
                product = product * _number(raw, Named(name))
            return product


def _whole(number: Any, *, exact: bool) -> Any:
    """Round half away from zero to cents; null for what is no money (infinite, absurd)."""
    readable = number.abs() < _MAX_MONEY * 100
    if exact:
        readable = readable & (number == number.try_cast("int64").cast("float64"))
    return ibis.cases((readable, number.round().cast("int64")), else_=ibis.null("int64"))
