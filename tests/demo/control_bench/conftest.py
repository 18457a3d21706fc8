"""A bench of a few campaigns, played once for all tests that look at its results."""

import pytest

from rta_service.demo.control_bench.lineup import SCENARIOS
from rta_service.demo.control_bench.playing import Outcome, Size, play
from rta_service.demo.control_bench.verdict import Verdict, judge


@pytest.fixture(scope="session")
def outcomes() -> dict[str, Outcome]:
    size = Size(campaigns=2, seeds=1, tuning=1, scenarios=SCENARIOS, processes=1)
    return play(size, lambda _done, _total: None)


@pytest.fixture(scope="session")
def verdict(outcomes: dict[str, Outcome]) -> Verdict:
    return judge(outcomes)
