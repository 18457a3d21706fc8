"""Every route of the control port, for everybody who may come: the table is the specification."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import APIRouter

from rta_service import wiring, wiring_control
from rta_service.domain.errors import StartupError
from rta_service.web.gate import Gate

VIEWER, OPERATOR, ADMIN = "viewer", "operator", "admin"

ROLES = {
    ("GET", "/livez"): None,
    ("GET", "/metrics"): VIEWER,
    ("GET", "/v1/versions"): VIEWER,
    ("GET", "/v1/release"): VIEWER,
    ("POST", "/v1/release/rollback"): OPERATOR,
    ("GET", "/v1/models"): VIEWER,
    ("GET", "/v1/models/{name}/versions"): VIEWER,
    ("POST", "/v1/models/{name}/versions"): OPERATOR,
    ("GET", "/v1/models/{name}/versions/{version}"): VIEWER,
    ("GET", "/v1/models/{name}/diff"): VIEWER,
    ("GET", "/v1/rollout"): VIEWER,
    ("POST", "/v1/rollout"): OPERATOR,
    ("GET", "/v1/audit"): VIEWER,
    ("GET", "/v1/approvals"): VIEWER,
    ("POST", "/v1/approvals/{pending_id}"): OPERATOR,
    ("DELETE", "/v1/approvals/{pending_id}"): OPERATOR,
    ("POST", "/v1/explain"): OPERATOR,
    ("GET", "/v1/shadows"): VIEWER,
    ("GET", "/v1/autopilot"): VIEWER,
    ("PUT", "/v1/autopilot"): ADMIN,
    ("POST", "/v1/outcomes"): OPERATOR,
    ("GET", "/v1/control"): VIEWER,
    ("GET", "/v1/control/{unit_id}"): VIEWER,
}
"""The smallest role for each route; None is open. A new route fails until it stands here."""

CALLERS = (None, "wrong", "expired", "sender", "viewer", "operator", "admin", "control")
MAY = {
    ADMIN: {"admin", "control"},
    VIEWER: {"viewer", "operator", "admin", "control"},
    OPERATOR: {"operator", "admin", "control"},
}
REQUEST = {"request_id": "q1", "device": {"os": "ios", "ids": []}}
SENT: dict[tuple[str, str], dict[str, Any]] = {
    ("POST", "/v1/rollout"): {"json": {"action": "stop", "why": "a test"}},
    ("PUT", "/v1/autopilot"): {"json": {"on": True, "why": "a test"}},
    ("POST", "/v1/explain"): {"json": {"platform": "json", "request": REQUEST}},
    ("POST", "/v1/models/{name}/versions"): {"content": b"good"},
    ("GET", "/v1/models/{name}/diff"): {"params": {"from": "v1", "to": "v1"}},
}
METHODS = ("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE", "TRACE")


def _paths(app: Any) -> dict[str, set[str]]:
    paths: dict[str, set[str]] = {
        path: {method.upper() for method in methods}
        for path, methods in app.openapi()["paths"].items()
    }
    return paths


def _filled(path: str) -> str:
    return path.format(name="trade", version="v1", pending_id="w1", unit_id="spring@json")


def test_the_table_names_every_route_of_the_app_and_no_other(app: Any) -> None:
    found = {(method, path) for path, methods in _paths(app).items() for method in methods}

    assert found == set(ROLES)


def test_the_table_names_every_route_of_the_service_as_it_is_wired(tmp_path: Path) -> None:
    settings = wiring.load_settings(data_dir=tmp_path, redis_url="redis://127.0.0.1:1")
    parts = wiring.deciding(settings, "redis://127.0.0.1:1", "control", takes_part=False)

    app = wiring_control.control_service(
        settings, parts, wiring_control.trial_office(settings, parts)
    )

    found = {(method, path) for path, methods in _paths(app).items() for method in methods}
    assert found == set(ROLES)


@pytest.mark.parametrize("caller", CALLERS)
async def test_a_route_opens_to_its_role_and_to_those_above(
    client: httpx.AsyncClient, tokens: dict[str, str], caller: str | None
) -> None:
    if caller is not None:
        client.headers["Authorization"] = f"Bearer {tokens[caller]}"

    answers = {route: await _call(client, route) for route in ROLES}

    opened = {route for route, answer in answers.items() if answer.status_code < 300}
    refused = [answers[route] for route in set(ROLES) - opened]
    known = caller in {"sender", *MAY[VIEWER]}
    assert opened == {route for route, role in ROLES.items() if not role or caller in MAY[role]}
    assert {answer.status_code for answer in refused} <= {403 if known else 401}
    assert {a.headers["content-type"] for a in refused} <= {"application/problem+json"}


async def _call(
    client: httpx.AsyncClient, route: tuple[str, str], headers: dict[str, str] | None = None
) -> httpx.Response:
    sent: dict[str, Any] = SENT.get(route, {})
    return await client.request(route[0], _filled(route[1]), headers=headers, **sent)


async def test_what_a_caller_may_not_do_leaves_no_trace(
    app: Any, client: httpx.AsyncClient, tokens: dict[str, str], desk: Any, uploads: Any
) -> None:
    for route, role in ROLES.items():
        for caller in {"wrong", "expired", "sender", "viewer", "operator"} - MAY.get(
            role or "", set(CALLERS)
        ):
            headers = {"Authorization": f"Bearer {tokens[caller]}", "Idempotency-Key": "k"}
            await _call(client, route, headers)

    assert desk.asked == []
    assert (uploads.open, uploads.accepted) == (0, [])


@pytest.mark.parametrize("caller", CALLERS)
async def test_no_other_method_opens_anything(
    app: Any, client: httpx.AsyncClient, tokens: dict[str, str], desk: Any, caller: str | None
) -> None:
    headers = {} if caller is None else {"Authorization": f"Bearer {tokens[caller]}"}

    statuses = {
        (await client.request(method, _filled(path), headers=headers)).status_code
        for path, methods in _paths(app).items()
        for method in METHODS
        if method not in methods
    }

    assert statuses == {405}
    assert desk.asked == []


@pytest.mark.parametrize("sent", ["Bearer", "Bearer ", "Basic YTpi", "bearer  ", "{}", "Token {}"])
async def test_only_a_bearer_token_is_a_token(
    client: httpx.AsyncClient, tokens: dict[str, str], sent: str
) -> None:
    headers = {"Authorization": sent.format(tokens["admin"])}

    response = await client.get("/v1/versions", headers=headers)

    assert response.status_code == 401
    assert response.headers["www-authenticate"] == "Bearer"
    assert "Authorization: Bearer" in response.json()["detail"]


async def test_a_body_is_not_even_read_from_who_may_not_call(client: httpx.AsyncClient) -> None:
    response = await client.post("/v1/explain", content=b"{" * 10_000_000)

    assert response.status_code == 401


async def test_skipping_the_canary_is_for_admins(
    client: httpx.AsyncClient, as_role: Callable[[str], dict[str, str]]
) -> None:
    body = {"action": "live", "models": [{"name": "trade"}], "skip": True, "why": "urgent"}

    operator = await client.post("/v1/rollout", json=body, headers=as_role("operator"))
    admin = await client.post("/v1/rollout", json=body, headers=as_role("admin"))

    assert (operator.status_code, admin.status_code) == (403, 200)
    assert "admin" in operator.json()["detail"]


def test_a_route_that_declares_no_role_is_not_built(gate: Gate) -> None:
    router: APIRouter = gate.router("forgotten")

    def forgotten() -> dict[str, str]:
        return {}

    with pytest.raises(StartupError, match="/v1/forgotten"):
        router.get("/v1/forgotten")(forgotten)


def test_the_pages_say_which_role_each_route_needs(app: Any) -> None:
    paths = app.openapi()["paths"]

    shown = {
        (method.upper(), path): facts["x-access"]["role"]
        for path, methods in paths.items()
        for method, facts in methods.items()
        if "x-access" in facts
    }

    assert shown == {route: role for route, role in ROLES.items() if role is not None}
    assert paths["/v1/rollout"]["post"]["security"] == [{"HTTPBearer": []}]
