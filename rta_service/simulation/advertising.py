"""Ads reach people, some click, and a click moves some of them down the funnel."""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from rta_service.domain.device import OperatingSystem, Placement
from rta_service.domain.events import Event
from rta_service.simulation.journal import DAY_MS, NONE, Day, State, chance
from rta_service.simulation.people import Array

CHANNELS: Final = ("organic", "json", "tencent")
JSON: Final = 1
TENCENT: Final = 2

PLACEMENTS: Final = (
    Placement.SPLASH,
    Placement.APP_STORE,
    Placement.SEARCH_SUGGEST,
    Placement.SEARCH_RESULT,
    Placement.FEED,
    Placement.OTHER,
)
_PLACEMENT_SHARES: Final = (0.15, 0.20, 0.10, 0.20, 0.30, 0.05)
# what a placement does to the click rate (a factor) and to the odds of a conversion (a logit)
_CLICK_FACTOR: Final = np.array([1.0, 1.5, 1.0, 0.8, 1.1, 0.9, 0.7])
_CONVERSION_LOGIT: Final = np.array([0.0, -0.9, 0.9, 0.3, 0.7, -0.2, -0.4])

_EXPOSURES_A_DAY: Final = 0.21
_CLICK_RATE: Final = 0.11
_FRESH_DAYS: Final = 7.0
_STALE_DAYS: Final = 21.0


@dataclass(frozen=True, slots=True)
class Clicks:
    """The day's ad clicks, at most one a person; columns of one length."""

    person: NDArray[np.int64]
    ts_ms: NDArray[np.int64]
    placement: NDArray[np.int64]
    """Placement codes; NONE where the channel does not tell (Tencent)."""


def show_ads(state: State, day: Day) -> Clicks:
    """Expose arrived people to ads and let some click, registered or not, every day."""
    people, rng = state.people, day.rng
    arrived = np.flatnonzero(people.arrival_day <= day.number)
    first_day = people.arrival_day[arrived] == day.number
    rate = _EXPOSURES_A_DAY * people.reach[arrived] + 1.5 * first_day
    count = rng.poisson(rate)
    seen_by = np.repeat(arrived, count)
    ts_ms = day.times(len(seen_by))
    tencent = (day.toss(len(seen_by), 0.8)) == people.prefers_tencent[seen_by]
    placement = rng.choice(PLACEMENTS, len(seen_by), p=_PLACEMENT_SHARES)
    placement = np.where(tencent, Placement.NONE, placement)
    context = {
        "channel": np.where(tencent, TENCENT, JSON),
        "placement": np.where(tencent, NONE, placement),
    }
    day.journal.write(Event.AD_EXPOSURE, seen_by, ts_ms, context)
    rate = _CLICK_RATE * _CLICK_FACTOR[placement] * np.exp(0.2 * people.interest[seen_by])
    rate = rate * np.where(state.registered[seen_by], 0.6, 1.0)
    clicked = np.flatnonzero(day.toss(len(seen_by), rate))
    clicked = clicked[np.unique(seen_by[clicked], return_index=True)[1]]
    click_ms = ts_ms[clicked] + rng.integers(800, 30_000, len(clicked))
    person = seen_by[clicked]
    extra = {name: column[clicked] for name, column in context.items()}
    day.journal.write(Event.AD_CLICK, person, click_ms, extra)
    return Clicks(person, click_ms, placement[clicked])


def follow_clicks(state: State, day: Day, clicks: Clicks) -> None:
    """Let strangers download, activate and register, and users come back, after their click."""
    unregistered = ~state.registered[clicks.person]
    _win(state, day, clicks, unregistered)
    _wake(state, day, clicks, ~unregistered)
    state.ad_clicks[clicks.person] += 1


def _register_logit(state: State, day: Day, clicks: Clicks, chosen: Array) -> Array:
    """Odds to register: what the record shows matters most, latent interest some."""
    people, who = state.people, clicks.person[chosen]
    idle = state.idle_days(who, day.start_ms)
    logit: Array = (
        -7.3
        + 0.4 * people.interest[who]
        + 1.6 * np.minimum(np.log1p(state.browses[who]), 2.2)
        + 1.2 * (state.activated[who] & (idle < _FRESH_DAYS))
        - 1.6 * (state.activated[who] & (idle >= _STALE_DAYS))
        + 1.0 * np.log1p(state.ad_clicks[who])
        + 1.7 * _CONVERSION_LOGIT[clicks.placement[chosen]]
        + 1.4 * (people.os[who] == OperatingSystem.IOS)
        - 0.9 * people.uses_competitor[who]
    )
    return logit


def _win(state: State, day: Day, clicks: Clicks, chosen: Array) -> None:
    who, ts_ms = clicks.person[chosen], clicks.ts_ms[chosen]
    rng = day.rng
    registers = day.toss(len(who), chance(_register_logit(state, day, clicks, chosen)))
    activates = registers | (day.toss(len(who), 0.2))
    downloads = activates | (day.toss(len(who), 0.07))
    _download(state, day, who[downloads], ts_ms[downloads])
    # most open the app within the hour, some only a day or two later
    delay = np.where(
        day.toss(len(who), 0.8),
        rng.integers(90_000, 3_000_000, len(who)),
        rng.exponential(1.2 * DAY_MS, len(who)),
    ).astype(np.int64)
    state.next_launch_ms[who[activates]] = (ts_ms + 300_000 + delay)[activates]
    state.will_register[who[registers]] = True


def _download(state: State, day: Day, who: Array, ts_ms: Array) -> None:
    fresh = ~state.downloaded[who]
    who, ts_ms = who[fresh], ts_ms[fresh]
    day.journal.write(
        Event.DOWNLOAD, who, ts_ms + day.rng.integers(20_000, 240_000, len(who)), None
    )
    state.downloaded[who] = True


def _wake(state: State, day: Day, clicks: Clicks, chosen: Array) -> None:
    """A registered user's click opens the app, less often the longer it lay idle."""
    who, ts_ms = clicks.person[chosen], clicks.ts_ms[chosen]
    idle = state.idle_days(who, day.start_ms)
    logit = 0.9 - 0.05 * idle + 0.4 * _CONVERSION_LOGIT[clicks.placement[chosen]]
    opens = day.toss(len(who), chance(logit))
    state.next_launch_ms[who[opens]] = ts_ms[opens] + day.rng.integers(2_000, 60_000, opens.sum())


def meet_rivals(state: State, day: Day) -> None:
    """Note a competitor's or the industry's app seen on a phone, about once in three weeks."""
    people = state.people
    arrived = people.arrival_day <= day.number
    rival = np.flatnonzero(arrived & people.uses_competitor & day.toss(len(people), 0.05))
    industry = np.flatnonzero(arrived & day.toss(len(people), 0.024 * chance(people.interest)))
    day.journal.write(Event.COMPETITOR_ACTIVE, rival, day.times(len(rival)))
    day.journal.write(Event.INDUSTRY_ACTIVE, industry, day.times(len(industry)))
