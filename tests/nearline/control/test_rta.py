"""Whom a unit takes part for, and weights about 1, where a platform lets no price through."""

from collections.abc import Callable
from math import exp, inf, log

import msgspec
import numpy as np
import pytest
from hypothesis import assume, given, settings, strategies as st
from numpy.typing import NDArray

from rta_service.domain.control import Block, CostGoal, GoalBlock, Limits, Mode, Reason
from rta_service.domain.control_order import (
    CELLS,
    WORTH_BINS,
    Shape,
    Usage,
    bin_floor,
    cell_of,
    worth_bin,
)
from rta_service.domain.errors import InvalidInput
from rta_service.domain.user import LifecycleStage, ValueTier
from rta_service.nearline.control.rta import (
    LEAST_KEPT,
    Shaping,
    Spread,
    Way,
    advance,
    level_weights,
    mean_weight,
    rta_limits,
    spread_budget,
)

Floats = NDArray[np.float64]
STEP_MS = 60_000
START_MS = 1_700_000_000_000
GROWTH_S = cell_of(LifecycleStage.GROWTH, ValueTier.S)
CHURNED_D = cell_of(LifecycleStage.CHURNED, ValueTier.D)

crowds = st.lists(
    st.tuples(st.integers(0, CELLS - 1), st.integers(1, WORTH_BINS - 1), st.floats(1.0, 1_000.0)),
    min_size=1,
    max_size=40,
)
smooth_crowds = st.lists(
    st.tuples(st.integers(0, CELLS - 1), st.integers(1, 50), st.floats(10.0, 1_000.0)),
    min_size=1,
    max_size=6,
).map(lambda hills: [(cell, at + n, people) for cell, at, people in hills for n in range(12)])
some_shares = st.dictionaries(st.integers(0, CELLS - 1), st.floats(0.0, 0.25), max_size=4)


@pytest.fixture
def block() -> Callable[..., Block]:
    def build(log_multiplier: float = 0.0, **fields: object) -> Block:
        goal = GoalBlock(CostGoal.DEEP, 100e6, 1.0, log_multiplier, 0.01)
        made = Block("spring@json", 1, START_MS, STEP_MS, Mode.TCPA, (goal,))
        return msgspec.structs.replace(made, **fields)

    return build


def people_of(rows: list[tuple[int, int, float]]) -> Floats:
    counts = np.zeros((CELLS, WORTH_BINS))
    for cell, place, people in rows:
        counts[cell, place] += people
    return counts


def answers(worths: Floats, shape: Shape | None, bounds: tuple[float, float]) -> Floats:
    """Weigh as a worker does; NaN for those who are left out."""
    mean = 0.2 if shape is None else shape.mean_worth
    weights = np.clip(np.round(worths / mean, 2), *bounds)
    return np.where(worths >= (0.0 if shape is None else shape.least_worth), weights, np.nan)


def usage_of(worths: Floats, weights: Floats, cell: int = 0) -> Usage:
    places, people = np.unique([worth_bin(worth) for worth in worths], return_counts=True)
    return Usage(
        "spring@json",
        answered=int(np.isfinite(weights).sum()),
        weight_millis=int(np.nansum(np.round(weights * 1_000))),
        worths=dict(zip((cell * WORTH_BINS + places).tolist(), people.tolist(), strict=True)),
    )


def settle(worths: Floats, block: Block, way: Way, steps: int = 30) -> tuple[Shaping, Floats]:
    shaping, seen = Shaping(), usage_of(worths, worths).worths
    for step in range(steps):
        weights = answers(worths, shaping.shape, way.bounds)
        told = usage_of(worths[:0], weights)
        told.worths = seen
        shaping = advance(shaping, told, block, way, START_MS + step * STEP_MS)
    return shaping, answers(worths, shaping.shape, way.bounds)


def kept_of_cell(counts: Floats, spread: Spread, cell: int) -> float:
    present = np.flatnonzero(counts.sum(axis=1) > 0.0).tolist()
    return float(spread.kept[present.index(cell)].sum()) if cell in present else 0.0


@given(
    centre=st.floats(-6.0, -1.5),
    spread=st.floats(0.0, 1.5),
    level=st.floats(-1.5, 0.5),
    seed=st.integers(0, 2**31),
)
@settings(max_examples=25, deadline=None)
def test_the_mean_of_answered_weights_is_one(
    centre: float, spread: float, level: float, seed: int
) -> None:
    drawn = np.random.default_rng(seed).standard_normal(1_000)
    worths = np.minimum(np.exp(centre + spread * drawn), 1.0)
    goal = GoalBlock(CostGoal.DEEP, 100e6, 1.0, level, 0.01)
    block = Block("spring@json", 1, START_MS, STEP_MS, Mode.TCPA, (goal,))

    _, weights = settle(worths, block, Way(bounds=(0.2, 5.0)))

    assume(not np.isnan(weights).all())  # people of one worth can be left out together
    assert 0.95 <= np.nanmean(weights) <= 1.05


def test_weights_find_their_mean_again_when_people_change(block: Callable[..., Block]) -> None:
    drawn = np.random.default_rng(1).standard_normal(1_000)
    before, after = 0.1 * np.exp(0.7 * drawn), 0.2 * np.exp(0.4 * drawn)
    shaping, _ = settle(before, block(), Way())

    for step in range(240):  # 4 hours
        weights = answers(after, shaping.shape, (0.2, 5.0))
        now_ms = START_MS + (step + 30) * STEP_MS
        shaping = advance(shaping, usage_of(after, weights), block(), Way(), now_ms)

    assert 0.95 <= answers(after, shaping.shape, (0.2, 5.0)).mean() <= 1.05


def test_a_cost_too_high_leaves_out_the_least_worth(block: Callable[..., Block]) -> None:
    worths = 0.1 * np.exp(0.8 * np.random.default_rng(2).standard_normal(2_000))

    shaping, weights = settle(worths, block(-0.3), Way())

    taken = np.isfinite(weights)
    assert worths[taken].mean() == pytest.approx(exp(0.3) * worths.mean(), rel=0.03)
    assert shaping.keep == pytest.approx(taken.mean(), abs=0.03)


def test_a_share_of_people_stays_whatever_the_cost(block: Callable[..., Block]) -> None:
    worths = 0.1 * np.exp(0.8 * np.random.default_rng(3).standard_normal(2_000))

    shaping, weights = settle(worths, block(-2.5), Way())

    assert shaping.keep == LEAST_KEPT
    assert np.isfinite(weights).mean() == pytest.approx(LEAST_KEPT, abs=0.02)
    assert worths[np.isfinite(weights)].mean() == pytest.approx(
        exp(-shaping.reach) * worths.mean(), rel=0.05
    )


@pytest.mark.parametrize("worth", [1.0, 0.3, 0.302, 0.0071])
def test_people_of_one_worth_all_stay(block: Callable[..., Block], worth: float) -> None:
    shaping, weights = settle(np.full(500, worth), block(-0.5, log_budget=-0.9), Way())

    assert np.isfinite(weights).all()
    assert shaping.kept == 1.0
    assert shaping.reach == pytest.approx(0.0)
    assert weights == pytest.approx(1.0, abs=0.02)


def test_a_budget_keeps_its_share_of_the_best(block: Callable[..., Block]) -> None:
    worths = 0.1 * np.exp(0.8 * np.random.default_rng(4).standard_normal(2_000))

    shaping, weights = settle(worths, block(-0.1, log_budget=log(0.4)), Way())

    assert shaping.keep == pytest.approx(0.4)
    assert np.isfinite(weights).mean() == pytest.approx(0.4, abs=0.02)


def test_a_stopped_unit_wants_nobody_and_a_halved_one_half(block: Callable[..., Block]) -> None:
    worths = 0.1 * np.exp(0.8 * np.random.default_rng(5).standard_normal(2_000))

    stopped, _ = settle(worths, block(throttle=0.0), Way())
    halved, _ = settle(worths, block(throttle=0.5), Way())

    assert stopped.shape is not None
    assert stopped.shape.least_worth == inf
    assert halved.keep == 0.5


def test_the_goal_that_the_platform_holds_moves_no_threshold(block: Callable[..., Block]) -> None:
    worths = 0.1 * np.exp(0.8 * np.random.default_rng(6).standard_normal(2_000))
    goals = (
        GoalBlock(CostGoal.SHALLOW, 20e6, 1.0, -0.4, 0.05),
        GoalBlock(CostGoal.DEEP, 100e6, 1.0, 0.0, 0.01),
    )

    ours, _ = settle(worths, block(goals=goals), Way())
    theirs, _ = settle(worths, block(goals=goals), Way(held=CostGoal.SHALLOW))
    follows = msgspec.structs.replace(goals[0], reason=Reason.FOLLOWS_ACTIVE)
    other, _ = settle(worths, block(goals=(follows,)), Way(held=CostGoal.SHALLOW))

    assert ours.keep < 0.8
    assert theirs.keep == 1.0
    assert other.keep == pytest.approx(ours.keep)  # it stands for the goal that it follows


def test_where_prices_are_answered_nobody_is_left_out(block: Callable[..., Block]) -> None:
    worths = 0.1 * np.exp(0.8 * np.random.default_rng(7).standard_normal(1_000))

    shaping, _ = settle(worths, block(-1.0, log_budget=-1.0), Way(weighs=False))

    assert shaping.shape is not None
    assert shaping.shape.least_worth == 0.0


def test_thresholds_do_not_flap_with_a_wavering_level(block: Callable[..., Block]) -> None:
    worths = 0.1 * np.exp(0.8 * np.random.default_rng(8).standard_normal(2_000))
    shaping, _ = settle(worths, block(-0.3), Way())
    keeps = set()

    for step in range(40):
        weights = answers(worths, shaping.shape, (0.2, 5.0))
        wavering = block(-0.3 + 0.004 * (-1) ** step)
        now_ms = START_MS + (step + 30) * STEP_MS
        shaping = advance(shaping, usage_of(worths, weights), wavering, Way(), now_ms)
        keeps.add(shaping.keep)

    assert len(keeps) == 1


def test_nothing_is_shaped_before_enough_people_were_seen(block: Callable[..., Block]) -> None:
    few = usage_of(np.full(50, 0.1), np.full(50, 1.0))

    assert advance(Shaping(), few, block(-1.0), Way(), START_MS).shape is None


def test_weights_of_a_guarantee_say_nothing_about_the_shape(block: Callable[..., Block]) -> None:
    worths = 0.1 * np.exp(0.8 * np.random.default_rng(9).standard_normal(2_000))
    way = Way(guarantee_until_ms=START_MS + 1_000 * STEP_MS)

    told = settle(worths, block(), way)[0]
    plain = settle(worths, block(), Way())[0]

    assert (told.told, told.meant) == (0.0, 0.0)
    assert told.shape is not None
    assert plain.shape is not None
    assert told.shape.mean_worth == pytest.approx(plain.shape.mean_worth, rel=0.05)


def test_a_shaping_is_saved_and_loaded(block: Callable[..., Block]) -> None:
    worths = 0.1 * np.exp(0.8 * np.random.default_rng(10).standard_normal(500))
    shaping, _ = settle(worths, block(-0.3), Way(shares={GROWTH_S: 0.2}))

    assert msgspec.msgpack.decode(msgspec.msgpack.encode(shaping), type=Shaping) == shaping


@given(rows=crowds, shares=some_shares, share=st.floats(0.01, 1.2))
@settings(max_examples=60, deadline=None)
def test_a_spread_keeps_at_least_the_total_and_every_least_share(
    rows: list[tuple[int, int, float]], shares: dict[int, float], share: float
) -> None:
    counts = people_of(rows)
    total = share * float(counts.sum())

    spread = spread_budget(shares, counts, total)

    present = counts[counts.sum(axis=1) > 0.0]
    assert float(spread.kept.sum()) >= 0.98 * min(total, float(counts.sum()))
    assert (spread.kept >= 0.0).all()
    assert (spread.kept.sum(axis=1) <= present.sum(axis=1) * (1.0 + 1e-9)).all()
    for cell, least in shares.items():
        wanted = min(least * total, float(counts[cell].sum()))
        assert kept_of_cell(counts, spread, cell) >= 0.98 * wanted - 1e-6


@given(rows=smooth_crowds, shares=some_shares, share=st.floats(0.01, 1.2))
@settings(max_examples=60, deadline=None)
def test_a_spread_keeps_just_the_total_where_worths_differ(
    rows: list[tuple[int, int, float]], shares: dict[int, float], share: float
) -> None:
    counts = people_of(rows)
    total = share * float(counts.sum())

    spread = spread_budget(shares, counts, total)

    assert float(spread.kept.sum()) == pytest.approx(min(total, counts.sum()), rel=0.02)


@given(rows=crowds, share=st.floats(0.05, 0.95))
@settings(max_examples=40, deadline=None)
def test_without_shares_one_threshold_holds_for_all(
    rows: list[tuple[int, int, float]], share: float
) -> None:
    counts = people_of(rows)

    spread = spread_budget({}, counts, share * float(counts.sum()))

    assert spread.by_cell == {}
    present = counts[counts.sum(axis=1) > 0.0]
    lost = np.repeat(present / 8, 8, axis=1) - spread.kept
    floors = np.array([bin_floor(place) for place in range(WORTH_BINS)])
    above = np.repeat(floors, 8) >= spread.least * 1.0001
    assert lost[:, above] == pytest.approx(0.0, abs=1e-6)


@given(rows=crowds, shares=some_shares, low=st.floats(0.05, 0.5), more=st.floats(0.0, 0.5))
@settings(max_examples=40, deadline=None)
def test_more_money_never_raises_the_common_threshold(
    rows: list[tuple[int, int, float]], shares: dict[int, float], low: float, more: float
) -> None:
    counts = people_of(rows)
    people = float(counts.sum())
    assume(sum(shares.values()) < 0.9)

    less = spread_budget(shares, counts, low * people)
    rest = spread_budget(shares, counts, (low + more) * people)

    assert rest.least <= less.least * 1.03 + 1e-9


def test_cells_over_their_share_give_way_first() -> None:
    counts = np.zeros((CELLS, WORTH_BINS))
    counts[GROWTH_S, 30:40], counts[CHURNED_D, 40:50] = 100.0, 100.0

    free = spread_budget({}, counts, 1_000.0)
    held = spread_budget({GROWTH_S: 0.3}, counts, 1_000.0)

    assert kept_of_cell(counts, free, GROWTH_S) == pytest.approx(0.0, abs=1.0)
    assert kept_of_cell(counts, held, GROWTH_S) == pytest.approx(300.0, rel=0.02)
    assert kept_of_cell(counts, held, CHURNED_D) == pytest.approx(700.0, rel=0.02)
    assert set(held.by_cell) == {GROWTH_S}
    assert held.by_cell[GROWTH_S] < held.least


def test_shares_of_more_than_all_are_refused() -> None:
    counts = people_of([(GROWTH_S, 30, 10.0)])

    with pytest.raises(InvalidInput, match="together at most 1"):
        spread_budget({0: 0.7, 1: 0.6}, counts, 5.0)
    with pytest.raises(InvalidInput, match="at least 0"):
        spread_budget({0: -0.1}, counts, 5.0)


def test_bounds_without_one_give_the_nearest_mean() -> None:
    people = np.repeat(people_of([(0, 40, 100.0)])[0], 8)

    assert mean_weight(people, (1.5, 5.0), level_weights(people, (1.5, 5.0))) == pytest.approx(1.5)


def test_levels_of_a_weighing_unit_stay_where_they_act() -> None:
    limits = Limits(lowest=-2.5, highest=3.0, max_bid_micros=7)

    bounded = rta_limits(limits, -0.7)
    assert (bounded.lowest, bounded.highest, bounded.budget_lowest) == (-0.7, 0.0, -2.5)
    assert rta_limits(limits).lowest == pytest.approx(log(LEAST_KEPT))
    assert rta_limits(limits, 0.2).lowest == 0.0
    assert bounded.max_bid_micros == 7
