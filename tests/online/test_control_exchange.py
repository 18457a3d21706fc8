"""A worker exchanges while anything is steered, and goes on with what it has while nobody answers."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from rta_service.domain.control_order import Usage
from rta_service.domain.errors import StoreUnavailable
from rta_service.online.control_exchange import ControlExchange, Told


class Counter:
    """Gives what it is told to give, or fails."""

    def __init__(self, gives: Any) -> None:
        self.gives = gives
        self.error: Exception | None = None
        self.calls: list[tuple[list[Usage], dict[str, int]]] = []

    async def exchange(self, usages: Sequence[Usage], wants: Mapping[str, int]) -> Any:
        self.calls.append((list(usages), dict(wants)))
        if self.error is not None:
            raise self.error
        return self.gives


def _exchange(kit: Any, counter: Counter, *, needed: bool = True) -> tuple[Any, Any, list[Told]]:
    clock = kit.a_clock()
    told: list[Told] = []
    desk = kit.a_desk(clock=clock)
    return ControlExchange(desk, counter, clock, lambda: needed, told.append), desk, told


async def test_orders_come_and_the_counts_are_told(kit: Any) -> None:
    order = kit.an_order()
    counter = Counter(kit.exchanged({"s@json": order}))
    exchange, desk, told = _exchange(kit, counter)

    assert await exchange.once()

    assert desk.orders == {"s@json": order}
    assert (told, counter.calls) == ([Told([])], [([], {})])


async def test_a_failure_is_reported_and_the_orders_stay(kit: Any) -> None:
    counter = Counter(kit.exchanged({"s@json": kit.an_order()}))
    exchange, desk, told = _exchange(kit, counter)
    await exchange.once()

    for error in (StoreUnavailable("away"), RuntimeError("a bug")):
        counter.error = error
        assert not await exchange.once()
        assert told[-1].error is error

    assert list(desk.orders) == ["s@json"]


async def test_where_nothing_is_steered_nobody_is_asked(kit: Any) -> None:
    counter = Counter(kit.exchanged())
    exchange, _, told = _exchange(kit, counter, needed=False)

    assert await exchange.once()

    assert (counter.calls, told) == ([], [])


async def test_it_goes_on_until_it_is_cancelled(kit: Any) -> None:
    counter = Counter(kit.exchanged())
    exchange, _, _ = _exchange(kit, counter)

    task = asyncio.create_task(exchange.run())
    await asyncio.sleep(0.6)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

    assert len(counter.calls) == 2
