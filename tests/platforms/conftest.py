"""Decisions of every shape, the absurd ones too."""

import pytest
from hypothesis import strategies as st

from rta_service.domain.decision import Bid, Decision, Prediction, StrategyDecision
from rta_service.domain.platform import BidKind
from rta_service.domain.reason import ReasonCode

REASONS = st.sampled_from(ReasonCode)
BIDS = st.builds(Bid, st.sampled_from(BidKind), st.floats(), st.sampled_from(["", "CNY"]))
RATES = st.floats(0, 1)
STRATEGIES = st.builds(
    StrategyDecision,
    strategy_id=st.text(max_size=8),
    target_id=st.from_regex(r"[A-Za-z0-9_-]{1,32}", fullmatch=True) | st.text(max_size=40),
    reason=REASONS,
    participate=st.booleans(),
    bid=st.none() | BIDS,
    pcvr=st.none() | st.builds(Prediction, RATES, RATES),
    tag=st.text(max_size=40),
)
DECISIONS = st.builds(
    Decision,
    request_id=st.text(max_size=40),
    participate=st.booleans(),
    reason=REASONS,
    strategies=st.lists(STRATEGIES, max_size=4).map(tuple),
    ttl_s=st.integers(-1, 10**9),
)


@pytest.fixture(scope="session")
def any_decision() -> st.SearchStrategy[Decision]:
    return DECISIONS
