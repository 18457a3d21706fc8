from datetime import timedelta

import pytest

from rta_service.domain.attribution import (
    FIRST_TRADE,
    Attribution,
    Cell,
    Conversion,
    CostRow,
    Fact,
    GoalSum,
    Method,
    Place,
    Refund,
    Touch,
    TouchKind,
)
from rta_service.nearline.attribution.goals import DAY_MS, AttributionRules, click_windows
from rta_service.nearline.attribution.model import attribute

NOON_MS = 1_790_000_000_000
CLICK = TouchKind.CLICK


def touch(
    kind: TouchKind = CLICK,
    *,
    days: float = 0.0,
    key: int = 1,
    persons: tuple[int, ...] = (1,),
    names: tuple[int, ...] = (),
    strategy: str = "s1",
    channel: str = "json",
) -> Touch:
    at = NOON_MS + round(days * DAY_MS)
    return Touch(at, key, kind, Place(0, channel, strategy), persons, names)


def conversion(
    goal: str = "register",
    *,
    days: float = 1.0,
    key: int = 2,
    persons: tuple[int, ...] = (1,),
    names: tuple[int, ...] = (),
    cents: int = 0,
    order: int = 0,
    told: Place | None = None,
    channel: str = "",
) -> Conversion:
    at = NOON_MS + round(days * DAY_MS)
    told_ms = at if told else 0
    place = Place(24, channel)
    return Conversion(at, key, goal, place, persons, names, cents, order, told, told_ms)


def attributed(*facts: Fact) -> list[Attribution]:
    return attribute(facts, AttributionRules()).attributions


def counted(*facts: Fact) -> list[Cell]:
    return attribute(facts, AttributionRules()).cells


def test_a_conversion_is_owed_to_the_last_click_of_its_person() -> None:
    early, late = touch(days=0.0, key=1), touch(days=0.5, key=9, strategy="s2")
    others = touch(days=0.9, key=8, persons=(7,))

    (found,) = attributed(conversion(), early, late, others)

    assert (found.method, found.place, found.touch_key) == (Method.LAST_CLICK, late.place, 9)


def test_of_clicks_at_one_instant_the_greater_key_is_the_last() -> None:
    (found,) = attributed(touch(key=3), touch(key=5), touch(key=4), conversion())

    assert found.touch_key == 5


def test_one_shared_id_makes_two_events_one_person() -> None:
    (found,) = attributed(touch(persons=(1, 2)), conversion(persons=(2, 3)))

    assert found.method is Method.LAST_CLICK


@pytest.mark.parametrize(("goal", "days"), [("register", 7), ("trade", 14), ("loan", 7)])
def test_a_click_claims_a_conversion_up_to_the_last_instant_of_its_window(
    goal: str, days: int
) -> None:
    one_ms = 1 / timedelta(days=1).total_seconds() / 1000

    (inside,) = attributed(touch(), conversion(goal, days=days))
    (outside,) = attributed(touch(), conversion(goal, days=days + one_ms))
    (before,) = attributed(touch(), conversion(goal, days=-one_ms))

    assert inside.method is Method.LAST_CLICK
    assert outside.method is before.method is Method.NONE


def test_a_request_that_is_named_wins_over_a_later_click() -> None:
    named, later = touch(names=(50,), persons=()), touch(days=0.5, key=9)

    (found,) = attributed(named, later, conversion(names=(50,)))

    assert (found.method, found.touch_key) == (Method.NAMED, named.key)


def test_of_a_request_the_click_is_owed_most_then_the_exposure_then_the_win() -> None:
    win = touch(TouchKind.WIN, days=0.3, key=3, names=(50,))
    exposure = touch(TouchKind.EXPOSURE, days=0.2, key=4, names=(50,))
    click = touch(TouchKind.CLICK, days=0.1, key=5, names=(50,))
    named = conversion(names=(50,), persons=())

    owed = [
        attributed(*touches, named)[0].touch_key
        for touches in ((win, exposure, click), (win, exposure), (win,))
    ]

    assert owed == [5, 4, 3]


def test_two_platforms_may_use_one_request_id_and_an_app_need_not_know_which() -> None:
    click = touch(names=(50,), persons=(), channel="tencent")

    (known,) = attributed(click, conversion(names=(50,), channel="tencent"))
    (unknown,) = attributed(click, conversion(names=(50,), channel=""))
    (another,) = attributed(click, conversion(names=(50,), channel="json"))

    assert known.method is unknown.method is Method.NAMED
    assert another.method is Method.NONE


def test_a_request_may_be_named_though_the_clocks_of_its_senders_differ() -> None:
    minutes = 1 / 24 / 60

    (apart,) = attributed(touch(days=1 + 10 * minutes, names=(50,)), conversion(names=(50,)))
    (far,) = attributed(touch(days=1 + 11 * minutes, names=(50,)), conversion(names=(50,)))

    assert apart.method is Method.NAMED
    assert far.method is Method.NONE


def test_a_tag_tells_the_decision_where_no_touch_came_back() -> None:
    told = Place(20, "tencent", "s9", "", "canary", "0000002a")

    (alone,) = attributed(conversion(told=told, names=(50,)), touch())
    (touched,) = attributed(conversion(told=told, names=(50,)), touch(names=(50,)))

    assert (alone.method, alone.place) == (Method.TAG, told)
    assert touched.method is Method.NAMED


def test_only_the_first_of_a_goal_that_is_reached_once_counts() -> None:
    first, again = conversion(days=1, key=9), conversion(days=2, key=1)
    another = conversion("activate", days=3)

    found = attributed(again, first, another)

    assert [(one.goal, one.key) for one in found] == [("register", 9), ("activate", 2)]


def test_every_trade_counts_and_the_first_is_told() -> None:
    trades = [conversion("trade", days=day, key=day, cents=100) for day in (1, 2, 3)]

    found = attributed(*trades)
    (cell,) = counted(*trades)

    assert [one.is_first for one in found] == [True, False, False]
    assert cell.goals == {"trade": GoalSum(3, 300), FIRST_TRADE: GoalSum(1, 100)}
    assert cell.value_cents == 300


def test_a_goal_reached_long_ago_may_be_reached_again() -> None:
    assert len(attributed(conversion(days=0), conversion(days=91))) == 2


def test_a_refund_is_taken_off_the_orders_last_trade_before_it() -> None:
    step = conversion("loan", days=1.5, key=4, cents=70, order=8)
    paid = [conversion("trade", days=day, key=day, cents=100, order=8) for day in (1, 2)]
    refund = Refund(paid[1].ts_ms - 60_000, 5, 8, 30)

    found = attributed(touch(), refund, step, *paid)

    assert [(one.goal, one.cents) for one in found] == [("trade", 100), ("loan", 70), ("trade", 70)]


def test_a_refund_of_nothing_known_changes_nothing() -> None:
    paid = conversion("trade", cents=100, order=8)

    (found,) = attributed(paid, Refund(paid.ts_ms, 5, 9, 30))

    assert found.cents == 100


def test_reported_costs_are_spread_over_the_hours_clicks_else_exposures_else_kept() -> None:
    click, shown = touch(), touch(TouchKind.EXPOSURE, key=2, strategy="s2")
    rows = [
        CostRow(0, key, Place(0, "json", strategy), 10)
        for key, strategy in enumerate(("s1", "s2", "s3"))
    ]

    found = counted(click, shown, *rows)

    assert [(cell.place.strategy, cell.clicks, cell.cost_micros) for cell in found] == [
        ("s1", 1, 10),
        ("s2", 0, 10),
        ("s3", 0, 10),
    ]


def test_copies_count_once() -> None:
    facts: list[Fact] = [touch(), conversion(), CostRow(0, 7, Place(0, "json", "s1"), 5)]

    assert counted(*facts * 5) == counted(*facts)


def test_windows_come_from_the_funnel() -> None:
    assert click_windows() == {"register": 7 * DAY_MS, "trade": 14 * DAY_MS}
    assert AttributionRules().longest_ms == 14 * DAY_MS


def test_cells_are_kept_for_longer_than_what_counts_in_them_can_change() -> None:
    with pytest.raises(ValueError, match="kept for longer"):
        AttributionRules(kept_ms=100 * DAY_MS)
