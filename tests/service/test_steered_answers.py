"""Workers of a real service follow the orders of its controller, and spend what they are granted."""

import threading
import time
from collections.abc import Callable
from typing import Any

import httpx

from rta_service import wiring
from rta_service.domain.clock import SystemClock
from rta_service.releasing.publishing import Change, publish

STRATEGY = """\
[[strategy]]
id = "steered"
bindings = { json = "steered" }
optimises = "click"
goal = "register"
target_cpa = 20.0
answer = "cpm"

[strategy.audience]
unknown = true

[strategy.control]
mode = "tcpa"
daily_budget = 50.0
max_bid = 8.0
explore_share = 0.0
"""


def _question(number: int) -> dict[str, Any]:
    ids = [{"kind": "oaid", "form": "md5", "value": f"{number:032x}"}]
    return {
        "request_id": f"q-{number}",
        "device": {"os": "android", "ids": ids},
        "context": {"pctr": 0.02},
    }


def _eventually(holds: Callable[[], bool], patience_s: float = 40.0) -> None:
    end_s = time.monotonic() + patience_s
    while not holds():
        assert time.monotonic() < end_s, "waited in vain"
        threading.Event().wait(0.1)


def test_a_budget_is_granted_to_workers_and_explain_shows_the_order(start_service: Any) -> None:
    with start_service(1) as service, wiring.open_shelf(service.settings) as shelf:
        publish(shelf, Change(strategies=STRATEGY), SystemClock().now_ms())
        port, control = service.settings.port, service.settings.control_port
        token = (service.settings.data_dir / "secrets" / "control_token").read_text().strip()
        bearer = {"Authorization": f"Bearer {token}"}
        asked = iter(range(1, 100_000))
        seen: list[dict[str, Any]] = []

        with httpx.Client(timeout=10.0) as client:

            def answers() -> bool:
                url = f"http://127.0.0.1:{port}/rta/json"
                answer = client.post(url, json=_question(next(asked))).json()
                if [one["strategy_id"] for one in answer["strategies"]] == ["steered"]:
                    seen.append(answer)
                return bool(seen and seen[-1]["participate"])

            _eventually(answers)
            question = {"platform": "json", "request": _question(1)}
            url = f"http://127.0.0.1:{control}/v1/explain"
            explained = client.post(url, json=question, headers=bearer).json()

            def counted() -> bool:
                url = f"http://127.0.0.1:{control}/metrics"
                page = client.get(url, headers=bearer).text
                return 'rta_control_answers_total{what="answered"} 0' not in page

            _eventually(counted)

    assert {one["reason"] for one in seen[:-1]} <= {"no_budget"}
    (answer,) = seen[-1]["strategies"]
    assert answer["bid"]["kind"] == "cpm"
    (shown,) = explained["strategies"]
    assert shown["control"]["order"]["version"] >= 1
    assert not shown["control"]["order"]["stale"]
    assert shown["control"]["hold_rate"] > 0
    assert shown["control"]["goals"][0]["target_micros"] == 20_000_000
