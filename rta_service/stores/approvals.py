"""Wishes that wait for a second person; each goes by itself after a day."""

from typing import Any, Final

import msgspec

from rta_service.domain.command import Pending
from rta_service.domain.errors import UnknownName
from rta_service.stores.keys import is_plain, release_name
from rta_service.stores.redis import AdminClient, store_errors

KEPT_MS: Final = 24 * 3_600_000


class Approvals:
    """Keeps and finds what waits; blocks."""

    def __init__(self, client: AdminClient, namespace: str) -> None:
        self._client = client
        self._namespace = namespace

    def put(self, wish: Pending) -> Pending:
        """Let a wish wait; gives the earlier one if the same wish waits already."""
        key = self._key(wish.pending_id)
        left_ms = wish.expires_at_ms - wish.asked_at_ms
        with store_errors("keeping a wish for a second person"):
            self._client.set(key, msgspec.json.encode(wish), nx=True, px=left_ms)
            # second, or `all` might take it for expired
            self._client.sadd(self._index, wish.pending_id)
        return self.get(wish.pending_id)

    def get(self, pending_id: str) -> Pending:
        """Give a wish that waits; raises UnknownName when none does."""
        found = self._find(pending_id) if is_plain(pending_id) else None
        if found is None:
            raise UnknownName("waits for nobody: done, withdrawn, or older than a day", pending_id)
        return found

    def all(self) -> list[Pending]:
        """Give what waits, the oldest first."""
        with store_errors("looking up what waits for a second person"):
            ids: Any = self._client.smembers(self._index)
        names = [one.decode() if isinstance(one, bytes) else str(one) for one in ids]
        found = {name: self._find(name) for name in names}
        for name in (name for name, wish in found.items() if wish is None):
            self.drop(name)
        waiting = [wish for wish in found.values() if wish is not None]
        return sorted(waiting, key=lambda wish: (wish.asked_at_ms, wish.pending_id))

    def drop(self, pending_id: str) -> None:
        """Let a wish wait no longer."""
        with store_errors("removing a wish"):
            self._client.delete(self._key(pending_id))
            self._client.srem(self._index, pending_id)

    def _find(self, pending_id: str) -> Pending | None:
        with store_errors("looking up a wish"):
            text = self._client.get(self._key(pending_id))
        return None if text is None else msgspec.json.decode(text, type=Pending)

    @property
    def _index(self) -> str:
        return release_name(self._namespace, "pending")

    def _key(self, pending_id: str) -> str:
        return release_name(self._namespace, f"pending:{pending_id}")
