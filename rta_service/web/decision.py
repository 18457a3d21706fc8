"""The decision app: the fast lane in front, probes and documentation behind it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse

from rta_service import __version__
from rta_service.platforms.base import Adapter


def decision_app(
    adapters: Mapping[str, Adapter],
    ready: Callable[[], str],
    background: Callable[[], Awaitable[None]],
) -> FastAPI:
    """Build the part of the decision port that FastAPI answers.

    `ready` gives the reason why this worker can't decide, empty when it can. `background` runs
    from start to stop beside the requests.
    """

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
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

    @app.api_route("/rta/{platform}", methods=["GET", "POST", "PUT", "DELETE", "PATCH"])
    async def not_a_platform(platform: str, request: Request) -> Response:
        if platform in adapters:
            error = f"send POST, not {request.method}"
            return JSONResponse({"error": error, "field": "method"}, status_code=405)
        known = ", ".join(sorted(adapters))
        error = f"no platform {platform!r}; known: {known}"
        return JSONResponse({"error": error, "field": "platform"}, status_code=404)

    return app
