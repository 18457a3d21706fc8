"""Every refusal is a problem as of RFC 9457, and says what to do, and nothing it should not."""

from typing import Any

import httpx
import pytest

from rta_service.domain.errors import (
    Fault,
    InvalidInput,
    ModelRefused,
    ModelUnsound,
    NotAllowed,
    OutOfDate,
    StoreUnavailable,
    UnknownName,
)

JSON_REQUEST = {"request_id": "q1", "device": {"os": "ios", "ids": []}}
QUESTION = {"platform": "json", "request": JSON_REQUEST}


def _checked(response: httpx.Response, status: int) -> dict[str, Any]:
    problem: dict[str, Any] = response.json()
    assert response.status_code == status
    assert response.headers["content-type"] == "application/problem+json"
    assert problem["status"] == status
    assert problem["type"].startswith("urn:rta:problem:")
    assert problem["title"]
    assert problem["instance"] == response.request.url.path
    return problem


@pytest.mark.parametrize(
    ("error", "status", "more"),
    [
        (InvalidInput("no earlier release", "rollback"), 409, {"place": "rollback"}),
        (InvalidInput("no earlier release"), 409, {}),
        (OutOfDate("look again", "rollout"), 412, {"place": "rollout"}),
        (UnknownName("was never uploaded", "model x"), 404, {"place": "model x"}),
        (NotAllowed("somebody else may"), 403, {}),
        (StoreUnavailable("the store is away"), 503, {}),
        (ModelRefused("damaged"), 500, {}),
        (
            ModelUnsound("model.txt", (Fault(12, 3, "left_child", "twice"),)),
            422,
            {
                "place": "model.txt",
                "faults": [{"line": 12, "tree": 3, "field": "left_child", "reason": "twice"}],
            },
        ),
    ],
)
async def test_an_error_is_answered_by_who_is_to_blame(
    operator: httpx.AsyncClient, desk: Any, error: Exception, status: int, more: dict[str, Any]
) -> None:
    desk.error = error

    response = await operator.post("/v1/release/rollback")

    problem = _checked(response, status)
    members = {"type", "title", "status", "detail", "instance"}
    assert problem["detail"] == str(error)
    assert {name: problem[name] for name in problem if name not in members} == more
    assert response.headers.get("retry-after") == ("1" if status == 503 else None)


async def test_an_error_that_nobody_expected_shows_nothing_of_itself(
    operator: httpx.AsyncClient,
) -> None:
    body = {"platform": "json", "request": JSON_REQUEST | {"request_id": "bug"}}

    response = await operator.post("/v1/explain", json=body)

    _checked(response, 500)
    assert "secret" not in response.text
    assert "Zero" not in response.text


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nowhere", 404),
        ("GET", "/v1/", 404),
        ("PUT", "/v1/rollout", 405),
        ("GET", "/v1/release?history=many", 422),
        ("GET", "/v1/release?history=101", 422),
        ("GET", "/v1/audit?count=0", 422),
        ("GET", "/v1/models/trade/diff?from=v1", 422),
    ],
)
async def test_the_frameworks_own_refusals_are_problems_too(
    operator: httpx.AsyncClient, method: str, path: str, status: int
) -> None:
    response = await operator.request(method, path)

    problem = _checked(response, status)
    said = {404: "/docs shows", 405: "takes ", 422: ": "}
    assert said[status] in problem["detail"]
    assert (status == 422) == ("field" in problem)
    assert (status == 405) == ("allow" in response.headers)


@pytest.mark.parametrize(
    ("headers", "named"),
    [
        ({}, "which is missing"),
        ({"Content-Type": "application/x-www-form-urlencoded"}, "not application/x-www-form"),
        ({"Content-Type": "text/json"}, "not text/json"),
    ],
)
async def test_a_body_that_is_not_said_to_be_json_is_answered_clearly(
    operator: httpx.AsyncClient, headers: dict[str, str], named: str
) -> None:
    response = await operator.post("/v1/explain", content=b'{"platform": "json"}', headers=headers)

    problem = _checked(response, 415)
    assert "Content-Type: application/json" in problem["detail"]
    assert named in problem["detail"]


@pytest.mark.parametrize("form", ["application/json; charset=utf-8", "application/vnd.rta+json"])
async def test_json_by_any_of_its_names_is_read(operator: httpx.AsyncClient, form: str) -> None:
    response = await operator.post(
        "/v1/rollout", content=b'{"action": "stop", "why": "w"}', headers={"Content-Type": form}
    )

    assert response.status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[" * 200_000,
        b'{"platform": "json", "request": ' + b'{"a":' * 90_000 + b"1" + b"}" * 90_000 + b"}",
        b'{"platform": "json", "request": {"x": "\\ud800"}}',
        b'{"platform": "json", "request": {"x": NaN}}',
        b'{"platform": "json", "request": {"x": ' + b"9" * 5_000 + b"}}",
        b'{"platform": 3}',
        b"\xff\xfe",
        b"",
    ],
    ids=lambda body: repr(body[:40]),
)
async def test_hostile_json_is_the_callers_fault_and_not_ours(
    operator: httpx.AsyncClient, body: bytes
) -> None:
    headers = {"Content-Type": "application/json"}

    response = await operator.post("/v1/explain", content=body, headers=headers)

    assert response.status_code in (400, 422)
    assert response.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(("path", "limit"), [("/v1/explain", 1_000_000), ("/v1/rollout", 262_144)])
async def test_a_body_beyond_its_limit_is_refused_whether_it_says_its_length_or_not(
    operator: httpx.AsyncClient, path: str, limit: int
) -> None:
    async def pieces() -> Any:
        for _ in range(limit // 1000 + 1):
            yield b" " * 1000

    headers = {"Content-Type": "application/json"}
    said = await operator.post(path, content=b" " * (limit + 1), headers=headers)
    unsaid = await operator.post(path, content=pieces(), headers=headers)

    for response in (said, unsaid):
        assert f"{limit:,} bytes" in _checked(response, 413)["detail"]


async def test_wrong_fields_are_all_named_without_repeating_what_was_sent(
    operator: httpx.AsyncClient,
) -> None:
    body = {"action": "explode-7", "share": 2, "models": [{"version": "v1"}]}

    response = await operator.post("/v1/rollout", json=body)

    problem = _checked(response, 422)
    fields = {one["field"] for one in problem["errors"]}
    assert fields == {"body.action", "body.share", "body.models.0.name", "body.why"}
    assert problem["field"] in fields
    assert "explode-7" not in response.text


@pytest.mark.parametrize("share", [0.1234567, 1e-7, -0.1, 1.0])
async def test_a_share_that_no_canary_can_have_is_refused(
    operator: httpx.AsyncClient, desk: Any, share: float
) -> None:
    body = {"action": "canary", "share": share, "why": "w"}

    response = await operator.post("/v1/rollout", json=body)

    assert _checked(response, 422)["field"] == "body.share"
    assert desk.asked == []
