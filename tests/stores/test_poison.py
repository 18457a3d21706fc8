"""What can't be done is kept once, and comes back once."""

from collections.abc import AsyncIterator

import pytest

from rta_service.domain.errors import InvalidInput, StoreUnavailable
from rta_service.stores.durability import Durability, Mode, make_durable_by
from rta_service.stores.event_log import Draft, Entry, EventLog
from rta_service.stores.poison import Aside, PoisonStore, addressed
from rta_service.stores.redis import AsyncClient, close, watch_client

NOON_MS = 20_700 * 86_400_000


@pytest.fixture
async def client(store_url: str) -> AsyncIterator[AsyncClient]:
    client = watch_client(store_url, 5.0)
    yield client
    await close(client)


@pytest.fixture
async def log(client: AsyncClient, namespace: str) -> EventLog:
    log = EventLog(
        client, namespace, await make_durable_by(client, "touch", Durability(Mode.WRITTEN))
    )
    await log.append([Draft(f"e{number}", NOON_MS, b"body %d" % number) for number in range(5)])
    await log.open_group("fresh")
    return log


def aside(entry: Entry) -> Aside:
    return Aside(entry.entry_id, "KeyError in a.py, line 1", entry.body)


async def test_an_event_is_set_aside_once_and_acknowledged_with_that(
    client: AsyncClient, namespace: str, log: EventLog
) -> None:
    poison = PoisonStore(client, namespace)
    first, second, *_ = await log.read("fresh", "one", 5)

    assert await poison.set_aside("fresh", [aside(first), aside(second)]) == 2
    assert await poison.set_aside("fresh", [aside(second)]) == 0

    found = await poison.list(10)
    assert [one[1:] for one in found] == [
        ("fresh", first.entry_id, "KeyError in a.py, line 1", b"body 0"),
        ("fresh", second.entry_id, "KeyError in a.py, line 1", b"body 1"),
    ]
    assert await poison.list(10, found[0].poison_id) == found[1:]
    assert (await log.backlog("fresh")).unacknowledged == 3


async def test_a_full_poison_acknowledges_nothing_more(
    client: AsyncClient, namespace: str, log: EventLog
) -> None:
    poison = PoisonStore(client, namespace, max_length=2)
    entries = await log.read("fresh", "one", 5)

    with pytest.raises(StoreUnavailable, match="2 events are set aside already"):
        await poison.set_aside("fresh", [aside(entry) for entry in entries])

    assert await poison.count() == 2
    assert await log.unacknowledged("fresh", "one", 5) == entries[2:]


async def test_an_event_taken_back_stands_last_in_the_log_for_its_group_alone(
    client: AsyncClient, namespace: str, log: EventLog
) -> None:
    poison = PoisonStore(client, namespace)
    [first] = await log.read("fresh", "one", 1)
    await poison.set_aside("fresh", [aside(first)])
    [poisoned] = await poison.list(10)

    assert await poison.take_back(poisoned.poison_id)
    assert not await poison.take_back(poisoned.poison_id)

    *_, last = await log.latest(1)
    assert addressed(last.body) == ("fresh", b"body 0")
    assert await poison.count() == 0


async def test_an_event_may_be_dropped_for_good(
    client: AsyncClient, namespace: str, log: EventLog
) -> None:
    poison = PoisonStore(client, namespace)
    await poison.set_aside("fresh", [aside(one) for one in await log.read("fresh", "one", 1)])
    [poisoned] = await poison.list(10)

    assert await poison.drop(poisoned.poison_id)
    assert not await poison.drop(poisoned.poison_id)


@pytest.mark.parametrize("poison_id", ["", "5", "1-2-3", "1-x", "-", "²-1"])
async def test_what_is_no_id_is_refused(
    client: AsyncClient, namespace: str, poison_id: str
) -> None:
    poison = PoisonStore(client, namespace)

    with pytest.raises(InvalidInput, match="no id of a poisoned event"):
        await poison.take_back(poison_id)
    with pytest.raises(InvalidInput):
        await poison.drop(poison_id)


@pytest.mark.parametrize("body", [b"", b"plain", b"\xc1 without an end"])
def test_a_body_that_names_no_group_is_for_all(body: bytes) -> None:
    assert addressed(body) == ("", body)
