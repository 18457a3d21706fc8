"""The `--funnel` file: which heads are trained, and what they may not contradict."""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

import msgspec

from rta_service.domain.errors import InvalidInput
from rta_service.domain.funnel import (
    DEFAULT_FUNNEL,
    REGISTER,
    TRADE,
    HeadKind,
    HeadSpec,
    Step,
)
from rta_service.features import CATEGORICAL, FEATURE_NAMES

CLICK_WINDOW_DAYS: Final = 1.0 / 24.0
"""A click belongs to the latest exposure of the hour before it, so no longer window can count."""

Monotone = Mapping[str, int]
"""Feature to 1 (a higher value never lowers the prediction) or -1 (never raises it)."""

_REQUIRED: Final = {spec.name: spec for spec in DEFAULT_FUNNEL if spec.name in (REGISTER, TRADE)}
_KNOWN: Final = {spec.name: spec for spec in DEFAULT_FUNNEL}
_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,63}")
_MAX_WINDOW_DAYS: Final = 365.0
_FIELD: Final = re.compile(r" - at `\$\.?(.*)`$")
_ORDER: Final = tuple(Step)


@dataclass(frozen=True, slots=True)
class Funnel:
    """The heads to train, in the order of training, and each one's monotone constraints."""

    heads: tuple[HeadSpec, ...] = DEFAULT_FUNNEL
    monotone: Mapping[str, Monotone] = field(default_factory=dict)
    """By head; heads without constraints are left out."""


class _Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    goal: Step
    given: Step
    kind: HeadKind = "probability"
    window_days: float = 7.0
    monotone: dict[str, Literal[-1, 1]] = {}


class _Document(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    heads: tuple[_Entry, ...]
    monotone: dict[str, Literal[-1, 1]] = {}


def read_funnel(path: Path) -> Funnel:
    """Read a funnel file; raises InvalidInput naming file, line and field."""
    try:
        text = path.read_text(encoding="utf-8")
        document = tomllib.loads(text)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InvalidInput(f"can't be read: {error}", str(path)) from error
    place = _Place(path, text.splitlines())
    try:
        found = msgspec.convert(document, _Document)
    except msgspec.ValidationError as error:
        raise place.error(error) from error
    return _checked(found, place)


@dataclass(frozen=True, slots=True)
class _Place:
    """Says where in the file a field stands."""

    path: Path
    lines: list[str]

    def error(self, error: msgspec.ValidationError) -> InvalidInput:
        """Turn msgspec's words, which end in a path, into ours, which begin with it."""
        message = str(error)
        found = _FIELD.search(message)
        where = found.group(1) if found else ""
        return self.fail(where, _FIELD.sub("", message))

    def fail(self, where: str, message: str) -> InvalidInput:
        """Make the error for a field such as heads[2].goal."""
        line = self._line(where)
        place = f"{self.path}:{line}" if line else str(self.path)
        return InvalidInput(message, f"{place}, {where}" if where else place)

    def _line(self, where: str) -> int:
        """Look the field up: tomllib keeps no lines. Gives 0 where nothing is found."""
        head = re.match(r"heads\[(\d+)\]", where)
        starts = [n for n, line in enumerate(self.lines, 1) if line.strip() == "[[heads]]"]
        if head is None or int(head.group(1)) >= len(starts):
            return 0
        start = starts[int(head.group(1))]
        key = where.rpartition(".")[2] if "." in where else ""
        for number, line in enumerate(self.lines[start:], start + 1):
            if line.strip().startswith("["):
                break
            if key and line.strip().startswith(key):
                return number
        return start


def _checked(found: _Document, place: _Place) -> Funnel:
    """Refuse what no training could mean; give the rest as a funnel."""
    _check_features("", found.monotone, place)
    asked: dict[tuple[Step, Step, HeadKind], str] = {}
    names: set[str] = set()
    for index, entry in enumerate(found.heads):
        where = f"heads[{index}]"
        _check_name(where, entry, names, place)
        _check_question(where, entry, place)
        _check_features(where + ".", entry.monotone, place)
        question = (entry.goal, entry.given, entry.kind)
        if question in asked:
            raise place.fail(where + ".goal", f"{asked[question]!r} asks the same already")
        asked[question] = entry.name
    missing = [name for name in _REQUIRED if name not in names]
    if missing:
        spec = _REQUIRED[missing[0]]
        raise place.fail(
            "heads",
            f"{missing[0]!r} is missing: every funnel needs goal = {spec.goal.value!r} given ="
            f" {spec.given.value!r} under that name, strategies are decided by it",
        )
    return Funnel(
        tuple(_spec(entry) for entry in found.heads),
        {
            entry.name: found.monotone | entry.monotone
            for entry in found.heads
            if found.monotone or entry.monotone
        },
    )


def _spec(entry: _Entry) -> HeadSpec:
    return HeadSpec(entry.name, entry.goal, entry.given, entry.kind, entry.window_days)


def _check_name(where: str, entry: _Entry, names: set[str], place: _Place) -> None:
    if not _NAME.fullmatch(entry.name):
        raise place.fail(
            where + ".name",
            f"{entry.name!r} must be lower-case letters, digits and _, beginning with a letter",
        )
    if entry.name in names:
        raise place.fail(where + ".name", f"{entry.name!r} stands twice")
    names.add(entry.name)
    known = _KNOWN.get(entry.name)
    told = (entry.goal, entry.given, entry.kind)
    if known and told != (known.goal, known.given, known.kind):
        raise place.fail(
            where + ".goal",
            f"{entry.name!r} always means {known.goal.value} given {known.given.value} as a"
            f" {known.kind}; choose another name for this one",
        )


def _check_question(where: str, entry: _Entry, place: _Place) -> None:
    if entry.kind == "value":
        if (entry.goal, entry.given) != (Step.TRADE, Step.TRADE):
            raise place.fail(
                where + ".given", "a value head tells the money of a trade: goal = given = 'trade'"
            )
    elif _ORDER.index(entry.goal) <= _ORDER.index(entry.given):
        raise place.fail(
            where + ".given",
            f"{entry.given.value} does not come before {entry.goal.value}; the order is"
            f" {', '.join(_ORDER)}",
        )
    of_click = entry.goal is Step.CLICK
    longest = CLICK_WINDOW_DAYS if of_click else _MAX_WINDOW_DAYS
    if not 0.0 < entry.window_days <= longest + 1e-9:
        told = "0.0417, an hour" if of_click else f"{longest:g}"
        raise place.fail(
            where + ".window_days", f"{entry.window_days:g} must be above 0 and at most {told}"
        )


def _check_features(where: str, monotone: Mapping[str, Any], place: _Place) -> None:
    ordered = [name for i, name in enumerate(FEATURE_NAMES) if i not in CATEGORICAL]
    for name in monotone:
        if name not in ordered:
            why = "is a category, which has no order" if name in FEATURE_NAMES else "is no feature"
            raise place.fail(
                f"{where}monotone", f"{name!r} {why}; choose from {', '.join(ordered)}"
            )
