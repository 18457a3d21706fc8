"""Real connections on loopback, to the lane's protocol and to the same lane as plain ASGI."""

import asyncio
import contextlib
import json
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from rta_service.domain.clock import SystemClock
from rta_service.domain.decision import Decision
from rta_service.domain.errors import InvalidRequest
from rta_service.domain.platform import PlatformInfo
from rta_service.domain.reason import ReasonCode
from rta_service.domain.request import AdRequest
from rta_service.online.answers import decline_all
from rta_service.online.batcher import Batcher, BatchLimits
from rta_service.online.pipeline import BatchOutcome
from rta_service.platforms.base import Adapter
from rta_service.platforms.tencent import tencent_pb2 as tencent
from rta_service.web.lane import Lane
from rta_service.web.protocol import LaneProtocol, lane_protocol

JSON = "/rta/json"
TENCENT = "/rta/tencent"


async def until(condition: Callable[[], bool]) -> None:
    """Let the other side work until something holds."""
    for _ in range(5000):
        if condition():
            return
        await asyncio.sleep(0.001)
    raise TimeoutError


@dataclass
class Line:
    """A client's connection, and what reached ASGI on the other side."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    state: ServerState
    asgi: list[str]

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def answer(self) -> bytes:
        """Read one whole answer, head and body."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        lines = head.lower().split(b"\r\n")
        length = next(int(h.split(b":")[1]) for h in lines if h.startswith(b"content-length"))
        return head + await self.reader.readexactly(length)

    async def ask(self, data: bytes) -> bytes:
        self.send(data)
        return await self.answer()

    async def is_closed(self) -> bool:
        return await asyncio.wait_for(self.reader.read(), 2) == b""

    def connection(self) -> LaneProtocol:
        (protocol,) = self.state.connections
        assert isinstance(protocol, LaneProtocol)
        return protocol


def a_config(lane: Lane, asgi: list[str], http: Any) -> uvicorn.Config:
    async def noted(scope: Any, receive: Any, send: Any) -> None:
        asgi.append(scope["path"])
        await lane(scope, receive, send)

    return uvicorn.Config(
        noted,
        http=http,
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        date_header=False,
        timeout_graceful_shutdown=5,
    )


Dial = Callable[..., Awaitable[Line]]


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, bool]]:
    """The event loop that serves in production."""
    return "asyncio", {"use_uvloop": True}


@pytest.fixture
async def dial() -> AsyncIterator[Dial]:
    """Connect to a lane, through its protocol or through another one."""
    async with contextlib.AsyncExitStack() as stack:

        async def connect(lane: Lane, http: Any = None) -> Line:
            asgi: list[str] = []
            config, state = a_config(lane, asgi, http or lane_protocol(lane)), ServerState()
            config.load()
            made: Any = config.http_protocol_class
            server = await asyncio.get_running_loop().create_server(
                lambda: made(config=config, server_state=state, app_state={}), "127.0.0.1", 0
            )
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            line = Line(reader, writer, state, asgi)

            async def hang_up() -> None:
                writer.close()
                with contextlib.suppress(ConnectionError):
                    await writer.wait_closed()
                server.close()
                await until(lambda: not (state.connections or state.tasks))

            stack.push_async_callback(hang_up)
            return line

        yield connect


@dataclass
class Gate:
    """A decider that answers when it is opened."""

    opened: asyncio.Event = field(default_factory=asyncio.Event)
    asked: asyncio.Event = field(default_factory=asyncio.Event)

    async def decide(self, batch: list[AdRequest], deadline_s: float) -> BatchOutcome:
        self.asked.set()
        await self.opened.wait()
        return BatchOutcome([self.degrade(r, ReasonCode.NO_RELEASE) for r in batch])

    def degrade(self, request: AdRequest, reason: ReasonCode) -> Decision:
        return decline_all(request, reason)


async def nowhere(*_: Any) -> None:
    """Never reached."""


def a_lane(adapters: dict[str, Adapter], metrics: Any, batcher: Batcher) -> Lane:
    return Lane(adapters, batcher, metrics, SystemClock(), nowhere)


@pytest.fixture
def gate() -> Gate:
    return Gate()


@pytest.fixture
def gated(adapters: dict[str, Adapter], metrics: Any, gate: Gate) -> Lane:
    return a_lane(adapters, metrics, Batcher(gate, BatchLimits(5), lambda *_: None))


def json_body(md5: str, request_id: str = "q1") -> bytes:
    ids = [{"kind": "oaid", "form": "md5", "value": md5}]
    device = {"os": "android", "ids": ids}
    return json.dumps({"request_id": request_id, "device": device}).encode()


def tencent_body(md5: str) -> bytes:
    device = tencent.RtaRequest.Device(os="OS_ANDROID", oaid_md5sum=md5)
    return tencent.RtaRequest(id="q1", device=device).SerializeToString()


def post(path: str, body: bytes, *headers: str, version: str = "1.1") -> bytes:
    lines = [f"POST {path} HTTP/{version}", "Host: port", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


def chunked(path: str, *pieces: bytes) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: port\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
    return head + b"".join(b"%x\r\n%b\r\n" % (len(p), p) for p in (*pieces, b""))


def body_of(answer: bytes) -> Any:
    return json.loads(answer.partition(b"\r\n\r\n")[2])


CASES: dict[str, tuple[str, Callable[[str], bytes]]] = {
    "known json": (JSON, json_body),
    "stranger json": (JSON, lambda _: json_body("1" * 32)),
    "known tencent": (TENCENT, tencent_body),
    "stranger tencent": (TENCENT, lambda _: tencent_body("1" * 32)),
    "with a query": (JSON + "?a=b", json_body),
    "empty json": (JSON, lambda _: b""),
    "empty tencent": (TENCENT, lambda _: b""),
    "wrong field": (JSON, lambda _: b'{"request_id": 1}'),
    "cut json": (JSON, lambda md5: json_body(md5)[:-3]),
    "cut tencent": (TENCENT, lambda md5: tencent_body(md5)[:-3]),
    "as large as allowed": (JSON, lambda _: b" " * 65_536),
    "too large json": (JSON, lambda _: b" " * 65_537),
    "too large tencent": (TENCENT, lambda _: b" " * 300_000),
}


@pytest.mark.parametrize("case", CASES)
async def test_both_ways_give_the_same_bytes(
    port: Any, known_md5: str, dial: Dial, case: str
) -> None:
    path, body = CASES[case]
    fast, slow = await dial(port.lane), await dial(port.lane, "httptools")
    request = post(path, body(known_md5), "Content-Type: whatever")

    assert await fast.ask(request) == await slow.ask(request)

    assert (fast.asgi, slow.asgi) == ([], [path.partition("?")[0]])
    half = len(port.metrics.stages) // 2
    assert port.metrics.stages[:half] == port.metrics.stages[half:]
    assert port.metrics.invalid[::2] == port.metrics.invalid[1::2]
    assert port.metrics.errors == []


async def test_both_ways_give_the_same_bytes_for_garbage_on_one_connection(
    port: Any, dial: Dial
) -> None:
    fast, slow = await dial(port.lane), await dial(port.lane, "httptools")
    chance = random.Random(7)

    for size in range(60):
        request = post(chance.choice([JSON, TENCENT]), chance.randbytes(size))
        assert await fast.ask(request) == await slow.ask(request)

    assert fast.asgi == []
    assert fast.state.total_requests == 60


async def test_a_connection_carries_many_requests(port: Any, known_md5: str, dial: Dial) -> None:
    line = await dial(port.lane)

    answers = [await line.ask(post(JSON, json_body(known_md5, str(i)))) for i in range(5)]

    assert [body_of(a)["request_id"] for a in answers] == [str(i) for i in range(5)]
    assert line.asgi == []


async def test_an_idle_connection_is_closed_in_time(port: Any, known_md5: str, dial: Dial) -> None:
    line = await dial(port.lane)
    line.connection().timeout_keep_alive = 0

    await line.ask(post(JSON, json_body(known_md5)))

    assert await line.is_closed()


async def test_pipelined_requests_are_answered_in_order(
    gated: Lane, gate: Gate, dial: Dial
) -> None:
    line = await dial(gated)
    line.send(b"".join(post(JSON, json_body("1" * 32, str(i))) for i in range(4)))
    await gate.asked.wait()
    gate.opened.set()

    answers = [await line.answer() for _ in range(4)]

    assert [body_of(a)["request_id"] for a in answers] == ["0", "1", "2", "3"]
    assert line.asgi == [JSON] * 3
    assert body_of(await line.ask(post(JSON, json_body("1" * 32, "5"))))["request_id"] == "5"
    assert len(line.asgi) == 3


async def test_requests_behind_a_refused_one_are_answered(port: Any, dial: Dial) -> None:
    line = await dial(port.lane)
    line.send(post(JSON, b"{") + post(JSON, json_body("1" * 32)))

    answers = [await line.answer(), await line.answer()]

    assert [a[9:12] for a in answers] == [b"400", b"200"]


async def test_a_chunked_body_is_put_together(port: Any, known_md5: str, dial: Dial) -> None:
    body = json_body(known_md5)
    fast, slow = await dial(port.lane), await dial(port.lane, "httptools")
    request = chunked(JSON, body[:10], body[10:11], body[11:])

    answer = await fast.ask(request)

    assert answer == await slow.ask(request)
    assert body_of(answer)["participate"]


@pytest.mark.parametrize("step", [1, 7])
async def test_a_request_in_pieces_is_put_together(
    port: Any, known_md5: str, dial: Dial, step: int
) -> None:
    line = await dial(port.lane)
    request = post(JSON, json_body(known_md5))
    protocol = line.connection()
    for start in range(0, len(request), step):
        protocol.data_received(request[start : start + step])

    answer = await line.answer()

    assert body_of(answer)["participate"]
    assert line.asgi == []
    assert protocol._body_timer is None


async def test_a_body_too_large_is_refused_at_once_and_its_rest_dropped(
    port: Any, known_md5: str, dial: Dial
) -> None:
    line = await dial(port.lane)
    head, _, body = post(JSON, b" " * 200_000).partition(b"\r\n\r\n")

    answer = await line.ask(head + b"\r\n\r\n" + body[:70_000])
    line.send(body[70_000:])
    after = await line.ask(post(JSON, json_body(known_md5)))

    assert body_of(answer)["field"] == "body"
    assert body_of(after)["participate"]
    assert port.metrics.invalid == ["json"]


async def test_the_rest_of_a_body_too_large_may_not_take_for_ever(port: Any, dial: Dial) -> None:
    line = await dial(port.lane, lane_protocol(port.lane, body_timeout_s=0.02))

    await line.ask(post(JSON, b" " * 200_000)[:70_100])

    assert await line.is_closed()
    assert port.metrics.invalid == ["json"]


async def test_a_slow_body_is_given_up(port: Any, known_md5: str, dial: Dial) -> None:
    line = await dial(port.lane, lane_protocol(port.lane, body_timeout_s=0.02))

    answer = await line.ask(post(JSON, json_body(known_md5))[:-5])

    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"\r\nconnection: close\r\n" in answer
    assert body_of(answer)["error"] == "the body did not arrive in time"
    assert await line.is_closed()
    assert port.metrics.invalid == ["json"]


@pytest.mark.parametrize(("version", "header"), [("1.1", "Connection: close"), ("1.0", "X: y")])
async def test_a_caller_that_wants_one_answer_gets_the_connection_closed(
    port: Any, known_md5: str, dial: Dial, version: str, header: str
) -> None:
    fast, slow = await dial(port.lane), await dial(port.lane, "httptools")
    request = post(JSON, json_body(known_md5), header, version=version)

    answer = await fast.ask(request)

    assert answer == await slow.ask(request)
    assert b"\r\nconnection: close\r\n" in answer
    assert await fast.is_closed()
    assert fast.asgi == []


async def test_a_client_that_left_gets_nothing_and_nothing_breaks(
    gated: Lane, gate: Gate, dial: Dial, caplog: pytest.LogCaptureFixture, metrics: Any
) -> None:
    line = await dial(gated)
    line.send(post(JSON, json_body("1" * 32)))
    await gate.asked.wait()

    line.writer.close()
    await until(lambda: not line.state.connections)
    gate.opened.set()
    await until(lambda: "total" in metrics.stages)

    assert line.state.total_requests == 0
    assert caplog.records == []
    assert metrics.errors == []


async def test_a_body_that_breaks_off_counts_as_unreadable(
    port: Any, dial: Dial, caplog: pytest.LogCaptureFixture
) -> None:
    line = await dial(port.lane)
    line.send(post(JSON, json_body("1" * 32))[:-5])
    await until(lambda: line.connection()._incoming is not None)

    line.writer.close()
    await until(lambda: not line.state.connections)

    assert port.metrics.invalid == ["json"]
    assert caplog.records == []


async def test_what_is_not_http_is_refused(port: Any, dial: Dial) -> None:
    fast, slow = await dial(port.lane), await dial(port.lane, "httptools")
    request = chunked(JSON, b"abc").replace(b"\r\n3\r\n", b"\r\nno size\r\n")

    assert await fast.ask(request) == await slow.ask(request)
    assert await fast.is_closed()


OTHERS = {
    "get": b"GET /rta/json HTTP/1.1\r\nHost: port\r\nX-A: b\r\n\r\n",
    "probe": b"GET /livez HTTP/1.1\r\nHost: port\r\n\r\n",
    "unknown platform": post("/rta/nobody", b"{}"),
    "unknown path": post("/elsewhere?x=y", b"{}"),
    "longer path": post("/rta/json/", b"{}"),
    "whole address": post("http://port/rta/json", json_body("1" * 32)),
    "encoded path": post("/rta/%6ason", json_body("1" * 32)),
    "upgrade": post(JSON, json_body("1" * 32), "Connection: upgrade", "Upgrade: h2c"),
}


@pytest.mark.parametrize("case", OTHERS)
async def test_everything_else_goes_on_to_asgi(port: Any, dial: Dial, case: str) -> None:
    fast, slow = await dial(port.lane), await dial(port.lane, "httptools")

    answer = await fast.ask(OTHERS[case])

    assert answer == await slow.ask(OTHERS[case])
    assert fast.asgi == slow.asgi
    assert len(fast.asgi) == 1


async def test_platform_requests_and_others_share_a_connection(
    port: Any, known_md5: str, dial: Dial
) -> None:
    line = await dial(port.lane)

    answers = [
        await line.ask(OTHERS["probe"]),
        await line.ask(post(JSON, json_body(known_md5))),
        await line.ask(OTHERS["get"]),
    ]

    assert [a[9:12] for a in answers] == [b"200", b"200", b"405"]
    assert line.asgi == ["/livez", JSON]


async def test_a_caller_that_waits_for_leave_to_send_gets_it(
    port: Any, known_md5: str, dial: Dial
) -> None:
    line = await dial(port.lane)
    head, _, body = post(JSON, json_body(known_md5), "Expect: 100-continue").partition(b"\r\n\r\n")
    line.send(head + b"\r\n\r\n")

    leave = await line.reader.readuntil(b"\r\n\r\n")
    answer = await line.ask(body)

    assert leave.startswith(b"HTTP/1.1 100 ")
    assert body_of(answer)["participate"]


@pytest.mark.parametrize("path", [JSON, TENCENT])
async def test_a_bug_in_an_adapter_is_counted_and_answered_with_a_valid_no(
    broken_port: Any, known_md5: str, dial: Dial, path: str
) -> None:
    body = json_body(known_md5) if path == JSON else tencent_body(known_md5)
    fast, slow = await dial(broken_port.lane), await dial(broken_port.lane, "httptools")

    answer = await fast.ask(post(path, body))

    assert answer == await slow.ask(post(path, body))
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert broken_port.metrics.errors == ["lane", "lane"]


@dataclass
class Speechless:
    """An adapter that can't even say what is wrong."""

    inner: Adapter

    @property
    def info(self) -> PlatformInfo:
        return self.inner.info

    def parse(self, body: bytes) -> AdRequest:
        return self.inner.parse(body)

    def render(self, decision: Decision) -> bytes:
        return self.inner.render(decision)

    def render_invalid(self, error: InvalidRequest) -> tuple[int, bytes]:
        raise RuntimeError("a bug in an adapter") from error


@pytest.mark.parametrize("http", [None, "httptools"])
async def test_a_refusal_that_fails_is_a_valid_no_as_well(
    adapters: dict[str, Adapter], metrics: Any, gate: Gate, dial: Dial, http: Any
) -> None:
    batcher = Batcher(gate, BatchLimits(5), lambda *_: None)
    line = await dial(a_lane({"json": Speechless(adapters["json"])}, metrics, batcher), http)

    answer = await line.ask(post(JSON, b"{"))

    assert body_of(answer)["reason"] == "internal_error"
    assert (metrics.invalid, metrics.errors) == (["json"], ["lane"])


class Losing(Batcher):
    """A batcher that loses its requests."""

    def submit(self, request: AdRequest, arrived_s: float) -> asyncio.Future[Decision]:
        future: asyncio.Future[Decision] = asyncio.get_running_loop().create_future()
        if request.request_id == "cancelled":
            future.cancel()
        else:
            future.set_exception(RuntimeError("lost"))
        return future


async def test_a_request_that_the_batcher_lost_gets_a_valid_no(
    adapters: dict[str, Adapter], metrics: Any, gate: Gate, dial: Dial
) -> None:
    losing = Losing(gate, BatchLimits(5), lambda *_: None)
    line = await dial(a_lane(adapters, metrics, losing))

    answers = [
        await line.ask(post(JSON, json_body("1" * 32, name))) for name in ("cancelled", "failed")
    ]

    assert [body_of(a)["reason"] for a in answers] == ["internal_error"] * 2
    assert metrics.errors == ["lane", "lane"]


async def test_a_caller_that_does_not_read_is_not_read(
    port: Any, known_md5: str, dial: Dial
) -> None:
    line = await dial(port.lane)
    protocol = line.connection()
    line.send(post(JSON, json_body(known_md5)))

    protocol.pause_writing()
    await asyncio.sleep(0.02)
    was_paused, asked_before = protocol.flow.read_paused, list(port.metrics.stages)
    protocol.data_received(post(JSON, json_body(known_md5)))
    await line.answer()
    still = protocol.flow.read_paused
    protocol.resume_writing()

    assert was_paused
    assert asked_before == []
    assert still
    assert body_of(await line.answer())["participate"]


async def test_a_stopping_server_finishes_what_is_in_flight(gated: Lane, gate: Gate) -> None:
    config = a_config(gated, [], lane_protocol(gated))
    config.port = 0
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())
    await until(lambda: server.started)
    address = server.servers[0].sockets[0].getsockname()
    busy, idle = [
        Line(*await asyncio.open_connection(*address), server.server_state, []) for _ in "12"
    ]
    busy.send(post(JSON, json_body("1" * 32)))
    await gate.asked.wait()

    server.should_exit = True
    idle_closed = await idle.is_closed()
    gate.opened.set()
    answer = await busy.answer()
    await asyncio.wait_for(serving, 5)

    assert idle_closed
    assert body_of(answer)["request_id"] == "q1"
    assert b"\r\nconnection: close\r\n" in answer
    assert await busy.is_closed()
    for line in (busy, idle):
        line.writer.close()


async def test_a_head_too_large_is_refused_and_the_connection_closed(port: Any, dial: Dial) -> None:
    line = await dial(port.lane)

    answer = await line.ask(b"POST " + JSON.encode() + b" HTTP/1.1\r\n" + b"a: b\r\n" * 9_000)

    assert answer.startswith(b"HTTP/1.1 400 ")
    assert await line.is_closed()


async def test_a_head_that_dribbles_is_given_up(port: Any, dial: Dial) -> None:
    line = await dial(port.lane, lane_protocol(port.lane, body_timeout_s=0.02))

    line.send(b"POST " + JSON.encode() + b" HTTP/1.1\r\nHost: a\r\n")

    assert await line.is_closed()
