"""A model on trial in a running service: scored on its traffic, judged by its outcomes."""

import json
import os
import shutil
import signal
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from rich.progress import Progress

from rta_service import wiring
from rta_service.config import Settings
from rta_service.demo.platforms import Answer
from rta_service.demo.play import play, running_service
from rta_service.demo.world import World
from rta_service.domain.access import Actor, Role
from rta_service.domain.clock import SystemClock
from rta_service.domain.command import Command
from rta_service.domain.rollout import Action
from rta_service.scoring.calibration import Calibration
from rta_service.scoring.model_file import object_path, read_model
from rta_service.simulation.traffic import TrafficOptions, simulate_traffic
from rta_service.stores.model_folder import EntryFacts, put_model


@dataclass(frozen=True)
class Service:
    settings: Settings
    world: World
    control: httpx.Client

    def put_in_shadow(self, version: str, scale: float) -> None:
        """Register the live trade model under another version that promises more, and shadow it."""
        with wiring.open_shelf(self.settings) as shelf:
            release = shelf.releases.current()
            assert release is not None
            live = next(ref for ref in release.models if ref.name == "trade")
            folder = shelf.models_folder
            manifest, forest = read_model(object_path(folder, live.sha256), live.sha256)
            knots = manifest.calibration
            higher = Calibration(knots.x, tuple(min(scale * y, 1.0) for y in knots.y))
            changed = msgspec.structs.replace(manifest, version=version, calibration=higher)
            put_model(folder, changed, forest, EntryFacts(1, "test"))
            desk = wiring.rollouts(self.settings, lambda: shelf, SystemClock())
            command = Command(Action.SHADOW, (("trade", version),), why="to see")
            desk.act(command, Actor("test", Role.ADMIN))

    def ask(self, count: int) -> list[tuple[str, str]]:
        """Send requests; gives platform and name of those answered yes."""
        requests = list(simulate_traffic(self.world.truth, TrafficOptions(count, seed=3)))
        played = play(requests, self.settings.port, 150.0, Progress(disable=True))
        return [
            (request.platform, request.request_id)
            for request, answer in zip(requests, played.answers, strict=True)
            if isinstance(answer, Answer) and answer.participate
        ]

    def shadows(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.control.get("/v1/shadows").json()["shadows"]
        return found

    def control_pid(self) -> int:
        log = (self.settings.data_dir / "serve.log").read_text().splitlines()
        events = [msgspec.json.decode(line) for line in log if line.endswith("}")]
        ready = [e for e in events if e["event"] == "child_ready" and e["child"] == "control"]
        return int(ready[-1]["pid"])


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(condition: Callable[[], object], limit_s: float = 40.0) -> None:
    end_s = time.monotonic() + limit_s
    while True:
        try:
            if condition():
                return
        except httpx.TransportError:
            pass
        assert time.monotonic() < end_s, "waited in vain"
        time.sleep(0.2)


@pytest.fixture
def service(made_world: World, tmp_path: Path) -> Iterator[Service]:
    folder = tmp_path / "data"
    shutil.copytree(made_world.events.parent, folder)
    settings = Settings(
        data_dir=folder,
        redis_url=None,
        host="127.0.0.1",
        port=_free_port(),
        control_port=_free_port(),
        ingest_port=_free_port(),
        workers=2,
        namespace="test",
        traffic_sample_rate=1.0,
    )
    with running_service(settings, SystemClock()):
        token = (folder / "secrets" / "control_token").read_text().strip()
        url = f"http://127.0.0.1:{settings.control_port}"
        headers = {"Authorization": f"Bearer {token}"}
        with httpx.Client(base_url=url, headers=headers, timeout=10.0) as control:
            yield Service(settings, made_world, control)


@pytest.mark.slow
def test_a_shadow_is_scored_on_the_traffic_and_outcomes_find_its_scores(service: Service) -> None:
    service.put_in_shadow("greedy", 1.2)
    accepted = service.ask(900)
    wait_for(lambda: service.shadows() and service.shadows()[0]["rows"] >= len(accepted))

    report = service.shadows()[0]
    assert (report["name"], report["version"], report["phase"]) == ("trade", "greedy", "shadow")
    assert report["drift"]["mean_ratio"] == pytest.approx(1.2, abs=0.02)
    assert "rta_shadow_rows_total" in service.control.get("/metrics").text

    time.sleep(12.0)  # pairs are written every 10 s
    now_ms = SystemClock().now_ms()
    body = "\n".join(
        json.dumps(
            {
                "id": f"{platform}-{name}",
                "ts_ms": now_ms,
                "platform": platform,
                "request_id": name,
                "labels": {"trade": 0},
            }
        )
        for platform, name in accepted
    )
    taken = service.control.post("/v1/outcomes", content=body).json()
    assert taken["accepted"] == len(accepted)
    assert sum(line["pairs"] for line in taken["lines"]) >= 0.9 * len(accepted)

    before = service.control_pid()
    os.kill(before, signal.SIGKILL)
    wait_for(lambda: service.control_pid() != before and service.shadows())

    again = service.control.post("/v1/outcomes", content=body).json()
    assert (again["accepted"], again["duplicate"]) == (0, len(accepted))
    assert service.shadows()[0]["rows"] > 0


@pytest.mark.slow
def test_the_autopilot_does_nothing_until_it_is_switched_on_and_survives_a_kill(
    service: Service,
) -> None:
    service.put_in_shadow("twin", 1.0)

    status = service.control.get("/v1/autopilot").json()["autopilot"]
    assert status == {"switch": {"on": False, "who": "", "why": "", "at_ms": 0}, "last": None}

    wish = {"on": True, "why": "the team is away"}
    assert service.control.put("/v1/autopilot", json=wish).status_code == 200
    wait_for(lambda: service.control.get("/v1/autopilot").json()["autopilot"]["last"], 60.0)
    before = service.control_pid()
    os.kill(before, signal.SIGKILL)
    wait_for(lambda: service.control_pid() != before and service.shadows() is not None)

    last = service.control.get("/v1/autopilot").json()["autopilot"]
    assert last["switch"]["on"]
    assert last["last"]["judgement"]["action"] == "wait"
    assert any("matured positives" in reason for reason in last["last"]["judgement"]["reasons"])
