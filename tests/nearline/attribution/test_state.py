from rta_service.nearline.attribution.goals import AttributionRules
from rta_service.nearline.attribution.state import oldest

RULES = AttributionRules()
NOON_MS = 1_790_000_000_000


def test_touches_are_remembered_while_the_latest_conversion_may_name_them() -> None:
    latest_ms = NOON_MS - RULES.late_ms - RULES.skew_ms

    assert oldest(RULES, NOON_MS).touch_ms == latest_ms - RULES.longest_ms


def test_a_refund_is_remembered_as_long_as_the_conversion_it_is_taken_off() -> None:
    found = oldest(RULES, NOON_MS)

    assert found.refund_ms == found.conversion_ms - RULES.skew_ms


def test_a_goal_reached_is_remembered_for_the_latest_repeat() -> None:
    found = oldest(RULES, NOON_MS)

    assert found.conversion_ms < NOON_MS - RULES.late_ms - RULES.once_ms
    assert found.event_ms == NOON_MS - RULES.late_ms
