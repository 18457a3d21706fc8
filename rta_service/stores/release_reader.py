"""A worker's side of releases: follows the two pointers, answers proposals, shows itself."""

import re
from typing import Any, Final

from rta_service.stores.keys import checked, release_name
from rta_service.stores.proposals import FORGET_MS, NOW, PROPOSAL_TTL_MS
from rta_service.stores.redis import AsyncClient, store_errors

_ACKNOWLEDGE: Final = """
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
"""

_SHOW: Final = (
    NOW
    + """
local shown = {release_id = ARGV[2], pid = tonumber(ARGV[3]), seen_ms = now_ms}
redis.call('HSET', KEYS[1], ARGV[1], cjson.encode(shown))
redis.call('PEXPIRE', KEYS[1], ARGV[4])
"""
)


class AsyncReleaseReader:
    """Follows releases for one worker, beside the request's way.

    Without a worker's name it only follows: nobody waits for it.
    """

    def __init__(self, client: AsyncClient, namespace: str, worker: str = "") -> None:
        self._client = client
        self._namespace = namespace
        self._worker = worker
        self._keys = [release_name(namespace, part) for part in ("current", "proposed")]

    async def pointers(self) -> tuple[str, str]:
        """Give what should decide now and what may come next, "" for none: one small MGET."""
        with store_errors("following the release"):
            found: Any = await self._client.mget(self._keys)
        current, proposed = ("" if name is None else _text(name) for name in found)
        return current, proposed

    async def acknowledge(self, release_id: str, reason: str) -> None:
        """Say that this worker could decide by a proposal at once, or why it refuses to."""
        key = release_name(self._namespace, f"prepared:{checked(release_id, 'release id')}")
        if self._worker:
            await self._eval(_ACKNOWLEDGE, key, self._worker, reason, PROPOSAL_TTL_MS)

    async def show(self, release_id: str, pid: int) -> None:
        """Say that this worker is there and what it decides by."""
        key = release_name(self._namespace, "workers")
        if self._worker:
            await self._eval(_SHOW, key, self._worker, release_id, pid, FORGET_MS)

    async def _eval(self, script: str, key: str, *values: str | int) -> None:
        with store_errors("talking to whoever activates releases"):
            done: Any = self._client.eval(script, 1, key, *[str(value) for value in values])
            await done


def worker_name(process: str, host: str, pid: int) -> str:
    """Name a worker among all hosts; one started anew has another name, since it is not ready."""
    return f"{process}@{re.sub(r'[^A-Za-z0-9_.-]', '_', host)}:{pid}"


def _text(found: bytes | str) -> str:
    return found.decode() if isinstance(found, bytes) else found
