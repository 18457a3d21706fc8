"""The judgement of answers, as platforms would judge them."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from google.protobuf.json_format import ParseDict

from loadtest.checks import verdict
from loadtest.payloads import CASES
from rta_service.demo.platforms import read_json, read_tencent
from rta_service.platforms.tencent.tencent_pb2 import RtaResponse

VERSIONS = {"release": "r", "snapshot": "s", "models": {}, "strategies": "t"}
YES = {
    "strategy_id": "a",
    "participate": True,
    "reason": "accepted",
    "bid": {"kind": "weight", "value": 1.2},
    "pcvr": {"register": 0.1, "trade": 0.2},
}


def an_answer(**changes: Any) -> bytes:
    answer = {
        "request_id": "1",
        "participate": True,
        "reason": "accepted",
        "strategies": [YES],
        "ttl_s": 60,
        "versions": VERSIONS,
    }
    return msgspec.json.encode(answer | changes)


def exemplary(platform: str) -> list[Path]:
    return sorted((CASES / platform / "exemplary").glob("*.json"))


@pytest.mark.parametrize("case", exemplary("json"), ids=lambda path: path.stem)
def test_the_exemplary_answers_of_json_are_valid(case: Path) -> None:
    body = msgspec.json.encode(json.loads(case.read_text())["expected_response"])

    assert not isinstance(read_json(200, body), str)


@pytest.mark.parametrize("case", exemplary("tencent"), ids=lambda path: path.stem)
def test_the_exemplary_answers_for_tencent_are_valid(case: Path) -> None:
    answer = ParseDict(json.loads(case.read_text())["expected_response"], RtaResponse())

    assert not isinstance(read_tencent(200, answer.SerializeToString()), str)


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        (b"", "not the contract's answer"),
        (b"{}", "not the contract's answer"),
        (an_answer(ttl_s=0), "cache time"),
        (an_answer(reason="because"), "not on the list"),
        (an_answer(strategies=[YES | {"reason": "because"}]), "not on the list"),
        (an_answer(participate=False), "participates"),
        (an_answer(strategies=[]), "participates"),
        (an_answer(strategies=[YES | {"bid": None}]), "a yes without a bid"),
        (an_answer(strategies=[YES | {"bid": {"kind": "gold", "value": 1}}]), "not the contract"),
    ],
)
def test_what_breaks_the_json_contract_is_named(body: bytes, complaint: str) -> None:
    assert complaint in str(read_json(200, body))


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        (b"", "empty body"),
        (b"\xff\xff", "not an RtaResponse"),
        (RtaResponse(code=0).SerializeToString(), "yes to everything"),
        (RtaResponse(request_id="1").SerializeToString(), "yes to everything"),
        (RtaResponse(code=1).SerializeToString(), ""),
        (RtaResponse(code=0, out_target_id=["t"]).SerializeToString(), ""),
    ],
)
def test_what_tencent_would_misread_is_named(body: bytes, complaint: str) -> None:
    found = read_tencent(200, body)

    assert complaint in str(found)
    assert bool(complaint) == isinstance(found, str)


def test_a_right_answer_in_time_is_no_failure() -> None:
    assert verdict("json", 200, an_answer(), 0.059) == ""


@pytest.mark.parametrize(
    ("status", "body", "latency_s", "expected"),
    [
        (200, an_answer(), 0.061, "later than 60 ms"),
        (503, an_answer(), 0.001, "status 503"),
        (0, b"", 0.001, "status 0"),
        (200, b"", 0.001, "invalid: not the contract's answer"),
    ],
)
def test_late_wrong_and_missing_answers_are_failures(
    status: int, body: bytes, latency_s: float, expected: str
) -> None:
    assert verdict("json", status, body, latency_s).startswith(expected)
