"""The benchmark: the rivals are real, and a run over them gives ratios."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from rich.console import Console

from loadtest.baseline import create_app
from loadtest.bench import (
    BASELINE,
    CONSTANT,
    SERVICE,
    Options,
    Report,
    as_json,
    run,
    tables,
    targets,
)
from loadtest.checks import verdict
from loadtest.constant import BODY
from loadtest.prepare import ServiceCommand, World
from loadtest.servers import free_port
from rta_service.simulation.load import PreparedRequest


def a_question(md5: str, form: str = "md5", **changes: Any) -> dict[str, Any]:
    ids = [{"kind": "oaid", "form": form, "value": md5}]
    return {"request_id": "1", "device": {"os": "android", "ids": ids}} | changes


@pytest.fixture(name="bench_world")
def a_bench_world(world: Any) -> World:
    port = free_port()
    # the constant stands in for the service, which has its own tests
    argv = [sys.executable, "-m", "uvicorn", "loadtest.constant:app", "--port", str(port)]
    return World(
        service=ServiceCommand(argv, port),
        store_url=world.store_url,
        register_model=world.register_model,
        trade_model=world.trade_model,
        requests=[
            PreparedRequest("/rta/json", json.dumps(a_question(md5)).encode())
            for md5 in [*world.known, "e" * 32]
        ],
        md5s=world.known,
        close=lambda: None,
    )


async def ask(world: Any, question: dict[str, Any]) -> dict[str, Any]:
    app = create_app(world.store_url, str(world.register_model), str(world.trade_model))
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app=app), base_url="http://test"
    ) as client:
        response = await client.post("/rta/json", json=question)
    assert response.status_code == 200
    assert verdict("json", 200, response.content, 0.0) == ""
    answer: dict[str, Any] = response.json()
    return answer


async def test_the_baseline_decides_for_a_known_device(world: Any) -> None:
    answer = await ask(
        world, a_question(world.known[0].upper(), context={"placement": "splash", "pctr": 0.1})
    )

    assert answer["participate"]
    assert 0 < answer["strategies"][0]["pcvr"]["trade"] < 1
    assert 0.2 <= answer["strategies"][0]["bid"]["value"] <= 5.0


@pytest.mark.parametrize(
    ("question", "reason"),
    [
        (a_question("e" * 32), "unknown_device"),
        (a_question("a raw id", form="raw"), "unknown_device"),
        (a_question(""), "unknown_device"),
        (a_question("0" * 31 + "1", ping=True), "ping"),
    ],
)
async def test_the_baseline_declines_the_others(
    world: Any, question: dict[str, Any], reason: str
) -> None:
    answer = await ask(world, question)

    assert (answer["participate"], answer["reason"]) == (False, reason)


def test_the_store_was_filled_with_the_devices_of_the_snapshot_only(world: Any) -> None:
    assert world.filled == len(world.known)


@pytest.fixture(name="report")
def a_report(bench_world: World, tmp_path: Path) -> Report:
    options = Options(rounds=1, seconds=0.4, connections=4)
    service, *rivals = targets(bench_world)
    chosen = [replace(service, ready_path=""), *rivals]  # the stand-in has no such path
    return run(chosen, bench_world.requests, options, tmp_path)


def test_a_run_measures_all_three_and_gives_ratios(report: Report) -> None:
    found = json.loads(json.dumps(as_json(report)))

    assert [one["name"] for one in found["capacities"]] == [SERVICE, BASELINE, CONSTANT]
    assert [one["failed"] for one in found["capacities"]] == [0, 0, 0]
    assert found["ratios"]["baseline"] > 1
    assert 0.05 < found["ratios"]["constant"] < 3
    assert found["open_loop"]["failed"] == 0
    assert [one["degraded"] for one in found["capacities"]] == [0, 0, 0]
    assert [one["participating"] > 0.5 for one in found["capacities"]] == [False, True, False]
    assert all(one["generator_load"] > 0 for one in found["capacities"])
    assert found["open_loop_rate"] == pytest.approx(found["medians"][SERVICE] / 2)
    assert {"p50", "p99", "p99.9", "max"} <= found["open_loop"]["latency_ms"].keys()

    console = Console(record=True, width=120)
    for table in tables(report):
        console.print(table)
    assert " 1.00 " in console.export_text()


def test_the_constant_is_json() -> None:
    assert json.loads(BODY)["participate"] is False
