"""One process at a time, and the next one soon after it dies."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from rta_service.domain.clock import SystemClock
from rta_service.domain.errors import StoreUnavailable
from rta_service.stores.embedded import EmbeddedStore
from rta_service.stores.lease import Lease
from rta_service.stores.redis import AsyncClient, close, watch_client


class SetClock(SystemClock):
    """A clock whose seconds a test sets."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def monotonic_s(self) -> float:
        return self.now_s


@pytest.fixture
async def client(store_url: str) -> AsyncIterator[AsyncClient]:
    client = watch_client(store_url, 5.0)
    yield client
    await close(client)


async def test_only_one_has_it_and_the_next_when_it_is_given_back(
    client: AsyncClient, namespace: str
) -> None:
    first, second, third = (Lease(client, namespace, "consume", SystemClock()) for _ in range(3))
    other = Lease(client, namespace, "report", SystemClock())

    assert not first.is_mine()
    assert await first.take()
    assert not await second.take()
    assert await other.take()
    assert await first.take()

    await second.give_back()
    assert not await third.take()
    await first.give_back()
    assert not first.is_mine()
    assert not await first.take()
    assert not await second.take()
    assert await third.take()


async def test_the_next_one_has_it_soon_after_a_holder_died(
    client: AsyncClient, namespace: str
) -> None:
    dead, second = (Lease(client, namespace, "consume", SystemClock(), 200) for _ in range(2))
    await dead.take()

    assert not await second.take()
    await asyncio.sleep(0.25)

    assert await second.take()
    assert not dead.is_mine()


async def test_a_holder_stops_believing_in_it_before_the_store_does(
    client: AsyncClient, namespace: str
) -> None:
    clock = SetClock()
    lease = Lease(client, namespace, "consume", clock, 60_000)
    await lease.take()

    clock.now_s += 47
    assert lease.is_mine()
    clock.now_s += 2
    assert not lease.is_mine()
    assert await lease.take()


async def test_a_holder_keeps_it_until_its_time_is_up_while_the_store_is_away(
    own_store: EmbeddedStore,
) -> None:
    client, clock = watch_client(own_store.url), SetClock()
    lease = Lease(client, "ad", "consume", clock, 60_000)
    await lease.take()
    own_store.stop()

    with pytest.raises(StoreUnavailable):
        await lease.take()

    assert lease.is_mine()
    clock.now_s += 60
    assert not lease.is_mine()
    await lease.give_back()
    await close(client)
