"""The load generator against real sockets: its counts, its truth about stalls, its bounds."""

import asyncio
import re
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest

from rta_service.domain.errors import InvalidInput
from rta_service.simulation.client import is_loopback, run_load
from rta_service.simulation.load import LoadPlan, PreparedRequest, percentiles

Serve = Callable[[Any], AbstractAsyncContextManager[tuple[str, int]]]

REQUESTS = [PreparedRequest("/a", b'{"n": 1}'), PreparedRequest("/b", b"\x00\x01", "x/y")]


async def read_request(reader: asyncio.StreamReader) -> tuple[str, bytes]:
    head = await reader.readuntil(b"\r\n\r\n")
    length = re.search(rb"Content-Length: (\d+)", head)
    assert length is not None
    return head.decode(), await reader.readexactly(int(length[1]))


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        _, body = await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))


async def test_closed_loop_sends_each_request_once_and_hands_on_each_answer(serve: Serve) -> None:
    answers: dict[int, bytes] = {}

    async with serve(echo) as address:
        result = await run_load(
            address,
            REQUESTS * 50,
            LoadPlan(connections=4),
            lambda number, status, body, latency: answers.update({number: body}),
        )

    assert (result.sent, result.answered, dict(result.statuses)) == (100, 100, {200: 100})
    assert answers == {n: REQUESTS[n % 2].body for n in range(100)}
    assert not result.errors
    assert result.answers_per_s > 0
    assert 0 < result.latency_percentiles()["p50"] < 1


async def test_requests_are_repeated_until_the_count_is_reached(serve: Serve) -> None:
    async with serve(echo) as address:
        result = await run_load(address, REQUESTS, LoadPlan(connections=2, count=31))

    assert result.answered == 31


async def test_the_request_on_the_wire_is_plain_http(serve: Serve) -> None:
    heads: list[str] = []

    async def keep_head(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head, _ = await read_request(reader)
        heads.append(head)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        await read_request(reader)

    async with serve(keep_head) as address:
        await run_load(address, REQUESTS[1:], LoadPlan(connections=1))

    assert heads[0].startswith("POST /b HTTP/1.1\r\nHost: 127.0.0.1:")
    assert "Content-Type: x/y\r\nContent-Length: 2\r\n" in heads[0]


@pytest.mark.parametrize("spin", [False, True])
async def test_open_loop_holds_its_rate(serve: Serve, *, spin: bool) -> None:
    plan = LoadPlan(connections=8, rate_per_s=500.0, count=150, spin=spin)

    async with serve(echo) as address:
        result = await run_load(address, REQUESTS, plan)

    assert result.answered == 150
    assert 0.29 < result.seconds < 0.8
    assert len(result.send_lags) == 150


async def test_open_loop_shows_a_stall_that_closed_loop_hides(serve: Serve) -> None:
    def stalling_server() -> Any:
        served = 0

        async def stall_once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal served
            while True:
                _, _body = await read_request(reader)
                served += 1
                if served == 100:
                    # the whole server stands still, as under SIGSTOP
                    until = asyncio.get_running_loop().time() + 0.4
                    while asyncio.get_running_loop().time() < until:
                        pass
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

        return stall_once

    async with serve(stalling_server()) as address:
        opened = await run_load(
            address, REQUESTS, LoadPlan(connections=4, rate_per_s=400.0, count=600)
        )
    async with serve(stalling_server()) as address:
        closed = await run_load(address, REQUESTS, LoadPlan(connections=1, count=600))

    # 160 of 600 requests fall due during 0.4 s: the 0.9 quantile waits some 0.25 s
    assert opened.answered == closed.answered == 600
    assert opened.latency_percentiles()["p90"] > 0.15
    assert opened.latency_percentiles()["max"] > 0.35
    assert opened.late > 100
    assert closed.latency_percentiles()["p99"] < 0.1


async def test_a_server_that_never_answers_ends_by_time(serve: Serve) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    plan = LoadPlan(connections=2, rate_per_s=100.0, count=1_000, duration_s=0.2, grace_s=0.1)
    async with serve(silent) as address:
        result = await run_load(address, REQUESTS, plan)

    assert result.sent == 2
    assert result.errors == {"no answer": 2}
    assert result.unsent > 5
    assert result.seconds < 2
    assert result.latency_percentiles() == {}


async def test_connections_that_close_are_opened_again(serve: Serve) -> None:
    async def one_each(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok")

    async with serve(one_each) as address:
        result = await run_load(address, REQUESTS, LoadPlan(connections=3, count=20))

    assert result.answered == 20
    assert not result.errors


async def test_a_request_lost_with_its_connection_is_an_error(serve: Serve) -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)

    async with serve(hang_up) as address:
        result = await run_load(address, REQUESTS, LoadPlan(connections=2, count=6))

    assert result.answered == 0
    assert result.errors == {"closed": 6}


async def test_an_unreadable_answer_is_an_error(serve: Serve) -> None:
    async def babble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"not http at all\r\n\r\n")

    async with serve(babble) as address:
        result = await run_load(address, REQUESTS, LoadPlan(connections=1, count=2))

    assert result.errors == {"unreadable": 2}


async def test_nobody_listening_is_counted_and_ends_by_time(serve: Serve) -> None:
    async with serve(echo) as address:
        pass

    result = await run_load(address, REQUESTS, LoadPlan(connections=1, duration_s=0.12))

    assert result.sent == 0
    assert result.errors["refused"] >= 2


async def test_hosts_off_the_loopback_are_refused() -> None:
    with pytest.raises(InvalidInput, match="loopback"):
        await run_load(("192.0.2.1", 80), REQUESTS, LoadPlan())


async def test_an_empty_run_is_refused() -> None:
    with pytest.raises(InvalidInput, match="nothing to send"):
        await run_load(("127.0.0.1", 80), [], LoadPlan())


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.8.9.1", True),
        ("localhost", True),
        ("::1", True),
        ("[::1]", True),
        ("10.0.0.1", False),
        ("example.org", False),
        ("127.0.0.1.example.org", False),
    ],
)
def test_only_this_machine_is_loopback(host: str, *, expected: bool) -> None:
    assert is_loopback(host) is expected


def test_percentiles_are_latencies_that_occurred() -> None:
    found = percentiles([0.001] * 98 + [0.5, 0.6])

    assert found == {"p50": 0.001, "p90": 0.001, "p99": 0.6, "p99.9": 0.6, "max": 0.6}
