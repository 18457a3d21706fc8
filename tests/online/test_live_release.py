import math
from typing import Any

import msgspec
import pytest

from rta_service.domain.errors import InvalidInput
from rta_service.domain.platform import BidKind
from rta_service.domain.release import Release
from rta_service.domain.strategy import Goal, OptimisedEvent
from rta_service.online.bid import Bounds
from rta_service.online.live_release import assemble
from rta_service.scoring.model_set import ValueRule

MISSING = {(Goal.TRADE, OptimisedEvent.CLICK): ValueRule("missing")}


@pytest.mark.parametrize(
    ("changes", "rules", "message"),
    [
        ({"answer": BidKind.CPM}, {}, "tencent takes no cpm answers, only weight, cpa, cpc"),
        ({}, MISSING, "no model for trade given click: train one"),
        ({"min_bid": 6.0, "max_bid": 9.0}, {}, "bounds lie outside tencent's 0.2 to 5.0"),
        ({"bindings": {"tencent": "a b"}}, {}, "'a b' is no id of tencent"),
        (
            {"answer": BidKind.CPA, "currency": "USD"},
            {},
            "tencent takes prices in CNY, not USD",
        ),
    ],
)
def test_a_strategy_that_can_not_be_served_is_refused_by_name(
    kit: Any, changes: Any, rules: Any, message: str
) -> None:
    strategy = kit.a_strategy(**({"bindings": {"tencent": "t"}} | changes))

    with pytest.raises(InvalidInput, match=message) as caught:
        kit.a_live(strategy, models=kit.some_models(rules=rules))

    assert caught.value.place == "strategy s"


def test_a_snapshot_of_another_record_version_is_refused(kit: Any) -> None:
    snapshot = msgspec.structs.replace(kit.a_snapshot, record_version=2)
    release = Release("r", "snap", (), "st", 0)

    with pytest.raises(InvalidInput, match="snapshot snap: its records have version 2"):
        assemble(release, snapshot, kit.some_models(), [], kit.infos.values())


def test_bounds_and_cache_times_are_the_strategys_within_the_platforms(kit: Any) -> None:
    strategy = kit.a_strategy(
        min_bid=0.1, max_bid=99.0, accept_ttl_s=1, reject_ttl_s=10**9, degraded_ttl_s=30
    )

    (bound,) = kit.a_live(strategy).bound["tencent"]

    assert bound.bounds == Bounds(0.2, 5.0)
    assert (bound.accept_ttl_s, bound.reject_ttl_s, bound.degraded_ttl_s) == (3600, 604_800, 3600)


def test_the_degraded_cache_time_is_the_platforms_shortest_by_default(kit: Any) -> None:
    live = kit.a_live()

    assert {name: group[0].degraded_ttl_s for name, group in live.bound.items()} == {
        "json": 60,
        "tencent": 3600,
    }


def test_prices_end_at_the_dearest_a_platform_can_be_told(kit: Any) -> None:
    strategy = kit.a_strategy(answer=BidKind.CPC, max_bid=1e18, bindings={"tencent": "t"})

    (bound,) = kit.a_live(strategy).bound["tencent"]

    assert bound.bounds == Bounds(0.2, kit.infos["tencent"].max_price_micros)


def test_a_strategy_without_a_measured_mean_has_none(kit: Any) -> None:
    release = Release("r", "snap", (), "st", 0)

    live = assemble(
        release, kit.a_snapshot, kit.some_models(), [kit.a_strategy()], kit.infos.values()
    )

    assert math.isnan(live.bound["json"][0].mean_value)
    assert live.heads == ("register", "trade")


def test_what_is_recorded_stands_by_platform_and_nothing_else_does(kit: Any) -> None:
    some = kit.a_strategy(strategy_id="some", bindings={"json": "a"}, record_rate=0.25)
    none = kit.a_strategy(strategy_id="none", bindings={"json": "b", "tencent": "b"})

    assert kit.a_live(some, none).recorded == {"json": {"some": 250_000}}
    assert kit.a_live(none).recorded == {}


def test_a_canary_records_as_the_release_does(kit: Any) -> None:
    live = kit.two_arms(500_000, kit.a_strategy(record_rate=1.0))

    assert live.recorded == {"json": {"s": 1_000_000}, "tencent": {"s": 1_000_000}}
