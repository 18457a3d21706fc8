"""Idempotency-Key and If-Match: a change is made once, and only on what was decided on."""

import asyncio
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from rta_service.domain.errors import InvalidInput, StoreUnavailable
from rta_service.stores.redis import admin_client

STOP = {"action": "stop", "why": "a test"}
LIVE = {"action": "live", "why": "a test"}
CURRENT = '"r2"'


async def test_a_retry_gets_the_first_answer_and_changes_nothing(
    operator: httpx.AsyncClient, desk: Any
) -> None:
    headers = {"Idempotency-Key": "k-1", "If-Match": CURRENT}

    first = await operator.post("/v1/rollout", json=STOP, headers=headers)
    again = await operator.post("/v1/rollout", json=STOP, headers=headers)

    assert (first.status_code, first.headers["etag"]) == (200, '"r3"')
    assert (again.status_code, again.content) == (200, first.content)
    assert again.headers["idempotency-replayed"] == "true"
    assert again.headers["etag"] == first.headers["etag"]
    assert "idempotency-replayed" not in first.headers
    assert len(desk.asked) == 1


async def test_one_key_is_for_one_request(operator: httpx.AsyncClient, desk: Any) -> None:
    headers = {"Idempotency-Key": "k-1"}
    await operator.post("/v1/rollout", json=STOP, headers=headers)

    body = await operator.post("/v1/rollout", json=LIVE, headers=headers)
    path = await operator.post("/v1/approvals/w1", json=STOP, headers=headers)

    assert (body.status_code, path.status_code) == (422, 422)
    assert "take a new one" in body.json()["detail"]
    assert len(desk.asked) == 1


async def test_keys_of_different_callers_never_meet(
    client: httpx.AsyncClient, desk: Any, as_role: Callable[[str], dict[str, str]]
) -> None:
    for role in ("operator", "admin"):
        headers = as_role(role) | {"Idempotency-Key": "k-1"}
        assert (await client.post("/v1/rollout", json=STOP, headers=headers)).status_code == 200

    assert len(desk.asked) == 2


async def test_while_the_first_is_running_the_second_is_told(
    operator: httpx.AsyncClient, desk: Any
) -> None:
    desk.slow_s = 0.3
    headers = {"Idempotency-Key": "k-1"}

    answers = await asyncio.gather(
        *(operator.post("/v1/rollout", json=STOP, headers=headers) for _ in range(4))
    )

    assert sorted(answer.status_code for answer in answers) == [200, 409, 409, 409]
    assert len(desk.asked) == 1
    assert {a.headers.get("retry-after") for a in answers if a.status_code == 409} == {"2"}


async def test_a_refused_change_did_nothing_so_its_key_is_free(
    operator: httpx.AsyncClient, desk: Any
) -> None:
    headers = {"Idempotency-Key": "k-1"}
    desk.error = InvalidInput("no canary is running")
    refused = await operator.post("/v1/rollout", json=STOP, headers=headers)
    unread = await operator.post("/v1/rollout", json={}, headers=headers)
    desk.error = None

    done = await operator.post("/v1/rollout", json=STOP, headers=headers)

    assert (refused.status_code, unread.status_code, done.status_code) == (409, 422, 200)


@pytest.mark.parametrize("error", [StoreUnavailable("lost"), ZeroDivisionError("a bug")])
async def test_a_change_that_may_have_happened_is_not_made_again(
    operator: httpx.AsyncClient, desk: Any, error: Exception
) -> None:
    headers = {"Idempotency-Key": "k-1"}
    desk.error = error
    first = await operator.post("/v1/rollout", json=STOP, headers=headers)
    desk.error = None

    again = await operator.post("/v1/rollout", json=STOP, headers=headers)

    assert first.status_code >= 500
    assert (again.status_code, again.content) == (first.status_code, first.content)
    assert len(desk.asked) == 1


async def test_without_a_key_every_request_counts(operator: httpx.AsyncClient, desk: Any) -> None:
    for _ in range(2):
        await operator.post("/v1/rollout", json=STOP)

    assert len(desk.asked) == 2


@pytest.mark.parametrize("key", ["", "x" * 201, "tab\there"])
async def test_a_key_must_be_plain(operator: httpx.AsyncClient, desk: Any, key: str) -> None:
    response = await operator.post("/v1/rollout", json=STOP, headers={"Idempotency-Key": key})

    assert response.status_code == 400
    assert desk.asked == []


async def test_no_key_and_no_body_is_kept_in_the_clear(
    operator: httpx.AsyncClient, store_url: str
) -> None:
    await operator.post("/v1/rollout", json=STOP, headers={"Idempotency-Key": "my-own-key"})

    with admin_client(store_url) as store:
        keys = [key.decode() for key in store.keys("*idem:*")]
        left_s = [store.ttl(key) for key in keys]

    assert keys
    assert not any("my-own-key" in key for key in keys)
    assert all(0 < left <= 86_400 for left in left_s)


@pytest.mark.parametrize("path", ["/v1/rollout", "/v1/release", "/v1/versions", "/v1/models"])
async def test_what_is_shown_names_the_release_it_is_of(
    operator: httpx.AsyncClient, desk: Any, path: str
) -> None:
    before = await operator.get(path)
    desk.releases = []

    after = await operator.get(path)

    assert before.headers["etag"] == CURRENT
    assert "etag" not in after.headers


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (CURRENT, 200),
        ("*", 200),
        (f'"r1", {CURRENT}', 200),
        ('"r1"', 412),
        ("r2", 412),
        (f"W/{CURRENT}", 412),
    ],
)
async def test_a_change_is_made_only_on_the_release_it_names(
    operator: httpx.AsyncClient, desk: Any, sent: str, status: int
) -> None:
    response = await operator.post("/v1/rollout", json=STOP, headers={"If-Match": sent})

    assert response.status_code == status
    if status == 200:
        assert desk.asked[0][0].release_id == "r2"
    else:
        assert desk.asked == []
        assert "r2 decides now" in response.json()["detail"]


async def test_before_the_first_release_nothing_matches(
    operator: httpx.AsyncClient, desk: Any
) -> None:
    desk.releases = []

    response = await operator.post("/v1/rollout", json=STOP, headers={"If-Match": "*"})

    assert response.status_code == 412
