"""The listening socket that all decision workers share."""

import errno
import socket
from typing import Final

from rta_service.domain.errors import StartupError

BACKLOG: Final = 2048
"""Connections that may wait to be accepted; the kernel caps it at net.core.somaxconn."""


def bind_listener(host: str, port: int) -> socket.socket:
    """Listen on an address; port 0 takes any free one. Raises StartupError saying what to do.

    It is bound in the parent and its descriptor handed to every worker, so there is one accept
    queue: a dying worker loses only its own requests in flight, none that wait.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise StartupError(f"can't listen on {host} port {port}: {_advice(error)}") from error


def _advice(error: OSError) -> str:
    match error.errno:
        case errno.EADDRINUSE:
            return "the port is in use; stop what listens there, or choose another port"
        case errno.EACCES:
            return "not permitted; ports below 1024 need privileges, choose a higher one"
        case errno.EADDRNOTAVAIL:
            return "this machine has no such address; 0.0.0.0 means all of its addresses"
        case _:
            return str(error)
