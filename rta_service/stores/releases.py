"""The one pointer that says what decides, its history, and going back.

A release is written once and never changed; publishing is one script that moves the pointer only
from the release the publisher started from, so that of two publishers one is told.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, Final

import msgspec

from rta_service.domain.errors import InvalidInput
from rta_service.domain.release import Release, SnapshotManifest, Staged
from rta_service.stores.keys import checked, manifest_name, release_name
from rta_service.stores.redis import AdminClient, AsyncClient, store_errors

HISTORY: Final = 1_000
"""Release ids kept in the history, newest first."""

_PUBLISH: Final = """
if (redis.call('GET', KEYS[1]) or '') ~= ARGV[1] then
  return 'moved'
end
if redis.call('EXISTS', KEYS[2]) == 1 then
  return 'exists'
end
redis.call('SET', KEYS[2], ARGV[3])
redis.call('SET', KEYS[1], ARGV[2])
redis.call('LPUSH', KEYS[3], ARGV[2])
redis.call('LTRIM', KEYS[3], 0, ARGV[5])
redis.call('PUBLISH', ARGV[4], ARGV[2])
return 'published'
"""


def new_release_id(now_ms: int) -> str:
    """Name a release by its instant, so that ids sort by time: r20261012T083000123."""
    instant = datetime.fromtimestamp(now_ms // 1000, UTC)
    return f"r{instant:%Y%m%dT%H%M%S}{now_ms % 1000:03d}"


def strategies_id(text: str) -> str:
    """Name a strategies text by its content."""
    return sha256(text.encode()).hexdigest()[:12]


class ReleaseStore:
    """Publishes and finds releases; for commands and the control app, so it blocks."""

    def __init__(self, client: AdminClient, namespace: str) -> None:
        self._client = client
        self._namespace = namespace

    def current(self) -> Release | None:
        """Give the release that decides now, or None before the first."""
        with store_errors("reading the current release"):
            release_id = self._client.get(self._key("current"))
        return None if release_id is None else self.get(_text(release_id))

    def get(self, release_id: str) -> Release | None:
        """Give a release by its id, or None; raises InvalidInput for one it can't read."""
        if not release_id:
            return None
        key = self._key(f"release:{checked(release_id, 'release id')}")
        with store_errors("reading a release"):
            text = self._client.get(key)
        return _release(text, key)

    def publish(self, release: Release) -> None:
        """Let a release decide, if `previous_id` still decides now ("" before the first).

        Raises InvalidInput when someone else published meanwhile, the id was used before, or its
        snapshot or strategies are not in the store.
        """
        self._require_parts(release)
        names = [self._key(part) for part in ("current", f"release:{release.release_id}")]
        with store_errors("publishing a release"):
            outcome = self._client.eval(
                _PUBLISH,
                3,
                *names,
                self._key("history"),
                release.previous_id,
                checked(release.release_id, "release id"),
                msgspec.json.encode(release),
                self._key("changed"),
                HISTORY - 1,
            )
        self._raise_for(_text(outcome), release)

    def _require_parts(self, release: Release) -> None:
        with store_errors("looking a release's parts up"):
            loaded = self._client.exists(manifest_name(self._namespace, release.snapshot_id))
            known = self._client.exists(self._key(f"strategies:{release.strategies_id}"))
        if not loaded:
            raise InvalidInput(
                "is not loaded, or has expired; load it with `rta profiles publish DIR`",
                f"snapshot {release.snapshot_id}",
            )
        if not known:
            raise InvalidInput(
                "are not in the store; put them there with `rta strategies publish FILE`",
                f"strategies {release.strategies_id}",
            )

    def _raise_for(self, outcome: str, release: Release) -> None:
        if outcome == "exists":
            raise InvalidInput("was published before; ids are never reused", release.release_id)
        if outcome == "moved":
            now = self.current()
            raise InvalidInput(
                f"was made after {release.previous_id or 'no release'}, but "
                f"{now.release_id if now else 'no release'} decides now; look at it, then "
                "publish again",
                release.release_id,
            )

    def rollback(self, now_ms: int) -> Release:
        """Publish anew what decided before the current release, and give the new release.

        That is the content of the current one's `previous_id`; so rolling back twice returns to
        where one began. Raises InvalidInput when there is nothing to go back to or its snapshot
        has expired.
        """
        current = self.current()
        before = self.get(current.previous_id) if current else None
        if current is None or before is None:
            raise InvalidInput("there is no earlier release to go back to", "rollback")
        release = msgspec.structs.replace(
            before,
            release_id=new_release_id(now_ms),
            previous_id=current.release_id,
            created_at_ms=now_ms,
            note=f"rollback from {current.release_id} to the content of {before.release_id}",
        )
        self.publish(release)
        return release

    def history(self, count: int) -> list[Release]:
        """Give the last `count` releases, newest first."""
        with store_errors("reading the release history"):
            found: Any = self._client.lrange(self._key("history"), 0, count - 1)
        releases = (self.get(_text(release_id)) for release_id in found)
        return [release for release in releases if release is not None]

    def put_strategies(self, text: str) -> str:
        """Keep a strategies text for ever and give the id of its content."""
        name = strategies_id(text)
        with store_errors("writing strategies"):
            self._client.set(self._key(f"strategies:{name}"), text)
        return name

    def get_strategies(self, name: str) -> str | None:
        """Give a strategies text by its id, or None."""
        with store_errors("reading strategies"):
            text = self._client.get(self._key(f"strategies:{checked(name, 'strategies id')}"))
        return None if text is None else _text(text)

    def stage(self, parts: Staged) -> None:
        """Keep parts until there are enough for a first release."""
        with store_errors("keeping parts of a first release"):
            self._client.set(self._key("staged"), msgspec.json.encode(parts))

    def staged(self) -> Staged:
        """Give the parts kept so far."""
        key = self._key("staged")
        with store_errors("reading parts of a first release"):
            text = self._client.get(key)
        with _readable(key):
            return Staged() if text is None else msgspec.json.decode(text, type=Staged)

    def _key(self, part: str) -> str:
        return release_name(self._namespace, part)


class AsyncReleaseReader:
    """Follows the current release; for workers, which ask `current_id` every second."""

    def __init__(self, client: AsyncClient, namespace: str) -> None:
        self._client = client
        self._namespace = namespace

    async def current_id(self) -> str | None:
        """Give the current release's id: one GET of a few bytes."""
        found = await self._get(release_name(self._namespace, "current"))
        return None if found is None else _text(found)

    async def current(self) -> Release | None:
        """Give the current release, or None before the first."""
        release_id = await self.current_id()
        if release_id is None:
            return None
        key = release_name(self._namespace, f"release:{release_id}")
        return _release(await self._get(key), key)

    async def manifest(self, snapshot_id: str) -> SnapshotManifest | None:
        """Give the manifest of a loaded snapshot, or None when it expired."""
        text = await self._get(manifest_name(self._namespace, snapshot_id))
        return None if text is None else msgspec.json.decode(text, type=SnapshotManifest)

    async def strategies(self, name: str) -> str | None:
        """Give a strategies text by its id, or None."""
        text = await self._get(release_name(self._namespace, f"strategies:{name}"))
        return None if text is None else _text(text)

    async def _get(self, key: str | bytes) -> bytes | str | None:
        with store_errors("following the release"):
            return await self._client.get(key)


def _release(text: bytes | str | None, key: str) -> Release | None:
    if text is None:
        return None
    with _readable(key):
        return msgspec.json.decode(text, type=Release)


@contextmanager
def _readable(key: str) -> Iterator[None]:
    try:
        yield
    except msgspec.MsgspecError as error:
        raise InvalidInput(f"not a release this version reads: {error}", key) from error


def _text(found: bytes | str) -> str:
    return found.decode() if isinstance(found, bytes) else found
