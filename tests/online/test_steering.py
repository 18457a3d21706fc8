"""What a control order makes of every kind of answer."""

from math import inf, log, nan
from statistics import fmean, pstdev
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings, strategies as st

from rta_service.domain.control import (
    Aim,
    Block,
    Budget,
    CostGoal,
    GoalBlock,
    Limits,
    Mode,
    Reason,
    Targets,
)
from rta_service.domain.control_order import (
    WORTH_BINS,
    ControlSettings,
    Order,
    Shape,
    Usage,
    bin_floor,
    cell_of,
    worth_bin,
)
from rta_service.domain.control_pricing import bid_plainly, bids, prices
from rta_service.domain.decision import Bid, Prediction, Steered
from rta_service.domain.platform import BidKind
from rta_service.domain.reason import ReasonCode
from rta_service.domain.strategy import Goal, OptimisedEvent
from rta_service.online.steering import Account, Case, Steering, _bin
from rta_service.online.steering_layout import lay_out, rescaled, starting_block
from rta_service.scoring.model_set import ValueRule

NOW_MS = 1_717_286_400_000
SCORES = {"register": 0.05, "trade": 0.01}
PCVR = Prediction(0.05, 0.01)
GOALS = {
    Mode.TCPA: (CostGoal.DEEP,),
    Mode.COST_CAP: (CostGoal.SHALLOW,),
    Mode.MAX_CONVERSIONS: (CostGoal.DEEP,),
    Mode.DUAL_GUARANTEE: (CostGoal.SHALLOW, CostGoal.DEEP),
    Mode.DEEP_BOOST: (CostGoal.SHALLOW,),
    Mode.ROAS: (CostGoal.VALUE,),
}
levels = st.floats(-2.5, 3.0)
odd = st.sampled_from([nan, inf, -1.0])


@st.composite
def orders(draw: Any) -> Order:
    """Any order with the targets of its settings, so that nothing is rescaled."""
    mode = draw(st.sampled_from(Mode))
    shallow, deep = draw(st.integers(10**4, 10**9)), draw(st.integers(10**4, 10**9))
    targets = Targets(shallow, deep, draw(st.floats(0.01, 100.0)), 0.1)
    aim = Aim(mode, targets, GOALS[mode][0])
    goals = tuple(
        GoalBlock(
            goal,
            float(targets.price(goal) or 0.0),
            draw(st.floats(0.1, 10.0)),
            draw(levels),
            draw(st.floats(0.0, 1.0)),
            draw(st.sampled_from([Reason.TOO_DEAR, Reason.MODEL_UNSOUND])),
        )
        for goal in GOALS[mode]
    )
    block = Block(
        "s@json",
        draw(st.integers(1, 10**6)),
        NOW_MS - draw(st.integers(0, 200_000)),
        15_000,
        mode,
        goals,
        draw(st.none() | levels),
        draw(st.floats(0.0, 1.0)),
        draw(st.sampled_from([0.0, 0.1, 0.3])),
        draw(st.sampled_from([0.5, 1.0])),
        draw(st.none() | st.floats(1.0, 1e9)),
        draw(st.floats(0.0, 1e6)),
    )
    return Order(block, ControlSettings(aim, explore_share=0.0))


@given(orders(), st.floats(0.0, 1.0) | odd, st.floats(0.0, 1.0) | odd)
@settings(max_examples=300, deadline=None)
def test_a_price_a_click_is_what_the_formulas_say(
    kit: Any, order: Order, register: float, trade: float
) -> None:
    strategy = _strategy(kit, BidKind.CPC, order.settings)
    value = trade * strategy.target_cpa_micros / 1e6
    plain = bid_plainly(order.block, (register, trade, value), NOW_MS)
    batch, _ = bids(
        prices([order.block], NOW_MS), np.array([register, trade, value])[:, None, None]
    )

    offered = _price(kit, strategy, order, pcvr=Prediction(register, trade))

    found = offered.value if isinstance(offered, Bid) else 0.0
    assert batch[0, 0] == pytest.approx(plain, rel=1e-9, abs=1e-9)
    assert found == pytest.approx(plain, rel=1e-9, abs=1.0)


@given(
    orders(),
    st.sampled_from([BidKind.CPM, BidKind.CPA]),
    st.tuples(st.floats(1e-6, 1.0), st.floats(0.0, 1.0)),
    st.floats(1e-4, 1.0),
)
@settings(max_examples=200, deadline=None)
def test_the_other_prices_are_that_price_in_their_own_unit(
    kit: Any, order: Order, answer: BidKind, predicted: tuple[float, float], pctr: float
) -> None:
    register, trade = predicted
    strategy = _strategy(kit, answer, order.settings, optimises=OptimisedEvent.REGISTER)
    value = trade * strategy.target_cpa_micros / 1e6
    plain = bid_plainly(order.block, (register, trade, value), NOW_MS)
    wanted = {BidKind.CPM: 1000.0 * pctr * plain, BidKind.CPA: plain / register}[answer]

    offered = _price(
        kit,
        strategy,
        order,
        scores={"register": register, "trade": trade},
        pcvr=Prediction(register, trade),
        pctr=pctr,
    )

    found = offered.value if isinstance(offered, Bid) else 0.0
    assert found == pytest.approx(min(wanted, strategy.max_bid), rel=1e-9, abs=1.0)


@pytest.mark.parametrize(
    ("answer", "event", "pctr", "price"),
    [
        (BidKind.CPC, OptimisedEvent.CLICK, None, 300_000),
        (BidKind.CPM, OptimisedEvent.CLICK, 0.02, 6_000_000),
        (BidKind.CPA, OptimisedEvent.CLICK, None, 300_000),
        (BidKind.CPA, OptimisedEvent.REGISTER, None, 6_000_000),
    ],
)
def test_each_kind_of_price_is_the_clicks_worth_in_its_own_unit(
    kit: Any, answer: BidKind, event: OptimisedEvent, pctr: float | None, price: int
) -> None:
    strategy = _strategy(kit, answer, kit.settings_of(), optimises=event)

    offered = _price(kit, strategy, kit.an_order(), pctr=pctr)

    assert offered == Bid(answer, price, "CNY")


def test_what_a_click_is_worth_at_most_holds_for_every_price(kit: Any) -> None:
    order = kit.an_order(cap_micros=100_000.0)
    account = Account(Usage("s@json"))

    cpm = _price(kit, _strategy(kit, BidKind.CPM, kit.settings_of()), order, account, pctr=0.02)

    assert cpm == Bid(BidKind.CPM, 2_000_000, "CNY")
    assert (account.usage.capped, account.usage.answered) == (1, 1)


def test_a_price_is_in_whole_units_of_the_platforms_money(kit: Any) -> None:
    strategy = _strategy(kit, BidKind.CPC, kit.settings_of())
    goals = (GoalBlock(CostGoal.DEEP, 3e7, 1.0, log(1.234), 0.01),)
    order = kit.an_order("s@tencent", goals=goals)

    fen = _price(kit, strategy, order, platform="tencent")
    micros = _price(kit, strategy, kit.an_order(goals=goals))

    assert fen == Bid(BidKind.CPC, 370_000, "CNY")
    assert micros == Bid(BidKind.CPC, 370_200, "CNY")


def test_a_cpm_below_the_floor_or_without_a_pctr_is_a_no(kit: Any) -> None:
    strategy = _strategy(kit, BidKind.CPM, kit.settings_of())

    assert _price(kit, strategy, kit.an_order()) is ReasonCode.NO_PCTR
    low = _price(kit, strategy, kit.an_order(), pctr=0.02, bid_floor_micros=6_000_001)
    assert low is ReasonCode.BELOW_FLOOR


def test_money_is_held_for_each_cpm_answer_until_there_is_none(kit: Any) -> None:
    strategy = _strategy(kit, BidKind.CPM, kit.settings_of())
    account = Account(Usage("s@json"))
    account.purse.put(7_500, 5.0)
    order = kit.an_order(hold_rate=0.5)

    found = [_price(kit, strategy, order, account, pctr=0.02) for _ in range(3)]

    assert [isinstance(one, Bid) for one in found] == [True, True, False]
    assert found[2] is ReasonCode.NO_BUDGET
    assert account.purse.left == 1_500
    usage = account.usage
    assert (usage.held_micros, usage.no_money, usage.answered) == (6_000, 1, 2)
    assert usage.price_micros == 12_000_000


def test_what_does_not_count_holds_no_money_and_is_not_told(kit: Any) -> None:
    strategy = _strategy(kit, BidKind.CPM, kit.settings_of())
    account = Account(Usage("s@json"))
    order = kit.an_order(hold_rate=0.5, shape=Shape(0.01))

    offered = _price(kit, strategy, order, account, counts=False, pctr=0.02)

    assert isinstance(offered, Bid)
    assert account.usage == Usage("s@json")


def test_a_weight_is_the_worth_over_its_mean_to_two_decimals(kit: Any) -> None:
    strategy = _strategy(kit, BidKind.WEIGHT, kit.settings_of())
    account = Account(Usage("s@json"))

    shaped = _price(kit, strategy, kit.an_order(shape=Shape(0.007)), account)
    unshaped = _price(kit, strategy, kit.an_order())

    assert shaped == Bid(BidKind.WEIGHT, 1.43)
    assert unshaped == Bid(BidKind.WEIGHT, 1.0)
    assert account.usage.weight_millis == 1_430


@pytest.mark.parametrize(("mean", "weight"), [(0.0001, 5.0), (1.0, 0.2)])
def test_a_weight_keeps_to_its_bounds(kit: Any, mean: float, weight: float) -> None:
    strategy = _strategy(kit, BidKind.WEIGHT, kit.settings_of())

    assert _price(kit, strategy, kit.an_order(shape=Shape(mean))) == Bid(BidKind.WEIGHT, weight)


@pytest.mark.parametrize("answer", [BidKind.WEIGHT, BidKind.CPC])
def test_who_is_worth_too_little_is_left_out_and_counted(kit: Any, answer: BidKind) -> None:
    strategy = _strategy(kit, answer, kit.settings_of())
    mine, other = cell_of(2, 3), cell_of(3, 3)
    shape = Shape(0.01, least_worth=0.02, least_by_cell={mine: 0.005})
    account = Account(Usage("s@json"))

    wanted = _price(kit, strategy, kit.an_order(shape=shape), account, cell=mine)
    left_out = _price(kit, strategy, kit.an_order(shape=shape), account, cell=other)

    assert isinstance(wanted, Bid)
    assert left_out is ReasonCode.NOT_WORTH_IT
    places = [cell * WORTH_BINS + worth_bin(0.01) for cell in (mine, other)]
    counted = dict.fromkeys(places, 1) if answer is BidKind.WEIGHT else {}
    assert account.usage.worths == counted
    assert (account.usage.not_worth, account.usage.answered) == (1, 1)


def test_a_boost_mixes_both_goals_into_the_worth(kit: Any) -> None:
    aim = Aim(Mode.DEEP_BOOST, Targets(6_000_000, 30_000_000), CostGoal.SHALLOW)
    strategy = _strategy(kit, BidKind.WEIGHT, kit.settings_of(aim=aim))
    goals = (GoalBlock(CostGoal.SHALLOW, 6e6, 1.0, 0.0, 0.05),)
    order = kit.an_order(
        mode=Mode.DEEP_BOOST, goals=goals, theta=0.5, mean_deep_rate=0.1, shape=Shape(0.05)
    )

    # half of 0.05, and half of 0.01 / 0.1: 0.075
    assert _price(kit, strategy, order) == Bid(BidKind.WEIGHT, 1.5)


def test_a_boost_of_registrations_that_the_platform_optimises_weighs_trades_by_their_rate(
    kit: Any,
) -> None:
    aim = Aim(Mode.DEEP_BOOST, Targets(6_000_000, 30_000_000), CostGoal.SHALLOW)
    settled = kit.settings_of(aim=aim)
    strategy = _strategy(kit, BidKind.WEIGHT, settled, optimises=OptimisedEvent.REGISTER)
    goals = (GoalBlock(CostGoal.SHALLOW, 6e6, 1.0, 0.0, 0.05),)
    order = kit.an_order(
        mode=Mode.DEEP_BOOST, goals=goals, theta=0.5, mean_deep_rate=0.1, shape=Shape(1.0)
    )
    ratio = kit.some_models(
        rules={(Goal.TRADE, OptimisedEvent.REGISTER): ValueRule("ratio", "trade", "register")}
    )

    # half of 1, and half of 0.2 / 0.1
    assert _price(kit, strategy, order, models=ratio) == Bid(BidKind.WEIGHT, 1.5)


def test_where_no_model_weighs_both_goals_a_boost_weighs_the_strategys_own(kit: Any) -> None:
    aim = Aim(Mode.DEEP_BOOST, Targets(6_000_000, 30_000_000), CostGoal.SHALLOW)
    strategy = _strategy(
        kit, BidKind.WEIGHT, kit.settings_of(aim=aim), optimises=OptimisedEvent.ACTIVATE
    )
    goals = (GoalBlock(CostGoal.SHALLOW, 6e6, 1.0, 0.0, 0.05),)
    order = kit.an_order(mode=Mode.DEEP_BOOST, goals=goals, theta=0.5, mean_deep_rate=0.1)
    half = kit.some_models(
        rules={(Goal.REGISTER, OptimisedEvent.ACTIVATE): ValueRule("missing")},
        trade_given_activate=kit.a_head(0.02),
    )

    assert _price(kit, strategy, order, models=half) == Bid(BidKind.WEIGHT, 1.0)


def test_a_price_an_activation_follows_from_what_a_trade_is_after_it(kit: Any) -> None:
    strategy = _strategy(kit, BidKind.CPA, kit.settings_of(), optimises=OptimisedEvent.ACTIVATE)
    rules = {(Goal.TRADE, OptimisedEvent.ACTIVATE): ValueRule("head", "trade_given_activate")}
    models = kit.some_models(rules=rules, trade_given_activate=kit.a_head(0.1))
    scores = SCORES | {"trade_given_activate": 0.1}
    nothing = SCORES | {"trade_given_activate": 0.0}

    offered = _price(kit, strategy, kit.an_order(), models=models, scores=scores)
    unknown = _price(kit, strategy, kit.an_order(), models=models, scores=nothing)

    # one click in ten activates, so an activation is worth ten clicks
    assert offered == Bid(BidKind.CPA, 3_000_000, "CNY")
    assert unknown is ReasonCode.NO_VALUE


def test_what_the_platform_optimises_itself_weighs_the_same_for_all(kit: Any) -> None:
    strategy = _strategy(
        kit,
        BidKind.WEIGHT,
        kit.settings_of(),
        goal=Goal.REGISTER,
        optimises=OptimisedEvent.REGISTER,
    )

    assert _price(kit, strategy, kit.an_order(shape=Shape(1.0))) == Bid(BidKind.WEIGHT, 1.0)


def test_in_the_guarantee_period_a_weight_is_1_and_what_it_would_be_is_noted(kit: Any) -> None:
    settled = kit.settings_of(guarantee_until_ms=NOW_MS + 1)
    strategy = _strategy(kit, BidKind.WEIGHT, settled)
    order = kit.an_order(shape=Shape(0.005))

    during = _offer(kit, strategy, order)
    after = _offer(kit, strategy, order, now_ms=NOW_MS + 1)

    assert during[0] == Bid(BidKind.WEIGHT, 1.0)
    assert during[1] == Steered(7, control_group=True, unsent=2.0)
    assert after == (Bid(BidKind.WEIGHT, 2.0), Steered(7))


@pytest.mark.parametrize("answer", list(BidKind))
def test_a_prediction_that_is_no_number_gets_the_neutral_answer(kit: Any, answer: BidKind) -> None:
    strategy = _strategy(kit, answer, kit.settings_of())
    account = Account(Usage("s@json"))
    bad = {"register": nan, "trade": nan}

    offered = _price(
        kit, strategy, kit.an_order(), account, scores=bad, pcvr=Prediction(nan, nan), pctr=0.02
    )

    neutral = {BidKind.WEIGHT: 1.0, BidKind.CPM: 6_000_000}.get(answer, 300_000)
    assert isinstance(offered, Bid)
    assert offered.value == neutral
    assert account.usage.bad == 1


def test_a_worthless_person_is_no_bid(kit: Any) -> None:
    nothing = {"register": 0.0, "trade": 0.0}
    for answer in (BidKind.WEIGHT, BidKind.CPC, BidKind.CPA):
        strategy = _strategy(kit, answer, kit.settings_of())
        offered = _price(kit, strategy, kit.an_order(), scores=nothing, pcvr=Prediction(0.0, 0.0))
        assert offered is ReasonCode.NO_VALUE


@pytest.mark.parametrize("answer", list(BidKind))
@pytest.mark.parametrize(
    ("flag", "reason"),
    [(Reason.BUDGET_SPENT, ReasonCode.NO_BUDGET), (Reason.STOPPED, ReasonCode.STOPPED)],
)
def test_a_unit_that_must_not_bid_says_why(
    kit: Any, answer: BidKind, flag: Reason, reason: ReasonCode
) -> None:
    strategy = _strategy(kit, answer, kit.settings_of())

    offered = _price(kit, strategy, kit.an_order(throttle=0.0, flags=(flag,)), pctr=0.02)

    assert offered is reason


def test_chance_moves_its_share_by_a_known_law_and_the_same_request_always_alike(kit: Any) -> None:
    strategy = _strategy(kit, BidKind.CPC, kit.settings_of(explore_share=0.2))
    steering = _steering(kit, strategy, kit.an_order())
    draws = np.random.default_rng(5).random(20_000).tolist()

    found = _drawn(kit, steering, draws)
    again = _drawn(kit, steering, draws[:200])

    moved = [one for one in found if one.factor != 1.0]
    logs = [log(one.factor) for one in moved]
    assert found[:200] == again
    assert len(moved) / len(found) == pytest.approx(0.2, abs=0.01)
    assert fmean(logs) == pytest.approx(0.0, abs=0.01)
    assert pstdev(logs) == pytest.approx(0.15, rel=0.05)
    assert {one.density for one in found if one.factor == 1.0} == {0.8}
    middle = min(moved, key=lambda one: abs(log(one.factor)))
    assert middle.density == pytest.approx(0.2 / (0.15 * (2 * np.pi) ** 0.5), rel=1e-3)
    assert steering.account.usage.explored == sum(one.factor != 1.0 for one in [*found, *again])


def test_units_are_moved_apart_from_one_another(kit: Any) -> None:
    settled = kit.settings_of(explore_share=0.2)
    draws = np.random.default_rng(6).random(20_000).tolist()
    moved = []
    for unit in ("a", "b"):
        strategy = _strategy(kit, BidKind.CPC, settled, strategy_id=unit)
        steering = _steering(
            kit, strategy, kit.an_order(f"{unit}@json"), Account(Usage(f"{unit}@json"))
        )
        moved.append([one.factor != 1.0 for one in _drawn(kit, steering, draws)])

    both = fmean(map(all, zip(*moved, strict=True)))
    assert both == pytest.approx(0.04, abs=0.006)


def test_without_an_order_a_unit_bids_its_target_times_the_prediction(kit: Any) -> None:
    limits = Limits(max_bid_micros=200_000)
    plain, capped = (
        _price(kit, _strategy(kit, BidKind.CPC, kit.settings_of(**more)), None)
        for more in ({}, {"limits": limits})
    )

    assert plain == Bid(BidKind.CPC, 300_000, "CNY")
    assert capped == Bid(BidKind.CPC, 200_000, "CNY")


def test_without_an_order_nothing_of_a_budget_is_bid(kit: Any) -> None:
    strategy = _strategy(kit, BidKind.CPM, kit.settings_of(budget=Budget(10**9)))

    assert _price(kit, strategy, None, pctr=0.02) is ReasonCode.NO_BUDGET


def test_an_order_from_before_there_was_a_budget_does_not_spend_it(kit: Any) -> None:
    strategy = _strategy(kit, BidKind.CPM, kit.settings_of(budget=Budget(10**9)))

    assert _price(kit, strategy, kit.an_order(), pctr=0.02) is ReasonCode.NO_BUDGET


def test_a_weight_with_a_budget_needs_no_money(kit: Any) -> None:
    strategy = _strategy(kit, BidKind.WEIGHT, kit.settings_of(budget=Budget(10**9)))

    assert _price(kit, strategy, None) == Bid(BidKind.WEIGHT, 1.0)


def test_a_new_target_moves_the_bid_at_once_and_keeps_the_level(kit: Any) -> None:
    goals = (GoalBlock(CostGoal.DEEP, 3e7, 1.0, log(2.0), 0.01),)
    order = kit.an_order(goals=goals, cap_micros=500_000.0)
    aim = Aim(Mode.TCPA, Targets(deep_micros=15_000_000), CostGoal.DEEP)
    halved = _strategy(kit, BidKind.CPC, kit.settings_of(aim=aim))
    as_before = _strategy(kit, BidKind.CPC, kit.settings_of())

    assert _price(kit, as_before, order) == Bid(BidKind.CPC, 500_000, "CNY")
    assert _price(kit, halved, order) == Bid(BidKind.CPC, 250_000, "CNY")


def test_an_order_for_other_goals_than_the_release_has_is_not_followed(kit: Any) -> None:
    aim = Aim(Mode.TCPA, Targets(shallow_micros=4_000_000), CostGoal.SHALLOW)
    settled = kit.settings_of(aim=aim)

    block = rescaled(kit.an_order().block, settled)

    assert block == starting_block("s@json", settled)
    assert block.goals[0].target_micros == 4e6


@pytest.mark.parametrize("figure", [nan, inf, -1.0])
def test_an_order_with_a_figure_that_is_none_is_not_followed(kit: Any, figure: float) -> None:
    strategy = _strategy(kit, BidKind.CPC, kit.settings_of())
    account = Account(Usage("s@json"))
    order = kit.an_order(goals=(GoalBlock(CostGoal.DEEP, 3e7, figure, 0.0, 0.01),))

    offered = _price(kit, strategy, order, account)

    assert offered == Bid(BidKind.CPC, 300_000, "CNY")
    assert account.usage.bad == 1


def test_a_stale_order_fades_and_says_so(kit: Any) -> None:
    strategy = _strategy(kit, BidKind.CPC, kit.settings_of())
    account = Account(Usage("s@json"))
    order = kit.an_order(goals=(GoalBlock(CostGoal.DEEP, 3e7, 1.0, log(4.0), 0.01),))

    fresh = _price(kit, strategy, order, account, now_ms=NOW_MS + 75_000)
    faded = _price(kit, strategy, order, account, now_ms=NOW_MS + 90_000)

    assert [one.value for one in (fresh, faded) if isinstance(one, Bid)] == [1_200_000, 600_000]
    assert account.usage.stale == 1
    assert _steering(kit, strategy, order).until_ms == NOW_MS + 75_000


def test_a_value_is_a_trades_worth(kit: Any) -> None:
    aim = Aim(Mode.ROAS, Targets(roas=2.0), CostGoal.DEEP)
    strategy = _strategy(kit, BidKind.CPC, kit.settings_of(aim=aim), value_micros=80_000_000)

    # a trade of 80 in a hundred clicks, half of it back
    assert _price(kit, strategy, None) == Bid(BidKind.CPC, 400_000, "CNY")


def test_a_strategy_without_control_has_nothing_to_lay_out(kit: Any) -> None:
    with pytest.raises(ValueError, match="no control"):
        lay_out(kit.a_strategy(), None, Account(Usage("s@json")), NOW_MS)


def _strategy(kit: Any, answer: BidKind, settled: ControlSettings, **changes: Any) -> Any:
    bounds = {} if answer is BidKind.WEIGHT else {"min_bid": 0.0, "max_bid": 1e18}
    bindings = {} if answer is not BidKind.CPM else {"bindings": {"json": "s"}}
    return kit.a_strategy(**({"answer": answer, "control": settled} | bounds | bindings | changes))


def _steering(
    kit: Any, strategy: Any, order: Order | None, account: Any = None, now_ms: int = NOW_MS
) -> Steering:
    return lay_out(strategy, order, account or Account(Usage("s@json")), now_ms)


def _drawn(kit: Any, steering: Steering, draws: list[float]) -> list[Steered]:
    strategy = steering.strategy
    bound = kit.a_live(strategy).by_id["json"][strategy.strategy_id]
    request = kit.a_request("m")
    return [steering.price(bound, SCORES, PCVR, Case(request, 0, draw))[1] for draw in draws]


def _offer(
    kit: Any,
    strategy: Any,
    order: Order | None,
    account: Any = None,
    *,
    now_ms: int = NOW_MS,
    platform: str = "json",
    cell: int = 0,
    counts: bool = True,
    scores: Any = None,
    pcvr: Prediction = PCVR,
    models: Any = None,
    **asked: Any,
) -> Any:
    bound = kit.a_live(strategy, models=models).by_id[platform]["s"]
    steering = _steering(kit, strategy, order, account, now_ms)
    request = kit.a_request("m", platform=platform, **asked)
    return steering.price(bound, scores or SCORES, pcvr, Case(request, cell, 0.5, counts))


def _price(kit: Any, strategy: Any, order: Order | None, *args: Any, **named: Any) -> Any:
    return _offer(kit, strategy, order, *args, **named)[0]


@example(inf)
@given(st.floats(allow_nan=True) | st.integers(0, WORTH_BINS - 1).map(bin_floor))
def test_a_worth_is_counted_in_the_bin_that_the_controller_means(worth: float) -> None:
    assert _bin(worth) == worth_bin(worth)
