"""`rta control rebuild` on a data folder: the same, different, or nothing there."""

import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from rta_service.cli import commands
from rta_service.cli.app import app as command_tree
from rta_service.domain.control import Aim, CostGoal, Mode, Reason, Targets
from rta_service.domain.control_feed import FeedRow, RowKind
from rta_service.domain.control_order import ControlSettings
from rta_service.domain.errors import InvalidInput
from rta_service.domain.platform import BidKind
from rta_service.feedback.controlling import Controller, Place
from rta_service.feedback.feed_publishing import FeedPublisher
from rta_service.nearline.control.feeding import Terms
from rta_service.stores.control_feed import ControlFeed
from rta_service.stores.control_store import ControlStore
from rta_service.stores.embedded import EmbeddedStore
from rta_service.stores.ledger import Ledger
from rta_service.stores.redis import admin_client

assert commands.control is not None  # importing it hangs the subcommands in

SETTINGS = ControlSettings(
    Aim(Mode.TCPA, Targets(shallow_micros=2_000_000), CostGoal.SHALLOW), horizon_s=60.0
)


class Unseen:
    """Where nothing is shown."""

    def count_control_steps(self, steps: int, /) -> None:
        """Count nothing."""

    def show_control(self, units: int, oldest_s: float, lag_s: float, *, outage: bool) -> None:
        """Show nothing."""

    def show_control_guards(self, flags: Mapping[Reason, int], /) -> None:
        """Show nothing."""


class MovedFeed(ControlFeed):
    """The feed with a clock that the test moves."""

    at_ms = 1_790_000_000_000

    def now_ms(self) -> int:
        return self.at_ms


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A data folder with a store, a ledger and a unit of five steps."""
    data, wanted = tmp_path / "data", {"s1@json": Terms(SETTINGS, BidKind.CPC)}
    with EmbeddedStore(data) as store, Ledger(data / "ledger.sqlite") as ledger:
        client = admin_client(store.url)
        feed = MovedFeed(client, "rta")
        log: Any = None
        publisher = FeedPublisher(lambda: ledger, feed, log)
        place, kept = Place("one"), ControlStore(client, "rta")
        controller = Controller(place, kept, feed, lambda: wanted, Unseen())
        for _ in range(5):
            controller.turn()
            with ledger.writing(f"{feed.at_ms}-0") as tables:
                tables.told.append(("s1@json", FeedRow(RowKind.CLICK, feed.at_ms, 1, 300_000)))
            publisher.copy(feed.at_ms)
            feed.at_ms += 2_000
        client.close()
        yield data


def rebuild(data: Path, *words: str) -> Result:
    return CliRunner().invoke(command_tree, ["control", "rebuild", "--data", str(data), *words])


def test_a_state_that_its_events_and_steps_make_is_the_same(folder: Path) -> None:
    shown, told = rebuild(folder), rebuild(folder, "s1@json", "--json")

    assert shown.exit_code == told.exit_code == 0
    assert "the same to the byte" in shown.stdout
    assert json.loads(told.stdout) == {
        "units": [{"unit": "s1@json", "version": 5, "steps": 5, "same": True, "ours": True}],
        "same": True,
    }


def test_a_state_that_they_do_not_make_is_different(folder: Path) -> None:
    with closing(sqlite3.connect(folder / "ledger.sqlite")) as ledger:
        ledger.execute(
            "DELETE FROM control_feed WHERE number = (SELECT min(number) FROM control_feed)"
        )
        ledger.commit()

    result = rebuild(folder)

    assert result.exit_code == 1
    assert "different" in result.stdout


def test_what_is_not_there_is_said(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()

    nobody, nothing = rebuild(folder, "s9@json"), rebuild(tmp_path / "empty")

    assert isinstance(nobody.exception, InvalidInput)
    assert "is no control unit that was ever stepped" in str(nobody.exception)
    assert isinstance(nothing.exception, InvalidInput)
    assert "no events were attributed here yet" in str(nothing.exception)
