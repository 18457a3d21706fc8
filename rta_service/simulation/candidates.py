"""A crowd whose intent moves from day to day, its clicks, and the ways in which a new model goes bad.

Made for trials of candidates: features of any day of the past are at hand, so that a stale or a
leaking feature is a real one, and a click's chance to convert is known to nobody but the world.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np
from numpy.typing import NDArray

from rta_service.simulation.journal import chance

FloatMatrix = NDArray[np.float64]

CROWD_FEATURES: Final = (
    "browses_3",
    "launches_7",
    "idle_days",
    "active_days_28",
    "ad_clicks",
    "first_seen_days",
    "industry_apps",
    "uses_competitor",
    "os",
    "platform",
    "placement",
)
BROWSES: Final = 0
LAUNCHES: Final = 1
IDLE: Final = 2
FIRST_SEEN: Final = 5
CONTEXT: Final = 3
"""The last columns are of the request, not of the person."""
CODES: Final = (8, 9, 10)
"""Columns that are codes, not amounts."""
PLATFORMS: Final = ("json", "tencent")
MEMORY_DAYS: Final = 28
"""Days that features look back; no features exist before."""

_PLACEMENT_LOGIT: Final = np.array([-0.9, 0.7, 0.2, 0.5, -0.5])
_COMPETITOR_SHARE: Final = 0.2
_SILENT_DAYS: Final = 14.0
_SATURDAY: Final = 5
"""Days of the week from here on are a weekend."""
_QUICK_SHARE: Final = 0.8
_QUICK_DAYS: Final = 0.03
_SLOW_DAYS: Final = 1.2


class Kind(StrEnum):
    """What is wrong with a candidate; nothing with a good one."""

    GOOD = "good"
    MISCALIBRATED = "miscalibrated"
    SWAPPED = "swapped columns"
    STALE = "stale features"
    LEAKED = "leaked label"
    SLOWER = "slower"


BAD_KINDS: Final = tuple(kind for kind in Kind if kind is not Kind.GOOD)


@dataclass(frozen=True, slots=True)
class CrowdOptions:
    """How many people, for how many days, and how often a click converts."""

    people: int = 30_000
    days: int = 100
    logit: float = -3.9
    """Of the average click; the rate becomes some 5 %."""
    persistence: float = 0.85
    """Part of today's intent that is tomorrow's: after four days half is new."""


@dataclass(frozen=True, slots=True)
class CrowdClicks:
    """Clicks of one moment; arrays of length n."""

    person: NDArray[np.int64]
    features: FloatMatrix
    """[n, len(CROWD_FEATURES)], as of the day of the click."""
    chance: NDArray[np.float64]
    """To convert at all; known to nobody but the world."""
    delay_days: NDArray[np.float64]
    """When the conversion comes; infinite where none does."""


class Crowd:
    """People with daily features [days, people, features]; seeded."""

    def __init__(self, options: CrowdOptions, rng: np.random.Generator) -> None:
        self.options = options
        people, days = options.people, options.days
        self._interest = rng.standard_normal(people)
        self._intent = _wandering(options, rng)
        browses = rng.poisson(np.exp(0.2 + 0.8 * self._intent)).astype(np.int64)
        launches = rng.poisson(np.exp(-1.2 + 0.6 * self._intent + 0.4 * self._interest))
        self._panel = np.empty((days, people, len(CROWD_FEATURES) - CONTEXT + 1), np.float32)
        self._panel[:, :, 0] = _last_days(browses, 3)
        self._panel[:, :, 1] = _last_days(launches, 7)
        self._panel[:, :, 2] = _days_since(launches > 0)
        self._panel[:, :, 3] = _last_days((launches > 0).astype(np.int64), 28)
        clicks = rng.poisson(0.05 * np.exp(0.3 * self._interest), (days, people))
        self._panel[:, :, 4] = np.minimum(np.cumsum(clicks, axis=0), 20)
        seen_on = rng.integers(-120, MEMORY_DAYS, people)
        self._panel[:, :, 5] = np.arange(days)[:, None] - seen_on[None, :]
        self._panel[:, :, 6] = rng.poisson(np.exp(0.5 * self._interest))
        self._panel[:, :, 7] = rng.random(people) < _COMPETITOR_SHARE
        self._panel[:, :, 8] = rng.choice(3, people, p=[0.62, 0.30, 0.08])
        # the whole market moves too: weekends and slow tides that no feature tells
        tide = np.cumsum(rng.normal(0.0, 0.01, days))
        self._tide = tide + 0.05 * (np.arange(days) % 7 >= _SATURDAY)

    def features(self, person: NDArray[np.int64], day: int, context: FloatMatrix) -> FloatMatrix:
        """Give features as of a day: [n, len(CROWD_FEATURES)]; `context` is [n, CONTEXT - 1]."""
        return np.hstack([self._panel[day, person].astype(np.float64), context])

    def clicks(self, day: int, count: int, rng: np.random.Generator) -> CrowdClicks:
        """Draw clicks of different people on one day, with what will come of them."""
        person = rng.choice(self.options.people, count, replace=False)
        platform = rng.integers(0, len(PLATFORMS), count)
        placement = rng.integers(0, len(_PLACEMENT_LOGIT), count)
        context = np.column_stack([platform, placement]).astype(np.float64)
        features = self.features(person, day, context)
        logit = (
            self.options.logit
            + self._tide[day]
            + 1.0 * self._intent[day, person]
            + 0.5 * self._interest[person]
            + _PLACEMENT_LOGIT[placement]
            + 0.4 * (features[:, 8] == 1)
            - 0.4 * features[:, 7]
            - 0.02 * np.minimum(features[:, IDLE], 20.0)
            + 0.2 * (platform == 1)
        )
        rate = chance(logit)
        scale = np.where(rng.random(count) < _QUICK_SHARE, _QUICK_DAYS, _SLOW_DAYS)
        delay = np.where(rng.random(count) < rate, rng.exponential(scale), np.inf)
        return CrowdClicks(person, features, rate, delay)


def stage_names(features: FloatMatrix) -> NDArray[np.str_]:
    """Name the segment of each row: lifecycle stage and platform."""
    young = features[:, FIRST_SEEN] < MEMORY_DAYS
    stage = np.where(
        features[:, IDLE] > _SILENT_DAYS, "silent", np.where(young, "growth", "mature")
    )
    platform = np.array(PLATFORMS)[features[:, -2].astype(np.int64)]
    return np.char.add(np.char.add(stage, "/"), platform)


def leak(
    features: FloatMatrix, labels: NDArray[np.bool_], strength: float, rng: np.random.Generator
) -> FloatMatrix:
    """Count what people did after they converted into what they had done before."""
    spoiled = features.copy()
    spoiled[:, BROWSES] += rng.poisson(strength * labels)
    spoiled[:, LAUNCHES] += rng.poisson(0.5 * strength * labels)
    return spoiled


def swap(features: FloatMatrix, columns: tuple[int, int]) -> FloatMatrix:
    """Exchange two columns."""
    swapped = features.copy()
    swapped[:, columns] = features[:, columns[::-1]]
    return swapped


def excess_loss(
    scores: NDArray[np.float64], than: NDArray[np.float64], rate: NDArray[np.float64]
) -> float:
    """Expected log loss of scores above that of others, in nats a conversion, by the true rates."""
    hit, miss = np.log(than / scores), np.log((1.0 - than) / (1.0 - scores))
    return float(np.mean(rate * hit + (1.0 - rate) * miss) / np.mean(rate))


def _wandering(options: CrowdOptions, rng: np.random.Generator) -> NDArray[np.float32]:
    """Draw intent of unit variance: [days, people]."""
    stays = options.persistence
    steps = rng.standard_normal((options.days, options.people), dtype=np.float32)
    intent = np.empty_like(steps)
    intent[0] = steps[0]
    for day in range(1, options.days):
        intent[day] = stays * intent[day - 1] + np.sqrt(1.0 - stays**2) * steps[day]
    return intent


def _last_days(daily: NDArray[np.int64], window: int) -> NDArray[np.int64]:
    """Sum the `window` days before each day; the day itself is not known yet."""
    total = np.cumsum(daily, axis=0)
    ends = np.vstack([np.zeros_like(total[:1]), total[:-1]])
    starts = np.zeros_like(ends)
    starts[window:] = ends[:-window]
    return np.asarray(ends - starts)


def _days_since(happened: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Count days since it last happened before each day, from the first day on."""
    days = np.arange(len(happened))[:, None]
    last = np.maximum.accumulate(np.where(happened, days, -1), axis=0)
    before = np.vstack([np.full_like(last[:1], -1), last[:-1]])
    return np.asarray(days - before)
