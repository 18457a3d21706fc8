import json
import re
from pathlib import Path
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import example, given, strategies as st

from rta_service.domain.decision import Decision
from rta_service.domain.device import IdForm, IdKind, OperatingSystem, Placement
from rta_service.domain.errors import InvalidRequest
from rta_service.domain.reason import PARTICIPATING, REASON_TEXT
from rta_service.platforms.json import wire
from rta_service.platforms.registry import load_adapters

ADAPTER = load_adapters()["json"]
HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "platforms" / "json.md"

ID = {"kind": "oaid", "form": "md5", "value": "0123456789abcdef0123456789abcdef"}
REQUEST: dict[str, Any] = {"request_id": "r", "device": {"os": "android", "ids": [ID]}}


@given(st.binary())
@example(b'{"x": ' + b"[" * 60_000)
@example(json.dumps(REQUEST).encode()[:-1] + b', "request_id": "\\ud800"}')
def test_random_bytes_are_refused_and_never_crash(body: bytes) -> None:
    with pytest.raises(InvalidRequest):
        ADAPTER.parse(body)


leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
json_values = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)


@given(
    st.sampled_from(["request_id", "device", "strategy_ids", "context", "ping", "test"]),
    json_values,
)
def test_a_wrong_value_is_refused_under_its_own_name(field: str, value: object) -> None:
    body = json.dumps({**REQUEST, field: value}).encode()

    error = refusal_of(body)

    if error is not None:
        status, answer = ADAPTER.render_invalid(error)
        assert error.field == "" or error.field.startswith(field)  # "": NaN and its like
        assert (status, set(json.loads(answer))) == (400, {"error", "field"})


def refusal_of(body: bytes) -> InvalidRequest | None:
    try:
        ADAPTER.parse(body)
    except InvalidRequest as error:
        return error
    return None


def test_every_kind_form_system_and_placement_is_read() -> None:
    for word in get_args(wire.OsWord):
        for placement in get_args(wire.PlacementWord):
            ids = [{**ID, "kind": kind, "form": form} for kind in IdKind for form in IdForm]
            body = {
                "request_id": "r",
                "device": {"os": word, "ids": ids},
                "context": {"placement": placement},
            }

            request = ADAPTER.parse(msgspec.json.encode(body))

            assert (request.os.label, request.placement.label) == (word, placement)
            assert [{**ID, "kind": i.kind, "form": i.form} for i in request.ids] == ids


def test_the_wire_has_a_word_for_every_system_and_placement() -> None:
    assert {system.label for system in OperatingSystem} == set(get_args(wire.OsWord))
    assert {p.label for p in Placement} - {"none"} == set(get_args(wire.PlacementWord))


def test_every_decision_is_rendered_as_the_contract_says(
    any_decision: st.SearchStrategy[Decision],
) -> None:
    @given(any_decision)
    def check(decision: Decision) -> None:
        answer = msgspec.json.decode(ADAPTER.render(decision), type=wire.Answer, strict=True)

        assert answer.request_id == decision.request_id
        assert answer.ttl_s >= ADAPTER.info.min_ttl_s
        for strategy in answer.strategies:
            assert strategy.participate or strategy.bid is None
            bid = strategy.bid
            if bid is not None and bid.kind != "weight":
                assert isinstance(bid.value, int)
                assert bid.value >= 1

    check()


def test_the_docs_page_shows_an_exemplary_request_and_its_answer() -> None:
    page = PAGE.read_text(encoding="utf-8")
    case = json.loads((HERE / "json/exemplary/weight.json").read_text(encoding="utf-8"))

    shown = re.search(r"-d '(.+?)'.*?```json\n(.+?)```", page, re.DOTALL)

    assert shown is not None
    assert json.loads(shown[1]) == case["request"]
    assert json.loads(shown[2]) == case["expected_response"]


def test_the_docs_page_lists_every_reason_with_its_sentence() -> None:
    page = PAGE.read_text(encoding="utf-8")

    for reason, text in REASON_TEXT.items():
        takes_part = "yes" if reason in PARTICIPATING else "no"
        assert f"| `{reason.label}` | {takes_part} | {text} |" in page
