"""What the routes say and what they ask of their desks."""

import base64
import re
from typing import Any

import httpx
import pytest

from rta_service import __version__
from rta_service.domain.command import Command
from rta_service.domain.rollout import Action

JSON_REQUEST = {"request_id": "q1", "device": {"os": "ios", "ids": []}}


async def test_versions_name_all_that_matters(operator: httpx.AsyncClient) -> None:
    shown = (await operator.get("/v1/versions")).json()

    assert shown["service"] == __version__
    assert shown["platforms"] == ["json", "tencent"]
    assert shown["release"]["release_id"] == "r2"


async def test_versions_without_a_release_say_so(operator: httpx.AsyncClient, desk: Any) -> None:
    desk.releases = []

    assert (await operator.get("/v1/versions")).json()["release"] is None
    assert (await operator.get("/v1/rollout")).json() == {"release": None, "pending": []}


@pytest.mark.parametrize(("asked", "count"), [("", 10), ("?history=1", 1)])
async def test_releases_are_listed_newest_first(
    operator: httpx.AsyncClient, desk: Any, asked: str, count: int
) -> None:
    shown = (await operator.get("/v1/release" + asked)).json()["releases"]

    assert [r["release_id"] for r in shown] == ["r2", "r1"][:count]
    assert desk.asked == [count]


@pytest.mark.parametrize(("sent", "why"), [({}, ""), ({"json": {"why": "too dear"}}, "too dear")])
async def test_a_rollback_names_the_release_that_decides_again(
    operator: httpx.AsyncClient, desk: Any, sent: dict[str, Any], why: str
) -> None:
    response = await operator.post("/v1/release/rollback", **sent)

    assert (response.status_code, response.json()["release_id"]) == (200, "r1")
    assert response.headers["etag"] == '"r1"'
    assert desk.asked == [("a-operator", why, "")]


async def test_versions_of_models_come_with_their_phase(operator: httpx.AsyncClient) -> None:
    every = (await operator.get("/v1/models")).json()["models"]
    mine = (await operator.get("/v1/models/trade/versions")).json()["versions"]
    nobodys = (await operator.get("/v1/models/other/versions")).json()["versions"]
    shown = (await operator.get("/v1/models/trade/versions/v1")).json()

    assert every == mine == [shown["state"]]
    assert (shown["state"]["phase"], nobodys) == ("live", [])


async def test_an_unknown_version_is_not_found(operator: httpx.AsyncClient) -> None:
    response = await operator.get("/v1/models/trade/versions/v404")

    assert (response.status_code, response.json()["place"]) == (404, "model trade@v404")


async def test_two_versions_are_compared(operator: httpx.AsyncClient, desk: Any) -> None:
    shown = (await operator.get("/v1/models/trade/diff?from=v1&to=v2")).json()

    assert shown == {"name": "trade", "from": "v1", "to": "v2"}
    assert desk.asked == [("trade", "v1", "v2")]


async def test_a_wish_reaches_the_desk_in_its_words(operator: httpx.AsyncClient, desk: Any) -> None:
    body = {
        "action": "canary",
        "models": [{"name": "trade", "version": "v9"}, {"name": "register"}],
        "share": 0.000001,
        "why": "looks better",
    }

    response = await operator.post("/v1/rollout", json=body, headers={"If-Match": '"r2"'})

    command, who = desk.asked[0]
    models = (("trade", "v9"), ("register", ""))
    assert command == Command(Action.CANARY, models, 1, "looks better", release_id="r2")
    assert who.name == "a-operator"
    assert response.json()["release"]["release_id"] == "r3"


async def test_what_needs_a_second_person_waits(operator: httpx.AsyncClient, desk: Any) -> None:
    body = {"action": "live", "models": [{"name": "trade", "version": "v9"}], "why": "two persons"}

    asked = await operator.post("/v1/rollout", json=body)
    waiting = (await operator.get("/v1/approvals")).json()["pending"]
    done = await operator.post(asked.headers["location"])
    gone = await operator.delete(asked.headers["location"])

    assert (asked.status_code, asked.json()["release"]) == (202, None)
    assert waiting == [asked.json()["pending"]]
    assert waiting[0].items() > body.items()
    assert waiting == (await operator.get("/v1/rollout")).json()["pending"]
    assert done.json()["release"]["release_id"] == "r2"
    assert gone.json()["withdrawn"]["pending_id"] == "w1"


async def test_the_audit_log_says_who_what_when_and_why(
    operator: httpx.AsyncClient, desk: Any
) -> None:
    (entry,) = (await operator.get("/v1/audit?count=7")).json()["entries"]

    assert (entry["who"], entry["what"], entry["why"]) == ("ci", "live trade@v1", "better")
    assert desk.asked == [7]


async def test_a_json_request_is_explained(operator: httpx.AsyncClient) -> None:
    question = {"platform": "json", "request": JSON_REQUEST}

    response = await operator.post("/v1/explain", json=question)

    assert response.json() == {"explained": "q1", "platform": "json"}


async def test_bytes_are_explained_from_base64(operator: httpx.AsyncClient) -> None:
    body = base64.b64encode(b"\x0a\x02q7").decode()  # RtaRequest(id="q7")

    response = await operator.post("/v1/explain", json={"platform": "tencent", "body_base64": body})

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
    operator: httpx.AsyncClient, question: Any, field: str
) -> None:
    response = await operator.post("/v1/explain", json=question)

    assert response.status_code == 400
    assert response.json()["field"] == field


async def test_an_explanation_fails_as_plainly_as_the_store(operator: httpx.AsyncClient) -> None:
    question = {"platform": "json", "request": JSON_REQUEST | {"request_id": "no-store"}}

    response = await operator.post("/v1/explain", json=question)

    assert (response.status_code, response.json()["detail"]) == (503, "the store is away")


async def test_metrics_come_in_prometheus_text_form(operator: httpx.AsyncClient) -> None:
    response = await operator.get("/metrics")

    assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert response.text == "rta_up 1\n"


async def test_liveness_needs_no_token(client: httpx.AsyncClient) -> None:
    assert (await client.get("/livez")).json() == {"status": "alive"}


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
