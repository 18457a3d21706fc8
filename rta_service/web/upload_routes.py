"""Taking a model's upload piece by piece, so that nothing else waits and nothing is left behind."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Annotated, Final, Protocol, TypeVar

import msgspec
from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.responses import JSONResponse
from starlette.requests import ClientDisconnect

from rta_service.domain.errors import Fault, InvalidInput
from rta_service.domain.release import ModelRef
from rta_service.web.access import Caller, changes
from rta_service.web.gate import Gate, check_length, too_large
from rta_service.web.problems import Refusal, problem

_PIECE_BYTES: Final = 1 << 20
"""Written in one go: a hop to a thread costs more than writing a network packet's worth."""

_NAME: Final = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$"

_ARCHIVE: Final = {
    "requestBody": {
        "required": True,
        "description": "an uncompressed tar of the bundle's plain files, by `rta models push` or"
        " `tar -c -C DIR model.txt manifest.json golden.json evaluation.parquet signature.json`",
        "content": {"application/x-tar": {"schema": {"type": "string", "format": "binary"}}},
    }
}


class Received(Protocol):
    """An upload on its way in."""

    @property
    def sha256(self) -> str:
        """The hash of what came so far."""

    def write(self, chunk: bytes) -> None:
        """Take the next bytes; raises InvalidInput beyond the limit."""


class Verdict(Protocol):
    """What became of an upload; a msgspec struct."""

    @property
    def accepted(self) -> bool:
        """Whether the version exists now."""

    @property
    def reason(self) -> str:
        """Why it was refused; of an accepted one, empty or `known`."""

    @property
    def ref(self) -> ModelRef | None:
        """The version that exists now."""

    @property
    def faults(self) -> tuple[Fault, ...]:
        """What the structural validator found."""


R = TypeVar("R", bound=Received)


class UploadDesk(Protocol[R]):
    """What the control port may do with uploads; may block."""

    @property
    def max_bytes(self) -> int:
        """The most bytes that an upload may have as it comes."""

    def receive(self) -> AbstractContextManager[R]:
        """Begin to take an upload; leaving the context deletes what was not accepted."""

    def accept(self, received: R, name: str, who: str, why: str) -> Verdict:
        """Judge what was received as a version of `name`; takes seconds."""


@dataclass(frozen=True, slots=True)
class UploadLimits:
    """How slowly uploads may come in, and how many at a time."""

    at_a_time: int = 2
    idle_s: float = 30.0
    """Longest silence."""
    total_s: float = 900.0
    """Longest upload."""


def upload_routes(gate: Gate, desk: UploadDesk[R], limits: UploadLimits) -> APIRouter:
    """Make the route that takes uploads."""
    router = gate.router("models")
    turns = Turns(limits.at_a_time)
    declared = changes(streams=True, max_body_bytes=desk.max_bytes)
    declared["openapi_extra"] |= _ARCHIVE

    @router.post("/v1/models/{name}/versions", status_code=201, **declared)
    async def upload(
        request: Request,
        name: Annotated[str, Path(pattern=_NAME)],
        who: Caller,
        why: Annotated[str, Query(max_length=1000)] = "",
    ) -> Response:
        """Take a bundle and judge it: 201 for a new version, 200 for a known one, 422 if refused."""
        check_length(request, desk.max_bytes)
        _check_form(request)
        with turns.one():
            async with _receiving(desk) as received:
                try:
                    await _take(request, received, limits)
                except InvalidInput as error:
                    raise too_large(desk.max_bytes) from error

                async def judge() -> Response:
                    verdict = await asyncio.to_thread(desk.accept, received, name, who.name, why)
                    return _answer(verdict, request.url.path)

                return await gate.once(request, received.sha256, judge)

    return router


class Turns:
    """Lets a few do something at a time and turns the others away."""

    def __init__(self, free: int) -> None:
        self._free = free

    @contextmanager
    def one(self) -> Iterator[None]:
        """Take a turn; raises Refusal 429 if there is none."""
        if not self._free:
            raise Refusal(429, "other uploads are on their way: try again soon", retry_s=10)
        self._free -= 1
        try:
            yield
        finally:
            self._free += 1


@asynccontextmanager
async def _receiving(desk: UploadDesk[R]) -> AsyncIterator[R]:
    """Open and close an upload in threads: making and deleting large files takes its time."""
    opened = await asyncio.to_thread(desk.receive)
    try:
        yield opened.__enter__()
    finally:
        await asyncio.to_thread(opened.__exit__, None, None, None)


async def _take(request: Request, received: Received, limits: UploadLimits) -> None:
    """Write all that comes; raises InvalidInput beyond the limit."""
    try:
        async with asyncio.timeout(limits.total_s):
            async for piece in _pieces(request, limits.idle_s):
                await asyncio.to_thread(received.write, piece)
    except TimeoutError as error:
        raise Refusal(
            408, f"no bytes for {limits.idle_s:g} s, or not done in {limits.total_s:g} s"
        ) from error
    except ClientDisconnect as error:
        raise Refusal(400, "the upload broke off; nothing of it is kept") from error


async def _pieces(request: Request, idle_s: float) -> AsyncIterator[bytes]:
    """Gather what the network brings into pieces worth a write."""
    waiting = bytearray()
    stream = request.stream()
    while True:
        async with asyncio.timeout(idle_s):
            chunk = await anext(stream, None)
        if chunk is None:
            break
        waiting += chunk
        if len(waiting) >= _PIECE_BYTES:
            yield bytes(waiting)
            waiting.clear()
    yield bytes(waiting)


def _check_form(request: Request) -> None:
    form = request.headers.get("content-type", "")
    if form.startswith("multipart/"):
        raise Refusal(415, "send the tar itself, not a form: curl --data-binary @bundle.tar")


def _answer(verdict: Verdict, path: str) -> Response:
    faults = [fault._asdict() for fault in verdict.faults]
    document = {**msgspec.to_builtins(verdict), "faults": faults}
    if not verdict.accepted or verdict.ref is None:
        more = {"verdict": document, "faults": faults}
        return problem(Refusal(422, verdict.reason, more), path)
    place = f"/v1/models/{verdict.ref.name}/versions/{verdict.ref.version}"
    status = 200 if verdict.reason == "known" else 201
    return JSONResponse({"verdict": document}, status, {"Location": place})
