"""The `--columns` file: how an existing log names its columns, its events, and its oddities."""

import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from rta_service.domain.errors import InvalidInput
from rta_service.domain.events import RECORDED, Event

IGNORE: Final = "ignore"
"""An event word mapped to this is skipped and counted."""

COLUMNS: Final = (
    "device_id",
    "ts_ms",
    "ts",
    "event",
    "user_id",
    "id_kind",
    "id_form",
    "event_id",
    "order_id",
    "cents",
    "amount",
    "currency",
    "item_id",
    "category",
    "channel",
    "placement",
    "campaign_id",
    "os",
)


@dataclass(frozen=True, slots=True)
class Named:
    """A column that the log has under this name."""

    name: str


@dataclass(frozen=True, slots=True)
class Constant:
    """The same value for every row."""

    value: str | int | float


@dataclass(frozen=True, slots=True)
class Product:
    """Several columns of numbers, multiplied."""

    names: tuple[str, ...]


Origin = Named | Constant | Product


@dataclass(frozen=True, slots=True)
class Rules:
    """What to do with rows that a log has on purpose; the defaults accept none of them."""

    skip_anonymous: bool = False
    cancellation_prefix: str = ""
    refund_negative: bool = False
    launch_events: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ColumnMap:
    """How to read a log; empty means that it already speaks our words."""

    columns: Mapping[str, Origin] = field(default_factory=dict)
    events: Mapping[str, str] = field(default_factory=dict)
    rules: Rules = field(default_factory=Rules)


def read_column_map(path: Path) -> ColumnMap:
    """Read a mapping file; raises InvalidInput naming file, line and key."""
    try:
        text = path.read_text(encoding="utf-8")
        document = tomllib.loads(text)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InvalidInput(f"can't be read: {error}", str(path)) from error
    reader = _Reader(path, text.splitlines())
    reader.known("", document, ("columns", "events", "rules"))
    columns = reader.section(document, "columns")
    events = reader.section(document, "events")
    reader.known("columns", columns, COLUMNS)
    return ColumnMap(
        columns={key: reader.origin(key, value) for key, value in columns.items()},
        events={key: reader.word(key, value) for key, value in events.items()},
        rules=reader.rules(reader.section(document, "rules")),
    )


class _Reader:
    """Checks values and says where the wrong ones stand."""

    def __init__(self, path: Path, lines: list[str]) -> None:
        self._path = path
        self._lines = lines

    def fail(self, section: str, key: str, message: str) -> InvalidInput:
        """Make the error for one key: tomllib keeps no lines, so the key is looked up again."""
        inside = section == ""
        for number, line in enumerate(self._lines, start=1):
            stripped = line.strip().replace('"', "")
            if stripped.startswith("["):
                inside = section in ("", stripped.strip("[] "))
            if inside and stripped.lstrip("[").startswith(key):
                return InvalidInput(message, f"{self._path}:{number}")
        return InvalidInput(message, f"{self._path}, section [{section}]")

    def section(self, document: Mapping[str, Any], name: str) -> dict[str, Any]:
        """Give one of the three tables, empty where it is left out."""
        found = document.get(name, {})
        if not isinstance(found, dict):
            raise self.fail("", name, f"{name} must be a section, write [{name}]")
        return found

    def known(self, section: str, found: Mapping[str, Any], names: Collection[str]) -> None:
        """Refuse keys that are not ours, since a misspelt one would be ignored silently."""
        for key in found:
            if key not in names:
                raise self.fail(
                    section, key, f"unknown key {key!r} in [{section}]; one of: {', '.join(names)}"
                )

    def origin(self, key: str, value: object) -> Origin:
        """Read where a column comes from."""
        match value:
            case str():
                return Named(value)
            case {"constant": str() | int() | float() as constant, **rest} if not rest:
                return Constant(constant)
            case {"product": [str(), str(), *_] as names, **rest} if not rest:
                return Product(tuple(str(name) for name in names))
        raise self.fail(
            "columns",
            key,
            f'{key} must be a column name, {{constant = ...}} or {{product = ["a", "b"]}}',
        )

    def word(self, key: str, value: object) -> str:
        """Read what one of their event words means."""
        if value == IGNORE or value in tuple(Event):
            return str(value)
        raise self.fail(
            "events", key, f"{value!r} is not one of: {', '.join(Event)}, or {IGNORE!r}"
        )

    def rules(self, found: Mapping[str, Any]) -> Rules:
        """Read the section [rules]."""
        names = ("anonymous", "cancellation_prefix", "negative_money", "launch_events")
        self.known("rules", found, names)
        prefix = found.get("cancellation_prefix", "")
        if not isinstance(prefix, str):
            raise self.fail("rules", "cancellation_prefix", "must be text, such as 'C'")
        return Rules(
            skip_anonymous=self._choice(found, "anonymous", "skip"),
            cancellation_prefix=prefix,
            refund_negative=self._choice(found, "negative_money", "refund"),
            launch_events=self._launch_events(found.get("launch_events", ["launch"])),
        )

    def _choice(self, found: Mapping[str, Any], key: str, word: str) -> bool:
        value = found.get(key, "reject")
        if value not in (word, "reject"):
            raise self.fail("rules", key, f"{key} must be {word!r} or 'reject', not {value!r}")
        return bool(value == word)

    def _launch_events(self, value: object) -> tuple[str, ...]:
        if not isinstance(value, list) or not all(word in RECORDED for word in value):
            raise self.fail(
                "rules", "launch_events", f"must be a list of words from: {', '.join(RECORDED)}"
            )
        return tuple(str(word) for word in value if word != Event.LAUNCH)
