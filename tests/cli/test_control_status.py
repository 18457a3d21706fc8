"""`rta control status`, on a store of its own."""

import json
from collections.abc import Callable
from math import inf
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from typer.testing import CliRunner

from rta_service import wiring
from rta_service.cli import commands
from rta_service.cli.app import app as command_tree
from rta_service.domain.clock import SystemClock
from rta_service.domain.control import Aim, Budget, CostGoal, Mode, Reason, Targets
from rta_service.domain.control_order import ControlSettings, Order, Shape, Usage
from rta_service.domain.errors import UnknownName
from rta_service.nearline.control.feed import Conversions, Wins
from rta_service.nearline.control.unit import ControlUnit, Rules
from rta_service.nearline.control.viewing import view
from rta_service.stores.control_store import ControlStore, Saved
from rta_service.stores.redis import admin_client

assert commands.control is not None  # importing it hangs the subcommands in

HOUR_MS = 3_600_000
Rta = Callable[..., Any]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


@pytest.fixture
def rta(data: Path) -> Rta:
    def call(*words: str) -> Any:
        environment = {"RTA_DATA_DIR": str(data), "RTA_REDIS_URL": None, "COLUMNS": "200"}
        result = CliRunner().invoke(command_tree, ["control", "status", *words], env=environment)
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return call


def stepped(name: str, goal: CostGoal, now_ms: int, wins: int = 3_600) -> Saved:
    targets = Targets(shallow_micros=25_000_000, deep_micros=100_000_000, roas=2.0)
    mode = Mode.ROAS if goal is CostGoal.VALUE else Mode.TCPA
    settings = ControlSettings(Aim(mode, targets, goal), Budget(2_000_000_000))
    unit = ControlUnit(name, Rules(settings.aim, settings.budget))
    unit.step(now_ms - HOUR_MS)
    won = now_ms - HOUR_MS + 1_000 * np.arange(wins)
    unit.learn(Wins(won, 200_000, 0.01, 0.002, 0.06))
    unit.learn(None, Conversions(CostGoal.SHALLOW, won[::100], won[::100]))
    block = unit.step(now_ms)
    order = Order(block, settings, Shape(0.2, 0.05, {8: 0.01}))
    usage = Usage(name, answered=1_000, weight_millis=1_000_000, not_worth=30)
    return Saved(name, 1, b"", b"", order, view(unit, block, usage=usage))


def keep(data: Path, *saved: Saved) -> None:
    settings = wiring.load_settings(data_dir=data)
    with wiring.store_url(settings) as url, admin_client(url) as client:
        store = ControlStore(client, settings.namespace)
        store.save(0, store.take(0, "one"), saved, 0)


def test_nothing_under_control_says_what_to_do(rta: Rta) -> None:
    assert "[strategy.control]" in rta().stdout
    assert json.loads(rta("--json").stdout) == {"units": []}


def test_units_are_shown_with_target_cost_multiplier_and_why(rta: Rta, data: Path) -> None:
    now_ms = SystemClock().now_ms()
    money = stepped("b@tencent", CostGoal.VALUE, now_ms)
    keep(data, stepped("a@json", CostGoal.SHALLOW, now_ms), money)

    shown = rta().stdout
    figures = json.loads(rta("--json").stdout)["units"]

    for words in ("a@json", "25.00", "20.00", "36 came", "roas 2.00", "2,000.00"):
        assert words in shown
    assert [unit["unit"] for unit in figures] == ["a@json", "b@tencent"]
    assert figures[0]["goals"][0]["target_micros"] == 25_000_000


def test_one_unit_is_shown_with_its_factors_and_moves(rta: Rta, data: Path) -> None:
    saved = stepped("a@json", CostGoal.SHALLOW, SystemClock().now_ms())
    keep(data, saved)

    shown = rta("a@json").stdout

    assert "a predicted conversion is worth" in shown
    assert "takes part from a worth of 0.05 on" in shown
    assert "took part for 97% of 1,030 wanted people" in shown
    assert "how it moved" in shown
    assert json.loads(rta("a@json", "--json").stdout)["unit"] == "a@json"


def test_guards_and_old_orders_are_told(rta: Rta, data: Path) -> None:
    saved = stepped("a@json", CostGoal.DEEP, SystemClock().now_ms() - 2 * HOUR_MS, wins=0)
    block = msgspec.structs.replace(
        saved.order.block, throttle=0.0, flags=(Reason.BUDGET_SPENT,), period_ms=15_000
    )
    order = Order(block, saved.order.settings, Shape(0.2, inf))
    keep(data, saved._replace(order=order))

    shown = " ".join(rta("a@json").stdout.split())

    assert "the day's budget is spent: no bids" in shown
    assert "bids fade to neutral" in shown
    assert "takes part for nobody" in shown
    assert "a guard: no bids are made" in shown
    assert "unknown" in shown


def test_an_unknown_unit_is_refused(rta: Rta, data: Path) -> None:
    keep(data, stepped("a@json", CostGoal.SHALLOW, SystemClock().now_ms()))

    with pytest.raises(UnknownName, match="a@json"):
        rta("b@json")
