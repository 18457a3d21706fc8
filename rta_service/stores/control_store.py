"""What cost control keeps in the store: orders for workers, what they did, their money, and state.

{<ns>}:c1:lease:<shard>           who controls a shard; expires
{<ns>}:c1:fence:<shard>           how often that changed: the fencing token
{<ns>}:c1:cursor                  hash: shard -> number of the last row of the feed that is in the state
{<ns>}:c1:state                   hash: unit -> its state
{<ns>}:c1:version                 hash: unit -> its steps so far
{<ns>}:c1:orders, :views          hash: unit -> Order, UnitView
{<ns>}:c1:count                   how often the orders changed
{<ns>}:c1:journal:<unit>          list of steps since the base
{<ns>}:c1:base, :middle           hash: unit -> its state at checkpoints, from which a rebuild begins
{<ns>}:c1:money:<unit>            hash: the day's `budget`, what was `spent` `as_of` a moment, what is
                                  `held` in all and by the second of the grant, as `g<second>`
{<ns>}:c1:usage:<unit>            hash: worker -> what it did in its life
{<ns>}:c1:workers                 sorted set: worker -> when it was seen
{<ns>}:c1:sequence, :told         hash: worker -> its last exchange, and what that granted
{<ns>}:c1:feed, :as_of            see `control_feed`

Money that is granted counts as spent until the feed is 35 s past the grant: by then it is known what
was spent of it. So with the feed standing still no more is granted than there was.
"""

from collections.abc import Mapping, Sequence, Set as AbstractSet
from functools import reduce
from secrets import token_hex
from typing import Any, Final, NamedTuple

import msgspec

from rta_service.domain.control_order import Grant, Order, UnitView, Usage
from rta_service.domain.errors import StaleWriter, StoreUnavailable
from rta_service.stores.control_scripts import EXCHANGE, NOW_MS, SAVE
from rta_service.stores.keys import control_name
from rta_service.stores.lease_scripts import GIVE_BACK, TAKE_FENCED
from rta_service.stores.redis import AdminClient, AsyncClient, store_errors

LEASE_MS: Final = 10_000
WIN_WINDOW_MS: Final = 35_000
"""A grant is used within 5 s, and a win is told within 30 s more."""
CHECKPOINT_STEPS: Final = 6_000
"""About a day of steps: a rebuild goes back one to two days."""

_COUNTED: Final = Usage.__struct_fields__[1:-1]
USAGE_EVERY_MS: Final = 5_000
"""A worker tells what it did for a unit no more often: sums with all their bins are long."""
_FORGOTTEN_MS: Final = 600_000
_usage_of: Final = msgspec.msgpack.Decoder(Usage).decode
_encode: Final = msgspec.msgpack.Encoder().encode
_order: Final = msgspec.msgpack.Decoder(Order).decode
_view: Final = msgspec.msgpack.Decoder(UnitView).decode


class Money(NamedTuple):
    """A unit's money of a day, in micros."""

    day: int
    budget_micros: int
    spent_micros: int
    as_of_ms: int
    """All that came back before is in `spent_micros`."""


class Saved(NamedTuple):
    """What one step of a unit leaves behind."""

    unit_id: str
    version: int
    state: bytes
    step: bytes
    """For the journal."""
    order: Order
    view: UnitView
    money: Money | None = None
    """None: no money is granted for it."""
    is_base: bool = False
    """Begins the journal anew: what was before can't be rebuilt any more."""


class ControlStore:
    """The controller's side. Blocks; raises StoreUnavailable everywhere."""

    def __init__(
        self, admin: AdminClient, namespace: str, win_window_ms: int = WIN_WINDOW_MS
    ) -> None:
        self._admin: Any = admin  # its two kinds are annotated apart
        self._namespace = namespace
        self.win_window_ms = win_window_ms
        self.checkpoint_steps = CHECKPOINT_STEPS

    def take(self, shard: int, holder: str, life_ms: int = LEASE_MS) -> int:
        """Control a shard for a while, if nobody else does: the fencing token, or 0."""
        names = self._name(f"lease:{shard}"), self._name(f"fence:{shard}")
        with store_errors("taking the lease of control"):
            return int(self._admin.eval(TAKE_FENCED, 2, *names, holder, life_ms))

    def give_back(self, shard: int, holder: str) -> None:
        """Let another one control a shard at once."""
        with store_errors("giving the lease of control back"):
            self._admin.eval(GIVE_BACK, 1, self._name(f"lease:{shard}"), holder)

    def cursor(self, shard: int) -> int:
        """Give the last row of the feed that is in the states of a shard."""
        with store_errors("reading the cursor of control"):
            return int(self._admin.hget(self._name("cursor"), str(shard)) or 0)

    def states(self) -> dict[str, bytes]:
        """Give the state of each unit."""
        return self._all("state")

    def state(self, unit_id: str) -> bytes | None:
        """Give the state of a unit."""
        return self._field("state", unit_id)

    def base(self, unit_id: str) -> bytes | None:
        """Give the state from which a rebuild begins; None: from nothing."""
        return self._field("base", unit_id)

    def journal(self, unit_id: str) -> list[bytes]:
        """Give a unit's steps since its base, oldest first."""
        with store_errors("reading the journal of control"):
            found: list[bytes] = self._admin.lrange(self._name(f"journal:{unit_id}"), 0, -1)
        return found

    def orders(self) -> dict[str, Order]:
        """Give what workers are told."""
        return {unit: _order(body) for unit, body in self._all("orders").items()}

    def views(self) -> dict[str, UnitView]:
        """Give what people see."""
        return {unit: _view(body) for unit, body in self._all("views").items()}

    def usage_totals(self, unit_ids: Sequence[str]) -> dict[str, Usage]:
        """Give what the workers of the last minutes did for units in their lives.

        Sums grow, but for the share of a worker that was not seen for ten minutes.
        """
        with store_errors("reading what workers did"):
            workers = self._name("workers")
            since_ms = int(self._admin.eval(NOW_MS, 1, workers)) - _FORGOTTEN_MS
            alive = set(self._admin.zrangebyscore(workers, since_ms, "+inf"))
        return {unit_id: self._usage(unit_id, alive) for unit_id in unit_ids}

    def money(self, unit_id: str) -> dict[str, int]:
        """Give a unit's money as it is kept: `budget`, `spent`, `held`, ...; empty without any."""
        with store_errors("reading the money of control"):
            found = self._admin.hgetall(self._name(f"money:{unit_id}"))
        return {name.decode(): int(micros) for name, micros in found.items()}

    def save(
        self, shard: int, fence: int, saved: Sequence[Saved], cursor: int, gone: Sequence[str] = ()
    ) -> None:
        """Keep steps of units and how far the feed is in them, all or nothing.

        `gone` units have no orders any more. Raises StaleWriter where another controller took over,
        or where a step is not the next one of what is kept: read the states anew.
        """
        shared = ("cursor", "state", "version", "orders", "count", "views", "base", "middle", "_")
        keys = [self._name(f"fence:{shard}"), *map(self._name, shared)]
        words: list[Any] = [
            fence,
            shard,
            cursor,
            self.checkpoint_steps,
            self.win_window_ms,
            len(saved),
        ]
        for one in saved:
            keys += [self._name(f"journal:{one.unit_id}"), self._name(f"money:{one.unit_id}")]
            money = (0, 0, 0, 0, 0) if one.money is None else (1, *one.money)
            words += [*one[:4], _encode(one.order), _encode(one.view), *money, int(one.is_base)]
        with store_errors("saving the state of control"):
            done = int(self._admin.eval(SAVE, len(keys), *keys, *words, len(gone), *gone))
        if done != 1:
            why = "another controller took over" if done == 0 else "its state is another one's"
            raise StaleWriter(f"shard {shard} of cost control was not saved: {why}")

    def _usage(self, unit_id: str, alive: AbstractSet[bytes]) -> Usage:
        name = self._name(f"usage:{unit_id}")
        with store_errors("reading what workers did"):
            found = self._admin.hgetall(name)
            if gone := found.keys() - alive:
                self._admin.hdel(name, *gone)
        told = (_usage_of(body) for worker, body in found.items() if worker in alive)
        return reduce(added, told, Usage(unit_id))

    def _all(self, part: str) -> dict[str, bytes]:
        with store_errors(f"reading the {part} of control"):
            found = self._admin.hgetall(self._name(part))
        return {unit.decode(): body for unit, body in sorted(found.items())}

    def _field(self, part: str, unit_id: str) -> bytes | None:
        with store_errors(f"reading the {part} of control"):
            found: bytes | None = self._admin.hget(self._name(part), unit_id)
        return found

    def _name(self, part: str) -> str:
        return control_name(self._namespace, part)


class Exchanged(NamedTuple):
    """What a worker gets for what it tells."""

    orders: dict[str, Order] | None
    """None where they are as they were."""
    grants: list[Grant]
    now_ms: int
    """The store's clock, by which grants end."""


class _Call(NamedTuple):
    sequence: int
    wants: dict[str, int]


class WorkerControl:
    """A worker's side: one round trip an exchange, and nothing counts twice.

    What was done is told as a sum over this worker's life, so what could not be told is in the next
    sum; money that may have been granted is asked for again, as the same.
    """

    def __init__(
        self,
        client: AsyncClient,
        namespace: str,
        worker_id: str,
        usage_every_ms: int = USAGE_EVERY_MS,
    ) -> None:
        self._client: Any = client  # its two kinds are annotated apart
        self._namespace = namespace
        self._worker = f"{worker_id}:{token_hex(4)}"  # a new process counts from 0 again
        self._usage_every_ms = usage_every_ms
        self._sequence = 0
        self._count = b""
        self._unsure: _Call | None = None
        self._totals: dict[str, Usage] = {}
        self._told_ms: dict[str, int] = {}
        """When each unit's sum was told, by the store's clock."""
        self._untold: set[str] = set()
        self._now_ms = 0

    async def exchange(self, usages: Sequence[Usage], wants: Mapping[str, int]) -> Exchanged:
        """Tell what was done and ask for money, in micros by unit; not twice at a time.

        Raises StoreUnavailable: never give the same usages again.
        """
        for usage in usages:
            known = self._totals.get(usage.unit_id)
            self._totals[usage.unit_id] = usage if known is None else added(known, usage)
            self._untold.add(usage.unit_id)
        before = await self._send(self._unsure) if self._unsure else None
        self._sequence += 1
        self._unsure = _Call(self._sequence, dict(wants))
        now = await self._send(self._unsure)
        self._unsure = None
        if before is None:
            return now
        orders = before.orders if now.orders is None else now.orders
        return Exchanged(orders, [*before.grants, *now.grants], now.now_ms)

    async def _send(self, call: _Call) -> Exchanged:
        name, due = self._name, self._due()
        keys = [name(part) for part in ("sequence", "told", "workers", "orders", "count")]
        keys += [name(f"usage:{unit}") for unit in due] + [name(f"money:{u}") for u in call.wants]
        usages = [_encode(self._totals[unit]) for unit in due]
        words: list[Any] = [self._worker, call.sequence, self._count, len(due), *usages]
        words.append(len(call.wants))
        for unit, micros in call.wants.items():
            words += [unit, micros]
        with store_errors("exchanging with cost control"):
            reply = await self._client.eval(EXCHANGE, len(keys), *keys, *words)
            exchanged = self._read(reply)
        self._now_ms = exchanged.now_ms
        self._told_ms.update(dict.fromkeys(due, exchanged.now_ms))
        self._untold.difference_update(due)
        return exchanged

    def _due(self) -> list[str]:
        """Name the units that have something to tell, and have not told for a while."""
        latest_ms = self._now_ms - self._usage_every_ms
        return sorted(u for u in self._untold if self._told_ms.get(u, latest_ms) <= latest_ms)

    def _name(self, part: str) -> str:
        return control_name(self._namespace, part)

    def _read(self, reply: list[Any]) -> Exchanged:
        now_ms, count, flat, listed = reply
        grants = [
            Grant(flat[at].decode(), int(flat[at + 1]), int(flat[at + 2]))
            for at in range(0, len(flat), 3)
        ]
        orders = None
        if listed is not None:
            try:
                pairs = zip(listed[::2], listed[1::2], strict=True)
                orders = {unit.decode(): _order(body) for unit, body in pairs}
            except msgspec.MsgspecError as error:
                raise StoreUnavailable(
                    f"orders of another version of the service: {error}"
                ) from error
        self._count = count
        return Exchanged(orders, grants, int(now_ms))


def added(one: Usage, other: Usage) -> Usage:
    """Add up what was done for one unit."""
    worths = dict(one.worths)
    for place, count in other.worths.items():
        worths[place] = worths.get(place, 0) + count
    usage = Usage(one.unit_id, worths=worths)
    for name in _COUNTED:
        setattr(usage, name, getattr(one, name) + getattr(other, name))
    return usage
