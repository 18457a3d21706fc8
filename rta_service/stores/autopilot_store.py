"""Whether the autopilot is on, what it last thought, and which of all hosts runs it.

{<ns>}:r1:autopilot               who switched it on or off, as JSON; without it a setting decides
{<ns>}:r1:autopilot:last          its last judgement, as JSON
{<ns>}:r1:autopilot:lease         the place that runs it; expires
{<ns>}:r1:autopilot:fence         how often the lease changed hands
"""

from typing import Any, Final

from rta_service.stores.keys import release_name
from rta_service.stores.lease_scripts import GIVE_BACK, TAKE_FENCED
from rta_service.stores.redis import AdminClient, store_errors

LEASE_MS: Final = 90_000
"""Three turns of 30 s: a host that died is followed by another after that."""


_KEEP: Final = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] or (redis.call('GET', KEYS[2]) or '0') ~= ARGV[2] then
  return 0
end
redis.call('SET', KEYS[3], ARGV[3])
return 1
"""


class AutopilotStore:
    """Reads and writes the autopilot's state; values are the caller's. Blocks."""

    def __init__(self, client: AdminClient, namespace: str) -> None:
        self._client = client
        self._key = release_name(namespace, "autopilot")

    def switched(self) -> bytes | None:
        """Give who switched it last, or None when nobody ever did."""
        return self._get(self._key)

    def switch(self, value: bytes) -> None:
        """Keep who switched it."""
        with store_errors("switching the autopilot"):
            self._client.set(self._key, value)

    def last(self) -> bytes | None:
        """Give the last judgement."""
        return self._get(f"{self._key}:last")

    def take_lease(self, place: str, life_ms: int = LEASE_MS) -> int:
        """Run it here for a while, if no other place does: a number that grows, or 0."""
        keys = (f"{self._key}:lease", f"{self._key}:fence")
        with store_errors("taking the autopilot's lease"):
            return int(self._client.eval(TAKE_FENCED, 2, *keys, place, life_ms))

    def keep_last(self, place: str, fence: int, value: bytes) -> bool:
        """Keep a judgement; False if the lease is another's by now."""
        keys = (f"{self._key}:lease", f"{self._key}:fence", f"{self._key}:last")
        with store_errors("keeping the autopilot's judgement"):
            return bool(self._client.eval(_KEEP, 3, *keys, place, fence, value))

    def give_back(self, place: str) -> None:
        """Let another place run it at once."""
        with store_errors("giving the autopilot's lease back"):
            self._client.eval(GIVE_BACK, 1, f"{self._key}:lease", place)

    def _get(self, key: str) -> bytes | None:
        with store_errors("reading the autopilot's state"):
            found: Any = self._client.get(key)
        return found.encode() if isinstance(found, str) else found
