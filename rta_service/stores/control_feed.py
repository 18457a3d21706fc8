"""What cost control is told: a table in the ledger, written in each of its transactions, and a stream
in the store to which that is copied.

{<ns>}:c1:feed                    stream: <number>-0 -> `b` the rows, `a` when, `p` the number before;
                                  those that every shard has are dropped
{<ns>}:c1:as_of                   hash: `number`, `ms`: all events that were accepted before `ms` are
                                  in the rows up to `number`

The stream takes no number twice and none that is lower than its last, so copying again is harmless.
"""

import sqlite3
from collections import defaultdict
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from rta_service.domain.attribution import HOUR_MS, Place, TouchKind
from rta_service.domain.control_feed import FEED_KEPT_MS, FeedBatch, FeedRow, RowKind, body_of
from rta_service.domain.control_order import unit_id
from rta_service.stores.control_scripts import NOW_MS
from rta_service.stores.keys import control_name
from rta_service.stores.redis import AdminClient, store_errors

_TOUCHES_OF: Final = """
SELECT kind, strategy, sum(touches) FROM place JOIN touch_sum ON place = id
WHERE hour = ? AND channel = ? AND campaign = ? AND strategy != '' GROUP BY kind, strategy
"""
_KINDS: Final = (TouchKind.CLICK, TouchKind.EXPOSURE, TouchKind.WIN)

_PUBLISH: Final = """
local added = 0
for i = 1, #ARGV, 4 do
  local done = redis.pcall('XADD', KEYS[1], ARGV[i] .. '-0', 'p', ARGV[i + 1], 'a', ARGV[i + 2],
    'b', ARGV[i + 3])
  if type(done) ~= 'table' then
    added = added + 1
  elseif not string.find(done.err, 'equal or smaller', 1, true) then
    return done
  end
end
return added
"""


def spread(connection: sqlite3.Connection, about: Place, micros: int) -> list[tuple[str, FeedRow]]:
    """Give the cost that a report tells as rows; a campaign's is shared by the clicks known now.

    Without any touch of the campaign nobody knows whose it is, and nothing is told.
    """
    at_ms = about.hour * HOUR_MS + HOUR_MS // 2
    if not about.channel:
        return []
    weights = {about.strategy: 1} if about.strategy else _clicks(connection, about)
    return [
        (unit_id(strategy, about.channel), FeedRow(RowKind.REPORT, at_ms, cost_micros=share))
        for strategy, share in _shares(micros, weights).items()
    ]


def _clicks(connection: sqlite3.Connection, about: Place) -> dict[str, int]:
    """Give the touches of a campaign by strategy, of the kind that tells most."""
    given = (about.hour, about.channel, about.campaign)
    found: defaultdict[int, dict[str, int]] = defaultdict(dict)
    for kind, strategy, touches in connection.execute(_TOUCHES_OF, given):
        found[kind][strategy] = touches
    return next((found[kind] for kind in _KINDS if found[kind]), {})


def _shares(micros: int, weights: dict[str, int]) -> dict[str, int]:
    """Share to the micro: what rounding leaves goes to the first in order."""
    whole = sum(weights.values())
    shares = {name: micros * weight // whole for name, weight in sorted(weights.items())}
    if shares:
        shares[min(shares)] += micros - sum(shares.values())
    return shares


class FeedTable:
    """The table, inside of what the ledger does."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def write(self, cursor: str, told: Sequence[tuple[str, FeedRow]]) -> None:
        """Add what a batch brought, if anything, and drop what is old; in its transaction."""
        if not told:
            return
        rows: defaultdict[str, list[FeedRow]] = defaultdict(list)
        for unit, row in told:
            rows[unit].append(row)
        time_ms, _, _ = cursor.partition("-")
        at_ms, run = int(time_ms) if time_ms.isdecimal() else 0, self._connection.execute
        run("INSERT INTO control_feed(at_ms, body) VALUES (?, ?)", (at_ms, body_of(dict(rows))))
        run(
            "DELETE FROM control_feed WHERE number IN (SELECT number FROM (SELECT number, at_ms"
            " FROM control_feed ORDER BY number LIMIT 10) WHERE at_ms < ?)",
            (at_ms - FEED_KEPT_MS,),
        )

    def read(self, after: int, most: int, until: int) -> list[FeedBatch]:
        """Give rows, oldest first."""
        found = self._connection.execute(
            "SELECT number, coalesce((SELECT max(number) FROM control_feed AS old"
            " WHERE old.number < control_feed.number), 0), at_ms, body FROM control_feed"
            " WHERE number > ? AND number <= ? ORDER BY number LIMIT ?",
            (after, until, most),
        )
        return [FeedBatch(*row) for row in found]


class Ends(NamedTuple):
    """Between which numbers the stream is."""

    first: int
    """0 for an empty one."""
    last: int
    """The last that was ever added."""
    length: int


class ControlFeed:
    """The stream. Blocks; raises StoreUnavailable everywhere."""

    def __init__(self, client: AdminClient, namespace: str) -> None:
        self._client: Any = client  # its two kinds are annotated apart
        self._feed = control_name(namespace, "feed")
        self._as_of = control_name(namespace, "as_of")
        self._cursors = control_name(namespace, "cursor")

    def publish(self, batches: Sequence[FeedBatch]) -> int:
        """Add batches, and say how many were new."""
        words = [word for b in batches for word in (b.number, b.before, b.at_ms, b.body)]
        with store_errors("telling cost control"):
            return int(self._client.eval(_PUBLISH, 1, self._feed, *words)) if words else 0

    def read(self, after: int, most: int) -> list[FeedBatch]:
        """Give batches after a number."""
        with store_errors("reading what cost control is told"):
            found = self._client.xrange(self._feed, f"({after}-0", "+", most)
        return [
            FeedBatch(_number(entry), int(body[b"p"]), int(body[b"a"]), body[b"b"])
            for entry, body in found
        ]

    def ends(self) -> Ends:
        """Say what the stream holds."""
        with store_errors("reading what cost control is told"):
            if not self._client.exists(self._feed):
                return Ends(0, 0, 0)
            found = self._client.xinfo_stream(self._feed)
        first = found["first-entry"]
        last = _number(found["last-generated-id"])
        return Ends(_number(first[0]) if first else 0, last, found["length"])

    def slowest(self) -> int:
        """Give the number that every shard has; 0 before there is one."""
        with store_errors("reading the cursors of control"):
            found = self._client.hvals(self._cursors)
        return min(map(int, found), default=0)

    def trim(self, number: int) -> None:
        """Drop what every shard has."""
        with store_errors("trimming what cost control was told"):
            self._client.execute_command("XTRIM", self._feed, "MINID", f"{number + 1}-0")

    def begin_again(self) -> None:
        """Drop everything, to be published from an older number."""
        with store_errors("trimming what cost control was told"):
            self._client.delete(self._feed)

    def show_as_of(self, number: int, at_ms: int) -> None:
        """Say that all events accepted before an instant are in the batches up to a number."""
        with store_errors("telling cost control how far the feed is"):
            self._client.hset(self._as_of, mapping={"number": number, "ms": at_ms})

    def as_of(self) -> tuple[int, int]:
        """Give the number and the instant that were shown last; zeros before."""
        with store_errors("reading how far the feed is"):
            number, at_ms = self._client.hmget(self._as_of, "number", "ms")
        return int(number or 0), int(at_ms or 0)

    def now_ms(self) -> int:
        """Give the store's clock."""
        with store_errors("asking the store's clock"):
            return int(self._client.eval(NOW_MS, 1, self._feed))


def _number(entry: Any) -> int:
    text = entry.decode() if isinstance(entry, bytes) else str(entry)
    return int(text.partition("-")[0])
