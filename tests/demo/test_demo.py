"""The demo as a newcomer runs it, and how it judges and shows what it found."""

import io
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from rta_service.demo import report
from rta_service.demo.judging import judge
from rta_service.demo.platforms import (
    Answer,
    encode_tencent,
    read_json,
    read_tencent,
)
from rta_service.demo.play import Played
from rta_service.domain.device import IdForm, IdKind, OperatingSystem
from rta_service.platforms.registry import load_adapters
from rta_service.platforms.tencent.tencent_pb2 import RtaResponse
from rta_service.simulation.load import LoadResult
from rta_service.simulation.traffic import SimulatedId, SimulatedRequest, encode_json

MD5 = "0123456789abcdef0123456789abcdef"


def _free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def test_the_demo_decides_holds_its_checks_and_ends_with_0() -> None:
    command = [sys.executable, "-m", "rta_service", "demo", "--exit", "--json"]
    command += ["--devices", "5000", "--requests", "2000", "--rate", "300", "--steer", "0"]
    command += ["--port", _free_port(), "--control-port", _free_port()]
    command += ["--ingest-port", _free_port()]

    run = subprocess.run(command, capture_output=True, check=False, timeout=110)

    assert run.stdout, run.stderr.decode()[-2000:]
    document = json.loads(run.stdout)
    assert [check for check in document["checks"] if not check["held"]] == []
    assert run.returncode == 0
    assert document["passed"]
    assert document["requests"] == {"sent": 2000, "answered": 2000}
    assert {"register", "trade"} <= document["models"].keys()
    assert 0.1 < document["participation_share"]["tencent"] < 0.9
    assert document["sleeping"]["churned"]["filtered"] > 0.5
    shown = io.StringIO()
    report.show(document, Console(file=shown, width=120))
    assert "churned people" in shown.getvalue()
    assert document["curl"][0].startswith("curl -s http://127.0.0.1:")


def test_a_kept_world_is_there_for_the_other_commands(tmp_path: Path) -> None:
    ports = (_free_port(), _free_port(), _free_port())
    command = [sys.executable, "-m", "rta_service", "demo", "--traffic", "200"]
    command += [
        "--devices",
        "3000",
        "--requests",
        "500",
        "--steer",
        "0",
        "--data",
        str(tmp_path / "world"),
    ]
    command += ["--port", ports[0], "--control-port", ports[1], "--ingest-port", ports[2]]
    run = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert run.stdout is not None
    try:
        assert any("serving until" in line for line in run.stdout), run.stderr

        listed = _rta("models", "list", "--json", "--data", str(tmp_path / "world"))
        again = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)

        phases = {model["name"]: model["phase"] for model in json.loads(listed)["models"]}
        assert (phases["register"], phases["trade"]) == ("live", "live")
        assert again.returncode == 2
        assert "holds a world already" in again.stderr
    finally:
        run.send_signal(signal.SIGINT)
        try:
            run.communicate(timeout=30)
        finally:
            run.kill()
    assert run.returncode == 0


def _rta(*words: str) -> str:
    command = [sys.executable, "-m", "rta_service", *words]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


def test_a_port_in_use_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        command = [sys.executable, "-m", "rta_service", "serve", "--port", port]
        command += ["--host", "127.0.0.1", "--control-port", _free_port()]
        environment = {**os.environ, "RTA_REDIS_URL": "redis://127.0.0.1:1"}
        run = subprocess.run(
            [*command, "--data", os.devnull + "-not-used"],
            capture_output=True,
            check=False,
            timeout=60,
            env={**environment, "RTA_PEPPER": MD5, "RTA_EXPERIMENT_KEY": MD5}
            | {"RTA_CONTROL_TOKEN": MD5},
        )

    assert run.returncode == 3
    assert f"port {port}: the port is in use" in run.stderr.decode()


def _a_request(**changes: Any) -> SimulatedRequest:
    fields: dict[str, Any] = {
        "platform": "json",
        "request_id": "r",
        "ids": (SimulatedId(IdKind.OAID, IdForm.MD5, MD5),),
        "os": OperatingSystem.ANDROID,
    }
    return SimulatedRequest(**{**fields, **changes})


@pytest.mark.parametrize("platform", ["json", "tencent"])
def test_what_the_demo_sends_is_what_the_adapter_reads(platform: str) -> None:
    ids = (
        SimulatedId(IdKind.OAID, IdForm.MD5, MD5[::-1], trusted=False),
        SimulatedId(IdKind.OAID, IdForm.MD5, MD5),
        SimulatedId(IdKind.CAID, IdForm.MD5, MD5),
        SimulatedId(IdKind.GAID, IdForm.MD5, MD5),
    )
    encode = {"json": encode_json, "tencent": encode_tencent}[platform]

    read = load_adapters()[platform].parse(encode(_a_request(platform=platform, ids=ids)))

    assert read.request_id == "r"
    assert read.os is OperatingSystem.ANDROID
    assert MD5 in {i.value for i in read.ids if i.kind is IdKind.OAID and i.trusted}


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        (b"", "yes to everything"),
        (b"\xff", "not an RtaResponse"),
        (
            RtaResponse(request_id="r", code=0, response_cache_time=9).SerializeToString(),
            "everything",
        ),
        (RtaResponse(request_id="x", code=1, response_cache_time=9).SerializeToString(), "another"),
    ],
)
def test_a_tencent_answer_that_could_be_misread_is_found(body: bytes, fault: str) -> None:
    assert fault in str(read_tencent(200, body, "r"))


@pytest.mark.parametrize(
    ("status", "change", "fault"),
    [
        (500, {}, "status 500"),
        (200, {"participate": True}, "participates without"),
        (200, {"reason": "because"}, "not on the list"),
        (200, {"request_id": "x"}, "another request's id"),
        (200, {"ttl_s": 0}, "cache time"),
        (200, {"ttl_s": "soon"}, "Expected `int`"),
    ],
)
def test_a_json_answer_that_breaks_the_contract_is_found(
    status: int, change: dict[str, Any], fault: str
) -> None:
    whole = {
        "request_id": "r",
        "participate": False,
        "reason": "unknown_device",
        "strategies": [],
        "ttl_s": 60,
        "versions": {"release": "r1", "snapshot": "", "models": {}, "strategies": ""},
    }

    assert isinstance(read_json(200, json.dumps(whole).encode(), "r"), Answer)
    assert fault in str(read_json(status, json.dumps({**whole, **change}).encode(), "r"))


def test_a_wrong_answer_fails_the_self_checks() -> None:
    class NobodyKnown:
        def who(self, request: SimulatedRequest) -> None:
            return None

    requests = [_a_request(), _a_request(), _a_request()]
    answers = ["status 500", None, Answer(False, "store_unavailable", release="other")]
    played = Played(requests, answers, LoadResult())

    failed = {c.name for c in judge(played, NobodyKnown(), "r1") if not c.held}  # type: ignore[arg-type]  # a fake oracle

    assert "every answer is valid for its platform" in failed
    assert "every request was answered" in failed
    assert "under 1 % of answers were degraded" in failed
    assert "every answer names the one release" in failed
