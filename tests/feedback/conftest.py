"""A real server, a log in it, and events to consume."""

import itertools
from collections.abc import AsyncIterator, Iterator, Sequence
from functools import partial
from hashlib import md5
from pathlib import Path
from typing import Any

import pytest

from rta_service.domain.events import Event
from rta_service.domain.happening import Happening
from rta_service.domain.sealing import Sealer, to_bytes
from rta_service.feedback.consuming import Source, Taken
from rta_service.stores.durability import Durability, Mode, make_durable_by
from rta_service.stores.embedded import EmbeddedStore
from rta_service.stores.event_log import Draft, EventLog
from rta_service.stores.poison import PoisonStore
from rta_service.stores.redis import AsyncClient, close, watch_client

EVENT_KEY = b"an event key of the tests"
SEALER = Sealer(EVENT_KEY)
_COUNTER = itertools.count()


@pytest.fixture(scope="session")
def log_store_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with EmbeddedStore(tmp_path_factory.mktemp("log-store")) as store:
        yield store.url


@pytest.fixture
def own_store(tmp_path: Path) -> Iterator[EmbeddedStore]:
    """A started server that the test may stop, hang or kill."""
    with EmbeddedStore(tmp_path / "own") as store:
        yield store


@pytest.fixture
def space() -> str:
    """A namespace of the test's own."""
    return f"feedback{next(_COUNTER)}"


def md5_of(number: int) -> str:
    return md5(b"device %d" % number, usedforsecurity=False).hexdigest()


def happening(number: int, ts_ms: int, event: Event = Event.LAUNCH, **more: Any) -> Happening:
    told = {"device_md5s": (md5_of(number % 20),), "user_id": f"u{number % 7}"} | more
    return Happening(f"e{number}", ts_ms, event, **told)


class Kit:
    """Builders of events."""

    event_key = EVENT_KEY
    sealer = SEALER

    @staticmethod
    def happening(number: int, ts_ms: int, event: Event = Event.LAUNCH, **more: Any) -> Happening:
        """An event of one of 20 devices and 7 people, unless told."""
        return happening(number, ts_ms, event, **more)

    @staticmethod
    def draft(happened: Happening) -> Draft:
        return Draft(happened.event_id, happened.ts_ms, to_bytes(SEALER.seal(happened)))

    @staticmethod
    def taken(place: str, happened: Happening) -> Taken:
        return Taken(place, happened, SEALER.seal(happened))

    @staticmethod
    def md5_of(number: int) -> str:
        return md5_of(number)


class Parts(Kit):
    """What consuming needs, on one client."""

    def __init__(self, client: AsyncClient, space: str, log: EventLog) -> None:
        self.client: Any = client
        self.log = log
        self.poison_of = partial(PoisonStore, client, space)
        self.poison = self.poison_of(5)
        self.is_ours = True

    @property
    def source(self) -> Source:
        return Source(self.log, self.poison, lambda: Sealer(EVENT_KEY), lambda: self.is_ours)

    async def send(self, happened: Sequence[Happening]) -> list[bool]:
        return await self.log.append([self.draft(one) for one in happened])


@pytest.fixture(scope="session")
def kit() -> Kit:
    return Kit()


@pytest.fixture
async def parts(log_store_url: str, space: str) -> AsyncIterator[Parts]:
    client = watch_client(log_store_url, 5.0)
    durable = await make_durable_by(client, "touch", Durability(Mode.WRITTEN))
    yield Parts(client, space, EventLog(client, space, durable))
    await close(client)
