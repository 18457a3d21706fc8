"""Answers to changes, kept for a day by the key their sender chose, so that a retry changes nothing.

A change first claims its key, then works, then leaves its answer under it. A claim whose process
died expires by itself.
"""

from typing import Final

import msgspec

from rta_service.stores.keys import release_name
from rta_service.stores.redis import AdminClient, store_errors

KEPT_S: Final = 24 * 3_600
CLAIM_S: Final = 180
"""Longer than any change takes."""

# the reply of a retried SET may be lost: a claim of our own counts as taken
_CLAIM: Final = """
local found = redis.call('GET', KEYS[1])
if found and found ~= ARGV[1] then
  return found
end
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
return false
"""

_REPLACE: Final = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
if ARGV[2] == '' then
  return redis.call('DEL', KEYS[1])
end
redis.call('SET', KEYS[1], ARGV[2], 'EX', ARGV[3])
return 1
"""


class Kept(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What stands under a key: a claim, and once it is done, its answer."""

    fingerprint: str
    """Of the whole request: another one under the same key is a mistake."""
    claim: str
    """Unique to one attempt."""
    answer: bytes | None = None
    """None while the work is going on."""


class IdempotencyStore:
    """Claims keys and keeps answers; blocks."""

    def __init__(self, client: AdminClient, namespace: str) -> None:
        self._client = client
        self._namespace = namespace

    def begin(self, name: str, mine: Kept) -> Kept | None:
        """Claim a key; gives what stands there already, None when the claim is ours."""
        claimed = msgspec.json.encode(mine)
        with store_errors("claiming an idempotency key"):
            found: bytes | str | None = self._client.eval(
                _CLAIM, 1, self._key(name), claimed, CLAIM_S
            )
        return None if found is None else msgspec.json.decode(found, type=Kept)

    def keep(self, name: str, mine: Kept, answer: bytes) -> None:
        """Keep the answer of the work that claimed the key, unless the claim expired."""
        done = msgspec.structs.replace(mine, answer=answer)
        self._replace(name, mine, msgspec.json.encode(done))

    def release(self, name: str, mine: Kept) -> None:
        """Give the key back: nothing was done under it."""
        self._replace(name, mine, b"")

    def _replace(self, name: str, mine: Kept, value: bytes) -> None:
        claimed = msgspec.json.encode(mine)
        with store_errors("keeping an answer"):
            self._client.eval(_REPLACE, 1, self._key(name), claimed, value, KEPT_S)

    def _key(self, name: str) -> str:
        return release_name(self._namespace, f"idem:{name}")
