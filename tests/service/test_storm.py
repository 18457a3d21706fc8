"""Bad days, one after another: what is answered stays valid, and the service comes back."""

import os
import signal
import time
from typing import Any

import msgspec
import pytest

from rta_service.demo.platforms import Answer

ROUNDS = 8


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_workers_and_the_store_may_die_again_and_again(start_service: Any) -> None:
    with start_service(2) as service:
        for number in range(ROUNDS):
            victim = _store(service) if number % 2 else _workers(service)[number // 2 % 2]
            os.kill(victim, signal.SIGKILL)
            played = service.ask(service.requests(900, seed=number), rate_per_s=300.0)

            invalid = [a for a in played.answers if isinstance(a, str)]
            unanswered = sum(a is None for a in played.answers)
            assert invalid == []
            # a killed worker takes the requests with it that it was reading; 32 connections at most
            assert unanswered <= 32
            assert isinstance(played.answers[-1], Answer)


def _store(service: Any) -> int:
    return int((service.settings.data_dir / "store.pid").read_text())


def _workers(service: Any) -> list[int]:
    """Give the pids of both workers, once both have been ready."""
    while True:
        log = (service.settings.data_dir / "serve.log").read_text().splitlines()
        events = [msgspec.json.decode(line) for line in log if line.endswith("}")]
        pids = {e["child"]: e["pid"] for e in events if e["event"] == "child_ready"}
        if {"decision-0", "decision-1"} <= pids.keys():
            return [pids["decision-0"], pids["decision-1"]]
        time.sleep(0.1)
