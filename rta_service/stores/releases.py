"""The one pointer that says what decides, its history, and going back.

A release is written once and never changed; publishing is one script that moves the pointer only
from the release the publisher started from, so that of two publishers one is told. The same script
appends the audit entry: there is no change without its entry, and no entry without its change.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, Final

import msgspec

from rta_service.domain.audit import AuditEntry
from rta_service.domain.errors import InvalidInput, OutOfDate
from rta_service.domain.release import SCHEMA, Release, Staged
from rta_service.domain.rollout import return_to
from rta_service.stores.audit_log import NOTE, AuditLog
from rta_service.stores.keys import checked, manifest_name, release_name
from rta_service.stores.proposals import PRESENT_MS, PROPOSAL_TTL_MS, Presence, Proposals
from rta_service.stores.redis import AdminClient, store_errors

HISTORY: Final = 1_000
"""Release ids kept in the history, newest first."""
_AUDITED: Final = 2
"""The first schema of releases whose publication writes an audit entry."""

_PUBLISH: Final = (
    NOTE
    + """
local current = redis.call('GET', KEYS[1]) or ''
if current == ARGV[2] and redis.call('GET', KEYS[2]) == ARGV[3] then
  return 'published'  -- the answer to our first call was lost, and the client asked again
end
if current ~= ARGV[1] then
  return 'moved'
end
local proposal = redis.call('GET', KEYS[6])
if redis.call('EXISTS', KEYS[2]) == 1 or (proposal and proposal ~= ARGV[3]) then
  return 'exists'
end
redis.call('SET', KEYS[2], ARGV[3])
redis.call('SET', KEYS[1], ARGV[2])
redis.call('LPUSH', KEYS[3], ARGV[2])
redis.call('LTRIM', KEYS[3], 0, ARGV[5])
note(KEYS[4], ARGV[6])
if redis.call('GET', KEYS[5]) == ARGV[2] then
  redis.call('DEL', KEYS[5])
end
redis.call('DEL', KEYS[6])
redis.call('PUBLISH', ARGV[4], ARGV[2])
return 'published'
"""
)


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
        self._log = AuditLog(client, namespace)
        self._proposals = Proposals(client, namespace)

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

    def find(self, release_id: str) -> Release | None:
        """Give a release that was published or is proposed, or None."""
        found = self.get(release_id)
        return found or _release(self._proposals.body(release_id), f"proposal {release_id}")

    def publish(self, release: Release, entry: AuditEntry) -> None:
        """Let a release decide, if `previous_id` still decides now ("" before the first).

        The entry is written with it, naming both releases. Raises InvalidInput when someone else
        published meanwhile, the id was used before, or its snapshot or strategies are not in the
        store.
        """
        self._require_parts(release)
        name = checked(release.release_id, "release id")
        parts = ("current", f"release:{name}", "history", "audit", "proposed", f"proposal:{name}")
        deed = msgspec.structs.replace(entry, release_id=name, previous_id=release.previous_id)
        with store_errors("publishing a release"):
            outcome = self._client.eval(
                _PUBLISH,
                len(parts),
                *map(self._key, parts),
                release.previous_id,
                name,
                msgspec.json.encode(release),
                self._key("changed"),
                HISTORY - 1,
                msgspec.json.encode(deed),
            )
        self._raise_for(_text(outcome), release)

    def propose(self, release: Release, ttl_ms: int = PROPOSAL_TTL_MS) -> None:
        """Let every worker make a release ready; raises InvalidInput as `publish` does."""
        self._require_parts(release)
        self._proposals.propose(release, ttl_ms)

    def withdraw(self, release_id: str) -> None:
        """Take a proposal back."""
        self._proposals.withdraw(release_id)

    def prepared(self, release_id: str) -> dict[str, str]:
        """Give the workers that answered a proposal: "" for ready, else why they refuse."""
        return self._proposals.prepared(release_id)

    def workers(self, *, within_ms: int = PRESENT_MS) -> dict[str, Presence]:
        """Give the decision workers that showed themselves within a time."""
        return self._proposals.workers(within_ms=within_ms)

    def note(self, entry: AuditEntry) -> None:
        """Write down a deed that moves no pointer: an upload, an approval."""
        self._log.note(entry)

    def audit(self, count: int) -> list[AuditEntry]:
        """Give the last `count` entries of the audit log, newest first."""
        return self._log.last(count)

    def verify_audit(self) -> int | None:
        """Give the position of the first entry that was tampered with, from 1; None for none.

        The release that decides now must have its entry, unless it is older than the log.
        """
        current = self.current()
        expected = current is not None and current.schema >= _AUDITED
        return self._log.broken_link(current.release_id if current and expected else "")

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

    def rollback(self, entry: AuditEntry, decided_on: str = "") -> Release:
        """Publish anew what decided before the current release, and give the new release.

        That is the content of the current one's `previous_id`, without a canary that has ended
        since; so rolling back twice returns to where one began. Raises InvalidInput when there is
        nothing to go back to or its snapshot has expired, OutOfDate when this was decided on
        another release than the current one.
        """
        current = self.current()
        if decided_on and current is not None and current.release_id != decided_on:
            raise OutOfDate(
                f"was decided on {decided_on}, but {current.release_id} decides now", "rollback"
            )
        before = self.get(current.previous_id) if current else None
        if current is None or before is None:
            raise InvalidInput("there is no earlier release to go back to", "rollback")
        release = msgspec.structs.replace(
            return_to(current, before),
            release_id=new_release_id(entry.at_ms),
            previous_id=current.release_id,
            created_at_ms=entry.at_ms,
            note=f"rollback from {current.release_id} to the content of {before.release_id}",
            schema=SCHEMA,
        )
        self.publish(release, entry)
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


class _Written(msgspec.Struct, frozen=True):
    """The one field of a release that every version of the service can read."""

    schema: int = 1


def _release(text: bytes | str | None, key: str) -> Release | None:
    if text is None:
        return None
    with _readable(key):
        written = msgspec.json.decode(text, type=_Written).schema
    if written > SCHEMA:
        raise InvalidInput(
            f"written by a newer version of the service (schema {written}, this one reads up to "
            f"{SCHEMA}): upgrade this one, or roll back with the newer one",
            key,
        )
    with _readable(key):
        return msgspec.structs.replace(msgspec.json.decode(text, type=Release), schema=written)


@contextmanager
def _readable(key: str) -> Iterator[None]:
    try:
        yield
    except msgspec.MsgspecError as error:
        raise InvalidInput(f"not a release this version reads: {error}", key) from error


def _text(found: bytes | str) -> str:
    return found.decode() if isinstance(found, bytes) else found
