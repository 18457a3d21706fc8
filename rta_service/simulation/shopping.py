"""What people do once they open the app: browse, register, buy, sell, and come back or not."""

from typing import Final

import numpy as np

from rta_service.domain.events import Event
from rta_service.domain.user import Role
from rta_service.simulation.journal import DAY_MS, NEVER_MS, Day, State, chance
from rta_service.simulation.people import CATEGORIES, Array

MINUTE_MS: Final = 60_000
ITEMS: Final = 200_000
_WORD_OF_MOUTH: Final = 0.012
_INSTALLS_ON_ARRIVAL: Final = 0.55


def open_app(state: State, day: Day) -> None:
    """Run the app's day: everyone whose next launch falls on it."""
    _arrive_by_word_of_mouth(state, day)
    who = np.flatnonzero(state.next_launch_ms < day.end_ms)
    ts_ms = np.maximum(state.next_launch_ms[who], day.start_ms)
    _activate(state, day, who, ts_ms)
    day.journal.write(Event.LAUNCH, who, ts_ms)
    carts = _browse(state, day, who, ts_ms)
    _register(state, day, who, ts_ms)
    paid = _pay(state, day, who, (ts_ms, carts))
    _sell(state, day, who, ts_ms)
    _opt_out(state, day, who, ts_ms)
    _plan_next_launch(state, day, who, (ts_ms, paid))
    state.last_launch_ms[who] = ts_ms


def _arrive_by_word_of_mouth(state: State, day: Day) -> None:
    people = state.people
    on_arrival = np.where(people.arrival_day == day.number, _INSTALLS_ON_ARRIVAL, 0.0)
    odds = (_WORD_OF_MOUTH + on_arrival) * np.exp(0.4 * people.interest)
    fresh = ~state.downloaded & (people.arrival_day <= day.number)
    who = np.flatnonzero(fresh & day.toss(len(people), odds))
    ts_ms = day.times(len(who))
    day.journal.write(Event.DOWNLOAD, who, ts_ms)
    state.downloaded[who] = True
    state.will_register[who] = day.toss(len(who), 0.6)
    state.next_launch_ms[who] = ts_ms + day.rng.integers(MINUTE_MS, 60 * MINUTE_MS, len(who))


def _activate(state: State, day: Day, who: Array, ts_ms: Array) -> None:
    fresh = ~state.activated[who]
    day.journal.write(Event.ACTIVATE, who[fresh], ts_ms[fresh] - 2_000)
    state.activated[who] = True


def _goods(state: State, day: Day, who: Array) -> dict[str, Array]:
    rng = day.rng
    favourite = state.people.favourites[who, (day.toss(len(who), 0.35)).astype(np.int64)]
    category = np.where(
        day.toss(len(who), 0.8), favourite, rng.integers(0, len(CATEGORIES), len(who))
    )
    item = category + len(CATEGORIES) * rng.integers(0, ITEMS // len(CATEGORIES), len(who))
    return {"category": category, "item": item}


def _browse(state: State, day: Day, who: Array, ts_ms: Array) -> Array:
    """View, search and fill carts; returns the carts a launch."""
    rng = day.rng
    keen = np.exp(0.4 * state.people.interest[who])
    carts = rng.poisson(0.12 * keen)
    for event, count in (
        (Event.VIEW, rng.poisson(1.3 * keen)),
        (Event.SEARCH, rng.poisson(0.5 * keen)),
        (Event.CART, carts),
    ):
        person = np.repeat(who, count)
        seen_ms = np.repeat(ts_ms, count) + rng.integers(5_000, 15 * MINUTE_MS, len(person))
        day.journal.write(event, person, seen_ms, _goods(state, day, person))
        state.browses[who] += count
    return carts


def _register(state: State, day: Day, who: Array, ts_ms: Array) -> None:
    organic = chance(-4.6 + 0.9 * state.people.interest[who] + 0.9 * np.log1p(state.browses[who]))
    registers = ~state.registered[who] & (state.will_register[who] | day.toss(len(who), organic))
    who, ts_ms = who[registers], ts_ms[registers]
    ts_ms = ts_ms + day.rng.integers(1_000, 4_000, len(who))
    day.journal.write(Event.REGISTER, who, ts_ms)
    state.registered[who] = True
    state.registered_ms[who] = ts_ms


def _pay(state: State, day: Day, who: Array, visit: tuple[Array, Array]) -> Array:
    """Let registered people buy; returns who paid, as flags."""
    ts_ms, carts = visit
    people, rng = state.people, day.rng
    idle = np.minimum(state.idle_days(who, day.start_ms), 30.0)
    logit = (
        -2.1
        + 0.7 * people.interest[who]
        + 0.35 * np.minimum(np.log1p(state.orders[who]), 1.8)
        + 0.9 * (carts > 0)
        - 0.02 * idle
        - 0.4 * people.uses_competitor[who]
        - 2.0 * (people.role[who] == Role.PROFESSIONAL_SELLER)
    )
    paid = state.registered[who] & (day.toss(len(who), chance(logit)))
    buyers = who[paid]
    cents = np.maximum(rng.lognormal(8.9 + 0.25 * people.interest[buyers], 1.0), 100)
    extra = {
        **_goods(state, day, buyers),
        "cents": cents.astype(np.int64),
        "order": day.journal.new_orders(len(buyers)),
    }
    paid_ms = ts_ms[paid] + rng.integers(15 * MINUTE_MS, 30 * MINUTE_MS, len(buyers))
    day.journal.write(Event.PAY, buyers, paid_ms, extra)
    state.orders[buyers] += 1
    _refund(day, buyers, paid_ms, extra)
    return paid


def _refund(day: Day, buyers: Array, paid_ms: Array, order: dict[str, Array]) -> None:
    back = day.toss(len(buyers), 0.03)
    back_ms = paid_ms[back] + day.rng.integers(DAY_MS // 2, 6 * DAY_MS, back.sum())
    day.journal.write(
        Event.REFUND, buyers[back], back_ms, {name: column[back] for name, column in order.items()}
    )


def _sell(state: State, day: Day, who: Array, ts_ms: Array) -> None:
    """Let sellers publish; much of it is sold within days."""
    rng, role = day.rng, state.people.role[who]
    listings = np.where(
        role == Role.PROFESSIONAL_SELLER,
        rng.poisson(1.6, len(who)),
        (role == Role.PRIVATE_SELLER) & (day.toss(len(who), 0.10)),
    )
    count = np.where(state.registered[who], listings, 0)
    person = np.repeat(who, count)
    published_ms = np.repeat(ts_ms, count) + rng.integers(MINUTE_MS, 30 * MINUTE_MS, len(person))
    goods = _goods(state, day, person)
    day.journal.write(Event.PUBLISH, person, published_ms, goods)
    sold = day.toss(len(person), 0.3)
    sold_ms = published_ms[sold] + rng.exponential(4 * DAY_MS, sold.sum()).astype(np.int64)
    extra = {name: column[sold] for name, column in goods.items()}
    extra["cents"] = rng.lognormal(8.7, 1.0, sold.sum()).astype(np.int64)
    extra["order"] = day.journal.new_orders(int(sold.sum()))
    day.journal.write(Event.SOLD, person[sold], sold_ms, extra)


def _opt_out(state: State, day: Day, who: Array, ts_ms: Array) -> None:
    leaves = state.registered[who] & day.toss(len(who), 0.0012)
    day.journal.write(Event.OPT_OUT, who[leaves], ts_ms[leaves] + 5 * MINUTE_MS)
    regrets = np.flatnonzero(leaves)[day.toss(leaves.sum(), 0.1)]
    day.journal.write(Event.OPT_IN, who[regrets], ts_ms[regrets] + 9 * MINUTE_MS)


def _plan_next_launch(state: State, day: Day, who: Array, visit: tuple[Array, Array]) -> None:
    """Come back soon to look after an order, else after a heavy-tailed while, or never."""
    ts_ms, paid = visit
    people, rng = state.people, day.rng
    loyal = 0.45 * people.interest[who] + 0.35 * np.log1p(state.orders[who])
    professional = people.role[who] == Role.PROFESSIONAL_SELLER
    gap_days = np.exp(2.2 - 0.25 * loyal - 1.0 * professional + 0.9 * rng.standard_normal(len(who)))
    after_order = 0.2 + rng.exponential(2.6, len(who))
    gap_days = np.where(paid & (day.toss(len(who), 0.8)), after_order, gap_days)
    lapse = chance(-3.7 - 1.0 * loyal - 0.7 * state.registered[who] - 1.5 * professional)
    next_ms = ts_ms + (gap_days * DAY_MS).astype(np.int64)
    # one launch a day is written down; a second one on the same day moves to the next morning
    morning = day.end_ms + rng.integers(6 * 60 * MINUTE_MS, 12 * 60 * MINUTE_MS, len(who))
    next_ms = np.where(next_ms < day.end_ms, morning, next_ms)
    gone = ~paid & (day.toss(len(who), lapse))
    state.next_launch_ms[who] = np.where(gone, NEVER_MS, next_ms)
