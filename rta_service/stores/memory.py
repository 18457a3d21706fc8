"""Whether a snapshot fits into a store that has a memory limit."""

import logging
from typing import Any, Final

import redis

from rta_service.domain.errors import InvalidInput
from rta_service.stores.redis import AdminClient

BYTES_PER_DEVICE: Final = 90
"""Of the store, for an 8-byte key and a 64-byte record in buckets of 32 to 64 (measured: 81
with Valkey 9.1 and 37 records a bucket; smaller buckets cost more)."""

_log = logging.getLogger(__name__)


def check_memory(client: AdminClient, devices: int, spare: float) -> None:
    """Raise InvalidInput when a limited store lacks room for `devices` records times `spare`."""
    servers = _memory(client)
    needed = int(devices * BYTES_PER_DEVICE * spare) // len(servers)
    for server in servers:
        limit = int(server.get("maxmemory", 0))
        if not limit:
            continue
        free = limit - int(server["used_memory"])
        if free < needed:
            raise InvalidInput(
                f"the store has {free >> 20} MiB free and the snapshot needs {needed >> 20} MiB; "
                "raise maxmemory, or wait until an old snapshot expires"
            )
        if server.get("maxmemory_policy") != "noeviction":
            _log.warning(
                "the store evicts keys (%s): a snapshot may lose buckets; set noeviction",
                server.get("maxmemory_policy"),
            )


def _memory(client: AdminClient) -> list[dict[str, Any]]:
    if isinstance(client, redis.Redis):
        return [client.info("memory")]
    nodes: Any = client  # its get_primaries carries no annotation
    return [client.info("memory", target_nodes=node) for node in nodes.get_primaries()]
