"""A change that is sent twice is done once: its first answer is kept and given again."""

import asyncio
import contextlib
import secrets
from collections.abc import Awaitable, Callable
from hashlib import sha256
from typing import Final, Protocol

import msgspec
from fastapi import Request, Response

from rta_service.domain.errors import StoreUnavailable
from rta_service.stores.idempotency import Kept
from rta_service.web.problems import Refusal, problem

_LONGEST_KEY: Final = 200

Work = Callable[[], Awaitable[Response]]


class KeptAnswers(Protocol):
    """Where answers are kept; blocks."""

    def begin(self, name: str, mine: Kept) -> Kept | None:
        """Claim a key; gives what stands there already."""

    def keep(self, name: str, mine: Kept, answer: bytes) -> None:
        """Keep the answer of the work that claimed the key."""

    def release(self, name: str, mine: Kept) -> None:
        """Give the key back: nothing was done under it."""


class _Answer(msgspec.Struct, frozen=True):
    status: int
    headers: dict[str, str]
    body: bytes


class Idempotency:
    """Does the work of each Idempotency-Key once."""

    def __init__(self, answers: Callable[[], KeptAnswers]) -> None:
        """Take what opens the store; it is called in a thread, since it may connect."""
        self._answers = answers

    async def once(self, request: Request, content: str, work: Work) -> Response:
        """Do the work, or give the answer it got before; `content` is the body's hash.

        Answers are kept, also those that say we failed: what a failed change did is for its sender
        to look up. A change that was refused did nothing, so its key is free again.
        """
        key = request.headers.get("idempotency-key")
        if key is None:
            return await work()
        name, mine = self._named(request, key), self._claim(request, content)
        answers = await asyncio.to_thread(self._answers)
        found = await asyncio.to_thread(answers.begin, name, mine)
        if found is not None:
            return _again(found, mine)
        try:
            answer = await work()
        except Exception as error:
            failed = problem(error, request.url.path)
            if failed.status_code < 500:  # noqa: PLR2004 - HTTP's own border
                await _leave(answers.release, name, mine)
            else:
                await _leave(answers.keep, name, mine, _packed(failed))
            raise
        await _leave(answers.keep, name, mine, _packed(answer))
        return answer

    def _named(self, request: Request, key: str) -> str:
        if not (1 <= len(key) <= _LONGEST_KEY and key.isascii() and key.isprintable()):
            raise Refusal(400, f"Idempotency-Key: 1 to {_LONGEST_KEY} printable ASCII characters")
        return sha256(f"{request.state.who.name}\0{key}".encode()).hexdigest()

    def _claim(self, request: Request, content: str) -> Kept:
        asked = f"{request.method} {request.url.path}?{request.url.query} {content}"
        return Kept(sha256(asked.encode()).hexdigest(), secrets.token_hex(8))


async def _leave(store: Callable[..., None], *what: object) -> None:
    """Write what became of it; if the store is away, the claim expires and the answer stands."""
    with contextlib.suppress(StoreUnavailable):
        await asyncio.to_thread(store, *what)


def _again(found: Kept, mine: Kept) -> Response:
    if found.fingerprint != mine.fingerprint:
        raise Refusal(422, "this Idempotency-Key was sent with another request: take a new one")
    if found.answer is None:
        raise Refusal(
            409, "the first request with this Idempotency-Key is still running", retry_s=2
        )
    answer = msgspec.json.decode(found.answer, type=_Answer)
    headers = {**answer.headers, "Idempotency-Replayed": "true"}
    return Response(answer.body, answer.status, headers)


def _packed(answer: Response) -> bytes:
    headers = {name: value for name, value in answer.headers.items() if name != "content-length"}
    return msgspec.json.encode(_Answer(answer.status_code, headers, bytes(answer.body)))
