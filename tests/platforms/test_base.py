import msgspec
import pytest
from hypothesis import given, strategies as st

from rta_service.domain.decision import Bid, Decision
from rta_service.domain.errors import InvalidInput, InvalidRequest
from rta_service.domain.platform import BidKind, PlatformInfo
from rta_service.platforms.base import Facts, load_info, money_units, read_info
from rta_service.platforms.registry import ADAPTERS, load_adapters

TENCENT = load_info("rta_service.platforms.tencent")
FACTS_TOML = """
name = "x"
path = "/rta/x"
content_type = "application/json"
timeout_ms = 60
max_body_bytes = 1000
min_ttl_s = 60
max_ttl_s = 600
bid_kinds = ["weight"]
min_weight = 0.2
max_weight = 5.0
docs = "docs/platforms/x.md"
"""


@pytest.mark.parametrize("name", ADAPTERS)
def test_a_platform_is_called_the_same_in_table_facts_and_path(name: str) -> None:
    info = load_adapters()[name].info

    assert (info.name, info.path, info.docs) == (
        name,
        f"/rta/{name}",
        f"docs/platforms/{name}.md",
    )
    assert info.code > 0


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ('name = "x"', "", "name"),
        ("timeout_ms = 60", 'timeout_ms = "soon"', "timeout_ms"),
        ('["weight"]', '["weight", "wish"]', r"bid_kinds\[1\]"),
        ("timeout_ms = 60", "timeout_ms = 60\nsurprise = 1", "surprise"),
        ("min_ttl_s = 60", "min_ttl_s = 601", "min_ttl_s"),
        ("max_weight = 5.0", "max_weight = 0.1", "min_weight"),
        ('name = "x"', 'name = "x"\ntarget_id_pattern = "["', "unterminated"),
        ('name = "x"', "name = ", "line 2"),
    ],
)
def test_wrong_facts_are_named_with_their_place(old: str, new: str, named: str) -> None:
    text = FACTS_TOML.replace(old, new)

    with pytest.raises(InvalidInput, match=f"x/info.toml: .*{named}"):
        read_info(text, "x/info.toml")


def test_a_body_beyond_the_limit_is_not_even_read() -> None:
    adapter = load_adapters()["json"]

    with pytest.raises(InvalidRequest, match="longer than"):
        adapter.parse(b" " * (adapter.info.max_body_bytes + 1))


def test_holding_what_was_held_changes_nothing(
    any_decision: st.SearchStrategy[Decision],
) -> None:
    facts = Facts(TENCENT)

    @given(any_decision)
    def check(decision: Decision) -> None:
        held = facts.hold(decision)

        assert facts.hold(held) is held

    check()


def test_no_held_decision_breaks_a_fact(any_decision: st.SearchStrategy[Decision]) -> None:
    @given(any_decision)
    def check(decision: Decision) -> None:
        held = Facts(TENCENT).hold(decision)

        assert TENCENT.min_ttl_s <= held.ttl_s <= TENCENT.max_ttl_s
        assert all(is_speakable(TENCENT, s.bid) for s in held.strategies if s.participate and s.bid)
        assert len(held.strategies) == len(decision.strategies)

    check()


def is_speakable(info: PlatformInfo, bid: Bid) -> bool:
    if bid.kind is BidKind.WEIGHT:
        return info.min_weight <= bid.value <= info.max_weight
    return bid.kind in info.bid_kinds and 0 < bid.value <= info.max_price_micros


def test_facts_never_turn_a_no_into_a_yes(any_decision: st.SearchStrategy[Decision]) -> None:
    @given(any_decision)
    def check(decision: Decision) -> None:
        held = Facts(TENCENT).hold(decision)

        assert decision.participate >= held.participate
        for before, after in zip(decision.strategies, held.strategies, strict=True):
            assert before.participate >= after.participate

    check()


def test_a_decision_that_keeps_to_the_facts_is_passed_on_untouched(
    any_decision: st.SearchStrategy[Decision],
) -> None:
    open_info = msgspec.structs.replace(
        TENCENT, min_ttl_s=-1, max_ttl_s=10**9, target_id_pattern=""
    )

    @given(any_decision)
    def check(decision: Decision) -> None:
        consistent = msgspec.structs.replace(
            decision,
            participate=any(s.participate for s in decision.strategies),
            strategies=tuple(msgspec.structs.replace(s, bid=None) for s in decision.strategies),
        )

        assert Facts(open_info).hold(consistent) is consistent

    check()


@given(st.floats(0, 1e15), st.integers(1, 100_000))
def test_money_is_rounded_by_at_most_half_a_unit_and_never_to_nothing(
    micros: float, unit_micros: int
) -> None:
    units = money_units(micros, unit_micros)

    assert units >= 1
    assert units == 1 or abs(units - micros / unit_micros) <= 0.5
