"""Runs the JSON cases of every platform; a new platform adds a codec line and no test code."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from google.protobuf.json_format import MessageToDict, ParseDict

from rta_service.domain.decision import Decision
from rta_service.domain.errors import InvalidRequest
from rta_service.domain.reason import ReasonCode
from rta_service.domain.request import AdRequest
from rta_service.platforms.registry import load_adapters
from rta_service.platforms.tencent.tencent_pb2 import RtaRequest, RtaResponse

HERE = Path(__file__).parent
CASES = sorted(HERE.glob("*/*/*.json"))
ADAPTERS = load_adapters()

Encode = Callable[[Any], bytes]
Decode = Callable[[bytes], Any]
CODECS: dict[str, tuple[Encode, Decode]] = {
    "json": (msgspec.json.encode, msgspec.json.decode),
    "tencent": (
        lambda request: ParseDict(request, RtaRequest()).SerializeToString(),
        lambda body: MessageToDict(RtaResponse.FromString(body), preserving_proto_field_name=True),
    ),
}
ALL_PARTS = {"description", "request", "expected_request", "decision", "expected_response"}


def case_id(path: Path) -> str:
    return "/".join(path.with_suffix("").parts[-3:])


def body_of(case: dict[str, Any], encode: Encode) -> bytes:
    if "body_hex" in case:
        return bytes.fromhex(case["body_hex"])
    if "body_text" in case:
        return str(case["body_text"]).encode()
    return encode(case["request"])


def decision_of(case: dict[str, Any]) -> Decision:
    def with_code(part: dict[str, Any]) -> dict[str, Any]:
        return {**part, "reason": ReasonCode[part["reason"].upper()]}

    strategies = [with_code(strategy) for strategy in case["strategies"]]
    # strict=False: a case writes "nan", for which JSON has no number.
    return msgspec.convert({**with_code(case), "strategies": strategies}, Decision, strict=False)


def in_words(request: AdRequest) -> dict[str, Any]:
    words: dict[str, Any] = msgspec.to_builtins(request)
    return words | {
        "platform": request.platform.name,
        "os": request.os.label,
        "placement": request.placement.label,
        "ids": [msgspec.to_builtins(device_id) for device_id in request.ids],
        "asked_strategies": list(request.asked_strategies),
    }


@pytest.mark.parametrize("path", CASES, ids=case_id)
def test_case(path: Path) -> None:
    case: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    adapter = ADAPTERS[path.parts[-3]]
    encode, decode = CODECS[path.parts[-3]]

    if error := case.get("expected_error"):
        with pytest.raises(InvalidRequest) as refused:
            adapter.parse(body_of(case, encode))
        status, body = adapter.render_invalid(refused.value)
        assert (refused.value.field, status) == (error["field"], error["status"])
        assert decode(body) == error.get(
            "response", {"error": str(refused.value), "field": error["field"]}
        )
    if expected := case.get("expected_request"):
        words = in_words(adapter.parse(body_of(case, encode)))
        assert {field: words[field] for field in expected} == expected
    if "decision" in case:
        answer = adapter.render(decision_of(case["decision"]))
        assert decode(answer) == case["expected_response"]


@pytest.mark.parametrize("path", CASES, ids=case_id)
def test_an_exemplary_case_is_whole_and_any_case_asserts_something(path: Path) -> None:
    parts = set(json.loads(path.read_text(encoding="utf-8")))

    assert "description" in parts
    if path.parts[-2] == "exemplary":
        assert parts == ALL_PARTS
    else:
        assert parts & {"expected_error", "expected_request", "expected_response"}


@pytest.mark.parametrize("name", ADAPTERS)
def test_every_platform_has_exemplary_and_supplemental_cases(name: str) -> None:
    assert len(list((HERE / name / "exemplary").glob("*.json"))) >= 6
    assert len(list((HERE / name / "supplemental").glob("*.json"))) >= 8
