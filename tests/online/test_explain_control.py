"""Explain shows the order a strategy follows, each factor, and what has no effect and why."""

from math import log
from typing import Any

import pytest

from rta_service.domain.control import Aim, CostGoal, GoalBlock, Mode, Reason, Targets
from rta_service.domain.control_order import Shape, Usage
from rta_service.domain.platform import BidKind
from rta_service.online.control_desk import ControlDesk
from rta_service.online.explain import Means, explain
from rta_service.online.explain_control import ignored
from rta_service.online.steering import Account
from rta_service.online.steering_layout import lay_out

NOW_MS = 1_717_286_400_000


async def _explained(kit: Any, strategy: Any, order: Any, **asked: Any) -> Any:
    clock = kit.a_clock()
    desk = ControlDesk(kit.keys, clock, counts=False)
    if order is not None:
        desk.look({"s@json": order})
    reader = kit.a_reader({kit.md5_of(1): kit.a_record()})
    means = Means(reader, kit.keys, clock, None, desk)
    found = await explain(kit.a_live(strategy), means, kit.a_request(kit.md5_of(1), **asked))
    assert desk.report().usages == []
    return found["strategies"][0]


async def test_every_factor_of_a_price_is_shown_with_the_reason_why_it_moved(kit: Any) -> None:
    strategy = kit.a_strategy(
        answer=BidKind.CPM,
        control=kit.settings_of(),
        bindings={"json": "s"},
        min_bid=0.0,
        max_bid=1e12,
    )
    order = kit.an_order(
        made_at_ms=NOW_MS - 2_000,
        goals=(GoalBlock(CostGoal.DEEP, 3e7, 0.8, log(2.0), 0.01, Reason.TOO_CHEAP),),
        log_budget=log(1.5),
        cap_micros=900_000.0,
        hold_rate=0.4,
        flags=(Reason.BUDGET_ACTIVE,),
    )

    shown = await _explained(kit, strategy, order, pctr=0.02)

    assert shown["bid"]["value"] == 7_200_000
    control = shown["control"]
    assert control["order"] == {"version": 7, "age_s": 2.0, "stale": False, "why": ""}
    assert (control["mode"], control["unit"], control["hold_rate"]) == ("tcpa", "s@json", 0.4)
    assert control["goals"] == [
        {
            "goal": "deep",
            "target_micros": 3e7,
            "scale": 0.8,
            "multiplier": pytest.approx(2.0),
            "reason": "too_cheap",
            "why": "conversions cost less than the target: bid more",
        }
    ]
    assert control["budget_multiplier"] == pytest.approx(1.5)
    assert control["click_worth_micros"] == pytest.approx(360_000)
    assert (control["cap_micros"], control["theta"], control["throttle"]) == (900_000, 0.0, 1.0)
    assert control["flags"] == [
        {"flag": "budget_active", "why": "the budget's pace decides the bid"}
    ]
    assert control["chance"] == {"factor": 1.0, "density": 1.0}
    assert [one["field"] for one in control["ignored"]] == ["weight", "cpa", "cpc"]


async def test_a_weight_shows_its_shape_and_that_a_level_can_not_act(kit: Any) -> None:
    settled = kit.settings_of(guarantee_until_ms=NOW_MS + 3_600_000)
    strategy = kit.a_strategy(control=settled, bindings={"json": "s"})

    shown = await _explained(kit, strategy, kit.an_order(shape=Shape(0.005, 0.002)))

    control = shown["control"]
    assert (control["worth"], control["mean_worth"], control["least_worth"]) == (
        0.01,
        0.005,
        0.002,
    )
    assert (control["control_group"], control["unsent_weight"]) == (True, 2.0)
    why = {one["field"]: one["why"] for one in control["ignored"]}
    assert set(why) == {"cpa", "cpc", "cpm", "multiplier", "cap_micros", "weight"}
    assert "until 2024-06-02T01:00:00+00:00" in why["weight"]


async def test_before_the_first_order_and_with_a_stale_one_it_says_so(kit: Any) -> None:
    strategy = kit.a_strategy(
        answer=BidKind.CPC, control=kit.settings_of(), bindings={"json": "s"}, max_bid=1e12
    )

    first = await _explained(kit, strategy, None)
    stale = await _explained(kit, strategy, kit.an_order(made_at_ms=NOW_MS - 100_000))
    unsound = await _explained(
        kit, strategy, kit.an_order(goals=(GoalBlock(CostGoal.DEEP, 3e7, -1.0, 0.0, 0.01),))
    )

    assert first["control"]["order"]["version"] == 0
    assert "none has come" in first["control"]["order"]["why"]
    assert stale["control"]["order"]["stale"]
    assert "unsound" in unsound["control"]["order"]["why"]


async def test_without_control_nothing_is_shown_of_it(kit: Any) -> None:
    shown = await _explained(kit, kit.a_strategy(bindings={"json": "s"}), None)

    assert "control" not in shown


def test_a_price_a_conversion_is_not_taken_where_a_campaign_has_two_goals(kit: Any) -> None:
    aim = Aim(Mode.DEEP_BOOST, Targets(6_000_000, 30_000_000), CostGoal.SHALLOW)
    strategy = kit.a_strategy(answer=BidKind.CPA, control=kit.settings_of(aim=aim), max_bid=1e12)
    bound = kit.a_live(strategy).by_id["tencent"]["s"]
    steering = lay_out(strategy, None, Account(Usage("s@tencent")), NOW_MS)

    found = {one["field"]: one["why"] for one in ignored(bound, kit.infos["tencent"], steering)}

    assert "one goal" in found["cpa"]
    assert set(found) == {"weight", "cpc", "cpa"}


def test_a_boost_that_no_model_can_weigh_is_named(kit: Any) -> None:
    aim = Aim(Mode.DEEP_BOOST, Targets(6_000_000, 30_000_000), CostGoal.SHALLOW)
    strategy = kit.a_strategy(control=kit.settings_of(aim=aim), bindings={"json": "s"})
    goals = (GoalBlock(CostGoal.SHALLOW, 6e6, 1.0, 0.0, 0.05),)
    order = kit.an_order(mode=Mode.DEEP_BOOST, goals=goals, theta=0.5, log_budget=0.0)
    bound = kit.a_live(strategy).by_id["json"]["s"]
    steering = lay_out(strategy, order, Account(Usage("s@json")), NOW_MS)

    found = [one["field"] for one in ignored(bound, kit.infos["json"], steering)]

    assert "theta" in found
    assert "budget_multiplier" in found
