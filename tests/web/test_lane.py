import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from rta_service.domain.errors import InvalidRequest
from rta_service.platforms.tencent import tencent_pb2 as tencent
from rta_service.web.lane import read_body


def _json_request(md5: str, **more: Any) -> dict[str, Any]:
    ids = [{"kind": "oaid", "form": "md5", "value": md5}]
    return {"request_id": "q1", "device": {"os": "android", "ids": ids}, **more}


def _tencent_request(md5: str) -> bytes:
    device = tencent.RtaRequest.Device(os="OS_ANDROID", oaid_md5sum=md5)
    return tencent.RtaRequest(id="q1", device=device).SerializeToString()


async def test_a_json_request_gets_its_whole_answer(port: Any, known_md5: str) -> None:
    response = await port.client.post("/rta/json", json=_json_request(known_md5))

    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    assert response.headers["content-length"] == str(len(response.content))
    assert response.json() == {
        "request_id": "q1",
        "participate": True,
        "reason": "accepted",
        "strategies": [
            {
                "strategy_id": "s",
                "participate": True,
                "reason": "accepted",
                "bid": {"kind": "weight", "value": 2.0},
                "pcvr": {"register": 0.02, "trade": 0.02},
            }
        ],
        "ttl_s": 3600,
        "versions": {"release": "r1", "snapshot": "snap", "models": {}, "strategies": "st"},
    }
    assert port.metrics.stages == ["parse", "render", "total"]


async def test_a_tencent_request_gets_its_targets_and_weights(port: Any, known_md5: str) -> None:
    response = await port.client.post("/rta/tencent", content=_tencent_request(known_md5))

    answer = tencent.RtaResponse.FromString(response.content)
    assert (response.status_code, answer.code) == (200, 0)
    assert response.headers["content-type"] == "application/x-protobuf"
    assert list(answer.out_target_id) == ["t-s"]
    assert answer.target_infos[0].user_weight_factor == 2.0


async def test_a_tencent_stranger_gets_an_explicit_no(port: Any) -> None:
    response = await port.client.post("/rta/tencent", content=_tencent_request("1" * 32))

    answer = tencent.RtaResponse.FromString(response.content)
    assert (answer.request_id, answer.code) == ("q1", 1)
    assert answer.response_cache_time == 3600


@pytest.mark.parametrize(
    ("body", "field"), [(b"{", ""), (b"", ""), (b'{"request_id": 1}', "request_id")]
)
async def test_an_unreadable_json_body_is_refused_with_its_field(
    port: Any, body: bytes, field: str
) -> None:
    response = await port.client.post("/rta/json", content=body)

    assert response.status_code == 400
    assert response.json()["field"] == field
    assert response.json()["error"]
    assert port.metrics.invalid == ["json"]
    assert port.metrics.errors == []


async def test_an_unreadable_tencent_body_is_rejected_with_status_200(port: Any) -> None:
    response = await port.client.post("/rta/tencent", content=b"\xff\xff")

    assert response.status_code == 200
    assert tencent.RtaResponse.FromString(response.content).code == 1
    assert port.metrics.invalid == ["tencent"]


@pytest.mark.parametrize("path", ["/rta/json", "/rta/tencent"])
async def test_a_body_that_is_too_large_is_refused(port: Any, path: str) -> None:
    response = await port.client.post(path, content=b" " * 70_000)

    assert response.status_code == (400 if path.endswith("json") else 200)
    assert response.content
    assert len(port.metrics.invalid) == 1


async def test_a_body_that_comes_in_pieces_is_put_together(port: Any, known_md5: str) -> None:
    whole = _tencent_request(known_md5)

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(whole), 7):
            yield whole[start : start + 7]

    response = await port.client.post("/rta/tencent", content=pieces())

    assert tencent.RtaResponse.FromString(response.content).code == 0


async def test_pieces_that_grow_too_large_are_refused(port: Any) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(10):
            yield b" " * 10_000

    response = await port.client.post("/rta/json", content=pieces())

    assert response.status_code == 400
    assert response.json()["field"] == "body"


async def _raw(port: Any, receive: Callable[[], Any]) -> list[dict[str, Any]]:
    sent: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/rta/tencent"}
    await port.lane(scope, receive, send)
    return sent


async def test_a_body_in_one_piece_is_read_at_once(port: Any, known_md5: str) -> None:
    async def receive() -> Any:
        return {"type": "http.request", "body": _tencent_request(known_md5), "more_body": False}

    start, body = await _raw(port, receive)

    assert start["status"] == 200
    assert tencent.RtaResponse.FromString(body["body"]).code == 0


@pytest.mark.parametrize("pieces_before", [0, 1])
async def test_a_body_that_breaks_off_is_no_request(port: Any, pieces_before: int) -> None:
    messages = iter(
        [
            *[{"type": "http.request", "body": b"\x0a", "more_body": True}] * pieces_before,
            {"type": "http.disconnect"},
        ]
    )

    async def receive() -> Any:
        return next(messages)

    sent = await _raw(port, receive)

    assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]
    assert port.metrics.invalid == ["tencent"]
    assert port.metrics.errors == []


async def test_a_body_that_does_not_arrive_is_given_up(port: Any) -> None:
    reading = read_body(_dribble, 1000, timeout_s=0.01)

    with pytest.raises(InvalidRequest, match="did not arrive in time"):
        await reading


async def _dribble() -> Any:
    await asyncio.sleep(0.005)
    return {"type": "http.request", "body": b"x", "more_body": True}


@pytest.mark.parametrize("path", ["/rta/json", "/rta/tencent"])
async def test_an_unexpected_exception_is_counted_and_answered_with_a_valid_no(
    broken_port: Any, known_md5: str, path: str
) -> None:
    is_json = path.endswith("json")
    bodies = json.dumps(_json_request(known_md5)).encode(), _tencent_request(known_md5)

    response = await broken_port.client.post(path, content=bodies[0] if is_json else bodies[1])

    assert response.status_code == 200
    assert broken_port.metrics.errors == ["lane"]
    if is_json:
        assert response.json()["reason"] == "internal_error"
    else:
        assert tencent.RtaResponse.FromString(response.content).code == 1


async def test_without_a_release_the_answer_is_still_valid(port: Any, known_md5: str) -> None:
    port.pipeline.live = None

    response = await port.client.post("/rta/json", json=_json_request(known_md5))
    ready = await port.client.get("/readyz")

    assert response.json()["reason"] == "no_release"
    assert (ready.status_code, ready.json()) == (503, {"status": "no release"})


async def test_many_requests_at_once_get_each_its_own_answer(port: Any, known_md5: str) -> None:
    asked = [_json_request(known_md5 if i % 2 else "1" * 32) for i in range(20)]
    for index, request in enumerate(asked):
        request["request_id"] = str(index)

    responses = await asyncio.gather(*(port.client.post("/rta/json", json=r) for r in asked))

    assert [r.json()["request_id"] for r in responses] == [str(i) for i in range(20)]
    assert [r.json()["participate"] for r in responses] == [bool(i % 2) for i in range(20)]


@pytest.mark.parametrize(
    ("method", "path", "status", "field"),
    [
        ("GET", "/rta/json", 405, "method"),
        ("POST", "/rta/nobody", 404, "platform"),
        ("GET", "/rta/nobody", 404, "platform"),
        ("POST", "/rta/json/", 404, "path"),
        ("GET", "/elsewhere", 404, "path"),
        ("POST", "/livez", 405, "path"),
    ],
)
async def test_other_ways_are_refused_by_name(
    port: Any, method: str, path: str, status: int, field: str
) -> None:
    response = await port.client.request(method, path)

    assert response.status_code == status
    assert response.json()["field"] == field
    assert response.json()["error"]


async def test_the_probes_answer_ahead_of_any_platform(port: Any) -> None:
    alive = await port.client.get("/livez")
    ready = await port.client.get("/readyz")

    assert (alive.status_code, alive.json()) == (200, {"status": "alive"})
    assert (ready.status_code, ready.json()) == (200, {"status": "ready"})
