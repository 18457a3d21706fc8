"""No container engine is needed here: the files are read, and the health check is run as it is."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

from rta_service.config import Settings

ROOT = Path(__file__).parents[1]
COMPOSE = (ROOT / "compose.yaml").read_text()

Stage = list[tuple[str, str]]


def stages() -> list[Stage]:
    """The Dockerfile's instructions, continued lines joined, one list a FROM."""
    lines = [
        line
        for line in (ROOT / "Dockerfile").read_text().splitlines()
        if line and not line.lstrip().startswith("#")
    ]
    found: list[Stage] = []
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        word, _, rest = line.partition(" ")
        if word == "FROM":
            found.append([])
        if found:
            found[-1].append((word, rest.strip()))
    return found


def only(stage: Stage, word: str) -> str:
    (value,) = [rest for instruction, rest in stage if instruction == word]
    return value


class Livez(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/livez" else 404)
        self.end_headers()

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def live_port() -> Iterator[int]:
    with HTTPServer(("127.0.0.1", 0), Livez) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def test_the_image_takes_only_the_environment_from_its_builder() -> None:
    builder, final = stages()

    copies = [rest for word, rest in final if word == "COPY"]
    assert only(builder, "FROM").endswith(" AS builder")
    assert copies == ["--from=builder /opt/rta /opt/rta"]


def test_what_is_downloaded_is_checked_by_hash() -> None:
    steps = [rest for stage in stages() for word, rest in stage if word == "RUN"]

    pips = [pip for step in steps for pip in step.split("&&") if re.search(r"\bpip ", pip)]

    assert len(pips) == 3
    assert all("--require-hashes" in pip or "--no-index" in pip for pip in pips)


def test_the_service_runs_as_nobody_special_and_writes_only_its_data() -> None:
    final = stages()[-1]

    uid = int(only(final, "USER").partition(":")[0])

    assert uid >= 1000
    assert json.loads(only(final, "VOLUME")) == ["/data"]
    assert "RTA_DATA_DIR=/data" in only(final, "ENV")


def test_the_image_starts_drains_and_shows_its_ports() -> None:
    final = stages()[-1]

    command = json.loads(only(final, "ENTRYPOINT")) + json.loads(only(final, "CMD"))

    assert command == ["rta", "serve"]
    assert only(final, "STOPSIGNAL") == "SIGTERM"
    fields = Settings.model_fields
    ports = {str(fields[name].default) for name in ("port", "control_port", "ingest_port")}
    assert set(only(final, "EXPOSE").split()) == ports


def test_the_health_check_tells_a_live_service_from_a_dead_one(live_port: int) -> None:
    _, _, check = only(stages()[-1], "HEALTHCHECK").partition("CMD ")
    command = [sys.executable, *json.loads(check)[1:]]

    alive = subprocess.run(command, env=os.environ | {"RTA_PORT": str(live_port)}, check=False)
    dead = subprocess.run(
        command, env=os.environ | {"RTA_PORT": "1"}, check=False, capture_output=True
    )

    assert alive.returncode == 0
    assert dead.returncode != 0


def test_everything_that_is_copied_exists_and_reaches_the_build() -> None:
    sent = (ROOT / ".dockerignore").read_text().splitlines()
    copies = [rest.split()[:-1] for word, rest in stages()[0] if word == "COPY"]

    for source in (source for sources in copies for source in sources):
        assert (ROOT / source).exists()
        assert f"!{source}" in sent


def test_compose_sets_only_settings_that_exist_and_holds_no_secret() -> None:
    given = dict(re.findall(r'^ +(RTA_\w+): "(.*?)"', COMPOSE, re.MULTILINE))

    assert {name.removeprefix("RTA_").lower() for name in given} <= set(Settings.model_fields)
    for secret in ("RTA_PEPPER", "RTA_EXPERIMENT_KEY", "RTA_EVENT_KEY", "RTA_CONTROL_TOKEN"):
        assert given[secret] == f"${{{secret}:?set it in .env}}"


def test_compose_keeps_records_and_shows_the_control_port_on_the_loopback_only() -> None:
    assert '"--appendonly", "yes", "--appendfsync", "always"' in COMPOSE
    assert '"--maxmemory-policy", "noeviction"' in COMPOSE
    assert '- "127.0.0.1:8001:8001"' in COMPOSE
    assert "condition: service_healthy" in COMPOSE
    assert "\t" not in COMPOSE
