"""Uploads: piece by piece, a few at a time, and nothing of a broken one is kept."""

import asyncio
import errno
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from rta_service.domain.errors import StoreUnavailable

PATH = "/v1/models/trade/versions"


async def test_an_accepted_upload_is_created_and_a_known_one_is_just_there(
    operator: httpx.AsyncClient, uploads: Any
) -> None:
    body = b"good" + b"x" * 2_000_000

    new = await operator.post(PATH + "?why=weekly", content=body)
    known = await operator.post(PATH, content=body)

    assert (new.status_code, known.status_code) == (201, 200)
    assert new.headers["location"] == "/v1/models/trade/versions/v9"
    assert new.json()["verdict"]["ref"]["version"] == "v9"
    assert uploads.accepted[0] == (body, "trade", "a-operator", "weekly")
    assert uploads.open == 0


async def test_a_refused_upload_is_a_problem_that_holds_the_verdict(
    operator: httpx.AsyncClient,
) -> None:
    response = await operator.post(PATH, content=b"bad")

    problem = response.json()
    assert response.status_code == 422
    assert problem["detail"] == "structure: unsound"
    assert problem["faults"] == problem["verdict"]["faults"]
    assert problem["faults"][0]["field"] == "left_child"


@pytest.mark.parametrize("said", [True, False])
async def test_an_upload_beyond_the_limit_is_refused(
    operator: httpx.AsyncClient, uploads: Any, said: bool
) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(40):
            yield b"x" * 100_000

    response = await operator.post(PATH, content=b"x" * 4_000_000 if said else pieces())

    assert response.status_code == 413
    assert "3,000,000 bytes" in response.json()["detail"]
    assert (uploads.open, uploads.accepted) == (0, [])


async def test_a_silent_upload_is_ended(operator: httpx.AsyncClient, uploads: Any) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"good"
        await asyncio.sleep(5)

    response = await operator.post(PATH, content=pieces())

    assert response.status_code == 408
    assert (uploads.open, uploads.accepted) == (0, [])


async def test_a_broken_off_upload_leaves_nothing(app: Any, tokens: Any, uploads: Any) -> None:
    messages = iter(
        [
            {"type": "http.request", "body": b"good", "more_body": True},
            {"type": "http.disconnect"},
        ]
    )
    sent: list[Any] = []

    async def receive() -> Any:
        return next(messages)

    async def send(message: Any) -> None:
        sent.append(message)

    token = f"Bearer {tokens['operator']}".encode()
    scope = {
        "type": "http",
        "method": "POST",
        "path": PATH,
        "query_string": b"",
        "headers": [(b"authorization", token)],
    }
    await app(scope, receive, send)

    assert sent[0]["status"] == 400
    assert (uploads.open, uploads.accepted) == (0, [])


async def test_a_form_is_told_how_to_send_the_tar(operator: httpx.AsyncClient) -> None:
    response = await operator.post(PATH, files={"file": b"good"})

    assert response.status_code == 415
    assert "--data-binary" in response.json()["detail"]


@pytest.mark.parametrize("name", ["..", "a b", "%2e%2e%2fx", "-x", "x" * 101])
async def test_a_name_that_is_none_is_refused_before_the_upload(
    operator: httpx.AsyncClient, uploads: Any, name: str
) -> None:
    response = await operator.post(f"/v1/models/{name}/versions", content=b"good")

    assert response.status_code in (404, 405, 422)
    assert uploads.accepted == []


async def test_a_third_upload_is_asked_to_wait_and_the_rest_is_answered_meanwhile(
    operator: httpx.AsyncClient, uploads: Any
) -> None:
    uploads.gate.clear()
    first = [asyncio.ensure_future(operator.post(PATH, content=b"good")) for _ in range(2)]
    for _ in first:
        await asyncio.to_thread(uploads.entered.acquire, timeout=5)

    third = await operator.post(PATH, content=b"good")
    alive = await asyncio.wait_for(operator.get("/livez"), 1.0)
    uploads.gate.set()
    done = await asyncio.gather(*first)
    fourth = await operator.post(PATH, content=b"good")

    assert (third.status_code, third.headers["retry-after"]) == (429, "10")
    assert alive.status_code == 200
    assert {answer.status_code for answer in done} <= {200, 201}
    assert fourth.status_code == 200


async def test_a_full_disk_is_our_trouble_and_frees_the_turn(
    operator: httpx.AsyncClient, uploads: Any
) -> None:
    def full() -> None:
        raise StoreUnavailable(f"models: {errno.errorcode[errno.ENOSPC]}")

    uploads.disk = full
    refused = [await operator.post(PATH, content=b"good") for _ in range(3)]
    uploads.disk = lambda: None

    assert {response.status_code for response in refused} == {503}
    assert (await operator.post(PATH, content=b"good")).status_code == 201


async def test_a_retried_upload_gets_its_first_answer_if_its_bytes_are_the_same(
    operator: httpx.AsyncClient, uploads: Any
) -> None:
    headers = {"Idempotency-Key": "u-1"}

    first = await operator.post(PATH, content=b"good 1", headers=headers)
    again = await operator.post(PATH, content=b"good 1", headers=headers)
    other = await operator.post(PATH, content=b"good 2", headers=headers)

    assert (first.status_code, again.status_code, other.status_code) == (201, 201, 422)
    assert again.headers["idempotency-replayed"] == "true"
    assert len(uploads.accepted) == 1
