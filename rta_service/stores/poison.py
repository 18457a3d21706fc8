"""Events that a group could not do, kept apart with the reason until somebody decides on them.

An event is set aside in the step that acknowledges it, so it is there once, and it comes back into
the log in the step that takes it away here: under a new place in the order, for its group alone.
"""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from rta_service.domain.errors import InvalidInput, StoreUnavailable
from rta_service.stores.keys import event_name
from rta_service.stores.redis import AsyncClient, store_errors

MAX_LENGTH: Final = 10_000
"""Poisoned events at a time; with more, a group stops until somebody has looked."""
_FOR_ONE: Final = b"\xc1"
"""A byte that begins no MessagePack: what follows is a group's name, its end, and the event."""
_END: Final = b"\0"

_SET_ASIDE: Final = """
local added = 0
for i = 3, #ARGV, 3 do
  if redis.call('XLEN', KEYS[2]) >= tonumber(ARGV[1]) then
    return -1
  end
  if redis.call('XACK', KEYS[1], ARGV[2], ARGV[i]) == 1 then
    redis.call('XADD', KEYS[2], '*',
      'group', ARGV[2], 'id', ARGV[i], 'reason', ARGV[i + 1], 'body', ARGV[i + 2])
    added = added + 1
  end
end
return added
"""

_TAKE_BACK: Final = """
local found = redis.call('XRANGE', KEYS[2], ARGV[1], ARGV[1])
if #found == 0 then
  return 0
end
local group, body
for i = 1, #found[1][2], 2 do
  if found[1][2][i] == 'group' then group = found[1][2][i + 1] end
  if found[1][2][i] == 'body' then body = found[1][2][i + 1] end
end
redis.call('XADD', KEYS[1], '*', 'e', ARGV[2] .. group .. ARGV[3] .. body)
redis.call('XDEL', KEYS[2], ARGV[1])
return 1
"""


class Aside(NamedTuple):
    """An event that a group gives up on."""

    entry_id: str
    reason: str
    """Says nothing about anybody: it is shown."""
    body: bytes
    """Sealed, as the log has it."""


class Poisoned(NamedTuple):
    """An event that waits for somebody's decision."""

    poison_id: str
    """Begins with the milliseconds since 1970 at which it was set aside."""
    group: str
    entry_id: str
    reason: str
    body: bytes


class PoisonStore:
    """What the groups of a namespace set aside."""

    def __init__(self, client: AsyncClient, namespace: str, max_length: int = MAX_LENGTH) -> None:
        self._client: Any = client  # its two kinds are annotated apart, and replies as anything
        self._log = event_name(namespace, "log")
        self._poison = event_name(namespace, "poison")
        self._max_length = max_length

    async def set_aside(self, group: str, events: Sequence[Aside]) -> int:
        """Keep and acknowledge events of a group, and give how many were not done before.

        Raises StoreUnavailable when it is full: what is not kept here is not acknowledged.
        """
        words = [word for event in events for word in event._asdict().values()]
        with store_errors("setting events aside"):
            added = int(
                await self._client.eval(
                    _SET_ASIDE, 2, self._log, self._poison, self._max_length, group, *words
                )
            )
        if added < 0:
            raise StoreUnavailable(
                f"{self._max_length} events are set aside already: look at them, take them back "
                "or drop them"
            )
        return added

    async def list(self, count: int, after: str = "0") -> list[Poisoned]:
        """Give what waits, oldest first; `after` is the last poison id seen."""
        with store_errors("reading poisoned events"):
            found = await self._client.xrange(self._poison, min=f"({after}", count=count)
        return [
            Poisoned(
                poison_id.decode(),
                fields[b"group"].decode(),
                fields[b"id"].decode(),
                fields[b"reason"].decode(),
                fields[b"body"],
            )
            for poison_id, fields in found
        ]

    async def count(self) -> int:
        """Give how many wait."""
        with store_errors("counting poisoned events"):
            return int(await self._client.xlen(self._poison))

    async def take_back(self, poison_id: str) -> bool:
        """Give an event to its group once more, after all that was accepted until now.

        Says whether it still waited. Raises InvalidInput for what is no such id.
        """
        _check(poison_id)
        with store_errors("taking a poisoned event back"):
            return bool(
                await self._client.eval(
                    _TAKE_BACK, 2, self._log, self._poison, poison_id, _FOR_ONE, _END
                )
            )

    async def drop(self, poison_id: str) -> bool:
        """Give up an event for good, and say whether it still waited."""
        _check(poison_id)
        with store_errors("dropping a poisoned event"):
            return bool(await self._client.xdel(self._poison, poison_id))


def addressed(body: bytes) -> tuple[str, bytes]:
    """Split a body of the log into the one group that it is for, "" for all, and the event."""
    if not body.startswith(_FOR_ONE):
        return "", body
    group, end, event = body[1:].partition(_END)
    return (group.decode(errors="replace"), event) if end else ("", body)


def _check(poison_id: str) -> None:
    parts = poison_id.split("-")
    if len(parts) != 2 or not all(part.isascii() and part.isdecimal() for part in parts):  # noqa: PLR2004 - milliseconds and number
        raise InvalidInput("is no id of a poisoned event, such as 1700000000000-0", poison_id)
