"""Running an application under uvicorn on a socket that the supervisor bound."""

import gc
import socket
from collections.abc import Callable
from typing import Any, Final

import uvicorn

from rta_service.web.lane import Lane
from rta_service.web.protocol import lane_protocol

_KEEP_ALIVE_S: Final = 75
"""Longer than the idle time of usual load balancers, so that they close first."""


class _Server(uvicorn.Server):
    """uvicorn's server that says when it listens."""

    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start listening; then let the garbage collector forget what will live for ever."""
        await super().startup(sockets)
        gc.collect()
        gc.freeze()
        self._on_ready()


def serve(app: Any, listener: socket.socket, on_ready: Callable[[], None], drain_s: float) -> None:
    """Serve until SIGTERM, then finish what is in flight within `drain_s`."""
    config = uvicorn.Config(
        app,
        http=lane_protocol(app) if isinstance(app, Lane) else "httptools",
        loop="uvloop",
        lifespan="on",
        access_log=False,
        proxy_headers=False,  # whom a platform calls for changes no answer
        log_level="warning",
        server_header=False,
        date_header=False,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=max(1, round(drain_s)),
    )
    _Server(config, on_ready).run(sockets=[listener])
