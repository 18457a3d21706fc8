"""What happened, in the order in which it was accepted: one stream, each event in it once.

An event is acknowledged when it is durable. Who gets no answer sends the same batch again: what
was kept is then a `duplicate`, and just as durable. Consumers read in groups, at least once each.
"""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b, sha1
from typing import Any, Final, NamedTuple

import redis

from rta_service.domain.errors import StoreUnavailable
from rta_service.stores.durability import MakeDurable
from rta_service.stores.keys import event_name
from rta_service.stores.redis import AsyncClient, store_errors

DAY_MS: Final = 86_400_000
BUCKETS: Final = 4_096
"""Sets a day: up to half a million events they are small, 14 bytes an event."""
DIGEST_BYTES: Final = 12
_SPARE_MS: Final = 3 * DAY_MS
"""The rest of the day, a day that a sender's clock may be ahead, and one for ours. Counted from the
first event of a set, not to an instant: an instant gone by in the store's clock would forget all."""
_FIELD: Final = b"e"
_TRIM_STEP: Final = 10_000
_AT_ONCE: Final = 25
"""Events a script appends: for a third of a millisecond nobody else is answered, decisions neither."""
_PAGE: Final = 200
"""Events that the store gives or acknowledges at once: 10,000 at once took it 16 ms."""
_BREATH_S: Final = 0.002
"""Between two pages, so that a long read does not hold the store's core either."""
_WRITERS: Final = 2
"""Batches on their way to the store at once: one is packed while another is written. More would
only run the client out of connections."""

_APPEND: Final = b"""
local length = redis.call('XLEN', KEYS[1])
if length + #ARGV - 3 > tonumber(ARGV[1]) then
  return 'full'
end
local fates = {}
local new = 0
for i = 1, #ARGV - 3 do
  local seen = KEYS[2 + i]
  if redis.call('SADD', seen, string.sub(ARGV[3], 12 * i - 11, 12 * i)) == 1 then
    if redis.call('SCARD', seen) == 1 then
      redis.call('EXPIRE', seen, ARGV[2])
    end
    redis.call('XADD', KEYS[1], '*', 'e', ARGV[3 + i])
    new = new + 1
    fates[i] = '1'
  else
    fates[i] = '0'
  end
end
-- also a batch of nothing new must write: what waits for durability waits for its last write
redis.call('HINCRBY', KEYS[2], 'accepted', new)
redis.call('HINCRBY', KEYS[2], 'duplicate', #fates - new)
return table.concat(fates)
"""
_APPEND_SHA: Final = sha1(_APPEND, usedforsecurity=False).hexdigest()

_TRIM: Final = """
if redis.call('EXISTS', KEYS[1]) == 0 then
  return 0
end
local function parts(id)
  local ms, n = string.match(id, '(%d+)-(%d+)')
  return tonumber(ms), tonumber(n)
end
local keep, keep_ms, keep_n
for _, group in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
  local facts = {}
  for i = 1, #group, 2 do
    facts[group[i]] = group[i + 1]
  end
  local needs = facts['last-delivered-id']
  if facts['pending'] > 0 then
    needs = redis.call('XPENDING', KEYS[1], facts['name'])[2]
  end
  local ms, n = parts(needs)
  if not keep or ms < keep_ms or (ms == keep_ms and n < keep_n) then
    keep, keep_ms, keep_n = needs, ms, n
  end
end
if not keep then
  return 0
end
return redis.call('XTRIM', KEYS[1], 'MINID', '~', keep, 'LIMIT', ARGV[1])
"""


class Draft(NamedTuple):
    """An event to append."""

    event_id: str
    ts_ms: int
    """When it happened: an event sent again must say the same, for it is looked for in its day."""
    body: bytes
    """What consumers get; sealed."""


class Entry(NamedTuple):
    """An event of the log; ids grow in the order in which events were accepted."""

    entry_id: str
    body: bytes


class Backlog(NamedTuple):
    """What a group has still to do."""

    unread: int
    unacknowledged: int
    """Read by a consumer that has not said it is done."""


@dataclass(frozen=True, slots=True)
class LogRules:
    """How long copies are told, and how much waits at most."""

    max_age_ms: int = 8 * DAY_MS
    """The greatest age of events that are let in; their ids are remembered longer."""
    max_length: int = 5_000_000
    """Events kept until every group has done them; more are refused: sender's disks are full later
    than our memory."""


class EventLog:
    """The log of one namespace.

    The client needs four connections and a time-out beyond 3 s; reads that wait, beyond `block_ms`.
    """

    def __init__(
        self,
        client: AsyncClient,
        namespace: str,
        make_durable: MakeDurable,
        rules: LogRules | None = None,
    ) -> None:
        self._client: Any = client  # the two clients are annotated apart, and replies as anything
        self._make_durable = make_durable
        self._turns = asyncio.Semaphore(_WRITERS)
        self._rules = rules or LogRules()
        self._log = event_name(namespace, "log")
        self._counts = event_name(namespace, "counts")
        self._seen = event_name(namespace, "seen")

    async def append(self, events: Sequence[Draft]) -> list[bool]:
        """Append a batch and return once it is durable: for each event whether it was new.

        Raises StoreUnavailable where the store is full, refuses or fails: nothing is acknowledged
        then, and the same batch may be sent again.
        """
        new: list[bool] = []
        if events:
            async with self._turns:
                for first in range(0, len(events), _AT_ONCE):
                    new += await self._write(events[first : first + _AT_ONCE])
            await self._make_durable()
        return new

    async def _write(self, events: Sequence[Draft]) -> list[bool]:
        """Append a part of a batch, not durably yet."""
        digests = [blake2b(e.event_id.encode(), digest_size=DIGEST_BYTES).digest() for e in events]
        seen = [self._seen_in(e, digest) for e, digest in zip(events, digests, strict=True)]
        remembered_s = (self._rules.max_age_ms + _SPARE_MS) // 1000
        bodies = [event.body for event in events]
        given = (self._rules.max_length, remembered_s, b"".join(digests), *bodies)
        reply = await self._run_append((self._log, self._counts, *seen), given)
        if reply == b"full":
            raise StoreUnavailable(
                f"the log holds {self._rules.max_length} events that consumers have not done yet"
            )
        return [fate == ord("1") for fate in reply]

    async def settle(self) -> None:
        """Return once all that was read is durable: events show before they are acknowledged."""
        await self._make_durable()

    async def open_group(self, group: str) -> None:
        """Make a group that reads from the oldest event on, unless it exists."""
        with store_errors("opening a group of consumers"):
            try:
                await self._client.xgroup_create(self._log, group, id="0", mkstream=True)
            except redis.ResponseError as error:
                if not str(error).startswith("BUSYGROUP"):
                    raise

    async def read(
        self, group: str, consumer: str, count: int, block_ms: int | None = None
    ) -> list[Entry]:
        """Give a consumer the group's next events; they are its own until acknowledged.

        Waits for one up to `block_ms`, or not at all.
        """
        found = await self._read(group, consumer, min(count, _PAGE), ">", block_ms)
        more = len(found) == _PAGE
        while more and len(found) < count:
            await asyncio.sleep(_BREATH_S)
            asked = min(count - len(found), _PAGE)
            page = await self._read(group, consumer, asked, ">", None)
            found += page
            more = len(page) == asked
        return found

    async def unacknowledged(
        self, group: str, consumer: str, count: int, after: str = "0"
    ) -> list[Entry]:
        """Give a consumer again what it read and did not acknowledge, as after its death."""
        return await self._read(group, consumer, count, after, None)

    async def claim(self, group: str, consumer: str, idle_ms: int, count: int) -> list[Entry]:
        """Take over what other consumers read and let lie; `idle_ms` must exceed any work on it."""
        with store_errors("claiming events"):
            found = await self._client.xautoclaim(
                self._log, group, consumer, idle_ms, start_id="0", count=count
            )
        return await self._entries(group, found[1])

    async def ack(self, group: str, entry_ids: Iterable[str]) -> int:
        """Say that events are done, for this group; gives how many were its own."""
        ids, done = list(entry_ids), 0
        with store_errors("acknowledging events"):
            for first in range(0, len(ids), _PAGE):
                if first:
                    await asyncio.sleep(_BREATH_S)
                page = ids[first : first + _PAGE]
                done += int(await self._client.xack(self._log, group, *page))
        return done

    async def backlog(self, group: str) -> Backlog:
        """Say what a group has still to do; servers before 7.0 give the log's length as unread."""
        with store_errors("reading the backlog"):
            groups = await self._groups()
            length = await self._client.xlen(self._log)
        for facts in groups:
            if facts["name"] == group.encode():
                lag = facts.get("lag")
                return Backlog(length if lag is None else int(lag), int(facts["pending"]))
        return Backlog(int(length), 0)

    async def waiting_since_ms(self, group: str) -> int:
        """Say when the oldest event that a group has not done was accepted; 0 when none waits."""
        with store_errors("reading how far a group is"):
            groups = await self._groups()
            for facts in groups:
                if facts["name"] == group.encode():
                    break
            else:
                return 0
            pending = await self._client.xpending(self._log, group) if facts["pending"] else None
            oldest = pending["min"] if pending else None
            if oldest is None:  # also when all that was read has been done since we asked
                after = b"(" + facts["last-delivered-id"]
                found = await self._client.xrange(self._log, min=after, count=1)
                oldest = found[0][0] if found else b"0-0"
        return int(oldest.partition(b"-")[0])

    async def _groups(self) -> list[dict[str, Any]]:
        """Give the store's facts of all groups; none before the first event or group."""
        try:
            found: list[dict[str, Any]] = await self._client.xinfo_groups(self._log)
        except redis.ResponseError as error:
            if "no such key" not in str(error):
                raise
            return []
        return found

    async def counts(self) -> dict[str, int]:
        """Give how many events were `accepted` and how many were a `duplicate`, ever."""
        with store_errors("reading the counts of events"):
            found = await self._client.hgetall(self._counts)
        return {name.decode(): int(count) for name, count in found.items()}

    async def after(self, entry_id: str, count: int) -> list[Entry]:
        """Give the events that follow one, beside all groups; after "0" from the oldest."""
        with store_errors("reading events"):
            found = await self._client.xrange(self._log, min=f"({entry_id}", count=count)
        return [Entry(one.decode(), fields[_FIELD]) for one, fields in found]

    async def latest(self, count: int) -> list[Entry]:
        """Give the last events, oldest first, beside all groups."""
        with store_errors("reading events"):
            found = await self._client.xrevrange(self._log, count=count)
        return [Entry(one.decode(), fields[_FIELD]) for one, fields in reversed(found)]

    async def trim(self) -> int:
        """Drop what every group has done, in steps, and give how many; some hundred may stay."""
        dropped = 0
        with store_errors("trimming the log"):
            while step := int(await self._client.eval(_TRIM, 1, self._log, _TRIM_STEP)):
                dropped += step
        return dropped

    def _seen_in(self, event: Draft, digest: bytes) -> str:
        bucket = int.from_bytes(digest[:2], "big") % BUCKETS
        return f"{self._seen}:{event.ts_ms // DAY_MS}:{bucket:x}"

    async def _run_append(self, keys: Sequence[str], given: Sequence[Any]) -> bytes:
        with store_errors("appending events"):
            try:
                reply: bytes = await self._client.evalsha(_APPEND_SHA, len(keys), *keys, *given)
            except redis.exceptions.NoScriptError:
                reply = await self._client.eval(_APPEND, len(keys), *keys, *given)
            return reply

    async def _read(
        self, group: str, consumer: str, count: int, after: str, block_ms: int | None
    ) -> list[Entry]:
        with store_errors("reading events"):
            found = await self._client.xreadgroup(
                group, consumer, {self._log: after}, count=count, block=block_ms
            )
        return await self._entries(group, found[0][1] if found else [])

    async def _entries(self, group: str, found: Iterable[Any]) -> list[Entry]:
        """Read entries; one deleted by hand while it was read is acknowledged: it is gone."""
        entries = []
        gone = []
        for entry_id, fields in found:
            if fields:
                entries.append(Entry(entry_id.decode(), fields[_FIELD]))
            else:
                gone.append(entry_id.decode())
        await self.ack(group, gone)
        return entries
