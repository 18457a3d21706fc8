"""What comes back to a running service: it changes who people are, and what ads are worth."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import msgspec
import pytest
from typer.testing import CliRunner

from rta_service import wiring_events
from rta_service.cli import commands
from rta_service.cli.app import app as command_tree
from rta_service.domain.clock import SystemClock
from rta_service.domain.reason import ReasonCode
from rta_service.feedback.attributing import cells
from rta_service.feedback.sending import EventSender, Port
from rta_service.stores.ledger import Ledger

assert commands.profiles is not None  # importing it hangs the subcommands in

HOUR_MS = 3_600_000
FRESH_S = 1.0


@contextmanager
def sender_of(service: Any) -> Iterator[EventSender]:
    token = (service.settings.data_dir / "secrets" / "control_token").read_text().strip()
    port = Port(f"http://127.0.0.1:{service.settings.ingest_port}", token, patience_s=20.0)
    with EventSender(port) as sender:
        yield sender


def line(event_id: str, event: str, oaid: str, **more: Any) -> bytes:
    facts = {"event_id": event_id, "event": event, "device_id": oaid, "id_kind": "oaid"}
    return msgspec.json.encode({**facts, "ts_ms": SystemClock().now_ms(), **more})


def ask(service: Any, oaid: str) -> dict[str, Any]:
    """Ask on a connection of its own, so that any worker may answer."""
    device = {"os": "android", "ids": [{"kind": "oaid", "form": "raw", "value": oaid}]}
    body = {"request_id": f"r-{oaid}", "device": device, "context": {"placement": "feed"}}
    url = f"http://127.0.0.1:{service.settings.port}/rta/json"
    answer: dict[str, Any] = httpx.post(url, json=body, timeout=5.0).json()
    return answer


def new_users(answer: dict[str, Any]) -> dict[str, Any]:
    (found,) = (s for s in answer["strategies"] if s["strategy_id"] == "new_users")
    return dict(found)


def strangers(service: Any, count: int) -> list[str]:
    """Name devices that nobody has seen, and whom the strategy for new users wants."""
    names = (f"stranger-{number}" for number in range(10 * count))
    wanted = (name for name in names if new_users(ask(service, name))["participate"])
    return [next(wanted) for _ in range(count)]


def eventually(holds: Callable[[], bool], patience_s: float = 20.0) -> bool:
    end_s = time.monotonic() + patience_s
    while time.monotonic() < end_s:
        if holds():
            return True
        threading.Event().wait(0.05)
    return False


def test_a_registration_changes_the_next_decision_within_a_second_under_load(
    start_service: Any, a_load: Callable[..., Any]
) -> None:
    with start_service(2) as service, sender_of(service) as sender:
        people = strangers(service, 5)
        with a_load(service, lambda *_: "", rate_per_s=200.0) as load:
            late = []
            for person in people:
                receipt = sender.send([line(f"reg-{person}", "register", person)])
                assert receipt.accepted == 1
                threading.Event().wait(FRESH_S)
                late += [new_users(ask(service, person))["reason"] for _ in range(10)]
        again = new_users(ask(service, "somebody-else"))["reason"]
        words = ["profiles", "show", people[0], "--kind", "oaid", "--form", "raw", "--json"]
        data = ["--data", str(service.settings.data_dir)]
        shown = CliRunner().invoke(command_tree, [*words, *data], env={"RTA_NAMESPACE": "test"})

    assert set(late) == {ReasonCode.ALREADY_REGISTERED.label}
    assert again != ReasonCode.ALREADY_REGISTERED.label
    assert load.errors == {}
    record = json.loads(shown.stdout)
    assert record["days_of_newer_events"] == 1
    assert record["tier"] == "D"


def test_a_click_by_its_link_is_owed_what_was_predicted_and_a_registration_what_it_cost(
    start_service: Any,
) -> None:
    with start_service(1) as service, sender_of(service) as sender:
        (person,) = strangers(service, 1)
        answer = ask(service, person)
        tag = new_users(answer)["tag"]
        base = f"http://127.0.0.1:{service.settings.ingest_port}"
        links = wiring_events.links(service.settings)
        template = links.make(base, "json", "ad_click", {"strategy": "new_users", "need": "tag"})
        now_ms = SystemClock().now_ms()
        told = {"request": answer["request_id"], "tag": tag, "ts_ms": str(now_ms)}
        url = filled(template, {**told, "oaid_raw": person, "cost_micros": "1500000"})

        forged = httpx.get(url.replace("new_users", "wake_traders"))
        refused = httpx.get(filled(template, {**told, "tag": "A" * 36, "oaid_raw": person}))
        fates = [httpx.get(url).json()["fate"] for _ in range(2)]
        sender.send([line("reg", "register", person, ts_ms=now_ms + 1_000)])
        path = wiring_events.ledger_path(service.settings)

        def found() -> Any:
            with Ledger(path, is_reader=True) as ledger:
                return cells(ledger, now_ms - HOUR_MS, now_ms + 2 * HOUR_MS)

        assert eventually(lambda: any(cell.goals for cell in found()))
        (cell,) = found()

    assert (forged.status_code, refused.status_code) == (403, 403)
    assert fates == ["accepted", "duplicate"]
    assert cell.place.strategy == "new_users"
    assert (cell.clicks, cell.cost_micros) == (1, 1_500_000)
    assert cell.goals["register"].conversions == 1
    predicted = new_users(answer)["pcvr"]["register"]
    assert cell.register_sum == pytest.approx(predicted, rel=0.01)


def filled(template: str, values: dict[str, str]) -> str:
    """Fill a link in as the json platform's callers do; what they lack stays as it is."""
    for name, value in values.items():
        template = template.replace("{" + name + "}", value)
    return template
