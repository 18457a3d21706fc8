"""What came of a decision, as growth teams report it: one JSON object a line."""

import math
import re
from collections.abc import Collection
from typing import Final, Literal, NamedTuple

import msgspec

from rta_service.domain.user import LifecycleStage
from rta_service.features import FEATURES
from rta_service.stores.trial_store import DAY_MS, OUTCOME_DAYS

_ID_CHARACTERS: Final = 200
_AHEAD_MS: Final = 3_600_000
_PLACE: Final = re.compile(r" - at `\$\.?(.*)`\Z")
_STAGES: Final = frozenset(stage.label for stage in LifecycleStage)


class OutcomeLine(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One decision whose labels have matured."""

    id: str
    """Unique among all outcomes; sent again, it counts once."""
    ts_ms: int
    """When the decision was made; tells old outcomes from new ones."""
    platform: str
    labels: dict[str, int]
    """Head to 1 if its goal came within the head's window, which has passed, else 0."""
    models: dict[str, str] = {}
    """Head to version, as the answer's versions said."""
    scores: dict[str, float] = {}
    """Head to probability, as the answer's pcvr said."""
    stage: str = LifecycleStage.UNKNOWN.label
    request_id: str = ""
    """The platform's request, to find both models' scores if it was among those sampled."""
    features: list[float | None] | None = None
    """What the models saw, in the order of the feature set: both are then asked anew."""
    bid: float | None = None
    cost_micros: int = 0
    """Paid for this ad; 0 where it is not known."""
    value_micros: int = 0
    """What a conversion is worth, such as the strategy's target cost."""


class Fate(msgspec.Struct, frozen=True):
    """What became of one line."""

    line: int
    """From 1."""
    fate: Literal["accepted", "duplicate", "rejected"]
    id: str = ""
    field: str = ""
    reason: str = ""
    pairs: int = 0
    """Trials in which both models' scores of this row were known, so that it judges between them."""


class Window(NamedTuple):
    """What lines are read against."""

    now_ms: int
    platforms: Collection[str]


_DECODER: Final = msgspec.json.Decoder(OutcomeLine)


def read_line(number: int, text: bytes, window: Window) -> OutcomeLine | Fate:
    """Read a line, or say what is wrong with it."""
    try:
        line = _DECODER.decode(text)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        said = str(error)
        place = _PLACE.search(said)
        return Fate(
            number,
            "rejected",
            field=place[1] if place else "",
            reason=said[: place.start()] if place else said,
        )
    wrong = _wrong(line, window)
    if wrong is None:
        return line
    return Fate(number, "rejected", line.id[:_ID_CHARACTERS], *wrong)


def _wrong(line: OutcomeLine, window: Window) -> tuple[str, str] | None:
    """Find the first field that can't be, with the reason."""
    oldest = window.now_ms - OUTCOME_DAYS * DAY_MS
    checks = (
        ("id", 0 < len(line.id) <= _ID_CHARACTERS, f"must have 1 to {_ID_CHARACTERS} characters"),
        ("ts_ms", line.ts_ms >= oldest, f"lies more than {OUTCOME_DAYS} days back"),
        ("ts_ms", line.ts_ms <= window.now_ms + _AHEAD_MS, "lies in the future"),
        ("platform", line.platform in window.platforms, "is none that this service speaks"),
        ("stage", line.stage in _STAGES, f"must be one of {', '.join(sorted(_STAGES))}"),
        ("labels", bool(line.labels), "are empty: there is nothing to learn"),
        ("cost_micros", line.cost_micros >= 0, "must not be negative"),
        ("value_micros", line.value_micros >= 0, "must not be negative"),
        ("bid", line.bid is None or line.bid >= 0.0, "must not be negative"),
        (
            "features",
            line.features is None or len(line.features) == len(FEATURES),
            f"must be {len(FEATURES)} numbers or null, in the order of the feature set",
        ),
    )
    for field, is_right, reason in checks:
        if not is_right:
            return field, reason
    return _wrong_head(line)


def _wrong_head(line: OutcomeLine) -> tuple[str, str] | None:
    for head, label in line.labels.items():
        if label not in (0, 1):
            return f"labels.{head}", "must be 0 or 1"
    for head, score in line.scores.items():
        if not 0.0 <= score <= 1.0:
            return f"scores.{head}", "must be a probability"
    return None


def feature_row(line: OutcomeLine) -> list[float]:
    """Give what the models saw as numbers; missing ones are NaN."""
    given = line.features or []
    return [math.nan if value is None else value for value in given]
