"""Cost control as people see it, asked of a real service over its control port."""

import json
import time
from typing import Any

import httpx
from typer.testing import CliRunner

from rta_service import wiring
from rta_service.cli import commands
from rta_service.cli.app import app as command_tree
from rta_service.domain.clock import SystemClock
from rta_service.releasing.publishing import Change, publish

assert commands.control is not None  # importing it hangs the subcommands in

UNIT = "new_users@json"
_AUDIENCE = 'audience]\nstages = ["introduction"]\nunknown = true\n'
_CONTROL = '\n[strategy.control]\nmode = "tcpa"\ndaily_budget = 1000.0\n'


def ask(service: Any, path: str) -> Any:
    token = (service.settings.data_dir / "secrets" / "control_token").read_text().strip()
    url = f"http://127.0.0.1:{service.settings.control_port}{path}"
    answer = httpx.get(url, headers={"Authorization": f"Bearer {token}"}, timeout=10.0)
    return answer.raise_for_status().json()


def test_a_controlled_strategy_is_shown_by_the_control_port_and_by_the_command(
    start_service: Any,
) -> None:
    with start_service(1) as service, wiring.open_shelf(service.settings) as shelf:
        text = shelf.releases.get_strategies(service.world.release.strategies_id)
        assert text is not None
        changed = text.replace(_AUDIENCE, _AUDIENCE + _CONTROL)
        before = ask(service, "/v1/control")
        publish(shelf, Change(strategies=changed), SystemClock().now_ms())
        end_s = time.monotonic() + 30.0
        while not (units := ask(service, "/v1/control")["units"]):
            assert time.monotonic() < end_s, "waited in vain"
            time.sleep(0.1)
        one = ask(service, f"/v1/control/{UNIT}")
        command = ["control", "status", UNIT, "--data", str(service.settings.data_dir), "--json"]
        told = CliRunner().invoke(command_tree, command, env={"RTA_NAMESPACE": "test"})

    assert before == {"units": []}
    assert UNIT in {unit["unit"] for unit in units}
    assert one["mode"] == "tcpa"
    assert one["goals"][0]["target_micros"] > 0
    assert one["budget"]["daily_micros"] == 1_000_000_000
    assert told.exit_code == 0
    assert json.loads(told.stdout)["unit"] == UNIT
