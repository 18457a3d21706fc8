"""The decision app: the fast lane in front, probes and documentation behind it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from rta_service import __version__
from rta_service.platforms.base import Adapter


def decision_app(
    adapters: Mapping[str, Adapter],
    ready: Callable[[], str],
    background: Callable[[], Awaitable[None]],
    prepare: Callable[[], Awaitable[None]] | None = None,
) -> FastAPI:
    """Build the part of the decision port that FastAPI answers.

    `ready` gives the reason why this worker can't decide, empty when it can. `background` runs
    from start to stop beside the requests. `prepare` is awaited before the first request is
    taken: a worker that answers before it has a release tells platforms a no that they may keep
    for hours.
    """

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        if prepare is not None:
            await prepare()
        task = asyncio.ensure_future(background())
        yield
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    app = FastAPI(
        title="rta-service decisions",
        version=__version__,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,  # platforms follow no redirects
        # tracing costs more than the decision; it belongs on the control port
        telemetry={"tracing": False},
    )

    @app.get("/livez")
    async def livez() -> dict[str, str]:
        return {"status": "alive"}

    @app.get("/readyz")
    async def readyz() -> JSONResponse:
        reason = ready()
        status = {"status": reason or "ready"}
        return JSONResponse(status, status_code=503 if reason else 200)

    @app.api_route("/rta/{platform}", methods=["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH"])
    async def not_a_platform(platform: str, request: Request) -> Response:
        if platform in adapters:
            return _refused(405, f"send POST, not {request.method}", "method")
        known = ", ".join(sorted(adapters))
        return _refused(404, f"no platform {platform!r}; known: {known}", "platform")

    @app.exception_handler(HTTPException)
    async def no_such_way(_request: Request, error: HTTPException) -> Response:
        return _refused(error.status_code, str(error.detail), "path")

    return app


def _refused(status: int, error: str, field: str) -> JSONResponse:
    return JSONResponse({"error": error, "field": field}, status_code=status)
