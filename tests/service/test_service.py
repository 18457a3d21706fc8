"""The whole service over real HTTP: right answers, and safe ones whatever dies."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec
import numpy as np
import pytest

from rta_service import wiring
from rta_service.demo.judging import judge
from rta_service.demo.platforms import Answer
from rta_service.domain.audit import AuditEntry
from rta_service.domain.clock import SystemClock
from rta_service.domain.errors import ModelRefused
from rta_service.domain.reason import DEGRADED, ReasonCode
from rta_service.domain.release import Release
from rta_service.releasing.publishing import Change, publish as publish_release
from rta_service.scoring.model_file import object_path

DEGRADED_WORDS = {reason.label for reason in DEGRADED}
SAFE_MS = 50.0
"""What the issue allows an answer while something is broken."""


@pytest.mark.parametrize("workers", [1, 2])
def test_platforms_get_right_answers(start_service: Any, workers: int) -> None:
    with start_service(workers) as service:
        played = service.ask(service.requests(1500))

        checks = judge(played, service.oracle(), service.world.release.release_id)

    assert [c for c in checks if not c.held] == []


@pytest.mark.parametrize("blow", ["killed", "hung"])
def test_answers_stay_valid_and_quick_when_the_store_is_lost(start_service: Any, blow: str) -> None:
    with start_service(1) as service:
        service.ask(service.requests(200))
        pid = int((service.settings.data_dir / "store.pid").read_text())
        number = signal.SIGKILL if blow == "killed" else signal.SIGSTOP
        # in the middle of the requests: a killed store is back within some 0.2 s
        threading.Timer(0.5, os.kill, (pid, number)).start()
        during = service.ask(service.requests(800, seed=2))
        if blow == "hung":
            os.kill(pid, signal.SIGCONT)
        recovered = eventually(lambda: not degraded(service.ask(service.requests(40, seed=3))))

    assert all(isinstance(answer, Answer) for answer in during.answers)
    assert degraded(during) > 0
    # from the real sending: how late the generator itself was is not the service's doing
    lags_s = np.frombuffer(during.load.send_lags)
    assert np.max(np.array(during.latencies_s) - lags_s) * 1000 <= SAFE_MS
    assert recovered


def test_a_damaged_model_is_refused_and_the_old_release_goes_on(start_service: Any) -> None:
    with start_service(1) as service, wiring.open_shelf(service.settings) as shelf:
        current = service.world.release
        path = object_path(shelf.models_folder, current.models[0].sha256)
        whole = path.read_bytes()
        replace(path, whole[: len(whole) // 2])

        with pytest.raises(ModelRefused, match=r"\.forest: damaged or changed"):
            publish_release(shelf, Change(models=current.models), SystemClock().now_ms())
        played = service.ask(service.requests(200))
        replace(path, whole)

    assert {a.release for a in played.answers if a.reason} == {current.release_id}


def test_a_worker_that_finds_its_model_damaged_declines_until_it_is_whole(
    start_service: Any,
) -> None:
    with start_service(1) as service, wiring.open_shelf(service.settings) as shelf:
        path = object_path(shelf.models_folder, service.world.release.models[0].sha256)
        whole = path.read_bytes()
        replace(path, whole[: len(whole) // 2])
        kill_worker(service)
        declining = eventually(lambda: reasons(service) == {ReasonCode.NO_RELEASE.label})
        replace(path, whole)
        recovered = eventually(lambda: not degraded(service.ask(service.requests(40, seed=3))))

    assert declining
    assert recovered


def test_a_release_switches_under_load_without_mixing_and_rolls_back(start_service: Any) -> None:
    with start_service(2) as service, wiring.open_shelf(service.settings) as shelf:
        text = shelf.releases.get_strategies(service.world.release.strategies_id)
        assert text is not None
        # the second release's answers may be kept twice as long: visible in every one
        twice = "accept_ttl_s = 7200\nreject_ttl_s = 7200"
        changed = text.replace("holdout_share = 0.02", twice)
        changed = changed.replace("bounds = [5.0, 300.0]", twice)
        releases = [service.world.release]
        seen: list[dict[str, Any]] = []
        with asking_meanwhile(service, seen):
            second = publish_release(shelf, Change(strategies=changed), SystemClock().now_ms())
            assert isinstance(second, Release)
            releases.append(second)
            assert eventually(lambda: latest(seen) == second.release_id)
            deed = AuditEntry(SystemClock().now_ms(), "test", "rollback", "the way back")
            releases.append(shelf.releases.rollback(deed))
            assert eventually(lambda: latest(seen) == releases[-1].release_id)

    allowed = {
        (
            r.release_id,
            r.snapshot_id,
            r.strategies_id,
            tuple(m.version for m in r.models),
            7200 if r is releases[1] else 3600,
        )
        for r in releases
    }
    got = {
        (v["release"], v["snapshot"], v["strategies"], tuple(v["models"].values()), ttl_s)
        for v, ttl_s in (
            (answer["versions"], answer["ttl_s"])
            for answer in seen
            if answer["reason"] not in DEGRADED_WORDS  # a busy machine: valid, and kept shorter
        )
    }
    assert got == allowed


def test_the_control_port_explains_counts_and_wants_its_token(start_service: Any) -> None:
    with start_service(1) as service:
        service.ask(service.requests(200))
        token = wiring.secret(service.settings, "control_token").decode()
        base = f"http://127.0.0.1:{service.settings.control_port}"
        with httpx.Client(base_url=base, headers={"Authorization": f"Bearer {token}"}) as client:
            metrics = client.get("/metrics").text
            versions = client.get("/v1/versions").json()
            asked = next(r for r in service.requests(50) if r.known and r.platform == "json")
            ids = [{"kind": i.kind, "form": i.form, "value": i.value} for i in asked.ids]
            request = {"request_id": "x", "device": {"os": "android", "ids": ids}}
            question = {"platform": "json", "request": request}
            explained = client.post("/v1/explain", json=question).json()
        refused = httpx.get(f"{base}/v1/versions")

    assert 'rta_requests_total{outcome="participate",platform="json"}' in metrics
    assert versions["release"]["release_id"] == service.world.release.release_id
    assert explained["person"]["known"]
    assert refused.status_code == httpx.codes.UNAUTHORIZED


def replace(path: Path, data: bytes) -> None:
    """Put another file in a file's place; whoever has mapped the old one keeps it."""
    path.unlink()
    path.write_bytes(data)


@contextmanager
def asking_meanwhile(service: Any, seen: list[dict[str, Any]]) -> Iterator[None]:
    """Ask again and again in threads, keeping every answer."""
    stop = threading.Event()
    body = msgspec.json.encode(
        {
            "request_id": "load",
            "device": {"os": "ios", "ids": [{"kind": "idfa", "form": "raw", "value": "A-1"}]},
        }
    )

    def ask() -> None:
        url = f"http://127.0.0.1:{service.settings.port}/rta/json"
        with httpx.Client() as client:
            while not stop.is_set():
                seen.append(client.post(url, content=body).json())

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def latest(seen: list[dict[str, Any]]) -> str:
    """Give the release of the newest answers, once all of them agree."""
    newest = {answer["versions"]["release"] for answer in seen[-50:]}
    return str(newest.pop()) if len(newest) == 1 else ""


def degraded(played: Any) -> int:
    """Count the answers that were degraded; all of them if nobody at all got a yes."""
    if not any(isinstance(a, Answer) and a.participate for a in played.answers):
        return len(played.answers)
    return sum(isinstance(a, Answer) and a.reason in DEGRADED_WORDS for a in played.answers)


def reasons(service: Any) -> set[str]:
    try:
        played = service.ask([r for r in service.requests(60, seed=5) if not r.is_ping])
    except OSError:
        return set()
    return {a.reason for a in played.answers if isinstance(a, Answer) and a.reason}


def kill_worker(service: Any) -> None:
    """Kill the decision worker hard, as the kernel would."""
    log = Path(service.settings.data_dir / "serve.log").read_text().splitlines()
    events = [msgspec.json.decode(line) for line in log if line.startswith("{")]
    ready = [e for e in events if e["event"] == "child_ready" and "decision" in e["child"]]
    os.kill(ready[-1]["pid"], signal.SIGKILL)


def eventually(holds: Callable[[], bool], within_s: float = 15.0) -> bool:
    end_s = time.monotonic() + within_s
    while time.monotonic() < end_s:
        if holds():
            return True
        time.sleep(0.1)
    return False
