"""What is known of models on trial: evidence, outcome ids that were taken, and pairs of scores.

{<ns>}:r1:evidence:<trial>        what matured outcomes say, as the autopilot writes it
{<ns>}:r1:observed:<trial>        hash: place -> what that place's sampled traffic says
{<ns>}:r1:outcomes                count of batches of outcomes that were written
{<ns>}:r1:outcome-ids:<day>       set: hashed ids of outcomes of that day; expires
{<ns>}:r1:outcomes-of:<day>       hash: who -> outcomes they brought that day; expires
{<ns>}:r1:pairs:<day>:<bucket>    hash: tag of a sampled request -> both models' scores; expires
{<ns>}:r1:pairs:<day>             how many of them that day has

A batch of outcomes is one script: its ids and what follows from them are there together or not at
all, whoever is killed. The values are the caller's: this module knows no models.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from rta_service.stores.keys import release_name
from rta_service.stores.redis import AdminClient, store_errors

DAY_MS: Final = 86_400_000
OUTCOME_DAYS: Final = 35
"""Older outcomes can't be told from ones that were taken before, so they are refused."""
PAIR_DAYS: Final = 21
"""Longer than the longest window of a head, 14 days, and some days of delay."""
PAIRS_A_DAY: Final = 50_000
"""At about 60 bytes each, 3 MB a day and 63 MB in all."""
EVIDENCE_TTL_MS: Final = 90 * DAY_MS

_BUCKETS: Final = 1_024
"""Small hashes are kept packed: 49 pairs in each of a full day."""

_COMMIT: Final = """
if (redis.call('GET', KEYS[1]) or '0') ~= ARGV[1] then
  return 0
end
local at = 6
for i = 1, tonumber(ARGV[5]) do
  redis.call('SET', KEYS[2 + i], ARGV[at], 'PX', ARGV[4])
  at = at + 1
end
for i = 3 + tonumber(ARGV[5]), #KEYS do
  for _ = 1, tonumber(ARGV[at]) do
    at = at + 1
    redis.call('SADD', KEYS[i], ARGV[at])
  end
  at = at + 1
  redis.call('PEXPIRE', KEYS[i], ARGV[3])
end
redis.call('HINCRBY', KEYS[2], ARGV[2], ARGV[#ARGV])
redis.call('PEXPIRE', KEYS[2], ARGV[3])
redis.call('INCR', KEYS[1])
return 1
"""

_KEEP_PAIRS: Final = """
local room = tonumber(ARGV[1]) - tonumber(redis.call('GET', KEYS[1]) or '0')
local kept = 0
for i = 2, #KEYS do
  if kept < room then
    kept = kept + redis.call('HSETNX', KEYS[i], ARGV[2 * i - 1], ARGV[2 * i])
    redis.call('PEXPIRE', KEYS[i], ARGV[2])
  end
end
if kept > 0 then
  redis.call('INCRBY', KEYS[1], kept)
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return kept
"""


class Batch(NamedTuple):
    """What one batch of outcomes adds."""

    who: str
    day: int
    """Of the writing, in days since 1970."""
    ids: Mapping[int, Sequence[bytes]]
    """Hashed ids by the day of the outcome; all of them new."""
    evidence: Mapping[str, bytes]
    """The whole new value by trial."""


class TrialStore:
    """Reads and writes what is known of trials; for the control process, so it blocks."""

    def __init__(self, client: AdminClient, namespace: str) -> None:
        self._client = client
        self._namespace = namespace

    def batches(self) -> int:
        """Count the batches written so far; `commit` wants the number that its batch follows."""
        with store_errors("reading the count of outcomes"):
            return int(self._client.get(self._key("outcomes")) or 0)

    def known(self, ids: Sequence[bytes], today: int) -> list[bool]:
        """Tell which hashed ids were taken before."""
        if not ids:
            return []
        with store_errors("looking outcome ids up"):
            pipeline = self._client.pipeline(transaction=False)
            for day in range(today - OUTCOME_DAYS - 1, today + 2):
                pipeline.smismember(self._key(f"outcome-ids:{day}"), list(ids))
            days = pipeline.execute()
        return [any(one) for one in zip(*days, strict=True)]

    def commit(self, after: int, batch: Batch) -> bool:
        """Write a batch that was worked out after `after` others; False if one came between."""
        days = sorted(batch.ids)
        keys = [self._key("outcomes"), self._key(f"outcomes-of:{batch.day}")]
        keys += [self._key(f"evidence:{trial}") for trial in batch.evidence]
        keys += [self._key(f"outcome-ids:{day}") for day in days]
        kept_ms = (OUTCOME_DAYS + 2) * DAY_MS
        arguments: list[Any] = [after, batch.who, kept_ms, EVIDENCE_TTL_MS, len(batch.evidence)]
        arguments += batch.evidence.values()
        for day in days:
            arguments += [len(batch.ids[day]), *batch.ids[day]]
        count = sum(map(len, batch.ids.values()))
        with store_errors("writing outcomes"):
            return bool(self._client.eval(_COMMIT, len(keys), *keys, *arguments, count))

    def evidence(self, trial: str) -> bytes:
        """Give what matured outcomes say of a trial; empty before the first."""
        with store_errors("reading a trial's evidence"):
            found: Any = self._client.get(self._key(f"evidence:{trial}"))
        return found or b""

    def keep_observed(self, trial: str, place: str, value: bytes) -> None:
        """Keep what one place's sampled traffic says of a trial, instead of what it said before."""
        key = self._key(f"observed:{trial}")
        with store_errors("writing what a shadow saw"):
            self._client.hset(key, place, value)
            self._client.pexpire(key, EVIDENCE_TTL_MS)

    def observed(self, trial: str) -> dict[str, bytes]:
        """Give what each place's sampled traffic says of a trial."""
        with store_errors("reading what shadows saw"):
            found: Any = self._client.hgetall(self._key(f"observed:{trial}"))
        return {_text(place): value for place, value in found.items()}

    def keep_pairs(self, day: int, pairs: Mapping[int, bytes]) -> int:
        """Keep scores by tag, as long as the day has room; gives how many were new."""
        if not pairs:
            return 0
        keys = [self._key(f"pairs:{day}")]
        arguments: list[Any] = [PAIRS_A_DAY, PAIR_DAYS * DAY_MS]
        for tag, value in pairs.items():
            keys.append(self._bucket(day, tag))
            arguments += [_field(tag), value]
        with store_errors("keeping pairs of scores"):
            return int(self._client.eval(_KEEP_PAIRS, len(keys), *keys, *arguments))

    def pairs(self, wanted: Iterable[tuple[int, int]]) -> dict[int, bytes]:
        """Find the scores kept under tags, each on or beside the day it is said to be of."""
        places = [(tag, day + beside) for tag, day in set(wanted) for beside in (-1, 0, 1)]
        if not places:
            return {}
        with store_errors("looking pairs of scores up"):
            pipeline = self._client.pipeline(transaction=False)
            for tag, day in places:
                pipeline.hget(self._bucket(day, tag), _field(tag))
            found = pipeline.execute()
        return {tag: value for (tag, _), value in zip(places, found, strict=True) if value}

    def _bucket(self, day: int, tag: int) -> str:
        return self._key(f"pairs:{day}:{tag % _BUCKETS:x}")

    def _key(self, part: str) -> str:
        return release_name(self._namespace, part)


def _field(tag: int) -> bytes:
    return tag.to_bytes(8, "little")


def _text(found: bytes | str) -> str:
    return found.decode() if isinstance(found, bytes) else found
