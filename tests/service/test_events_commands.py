"""`rta events` against a running service."""

import json
from pathlib import Path
from typing import Any

import httpx
import msgspec
from typer.testing import CliRunner

from rta_service.cli import commands
from rta_service.cli.app import app as command_tree, run
from rta_service.domain.clock import SystemClock
from rta_service.domain.happening import Happening
from rta_service.domain.sealing import Sealer, to_bytes
from rta_service.stores.event_log import Draft

assert commands.events is not None  # importing it hangs the subcommands in


def rta(service: Any, *words: str) -> Any:
    arguments = ["events", *words, "--data", str(service.settings.data_dir)]
    return CliRunner().invoke(command_tree, arguments, env={"RTA_NAMESPACE": "test"})


def replay(service: Any, file: Path) -> Any:
    url = f"http://127.0.0.1:{service.settings.ingest_port}"
    return rta(service, "replay", str(file), "--url", url, "--json")


def test_a_file_is_sent_looked_at_counted_and_sent_again(
    start_service: Any, tmp_path: Path
) -> None:
    now_ms = SystemClock().now_ms()
    device = {"device_id": "4a1f3c6de0b54e0c", "id_kind": "oaid", "ts_ms": now_ms}
    facts = [
        {"event_id": f"e{number}", "event": "ad_click", "strategy_id": "s", **device}
        for number in range(1_200)
    ]
    file = tmp_path / "events.jsonl"
    lines = [*map(msgspec.json.encode, facts), b"nonsense"]
    file.write_bytes(b"\n".join(lines))
    with start_service(1) as service:
        first, again = replay(service, file), replay(service, file)
        shown = rta(service, "effects")
        stats = json.loads(rta(service, "stats", "--json").stdout)
        table = rta(service, "stats").stdout
        tail = rta(service, "tail", "-n", "3").stdout
        words = ("--base", "https://x.example", "--need", "tag", "--need", "request")
        link = rta(service, "link", "tencent", "ad_click", "--strategy", "s", *words)
        health = httpx.get(f"http://127.0.0.1:{service.settings.ingest_port}/readyz").json()

    assert (first.exit_code, again.exit_code) == (1, 1)
    assert json.loads(first.stdout)["accepted"] == 1_200
    told = json.loads(again.stdout)
    assert (told["duplicate"], told["rejected"]) == (1_200, 1)
    assert told["first_rejected"][0]["line"] == 1_201
    assert stats["counts"] == {"accepted": 1_200, "duplicate": 1_200}
    assert set(stats["groups"]) == {"fresh", "archive", "attribution"}
    assert "1,200" in table
    assert "4a1f3c6d" not in tail
    assert "/track/tencent/ad_click?strategy=s&need=tag%2Crequest&k=" in link.stdout
    assert "no strategy 's' decides here; first_trade_after_register" in link.stderr
    assert health["ready"] is True
    assert shown.exit_code == 0


def test_what_a_group_cannot_do_is_listed_replayed_and_dropped(start_service: Any) -> None:
    with start_service(1) as service:
        now_ms = SystemClock().now_ms()
        foreign = Sealer(b"another key of an earlier time").seal(
            Happening("e1", now_ms, "launch", ("0" * 32,))  # type: ignore[arg-type]  # a word
        )
        service.with_events(
            lambda events: events.log.append([Draft("e1", now_ms, to_bytes(foreign))])
        )
        listed = awaited(service, 3)
        replayed = json.loads(rta(service, "poison", "--replay", "--json").stdout)
        back = awaited(service, 3)
        dropped = rta(service, "poison", "--drop", back[0]["id"]).stdout
        left = awaited(service, 2)
        table = rta(service, "poison").stdout

    assert {one["group"] for one in listed} == {"fresh", "archive", "attribution"}
    assert "another event key" in listed[0]["reason"]
    assert replayed == {"replayed": 3}
    assert "dropped" in dropped
    assert len(left) == 2
    assert left[0]["id"] in table


def awaited(service: Any, count: int) -> list[dict[str, Any]]:
    """Wait until so many events are set aside, and give them."""
    found: list[dict[str, Any]] = []
    for _ in range(100):
        shown = rta(service, "poison", "--json")
        found = json.loads(shown.stdout)["poisoned"]
        if len(found) == count:
            return found
    raise AssertionError(f"{len(found)} are set aside, not {count}")


def test_wrong_use_is_told(tmp_path: Path) -> None:
    def call(*words: str) -> int:
        command = ["events", *words, "--data", str(tmp_path)]
        return run(lambda: command_tree(command, standalone_mode=False))

    assert call("replay", str(tmp_path / "nothing")) == 2
    assert call("effects") == 2
    assert call("link", "nowhere", "ad_click", "--base", "https://x.example") == 2
