"""Sending events to an ingest port, again and again until they are acknowledged.

An event has an id, so sending it twice is safe: whoever gets no answer sends the same batch again.
"""

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Final, NamedTuple, Self

import httpx
import msgspec

from rta_service.domain.errors import InvalidInput, NotAllowed, StoreUnavailable
from rta_service.domain.receipt import Receipt

BATCH: Final = 500
_BATCH_BYTES: Final = 4_000_000
_FIRST_PAUSE_S: Final = 0.1
_LONGEST_PAUSE_S: Final = 5.0
_RETRIED: Final = frozenset(
    {
        HTTPStatus.REQUEST_TIMEOUT,
        HTTPStatus.TOO_MANY_REQUESTS,
        HTTPStatus.BAD_GATEWAY,
        HTTPStatus.SERVICE_UNAVAILABLE,
        HTTPStatus.GATEWAY_TIMEOUT,
    }
)


@dataclass(frozen=True, slots=True)
class Port:
    """An ingest port, and how long to go on trying when it can't keep anything."""

    url: str
    """Up to the port: http://127.0.0.1:8002."""
    token: str
    patience_s: float = 60.0


class EventSender:
    """Sends batches over one connection; a context manager."""

    def __init__(self, port: Port) -> None:
        self._port = port
        headers = {
            "Authorization": f"Bearer {port.token}",
            "Content-Type": "application/x-ndjson",
        }
        self._client = httpx.Client(base_url=port.url, headers=headers, timeout=30.0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def send(self, lines: Sequence[bytes]) -> Receipt:
        """Send one batch of lines and return when it is acknowledged.

        Raises StoreUnavailable when that did not happen within the patience, NotAllowed for a
        token that may not send, InvalidInput for a batch that the port does not take.
        """
        end_s = time.monotonic() + self._port.patience_s
        pause_s = _FIRST_PAUSE_S
        body = b"\n".join(lines)
        while True:
            said, wait_s = self._try(body)
            if isinstance(said, Receipt):
                return said
            pause_s = max(pause_s, wait_s)
            if time.monotonic() + pause_s > end_s:
                raise StoreUnavailable(f"{self._port.url} acknowledged nothing: {said}")
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    def _try(self, body: bytes) -> tuple[Receipt | str, float]:
        """Send once: a receipt, or why it should be tried again and after how many seconds."""
        try:
            response = self._client.post("/v1/events", content=body)
        except httpx.TransportError as error:
            return str(error) or type(error).__name__, 0.0
        if response.status_code == HTTPStatus.OK:
            return msgspec.json.decode(response.content, type=Receipt), 0.0
        detail = _detail(response)
        if response.status_code in _RETRIED:
            return detail, _seconds(response.headers.get("retry-after", ""))
        if response.status_code in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            raise NotAllowed(detail)
        raise InvalidInput(detail, self._port.url)


class Part(NamedTuple):
    """Some lines of a file with the number of the first."""

    first: int
    """From 1."""
    lines: tuple[bytes, ...]


def parts_of(lines: Iterable[bytes], size: int = BATCH) -> Iterator[Part]:
    """Cut a file's lines into batches of bounded count and bytes."""
    taken: list[bytes] = []
    first, taken_bytes = 1, 0
    for line in lines:
        if taken and (len(taken) == size or taken_bytes + len(line) > _BATCH_BYTES):
            yield Part(first, tuple(taken))
            first, taken, taken_bytes = first + len(taken), [], 0
        taken.append(line.rstrip(b"\r\n"))
        taken_bytes += len(line)
    if taken:
        yield Part(first, tuple(taken))


def _detail(response: httpx.Response) -> str:
    try:
        problem: dict[str, Any] = msgspec.json.decode(response.content, type=dict[str, Any])
    except msgspec.MsgspecError:
        return f"status {response.status_code}"
    return str(problem.get("detail", f"status {response.status_code}"))


def _seconds(text: str) -> float:
    return float(text) if text.isdecimal() else 0.0
