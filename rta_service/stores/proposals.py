"""The first phase of a release: proposed, made ready by every worker, then committed or withdrawn.

A proposal and all that belongs to it expire by themselves, so one whose author died is forgotten.
Workers are those that showed themselves lately by the store's own clock: the hosts' clocks may
differ.
"""

from typing import Any, Final

import msgspec

from rta_service.domain.errors import InvalidInput
from rta_service.domain.release import Release
from rta_service.stores.keys import checked, release_name
from rta_service.stores.redis import AdminClient, store_errors

PROPOSAL_TTL_MS: Final = 60_000
"""Longer than anybody waits for workers."""
PRESENT_MS: Final = 3_000
"""A worker shows itself every second; one not seen for this long is not waited for."""
FORGET_MS: Final = 3_600_000
"""When a worker that went away leaves the table."""

_PROPOSE: Final = """
if redis.call('EXISTS', KEYS[3]) == 1 then
  return 'exists'
end
local pending = redis.call('GET', KEYS[1])
if pending and pending ~= ARGV[1] then
  return 'pending ' .. pending
end
redis.call('SET', KEYS[2], ARGV[2], 'PX', ARGV[3])
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[3])
return 'proposed'
"""

_WITHDRAW: Final = """
if redis.call('GET', KEYS[1]) == ARGV[1] then
  redis.call('DEL', KEYS[1])
end
redis.call('DEL', KEYS[2], KEYS[3])
"""

NOW: Final = """
local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
"""
"""Lua that knows the store's time."""

_WORKERS: Final = NOW + "return {now_ms, redis.call('HGETALL', KEYS[1])}"


class Presence(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a decision worker showed of itself last."""

    release_id: str
    """What it decides by; empty for nothing."""
    pid: int
    seen_ms: int
    """When, by the store's clock."""


class Proposals:
    """Proposes releases and watches workers make them ready; blocks."""

    def __init__(self, client: AdminClient, namespace: str) -> None:
        self._client = client
        self._namespace = namespace

    def propose(self, release: Release, ttl_ms: int = PROPOSAL_TTL_MS) -> None:
        """Let every worker make a release ready beside the live one.

        Raises InvalidInput while another proposal is under way, or for an id that was published.
        """
        names = [self._key("proposed"), *self._names(release.release_id)]
        with store_errors("proposing a release"):
            outcome = self._client.eval(
                _PROPOSE,
                3,
                names[0],
                names[1],
                self._key(f"release:{release.release_id}"),
                release.release_id,
                msgspec.json.encode(release),
                ttl_ms,
            )
        said = _text(outcome)
        if said == "exists":
            raise InvalidInput("was published before; ids are never reused", release.release_id)
        if said != "proposed":
            pending = said.removeprefix("pending ")
            raise InvalidInput(
                f"release {pending} is being made ready; try again when it decides or was "
                "withdrawn, at most a minute from now",
                release.release_id,
            )

    def withdraw(self, release_id: str) -> None:
        """Take a proposal back; workers forget what they made ready for it."""
        with store_errors("withdrawing a proposal"):
            names = self._names(release_id)
            self._client.eval(_WITHDRAW, 3, self._key("proposed"), *names, release_id)

    def body(self, release_id: str) -> bytes | None:
        """Give the release proposed under an id, as JSON, or None."""
        with store_errors("reading a proposal"):
            found: Any = self._client.get(self._names(release_id)[0])
        return None if found is None else bytes(found)

    def prepared(self, release_id: str) -> dict[str, str]:
        """Give the workers that answered a proposal: "" for ready, else why they refuse."""
        with store_errors("looking who is ready"):
            found: Any = self._client.hgetall(self._names(release_id)[1])
        return {_text(worker): _text(reason) for worker, reason in found.items()}

    def workers(self, *, within_ms: int = PRESENT_MS) -> dict[str, Presence]:
        """Give the decision workers that showed themselves within a time; forgets old ones."""
        key = self._key("workers")
        with store_errors("looking which workers are there"):
            reply: Any = self._client.eval(_WORKERS, 1, key)
        now_ms, flat = reply
        names = [_text(name) for name in flat[::2]]
        shown = [msgspec.json.decode(line, type=Presence) for line in flat[1::2]]
        table = dict(zip(names, shown, strict=True))
        gone = [name for name, seen in table.items() if now_ms - seen.seen_ms > FORGET_MS]
        if gone:
            with store_errors("forgetting workers"):
                self._client.hdel(key, *gone)
        return {name: seen for name, seen in table.items() if now_ms - seen.seen_ms <= within_ms}

    def _names(self, release_id: str) -> list[str]:
        name = checked(release_id, "release id")
        return [self._key(f"proposal:{name}"), self._key(f"prepared:{name}")]

    def _key(self, part: str) -> str:
        return release_name(self._namespace, part)


def _text(found: bytes | str) -> str:
    return found.decode() if isinstance(found, bytes) else found
