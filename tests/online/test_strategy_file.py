import re
from pathlib import Path

import pytest

from rta_service.domain.errors import InvalidInput
from rta_service.domain.platform import BidKind
from rta_service.domain.strategy import (
    DegradedChoice,
    FunnelRule,
    Goal,
    OptimisedEvent,
)
from rta_service.domain.user import LifecycleStage, RFMSegment, Role, ValueTier
from rta_service.online.strategy_file import parse

SMALLEST = """\
[[strategy]]
id = "wake"
bindings = { json = "w" }
optimises = "click"
goal = "trade"
target_cpa = 30
answer = "weight"
"""

FULL = """\
[[strategy]]
id = "first-trade"
bindings = { json = "ft", tencent = "target_9" }
optimises = "register"
goal = "register"
target_cpa = 12.5
answer = "cpa"
currency = "USD"
bounds = [0.5, 40]
value = 20
holdout_share = 0.05
record_rate = 0.01
same_goal_exponent = 0.5
accept_ttl_s = 7200
reject_ttl_s = 86400
degraded = "accept"
degraded_ttl_s = 600

[strategy.audience]
stages = ["introduction", "silent"]
segments = ["none", "important_value"]
tiers = ["S", "A"]
wake_tiers = ["S"]
roles = ["buyer"]
funnel = ["downloaded", "not_traded"]
unknown = true
"""


def test_what_is_left_out_has_its_documented_default() -> None:
    (strategy,) = parse(SMALLEST)

    audience = strategy.audience
    assert audience.stages == set(LifecycleStage) - {LifecycleStage.UNKNOWN}
    assert audience.segments == set(RFMSegment)
    assert audience.tiers == set(ValueTier) - {ValueTier.UNKNOWN, ValueTier.X}
    assert audience.roles == set(Role) - {Role.PROFESSIONAL_SELLER}
    assert audience.wake_tiers == {ValueTier.S, ValueTier.A, ValueTier.B}
    assert (audience.funnel, audience.unknown) == (frozenset(), False)
    assert (strategy.currency, strategy.value_micros) == ("CNY", None)
    assert (strategy.min_bid, strategy.max_bid) == (0.2, 5.0)
    assert (strategy.holdout_share, strategy.same_goal_exponent) == (0.0, 0.0)
    assert strategy.record_rate == 0.0
    assert (strategy.accept_ttl_s, strategy.reject_ttl_s) == (3600, 3600)
    assert (strategy.degraded, strategy.degraded_ttl_s) == (DegradedChoice.DECLINE, None)
    assert strategy.control is None


def test_every_field_is_read_in_its_unit() -> None:
    (strategy,) = parse(FULL)

    assert strategy.strategy_id == "first-trade"
    assert strategy.bindings == {"json": "ft", "tencent": "target_9"}
    assert (strategy.goal, strategy.optimises) == (Goal.REGISTER, OptimisedEvent.REGISTER)
    assert (strategy.answer, strategy.currency) == (BidKind.CPA, "USD")
    assert strategy.target_cpa_micros == 12_500_000
    assert (strategy.min_bid, strategy.max_bid) == (500_000, 40_000_000)
    assert strategy.value_micros == 20_000_000
    assert (strategy.holdout_share, strategy.same_goal_exponent) == (0.05, 0.5)
    assert strategy.record_rate == 0.01
    assert (strategy.accept_ttl_s, strategy.reject_ttl_s) == (7200, 86_400)
    assert (strategy.degraded, strategy.degraded_ttl_s) == (DegradedChoice.ACCEPT, 600)
    audience = strategy.audience
    assert audience.stages == {LifecycleStage.INTRODUCTION, LifecycleStage.SILENT}
    assert audience.segments == {RFMSegment.NONE, RFMSegment.IMPORTANT_VALUE}
    assert audience.tiers == {ValueTier.S, ValueTier.A}
    assert audience.wake_tiers == {ValueTier.S}
    assert audience.roles == {Role.BUYER}
    assert audience.funnel == {FunnelRule.DOWNLOADED, FunnelRule.NOT_TRADED}
    assert audience.unknown


def test_the_page_for_growth_teams_shows_a_file_that_can_be_read() -> None:
    page = Path(__file__).parents[2] / "docs" / "strategies.md"
    examples = re.findall(r"```toml\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)

    assert examples
    assert all(parse(example) for example in examples)


@pytest.mark.parametrize(
    ("line", "instead", "place", "message"),
    [
        ('goal = "trade"', "goal = trade", "f.toml:5", "Invalid value"),
        ('goal = "trade"', 'goal = "sale"', "f.toml:5: goal", "Invalid enum value 'sale'"),
        ('goal = "trade"', "", "f.toml:1: goal", "missing required field `goal`"),
        ('goal = "trade"', 'gaol = "trade"\ngoal = "trade"', "f.toml:5: gaol", "unknown field"),
        ("target_cpa = 30", 'target_cpa = "30"', "f.toml:6: target_cpa", "Expected `float`"),
        ("target_cpa = 30", "target_cpa = 0", "f.toml:6: target_cpa", ">="),
        ("target_cpa = 30", "target_cpa = inf", "f.toml:6: target_cpa", "<="),
        ("target_cpa = 30", "target_cpa = nan", "f.toml:6: target_cpa", "Expected `float`"),
        ('id = "wake"', 'id = "wäke"', "f.toml:2: id", "regex"),
        ('id = "wake"', 'id = "wake\\n"', "f.toml:2: id", "regex"),
        ('json = "w"', "", "f.toml:3: bindings", "length >= 1"),
        ('json = "w"', 'jsn = "w"', "f.toml:3: bindings", "unknown platform 'jsn'"),
        ('json = "w"', 'other = "w"', "f.toml:3: bindings", "unknown platform 'other'"),
        ('"weight"', '"weight"\nbounds = [5, 1]', "f.toml:8: bounds", "above upper bound"),
        ('"weight"', '"weight"\nbounds = [1]', "f.toml:8: bounds", "length 2"),
        ('"weight"', '"weight"\nbounds = [1, inf]', "f.toml:8: bounds", "<="),
        (
            '"weight"',
            '"weight"\nsame_goal_exponent = 1.0',
            "f.toml:8: same_goal_exponent",
            "the same",
        ),
        ('"weight"', '"weight"\nholdout_share = 0.6', "f.toml:8: holdout_share", "<= 0.5"),
        ('"weight"', '"weight"\nrecord_rate = 1.5', "f.toml:8: record_rate", "<= 1.0"),
        ('"weight"', '"weight"\naccept_ttl_s = 1.5', "f.toml:8: accept_ttl_s", "Expected `int`"),
        (
            '"weight"',
            '"cpc"\ndegraded = "accept"',
            "f.toml:8: degraded",
            "without a prediction",
        ),
        (
            '"weight"',
            '"weight"\n# stages = []\n[strategy.audience]\nstages = ["asleep"]',
            "f.toml:10: audience.stages",
            "unknown word 'asleep'; one of: introduction,",
        ),
        (
            '"weight"',
            '"weight"\naudience.tiers = ["X"]',
            "f.toml:8: audience.tiers",
            "one of: S, A, B, C, D",
        ),
        (
            '"weight"',
            '"weight"\naudience = { funnel = ["not_traded", "traded"] }',
            "f.toml:8: audience.funnel",
            "wants both traded and not_traded",
        ),
        (
            '"weight"',
            '"weight"\n[[strategy]]\nid = "b"',
            "f.toml:8: bindings",
            "missing required field",
        ),
        ("[[strategy]]", "[[strategies]]", "f.toml:1: strategies", "unknown field"),
        ("[[strategy]]", "[strategy]", "f.toml:1: strategy", "Expected `array`"),
    ],
)
def test_an_error_names_file_line_and_field(
    line: str, instead: str, place: str, message: str
) -> None:
    text = SMALLEST.replace(line, instead)

    with pytest.raises(InvalidInput) as caught:
        parse(text, "f.toml")

    assert caught.value.place == place
    assert message in str(caught.value)


def test_an_empty_file_is_told_what_is_missing() -> None:
    with pytest.raises(InvalidInput, match="missing required field `strategy`"):
        parse("", "f.toml")


def test_a_file_that_ends_too_early_is_told_its_last_line() -> None:
    with pytest.raises(InvalidInput) as caught:
        parse(SMALLEST + 'currency = """', "f.toml")

    assert caught.value.place == "f.toml:8"


def test_a_strategy_may_stand_only_once() -> None:
    second = SMALLEST.replace('"w"', '"other"')

    with pytest.raises(InvalidInput, match=r"f\.toml:9: id: a strategy 'wake' stands above"):
        parse(SMALLEST + second, "f.toml")


def test_two_strategies_can_not_share_a_platforms_id() -> None:
    second = SMALLEST.replace('"wake"', '"other"')

    with pytest.raises(InvalidInput, match=r"f\.toml:10: bindings: .*'w' on json already"):
        parse(SMALLEST + second, "f.toml")
