"""The control table says what bids are steered to, and each mistake is shown where it stands."""

import pytest

from rta_service.domain.control import Aim, Budget, CostGoal, Limits, Mode, Targets
from rta_service.domain.control_order import ControlSettings
from rta_service.domain.errors import InvalidInput
from rta_service.online.strategy_file import parse

FILE = """\
[[strategy]]
id = "wake"
bindings = { json = "w" }
optimises = "click"
goal = "trade"
target_cpa = 30
answer = "cpm"

[strategy.control]
mode = "tcpa"
"""
EVERY_KEY = """
goal = "shallow"
target_shallow = 6
target_deep = 40.5
roas = 2.5
deep_rate = 0.2
daily_budget = 5000
day_starts = "06:30+08:00"
max_bid = 1.5
horizon_h = 48
explore_share = 0.05
guarantee_until = 2026-11-05T00:00:00+08:00
shares = { "growth.S" = 0.3, "silent.A" = 0.1 }
ahead_h = 2.5
per_minute = 0.2
"""
WEIGHED = FILE.replace('"cpm"', '"weight"')
DAY_MS = 86_400_000


def test_a_strategy_without_the_table_is_not_steered() -> None:
    (strategy,) = parse(FILE.split("\n[strategy.control]", maxsplit=1)[0])

    assert strategy.control is None


def test_a_mode_alone_steers_to_the_strategys_own_target() -> None:
    (strategy,) = parse(FILE)

    aim = Aim(Mode.TCPA, Targets(deep_micros=30_000_000), CostGoal.DEEP)
    assert strategy.control == ControlSettings(aim)


def test_a_registrations_target_is_the_shallow_one() -> None:
    (strategy,) = parse(FILE.replace('goal = "trade"', 'goal = "register"'))

    assert strategy.control is not None
    assert strategy.control.aim == Aim(
        Mode.TCPA, Targets(shallow_micros=30_000_000), CostGoal.SHALLOW
    )


def test_every_key_is_read_in_its_unit() -> None:
    (strategy,) = parse(WEIGHED + EVERY_KEY)

    assert strategy.control == ControlSettings(
        Aim(Mode.TCPA, Targets(6_000_000, 40_500_000, 2.5, 0.2), CostGoal.SHALLOW),
        Budget(5_000_000_000, day_starts_ms=DAY_MS - 90 * 60_000),
        Limits(per_minute=0.2, max_bid_micros=1_500_000),
        48 * 3600.0,
        0.05,
        1_793_808_000_000,
        {"growth.S": 0.3, "silent.A": 0.1},
        9_000_000,
    )


@pytest.mark.parametrize(
    "line", ['shares = { "growth.S" = 0.3 }', "guarantee_until = 2026-11-05T00:00:00+08:00"]
)
def test_what_acts_on_weights_only_is_refused_elsewhere(line: str) -> None:
    with pytest.raises(InvalidInput, match=r"acts on weights only, and this strategy answers cpm"):
        parse(FILE + "daily_budget = 5\n" + line)


def test_an_instant_may_be_written_as_text() -> None:
    (strategy,) = parse(WEIGHED + 'guarantee_until = "2026-11-05T00:00:00+08:00"\n')

    assert strategy.control is not None
    assert strategy.control.guarantee_until_ms == 1_793_808_000_000


@pytest.mark.parametrize(
    ("written", "starts_ms"),
    [
        ("00:00Z", 0),
        ("00:00+00:00", 0),
        ("00:00+08:00", 16 * 3_600_000),
        ("00:00-05:00", 5 * 3_600_000),
        ("23:30-01:00", 30 * 60_000),
    ],
)
def test_a_day_starts_at_local_midnight_told_in_utc(written: str, starts_ms: int) -> None:
    (strategy,) = parse(FILE + f'daily_budget = 1\nday_starts = "{written}"\n')

    assert strategy.control is not None
    assert strategy.control.budget is not None
    assert strategy.control.budget.day_starts_ms == starts_ms


@pytest.mark.parametrize(
    ("added", "place", "message"),
    [
        ('mood = "x"', "f.toml:11: control.mood", "unknown field"),
        ("target_deep = 0", "f.toml:11: control.target_deep", ">="),
        ("target_deep = nan", "f.toml:11: control.target_deep", "Expected `float`"),
        ('goal = "value"', "f.toml:11: control.goal", "only the mode roas steers value"),
        ('goal = "trade"', "f.toml:11: control.goal", "one of: shallow, deep"),
        ('goal = "shallow"', "f.toml:9: control.target_shallow", "tcpa needs it"),
        ("explore_share = 0.3", "f.toml:11: control.explore_share", "<= 0.2"),
        ("horizon_h = 0", "f.toml:11: control.horizon_h", ">= 0.01"),
        ('day_starts = "8:00"', "f.toml:11: control.day_starts", "as 00:00+08:00"),
        ('day_starts = "08:00"', "f.toml:11: control.day_starts", "as 00:00+08:00"),
        ("guarantee_until = 2026-11-05T00:00:00", "f.toml:11: control.guarantee_until", "timezone"),
        ('shares = { "growth.Z" = 0.1 }', "f.toml:11: control.shares", "no stage.tier"),
        ('shares = { "growth.S" = 0.1 }', "f.toml:11: control.shares", "set daily_budget"),
        (
            'daily_budget = 9\nshares = { "growth.S" = 0.7, "growth.A" = 0.5 }',
            "f.toml:12: control.shares",
            "add up to 1.2",
        ),
        ("daily_budget = -1", "f.toml:11: control.daily_budget", ">="),
        ("deep_rate = 2", "f.toml:11: control.deep_rate", "<= 1"),
    ],
)
def test_a_mistake_is_shown_with_its_line_and_field(added: str, place: str, message: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        parse(WEIGHED + added + "\n", "f.toml")

    assert refused.value.place == place
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("mode", "place", "message"),
    [
        ("tcpb", "f.toml:10: control.mode", "one of: tcpa, cost_cap"),
        ("max_conversions", "f.toml:10: control.mode", "set daily_budget"),
        ("dual_guarantee", "f.toml:9: control.target_shallow", "dual_guarantee needs it"),
        ("deep_boost", "f.toml:9: control.target_shallow", "deep_boost needs it"),
        ("roas", "f.toml:10: control.mode", "set the strategy's value"),
    ],
)
def test_a_mode_names_what_it_lacks(mode: str, place: str, message: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        parse(FILE.replace('"tcpa"', f'"{mode}"'), "f.toml")

    assert refused.value.place == place
    assert message in str(refused.value)


def test_a_boost_for_registrations_needs_a_rate_or_a_deep_target() -> None:
    text = FILE.replace('goal = "trade"', 'goal = "register"').replace('"tcpa"', '"deep_boost"')

    with pytest.raises(InvalidInput, match="deep_rate") as refused:
        parse(text, "f.toml")

    assert refused.value.place == "f.toml:9: control.deep_rate"
    assert parse(text + "deep_rate = 0.1\n")[0].control is not None
    assert parse(text + "target_deep = 300\n")[0].control is not None


def test_roas_needs_what_a_trade_is_worth_and_a_return() -> None:
    text = FILE.replace('"tcpa"', '"roas"').replace(
        "target_cpa = 30", "target_cpa = 30\nvalue = 80"
    )

    with pytest.raises(InvalidInput) as refused:
        parse(text, "f.toml")

    assert refused.value.place == "f.toml:10: control.roas"
    assert parse(text + "roas = 1.5\n")[0].control is not None


def test_a_field_of_the_table_is_not_taken_for_the_strategys_own() -> None:
    with pytest.raises(InvalidInput) as refused:
        parse(FILE + 'goal = "shallow"\ntarget_shallow = -1\n', "f.toml")

    assert refused.value.place == "f.toml:12: control.target_shallow"
