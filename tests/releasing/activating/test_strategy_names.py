"""The names that tags' marks stand for, as strategies are published."""

from typing import Any

from rta_service.domain.clock import SystemClock
from rta_service.domain.tag import strategy_mark
from rta_service.nearline.attribution.facts import marked
from rta_service.releasing.publishing import Change, publish
from rta_service.wiring_events import StrategyNames

NOW_MS = 1_717_286_400_000


def test_a_strategy_published_a_moment_ago_is_named_at_once(
    stage: Any, strategies_text: str
) -> None:
    names = StrategyNames(lambda: stage.shelf, SystemClock())
    assert names(strategy_mark("s")) == "s"
    unknown = strategy_mark("nobody")
    assert names(unknown) == marked(unknown)

    publish(stage.shelf, Change(strategies=strategies_text.replace('"s"', '"new"')), NOW_MS + 5)

    assert names(strategy_mark("new")) == "new"
    assert names(strategy_mark("s")) == "s"
