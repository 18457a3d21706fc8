import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, strategies as st

from rta_service.domain.decision import Bid
from rta_service.domain.platform import BidKind
from rta_service.domain.reason import ReasonCode
from rta_service.online.bid import AskedPrice, Bounds, Worth, neutral, price, weight

RATES = st.floats(0, 1)
ANYTHING = st.floats()
KINDS = st.sampled_from(BidKind)
BOUNDS = st.tuples(st.floats(1, 1e6), st.floats(1, 1e6)).map(lambda b: Bounds(min(b), max(b)))
WIDE = Bounds(0.0, 1e15)


@given(KINDS, ANYTHING, st.builds(Worth, ANYTHING, ANYTHING), BOUNDS)
def test_a_bid_is_finite_and_within_bounds_whatever_the_models_say(
    a_strategy: Any, kind: BidKind, mean: float, worth: Worth, bounds: Bounds
) -> None:
    offered = price(a_strategy(answer=kind), mean, worth, AskedPrice(pctr=0.5), bounds)

    if isinstance(offered, Bid):
        assert math.isfinite(offered.value)
        assert math.floor(bounds.low) <= offered.value <= math.ceil(bounds.high)
    else:
        assert offered is ReasonCode.NO_VALUE


@given(KINDS, st.tuples(RATES, RATES), st.floats(1e-6, 1), BOUNDS)
def test_a_better_device_never_gets_a_lower_bid(
    a_strategy: Any, kind: BidKind, rates: tuple[float, float], pctr: float, bounds: Bounds
) -> None:
    strategy, asked = a_strategy(answer=kind), AskedPrice(pctr=pctr)

    worse, better = (
        price(strategy, 0.01, Worth(rate, rate), asked, bounds) for rate in sorted(rates)
    )

    if isinstance(worse, Bid):
        assert isinstance(better, Bid)
        assert better.value >= worse.value


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (BidKind.WEIGHT, 2.0),  # 0.02 / 0.01
        (BidKind.CPA, 60_000_000),  # T * weight
        (BidKind.CPC, 3_000_000),  # T * 0.1
        (BidKind.CPM, 150_000_000),  # 1000 * T * 0.1 * 0.05
    ],
)
def test_each_answer_follows_its_formula(a_strategy: Any, kind: BidKind, value: float) -> None:
    strategy = a_strategy(answer=kind, target_cpa_micros=30_000_000)

    offered = price(strategy, 0.01, Worth(0.1, 0.02), AskedPrice(pctr=0.05), WIDE)

    assert isinstance(offered, Bid)
    assert offered.kind is kind
    assert offered.value == pytest.approx(value)
    assert offered.currency == ("" if kind is BidKind.WEIGHT else "CNY")


def test_a_cpm_needs_the_platforms_pctr(a_strategy: Any) -> None:
    offered = price(a_strategy(answer=BidKind.CPM), 0.01, Worth(0.1, 0.1), AskedPrice(), WIDE)

    assert offered is ReasonCode.NO_PCTR


@pytest.mark.parametrize(
    ("floor", "currency", "is_enough"),
    [
        (150_000_000, "CNY", True),
        (150_000_001, "CNY", False),
        (150_000_001, "", False),
        (150_000_001, "USD", True),  # not comparable: the platform applies its own floor
    ],
)
def test_a_cpm_below_the_floor_is_no_bid(
    a_strategy: Any, floor: int, currency: str, is_enough: bool
) -> None:
    asked = AskedPrice(pctr=0.05, floor_micros=floor, currency=currency)

    offered = price(a_strategy(answer=BidKind.CPM), 0.01, Worth(0.1, 0.02), asked, WIDE)

    assert isinstance(offered, Bid) is is_enough
    assert is_enough or offered is ReasonCode.BELOW_FLOOR


@pytest.mark.parametrize("mean", [0.0, math.nan, -1.0])
def test_without_a_mean_there_is_no_weight(a_strategy: Any, mean: float) -> None:
    assert math.isnan(weight(0.1, mean))
    assert price(a_strategy(), mean, Worth(0.1, 0.1), AskedPrice(), WIDE) is ReasonCode.NO_VALUE


@given(st.lists(st.floats(1e-6, 1), min_size=1, max_size=200))
def test_weights_average_one_over_the_devices_the_mean_is_of(values: list[float]) -> None:
    mean = float(np.mean(values))

    assert np.mean([weight(value, mean) for value in values]) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("kind", "bid"),
    [
        (BidKind.WEIGHT, Bid(BidKind.WEIGHT, 1.0)),
        (BidKind.CPA, Bid(BidKind.CPA, 5, "CNY")),
        (BidKind.CPC, None),
        (BidKind.CPM, None),
    ],
)
def test_a_degraded_yes_bids_as_for_an_average_device(
    a_strategy: Any, kind: BidKind, bid: Bid | None
) -> None:
    strategy = a_strategy(answer=kind)

    assert neutral(strategy, Bounds(0.2, 5.0)) == bid
