"""The fast bid is the formula's, in every mode, for every number."""

from math import exp, inf, isnan, nan
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from rta_service.domain.control import Block, CostGoal, GoalBlock, Mode, Reason
from rta_service.domain.control_pricing import bid_plainly, bids, is_stale, prices

GOALS = {
    Mode.TCPA: (CostGoal.DEEP,),
    Mode.COST_CAP: (CostGoal.SHALLOW,),
    Mode.MAX_CONVERSIONS: (CostGoal.DEEP,),
    Mode.DUAL_GUARANTEE: (CostGoal.SHALLOW, CostGoal.DEEP),
    Mode.DEEP_BOOST: (CostGoal.SHALLOW,),
    Mode.ROAS: (CostGoal.VALUE,),
}
levels = st.floats(-2.5, 3.0)
strange = st.sampled_from([nan, inf, -inf, -1.0])
predictions = st.floats(0.0, 1.0) | strange


@st.composite
def blocks(draw: Any) -> Block:
    mode = draw(st.sampled_from(Mode))
    goals = tuple(
        GoalBlock(
            goal,
            draw(st.floats(1e4, 1e9)),
            draw(st.floats(0.1, 10.0)),
            draw(levels),
            draw(st.floats(0.0, 1.0)),
            draw(st.sampled_from([Reason.TOO_DEAR, Reason.MODEL_UNSOUND])),
        )
        for goal in GOALS[mode]
    )
    return Block(
        unit_id="u",
        version=1,
        made_at_ms=0,
        period_ms=60_000,
        mode=mode,
        goals=goals,
        log_budget=draw(st.none() | levels),
        theta=draw(st.floats(0.0, 1.0)),
        mean_deep_rate=draw(st.sampled_from([0.0, 0.1, 0.3])),
        throttle=draw(st.sampled_from([0.0, 0.5, 1.0])),
        cap_micros=draw(st.none() | st.floats(1.0, 1e9)),
        neutral_micros=draw(st.floats(0.0, 1e6)),
    )


@settings(max_examples=200)
@given(
    st.lists(blocks(), min_size=1, max_size=4),
    st.lists(st.tuples(predictions, predictions, predictions), min_size=1, max_size=4),
    st.sampled_from([0, 60_000, 400_000, 3_600_000]),
)
def test_the_batch_bids_as_the_formulas_say(
    units: list[Block], rows: list[tuple[float, float, float]], now_ms: int
) -> None:
    wide = np.array(rows).T[:, :, None] * np.ones(len(units))

    fast, bad = bids(prices(units, now_ms), wide)

    plain = np.array([[bid_plainly(unit, row, now_ms) for unit in units] for row in rows])
    strange_rows = np.array([any(isnan(p) or p < 0 or p == inf for p in row) for row in rows])
    assert fast == pytest.approx(plain, rel=1e-9, abs=1e-9)
    assert (bad == strange_rows[:, None]).all()
    assert (fast >= 0).all()
    assert np.isfinite(fast).all()


def block(mode: Mode = Mode.TCPA, level: float = 0.5, **changes: Any) -> Block:
    goals = (GoalBlock(CostGoal.SHALLOW, 20e6, 1.0, level, 0.01),)
    return Block("u", 1, 0, 60_000, mode, goals, **changes)


def test_the_budget_is_joined_by_the_least_not_the_product() -> None:
    tight, loose = block(log_budget=-1.0), block(log_budget=2.0)

    offers, _ = bids(prices([tight, loose], 0), np.full((3, 1, 2), 0.01))

    assert offers[0] == pytest.approx([2e5 * exp(-1.0), 2e5 * exp(0.5)])


def test_a_boost_prefers_deep_converters_and_leaves_the_mean_alone() -> None:
    boosted = block(Mode.DEEP_BOOST, 0.0, theta=0.5, mean_deep_rate=0.2)
    rows = np.array([[0.01, 0.01], [0.001, 0.003], [0.0, 0.0]])[:, :, None]

    offers, _ = bids(prices([boosted], 0), rows)

    assert offers[0, 0] < 2e5 < offers[1, 0]
    assert offers.mean() == pytest.approx(2e5)


def test_a_stale_block_fades_to_neutral_and_a_fresh_one_does_not() -> None:
    offers = [bids(prices([block()], at), np.full((3, 1, 1), 0.01))[0][0, 0] for at in (0, 360_000)]

    assert offers == pytest.approx([2e5 * exp(0.5), 2e5 * exp(0.25)])
    assert not is_stale(block(), 300_000)
    assert is_stale(block(), 300_001)


def test_no_units_have_no_bids() -> None:
    assert bids(prices([], 0), np.empty((3, 5, 0)))[0].shape == (5, 0)
