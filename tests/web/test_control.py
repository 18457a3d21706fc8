import base64
import re
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from rta_service import __version__
from rta_service.domain.errors import (
    InvalidInput,
    ModelRefused,
    RTAError,
    StartupError,
    StoreUnavailable,
)
from rta_service.domain.request import AdRequest
from rta_service.web.control import control_app

TOKEN = "a-token-of-the-tests"
RIGHT = {"Authorization": f"Bearer {TOKEN}"}
JSON_REQUEST = {"request_id": "q1", "device": {"os": "ios", "ids": []}}


async def _explain(request: AdRequest) -> dict[str, Any]:
    if request.request_id == "no-store":
        raise StoreUnavailable("the store is away")
    return {"explained": request.request_id, "platform": request.platform.name}


@pytest.fixture
def app(desk: Any, adapters: Any) -> Any:
    return control_app(TOKEN, desk, adapters, _explain, lambda: b"rta_up 1\n")


@pytest.fixture
async def client(app: Any) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(
        transport=transport, base_url="http://control", headers=RIGHT
    ) as client:
        yield client


def _guarded(app: Any) -> list[tuple[str, str]]:
    return [
        (method.upper(), path)
        for path, methods in app.openapi()["paths"].items()
        for method in methods
        if path != "/livez"
    ]


@pytest.mark.parametrize("sent", [None, "Bearer ", "Bearer wrong", "Basic YTpi", f"Basic {TOKEN}"])
async def test_no_route_answers_without_the_token(
    app: Any, client: httpx.AsyncClient, sent: str | None
) -> None:
    del client.headers["Authorization"]
    headers = {} if sent is None else {"Authorization": sent}

    statuses = [
        (await client.request(method, path, headers=headers)).status_code
        for method, path in _guarded(app)
    ]

    assert statuses == [401] * 5


async def test_a_refusal_says_how_to_send_the_token(client: httpx.AsyncClient) -> None:
    del client.headers["Authorization"]

    response = await client.get("/v1/versions")

    assert response.headers["www-authenticate"] == "Bearer"
    assert "Authorization: Bearer" in response.json()["detail"]


def test_an_empty_token_would_let_everybody_in_and_is_refused(desk: Any, adapters: Any) -> None:
    with pytest.raises(StartupError, match="RTA_CONTROL_TOKEN"):
        control_app("", desk, adapters, _explain, bytes)


async def test_liveness_needs_no_token(client: httpx.AsyncClient) -> None:
    del client.headers["Authorization"]

    assert (await client.get("/livez")).json() == {"status": "alive"}


async def test_versions_name_all_that_matters(client: httpx.AsyncClient) -> None:
    shown = (await client.get("/v1/versions")).json()

    assert shown["service"] == __version__
    assert shown["platforms"] == ["json", "tencent"]
    assert shown["release"]["release_id"] == "r2"


async def test_versions_without_a_release_say_so(client: httpx.AsyncClient, desk: Any) -> None:
    desk.releases = []

    assert (await client.get("/v1/versions")).json()["release"] is None


@pytest.mark.parametrize(("asked", "count"), [("", 10), ("?history=1", 1), ("?history=9999", 100)])
async def test_releases_are_listed_newest_first(
    client: httpx.AsyncClient, desk: Any, asked: str, count: int
) -> None:
    shown = (await client.get("/v1/release" + asked)).json()["releases"]

    assert [r["release_id"] for r in shown] == ["r2", "r1"][:count]
    assert desk.asked == [count]


async def test_a_rollback_names_the_release_that_decides_again(client: httpx.AsyncClient) -> None:
    response = await client.post("/v1/release/rollback")

    assert (response.status_code, response.json()["release_id"]) == (200, "r1")


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (InvalidInput("there is no release before this one"), 409),
        (StoreUnavailable("the store is away"), 503),
        (ModelRefused("damaged"), 500),
    ],
)
async def test_an_error_is_answered_by_who_is_to_blame(
    client: httpx.AsyncClient, desk: Any, error: RTAError, status: int
) -> None:
    desk.error = error

    response = await client.post("/v1/release/rollback")

    assert response.status_code == status
    assert response.json() == {"error": str(error), "field": ""}


async def test_a_json_request_is_explained(client: httpx.AsyncClient) -> None:
    question = {"platform": "json", "request": JSON_REQUEST}

    response = await client.post("/v1/explain", json=question)

    assert response.json() == {"explained": "q1", "platform": "json"}


async def test_bytes_are_explained_from_base64(client: httpx.AsyncClient) -> None:
    body = base64.b64encode(b"\x0a\x02q7").decode()  # RtaRequest(id="q7")

    response = await client.post("/v1/explain", json={"platform": "tencent", "body_base64": body})

    assert response.json() == {"explained": "q7", "platform": "tencent"}


@pytest.mark.parametrize(
    ("question", "field"),
    [
        ({"platform": "nobody", "request": {}}, "platform"),
        ({"platform": "json", "request": {"request_id": 1}}, "request_id"),
        ({"platform": "json"}, "request"),
        ({"platform": "json", "request": {}, "body_base64": ""}, "request"),
        ({"platform": "tencent", "body_base64": "?"}, "body_base64"),
        ({"platform": "tencent", "body_base64": "é"}, "body_base64"),
    ],
)
async def test_a_question_that_can_not_be_read_names_its_field(
    client: httpx.AsyncClient, question: Any, field: str
) -> None:
    response = await client.post("/v1/explain", json=question)

    assert response.status_code == 400
    assert response.json()["field"] == field


async def test_an_explanation_fails_as_plainly_as_the_store(client: httpx.AsyncClient) -> None:
    question = {"platform": "json", "request": JSON_REQUEST | {"request_id": "no-store"}}

    response = await client.post("/v1/explain", json=question)

    assert (response.status_code, response.json()["error"]) == (503, "the store is away")


async def test_metrics_come_in_prometheus_text_form(client: httpx.AsyncClient) -> None:
    response = await client.get("/metrics")

    assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert response.text == "rta_up 1\n"


@pytest.mark.parametrize("page", ["/docs", "/redoc"])
async def test_the_api_pages_load_nothing_from_elsewhere(
    client: httpx.AsyncClient, page: str
) -> None:
    response = await client.get(page)

    loaded = re.findall(r"""(?:src|href|url)\s*[=:]\s*["']([^"']+)""", response.text)
    assert response.status_code == 200
    assert loaded
    assert not re.search(r"https?://", response.text)
    assert all([(await client.get(path)).status_code == 200 for path in loaded if path[0] == "/"])
