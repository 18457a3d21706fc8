"""What keeps cost control at work, and what strategies ask of it."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from rta_service.domain.control import Aim, CostGoal, Mode, Targets
from rta_service.domain.control_feed import FeedBatch, FeedRow, RowKind, body_of
from rta_service.domain.control_order import ControlSettings
from rta_service.domain.errors import StoreUnavailable
from rta_service.domain.platform import BidKind
from rta_service.domain.strategy import Audience, Goal, OptimisedEvent, Strategy
from rta_service.feedback.control_run import run_control, run_publisher
from rta_service.feedback.control_terms import terms_of
from rta_service.feedback.feed_publishing import FeedPublisher
from rta_service.stores.control_feed import ControlFeed
from rta_service.stores.ledger import Ledger
from rta_service.stores.redis import admin_client

Parts = Any
"""The builder of conftest.py: test folders are no packages."""
SETTINGS = ControlSettings(Aim(Mode.TCPA, Targets(shallow_micros=9_000_000), CostGoal.SHALLOW))


class Shaky:
    """A controller that fails at every other turn, and can't be opened at first."""

    def __init__(self) -> None:
        self.opened = self.turns = self.given_back = 0

    def open(self) -> Any:
        self.opened += 1
        if self.opened == 1:
            raise StoreUnavailable("the store is away")
        return self

    def turn(self) -> int:
        self.turns += 1
        if self.turns % 2:
            raise StoreUnavailable("the store is away")
        return 0

    def give_back(self) -> None:
        self.given_back += 1
        raise StoreUnavailable("the store is away")


class Broken(Shaky):
    def turn(self) -> int:
        raise ZeroDivisionError


async def eventually(holds: Callable[[], bool]) -> None:
    for _ in range(2_000):
        if holds():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("waited in vain")


async def test_what_fails_is_said_once_and_tried_again_until_cancelled(
    caplog: pytest.LogCaptureFixture,
) -> None:
    shaky = Shaky()
    task = asyncio.create_task(run_control(shaky.open, 0.01))

    await eventually(lambda: shaky.turns >= 6)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert (shaky.opened, shaky.given_back) == (2, 1)
    said = [record.getMessage() for record in caplog.records]
    assert 3 <= said.count("cost control waits: the store is away") <= shaky.turns / 2
    assert said[-1] == "the lease of cost control ends by itself: the store is away"


async def test_a_bug_ends_it() -> None:
    broken = Broken()
    broken.opened = 1

    with pytest.raises(ZeroDivisionError):
        await run_control(broken.open, 0.01)

    assert broken.given_back == 1


async def test_the_ledgers_rows_are_copied_while_it_is_ours_and_waited_for_before_it_is_there(
    parts: Parts, log_store_url: str, space: str, tmp_path: Path
) -> None:
    client, path, mine = admin_client(log_store_url), tmp_path / "ledger.sqlite", [False]
    feed = ControlFeed(client, space)

    def opened() -> FeedPublisher:
        return FeedPublisher(lambda: Ledger(path, is_reader=True), feed, parts.log)

    task = asyncio.create_task(run_publisher(opened, lambda: mine[0], 0.01))
    await asyncio.sleep(0.05)
    mine[0] = True
    await asyncio.sleep(0.05)
    with Ledger(path) as ledger, ledger.writing("5-0") as tables:
        tables.told.append(("s1@json", FeedRow(RowKind.CLICK, 5)))
    await eventually(lambda: feed.ends().length == 1)
    await eventually(lambda: feed.as_of()[0] == feed.ends().last)

    number, at_ms = feed.as_of()
    (batch,) = feed.read(0, 9)
    assert batch == FeedBatch(number, 0, 5, body_of({"s1@json": [FeedRow(RowKind.CLICK, 5)]}))
    assert feed.now_ms() - at_ms < 10_000
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    client.close()


def a_strategy(**more: Any) -> Strategy:
    everybody = Audience(frozenset(), frozenset(), frozenset(), frozenset(), frozenset())
    strategy = Strategy(
        strategy_id="s1",
        bindings={"json": "a", "tencent": "b"},
        audience=everybody,
        optimises=OptimisedEvent.REGISTER,
        goal=Goal.TRADE,
        target_cpa_micros=9_000_000,
        answer=BidKind.WEIGHT,
        currency="CNY",
        min_bid=0.5,
        max_bid=2.0,
        control=SETTINGS,
    )
    return msgspec.structs.replace(strategy, **more)


def test_each_platform_of_a_strategy_with_settings_is_a_unit() -> None:
    weighs = terms_of([a_strategy(), a_strategy(strategy_id="s2", control=None)])
    prices = terms_of([a_strategy(answer=BidKind.CPM, value_micros=7, accept_ttl_s=60)])

    assert sorted(weighs) == ["s1@json", "s1@tencent"]
    assert weighs["s1@json"].bounds == (0.5, 2.0)
    assert weighs["s1@json"].held is CostGoal.SHALLOW
    assert weighs["s1@json"].dead_time_s == 3_600.0
    assert (prices["s1@json"].held, prices["s1@json"].value_micros) == (None, 7)
    assert prices["s1@json"].dead_time_s == 0.0, "a bid in one auction is not kept"
