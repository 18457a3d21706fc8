"""What was done, as a list that only grows and whose every entry vouches for those before it.

An element is `<link> <entry as JSON>`, the oldest first. The link is the SHA-1 of the link before
and the entry, so that an entry that was changed, moved or taken out no longer fits what follows.
The chain has no key: it shows mistakes and meddling with single entries, and who rewrites the whole
list from one entry on must be caught by a copy kept elsewhere.
"""

from collections.abc import Iterator
from hashlib import sha1
from typing import Any, Final

import msgspec

from rta_service.domain.audit import AuditEntry
from rta_service.domain.errors import InvalidInput
from rta_service.stores.keys import release_name
from rta_service.stores.redis import AdminClient, store_errors

NOTE: Final = """
local function note(list, entry)
  local last = redis.call('LINDEX', list, -1)
  local before = last and string.sub(last, 1, 40) or ''
  redis.call('RPUSH', list, redis.sha1hex(before .. entry) .. ' ' .. entry)
end
"""
"""Lua that appends an entry; every script that moves the pointer begins with it."""

_ALONE: Final = NOTE + "note(KEYS[1], ARGV[1])"
_CHUNK: Final = 1_000


class AuditLog:
    """The log of one namespace."""

    def __init__(self, client: AdminClient, namespace: str) -> None:
        self._client = client
        self.key = release_name(namespace, "audit")

    def note(self, entry: AuditEntry) -> None:
        """Append a deed that moves no pointer."""
        with store_errors("writing the audit log"):
            self._client.eval(_ALONE, 1, self.key, msgspec.json.encode(entry))

    def last(self, count: int) -> list[AuditEntry]:
        """Give the last `count` entries, newest first; raises InvalidInput for a broken one."""
        if count <= 0:
            return []
        return [_entry(line, self.key) for line in reversed(self._lines(-count, -1))]

    def broken_link(self, must_name: str = "") -> int | None:
        """Give the position of the first entry that does not fit the ones before it, from 1.

        None means that all fit. A log that does not name the release `must_name` has lost its end:
        the position is then the one after its last entry.
        """
        before = b""
        named = not must_name
        position = 0
        for position, line in enumerate(self._all(), start=1):
            link, _, text = line.partition(b" ")
            if link != sha1(before + text, usedforsecurity=False).hexdigest().encode():
                return position
            named = named or _entry(line, self.key).release_id == must_name
            before = link
        return None if named else position + 1

    def _all(self) -> Iterator[bytes]:
        start = 0
        while lines := self._lines(start, start + _CHUNK - 1):
            yield from lines
            start += len(lines)

    def _lines(self, first: int, last: int) -> list[bytes]:
        with store_errors("reading the audit log"):
            found: Any = self._client.lrange(self.key, first, last)
        return list(found)


def _entry(line: bytes, key: str) -> AuditEntry:
    try:
        return msgspec.json.decode(line.partition(b" ")[2], type=AuditEntry)
    except msgspec.MsgspecError as error:
        raise InvalidInput(f"not an audit entry this version reads: {error}", key) from error
