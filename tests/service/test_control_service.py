"""Cost control inside of a real service: from a platform's notices to orders, whoever is killed."""

import json
import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import msgspec
from typer.testing import CliRunner

from rta_service import wiring
from rta_service.cli import commands
from rta_service.cli.app import app as command_tree
from rta_service.domain.clock import SystemClock
from rta_service.domain.control import CostGoal
from rta_service.feedback.control_unit import kept_of
from rta_service.feedback.sending import EventSender, Port
from rta_service.nearline.control.books import ARRIVED, COST
from rta_service.nearline.control.feeding import Kept
from rta_service.releasing.publishing import Change, publish
from rta_service.stores.control_store import ControlStore

assert commands.control is not None  # importing it hangs the subcommands in

UNIT = "new_users@json"
_CONTROLLED = """audience]
stages = ["introduction"]
unknown = true

[strategy.control]
mode = "tcpa"
daily_budget = 1000.0
horizon_h = 0.05
"""


def eventually(holds: Callable[[], bool], patience_s: float = 30.0) -> None:
    end_s = time.monotonic() + patience_s
    while not holds():
        assert time.monotonic() < end_s, "waited in vain"
        threading.Event().wait(0.05)


def line(number: int, event: str, person: int, **more: Any) -> bytes:
    facts: dict[str, Any] = {"event_id": f"{event}-{number}", "event": event, "id_kind": "oaid"}
    facts |= {"device_id": f"person-{person}", "ts_ms": SystemClock().now_ms()}
    return msgspec.json.encode(facts | more)


def send(sender: EventSender, first: int, count: int) -> None:
    """Send clicks that cost, of whom every fourth registers."""
    numbers = range(first, first + count)
    ad = {"channel": "json", "strategy_id": "new_users", "cost_micros": 2_000_000}
    sender.send([line(n, "ad_click", n, **ad) for n in numbers])
    sender.send([line(n, "register", n) for n in numbers if n % 4 == 0])


def counted(store: ControlStore) -> tuple[int, int]:
    """Give the micros and the registrations in the unit's books."""
    state = store.state(UNIT)
    assert state is not None
    sums = Kept.from_bytes(UNIT, kept_of(state)).unit.books.bought.totals()
    return int(sums[COST]), int(sums[ARRIVED[CostGoal.SHALLOW]])


def nearline_pid(service: Any) -> int:
    """Find the process by what the service said."""
    log = (service.settings.data_dir / "serve.log").read_text()
    said = [json.loads(one) for one in log.splitlines() if one.startswith("{")]
    ready = [e for e in said if e.get("event") == "child_ready" and e.get("child") == "nearline"]
    return int(ready[-1]["pid"])


def test_clicks_and_registrations_become_orders_and_what_is_kept_is_rebuilt_to_the_byte(
    start_service: Any,
) -> None:
    with start_service(1) as service, wiring.open_shelf(service.settings) as shelf:
        text = shelf.releases.get_strategies(service.world.release.strategies_id)
        assert text is not None
        changed = text.replace(
            'audience]\nstages = ["introduction"]\nunknown = true\n', _CONTROLLED
        )
        publish(shelf, Change(strategies=changed), SystemClock().now_ms())
        store = ControlStore(shelf.client, service.settings.namespace)
        eventually(lambda: UNIT in store.orders())
        token = (service.settings.data_dir / "secrets" / "control_token").read_text().strip()
        port = Port(f"http://127.0.0.1:{service.settings.ingest_port}", token, patience_s=30.0)

        with EventSender(port) as sender:
            send(sender, 0, 40)
            eventually(lambda: counted(store) == (80_000_000, 10))
            os.kill(nearline_pid(service), signal.SIGKILL)
            send(sender, 40, 40)
            eventually(lambda: counted(store) == (160_000_000, 20), 60.0)
            send(sender, 0, 80)  # copies, all of them
        version = store.orders()[UNIT].block.version
        eventually(lambda: store.orders()[UNIT].block.version >= version + 2)
        in_the_end = counted(store)
        command = ["control", "rebuild", "--data", str(service.settings.data_dir), "--json"]
        rebuilt = CliRunner().invoke(command_tree, command, env={"RTA_NAMESPACE": "test"})

    assert in_the_end == (160_000_000, 20)
    assert rebuilt.exit_code == 0, rebuilt.stdout
    found = json.loads(rebuilt.stdout)
    assert found["same"] is True
    assert {one["unit"] for one in found["units"]} >= {UNIT}
