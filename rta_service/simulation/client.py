"""A load generator for the loopback: thousands of requests a second from a part of one core.

Open loop sends by an absolute schedule and measures latency from the scheduled instant, so that a
stalled server can not hide its stall by slowing the generator. Closed loop sends the next request
of a connection when its answer is there, which finds the capacity.
"""

import asyncio
import ipaddress
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from time import perf_counter
from typing import Final

from rta_service.domain.errors import InvalidInput
from rta_service.simulation.http_connection import HttpConnection
from rta_service.simulation.load import LATE_S, LoadPlan, LoadResult, PreparedRequest

_TICK_S: Final = 0.0005
_RECONNECT_S: Final = 0.05

Answered = Callable[[int, int, bytes, float], None]
"""Called with the request's number in the run, status, body and latency in seconds."""


async def run_load(
    address: tuple[str, int],
    requests: Sequence[PreparedRequest],
    plan: LoadPlan,
    on_answer: Answered | None = None,
) -> LoadResult:
    """Send requests over keep-alive connections; raises InvalidInput for hosts off the loopback."""
    host, port = address
    if not is_loopback(host):
        raise InvalidInput("the load generator only talks to this machine's loopback", host)
    if not requests or (plan.count is not None and plan.count < 1):
        raise InvalidInput("nothing to send", "requests")
    wires = [_wire(request, f"{host}:{port}") for request in requests]
    return await _Run(address, wires, plan, on_answer).finish()


def is_loopback(host: str) -> bool:
    """Tell whether a host name or address can only be this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _wire(request: PreparedRequest, host: str) -> bytes:
    head = (
        f"POST {request.path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: {request.content_type}\r\n"
        f"Content-Length: {len(request.body)}\r\n"
    )
    if request.authorization:
        head += f"Authorization: {request.authorization}\r\n"
    head += "\r\n"
    return head.encode("ascii") + request.body


class _Run:
    """One run: the schedule, the free connections, and the requests that wait for one."""

    def __init__(
        self,
        address: tuple[str, int],
        wires: list[bytes],
        plan: LoadPlan,
        on_answer: Answered | None,
    ) -> None:
        self._address = address
        self._wires = wires
        self._plan = plan
        self._on_answer = on_answer
        self._is_open = plan.rate_per_s is not None
        self._count = len(wires) if plan.count is None else plan.count
        self._result = LoadResult()
        self._connections: set[HttpConnection] = set()
        self._free: list[HttpConnection] = []
        self._waiting: deque[tuple[int, float]] = deque()
        self._next = 0
        self._outstanding = 0
        self._stopped = False
        self._is_closing = False
        self._all_closed = asyncio.Event()
        self._done = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    async def finish(self) -> LoadResult:
        """Connect, send, wait for the answers, close."""
        started = perf_counter()
        for _ in range(self._plan.connections):
            self._start(self._connect())
        if self._plan.rate_per_s is not None:
            self._start(self._keep_schedule(started, self._plan.rate_per_s))
        if not await self._done_within(self._plan.duration_s):
            self._stopped = True
            self._done.clear()
            if self._outstanding:
                await self._done_within(self._plan.grace_s)
        result = self._result
        result.seconds = perf_counter() - started
        result.unsent = len(self._waiting)
        if self._outstanding:
            result.errors["no answer"] += self._outstanding
        await self._close()
        return result

    async def _done_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self._done.wait()
        except TimeoutError:
            return False
        return True

    async def _close(self) -> None:
        self._stopped = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._is_closing = True
        if self._connections:
            for connection in tuple(self._connections):
                connection.abort()
            await self._all_closed.wait()

    def _start(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _keep_schedule(self, started: float, rate_per_s: float) -> None:
        while self._next < self._count:
            due = min(int((perf_counter() - started) * rate_per_s) + 1, self._count)
            for number in range(self._next, due):
                self._waiting.append((number, started + number / rate_per_s))
            self._next = max(self._next, due)
            self._send_waiting()
            pause = max(started + self._next / rate_per_s - perf_counter(), _TICK_S)
            await asyncio.sleep(0.0 if self._plan.spin else pause)

    def _send_waiting(self) -> None:
        while self._waiting and self._free and not self._stopped:
            self._send(self._free.pop(), *self._waiting.popleft())

    def _send(self, connection: HttpConnection, number: int, scheduled: float) -> None:
        self._outstanding += 1
        self._result.sent += 1
        if self._is_open:
            lag = perf_counter() - scheduled
            self._result.send_lags.append(lag)
            self._result.late += lag > LATE_S
        connection.send(number, scheduled, self._wires[number % len(self._wires)])

    def ready(self, connection: HttpConnection) -> None:
        """Give a free connection the next request, or keep it for one that comes due."""
        self._connections.add(connection)
        if not self._is_open and self._next < self._count and not self._stopped:
            self._next += 1
            self._send(connection, self._next - 1, perf_counter())
            return
        self._free.append(connection)
        self._send_waiting()

    def answered(self, connection: HttpConnection, status: int, body: bytes) -> None:
        """Take an answer: measure, count, hand on."""
        latency = perf_counter() - connection.scheduled
        self._result.latencies.append(latency)
        self._result.statuses[status] += 1
        if self._on_answer is not None:
            self._on_answer(connection.number, status, body, latency)
        self._settle()

    def failed(self, reason: str) -> None:
        """Count a request that will have no answer; it is not repeated."""
        if self._is_closing:  # counted as unanswered by then
            return
        self._result.errors[reason] += 1
        self._settle()

    def lost(self, connection: HttpConnection) -> None:
        """Forget a closed connection and open another one."""
        self._connections.discard(connection)
        if connection in self._free:
            self._free.remove(connection)
        if not self._stopped:
            self._start(self._connect())
        elif not self._connections:
            self._all_closed.set()

    def _settle(self) -> None:
        self._outstanding -= 1
        all_sent = self._stopped or (self._next >= self._count and not self._waiting)
        if all_sent and not self._outstanding:
            self._done.set()

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        while not self._stopped:
            try:
                await loop.create_connection(lambda: HttpConnection(self), *self._address)
            except OSError:
                self._result.errors["refused"] += 1
                await asyncio.sleep(_RECONNECT_S)
            else:
                return
