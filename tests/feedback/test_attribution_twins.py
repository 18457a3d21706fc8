"""The ledger says of any order, copies, cuts and crashes what the plain model says of the set."""

import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import pytest
from hypothesis import given, settings, strategies as st

from rta_service.domain.attribution import (
    Attribution,
    Cell,
    Conversion,
    CostRow,
    Fact,
    Place,
    Refund,
    Touch,
    TouchKind,
)
from rta_service.feedback.attributing import cells
from rta_service.nearline.attribution.goals import AttributionRules
from rta_service.nearline.attribution.model import attribute
from rta_service.nearline.attribution.state import Account, oldest
from rta_service.stores.ledger import Ledger

MOST_MS = 3_600_000 * 10
WINDOWS = {"trade": 20, "register": 10}
RULES = AttributionRules(
    WINDOWS, other_window_ms=12, once_ms=25, refund_ms=15, skew_ms=2, late_ms=MOST_MS
)
FORGETFUL = AttributionRules(
    WINDOWS, other_window_ms=12, once_ms=25, refund_ms=15, skew_ms=2, late_ms=10
)

instants = st.integers(1_000, 1_060)
long_instants = st.integers(1_000, 1_120)
channels = st.sampled_from(["", "json", "tencent"])
some_persons = st.sampled_from([(-1,), (2,), (3,), (-1, 2), (2, 3), ()])
some_names = st.sampled_from([(), (), (), (), (10,), (11,), (10, 11)])
places = st.builds(
    Place,
    st.integers(0, 1),
    channels,
    st.sampled_from(["", "s1", "s2"]),
    st.sampled_from(["", "c1", "c2"]),
    st.sampled_from(["", "live", "canary"]),
    st.sampled_from(["", "r1"]),
)
about = st.sampled_from(
    [Place(0, "json", "s1"), Place(0, "json", "", "c1"), Place(1, "", "s2"), Place(1, "", "", "")]
)


def facts_of(when: st.SearchStrategy[int]) -> st.SearchStrategy[list[Fact]]:
    """Draw facts with identities that differ: enough of them to meet."""
    rates = st.tuples(st.booleans(), st.integers(0, 7), st.integers(0, 7)).map(
        lambda drawn: drawn if drawn[0] else (False, 0, 0)
    )
    keys = st.integers(-(2**63), 2**63 - 1) | st.integers(0, 3)
    touches = st.builds(
        lambda ts, key, kind, place, who, rate, cost: Touch(
            ts, key, kind, place, who[0], who[1], cost, *rate
        ),
        when,
        keys,
        st.sampled_from([*TouchKind, TouchKind.CLICK, TouchKind.CLICK]),
        places,
        st.tuples(some_persons, some_names),
        rates,
        st.integers(0, 100),
    )
    conversions = st.builds(
        lambda ts, key, goal, place, who, money, told: Conversion(
            ts, key, goal, place, who[0], who[1], *money, *told
        ),
        when,
        keys,
        st.sampled_from(["trade", "register", "activate", "loan"]),
        places,
        st.tuples(some_persons, some_names),
        st.tuples(st.integers(0, 100), st.integers(0, 2)),
        st.one_of(*[st.just((None, 0))] * 3, st.tuples(places, when)),
    )
    refunds = st.builds(Refund, when, keys, st.integers(1, 2), st.integers(0, 50))
    rows = st.builds(CostRow, when, keys, about, st.integers(0, 1_000))
    return st.lists(
        st.one_of(touches, touches, conversions, conversions, refunds, rows),
        min_size=20,
        max_size=50,
        unique_by=lambda fact: (fact.ts_ms, fact.key),
    )


class Delivery(NamedTuple):
    """How events reach the ledger."""

    seed: int
    copies: int
    batch: int
    crashes: bool


deliveries = st.builds(
    Delivery,
    st.integers(0, 2**32),
    st.integers(1, 5),
    st.sampled_from([1, 2, 7, 30]),
    st.booleans(),
)


class CrashError(Exception):
    """The process dies."""


def batches(facts: Sequence[Fact], size: int) -> Iterator[Sequence[Fact]]:
    for first in range(0, len(facts), size):
        yield facts[first : first + size]


def crash(ledger: Ledger, batch: Sequence[Fact], rules: AttributionRules) -> None:
    with ledger.writing("9-9") as tables:
        Account(tables, rules).apply(batch, MOST_MS)
        raise CrashError


def deliver(
    ledger: Ledger, facts: Sequence[Fact], rules: AttributionRules, delivery: Delivery
) -> None:
    chance = random.Random(delivery.seed)
    for batch in batches(facts, delivery.batch):
        if delivery.crashes and chance.random() < 0.5:
            with pytest.raises(CrashError):
                crash(ledger, batch, rules)
        with ledger.writing("1-1") as tables:
            Account(tables, rules).apply(batch, MOST_MS)


def shuffled(facts: Sequence[Fact], delivery: Delivery) -> list[Fact]:
    chance = random.Random(delivery.seed)
    copied = [fact for fact in facts for _ in range(chance.randint(1, delivery.copies))]
    chance.shuffle(copied)
    return copied


def delayed(facts: Sequence[Fact], delivery: Delivery, most_ms: int) -> list[Fact]:
    """Give facts by their time, copies too, each up to a delay later, often the whole of it."""
    chance = random.Random(delivery.seed)
    arrivals = [
        (fact.ts_ms + chance.choice((0, chance.randint(0, most_ms), most_ms)), fact)
        for fact in facts
        for _ in range(chance.randint(1, delivery.copies))
    ]
    return [fact for _, fact in sorted(arrivals, key=lambda arrival: arrival[0])]


def said(ledger: Ledger) -> tuple[list[Attribution], list[Cell]]:
    return list(ledger.attributions(0, MOST_MS)), cells(ledger, 0, MOST_MS)


def hold_any_order(facts: list[Fact], delivery: Delivery) -> None:
    with TemporaryDirectory() as folder, Ledger(Path(folder) / "ledger.sqlite") as ledger:
        deliver(ledger, shuffled(facts, delivery), RULES, delivery)

        assert said(ledger) == attribute(facts, RULES)
        assert ledger.facts().counted == len(facts)


def hold_what_is_forgotten(facts: list[Fact], delivery: Delivery) -> None:
    arriving = delayed(facts, delivery, FORGETFUL.late_ms)
    with TemporaryDirectory() as folder, Ledger(Path(folder) / "l", slices=1) as ledger:
        deliver(ledger, arriving, FORGETFUL, delivery)

        attributions, found = said(ledger)
        expected = attribute(facts, FORGETFUL)
        kept_ms = oldest(FORGETFUL, ledger.facts().newest_ms).conversion_ms
        assert attributions == [one for one in expected.attributions if one.ts_ms >= kept_ms]
        assert found == expected.cells
        assert ledger.facts().late == 0


@settings(max_examples=25)
@given(facts_of(instants), deliveries)
def test_the_order_and_copies_of_events_cuts_and_crashes_change_nothing(
    facts: list[Fact], delivery: Delivery
) -> None:
    hold_any_order(facts, delivery)


@settings(max_examples=25)
@given(facts_of(long_instants), deliveries)
def test_what_is_forgotten_could_not_matter_any_more(facts: list[Fact], delivery: Delivery) -> None:
    hold_what_is_forgotten(facts, delivery)


@pytest.mark.slow
@settings(max_examples=120)
@given(facts_of(instants), deliveries)
def test_the_order_of_events_changes_nothing_at_length(
    facts: list[Fact], delivery: Delivery
) -> None:
    hold_any_order(facts, delivery)


@pytest.mark.slow
@settings(max_examples=120)
@given(facts_of(long_instants), deliveries)
def test_what_is_forgotten_could_not_matter_at_length(
    facts: list[Fact], delivery: Delivery
) -> None:
    hold_what_is_forgotten(facts, delivery)
