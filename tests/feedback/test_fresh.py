"""Events become deltas that say the same whatever their order, their copies and their crashes."""

import random
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from rta_service.device_key import KeyRing
from rta_service.domain.events import Event
from rta_service.domain.happening import Happening
from rta_service.feedback.consuming import Taken
from rta_service.feedback.fresh import FreshRecords
from rta_service.record_delta import FOLDED, day_of, fold, pack_delta
from rta_service.stores.delta_store import DeltaStore
from rta_service.stores.redis import AdminClient, admin_client

Kit = Any
"""The builder of conftest.py: test folders are no packages."""
NOW_MS = time.time_ns() // 1_000_000
KEYS = KeyRing(b"pepper", b"experiment")
_SPACES = iter(range(1_000_000))


@pytest.fixture
def admin(log_store_url: str) -> Iterator[AdminClient]:
    client = admin_client(log_store_url)
    yield client
    client.close()


def a_day(kit: Kit, events: int = 150, seed: int = 1) -> list[Happening]:
    """All kinds of events of few devices, each with up to three ids, today and yesterday."""
    chance = random.Random(seed)
    return [
        kit.happening(
            number,
            NOW_MS - chance.randrange(86_400_000),
            chance.choice(list(Event)),
            device_md5s=tuple(kit.md5_of(chance.randrange(12)) for _ in range(chance.randrange(4))),
            cents=chance.randrange(1_000),
            order_id=f"o{chance.randrange(9)}",
        )
        for number in range(events)
    ]


def wanted_of(happened: Sequence[Happening]) -> dict[tuple[int, bytes], bytes]:
    """What distinct events leave, folded at once."""
    devices: defaultdict[tuple[int, str], list[Any]] = defaultdict(list)
    for one in happened:
        for md5 in set(one.device_md5s) if one.event in FOLDED else ():
            devices[day_of(one.ts_ms), md5].append(one)
    return {
        (day, KEYS.device_key(md5)): pack_delta(fold(day, KEYS.person_key(None, md5), events))
        for (day, md5), events in devices.items()
    }


def found_of(store: DeltaStore, wanted: dict[tuple[int, bytes], bytes]) -> dict[Any, list[bytes]]:
    return {place: store.find(place[1], [place[0]]) for place in wanted}


def numbered(kit: Kit, happened: Sequence[Happening]) -> list[Taken]:
    return [kit.taken(f"{NOW_MS}-{place}", one) for place, one in enumerate(happened)]


@settings(max_examples=15)
@given(order=st.randoms(use_true_random=False), cuts=st.lists(st.integers(1, 149), max_size=6))
def test_any_order_of_a_day_with_repeated_batches_gives_the_same_deltas(
    kit: Kit, log_store_url: str, order: random.Random, cuts: list[int]
) -> None:
    happened = a_day(kit)
    wanted = wanted_of(happened)
    order.shuffle(happened)
    stream, done = numbered(kit, happened), 0
    with admin_client(log_store_url) as client:
        store = DeltaStore(client, f"fresh{next(_SPACES)}")
        handler = FreshRecords(store, KEYS)

        for end in [*sorted(cuts), 150]:
            handler.handle(stream[max(0, done - order.randrange(30)) : end])
            done = end

        found = found_of(store, wanted)

    assert found == {place: [delta] for place, delta in wanted.items()}


def test_it_says_how_many_deltas_it_wrote_and_what_came_again(
    kit: Kit, admin: AdminClient, space: str
) -> None:
    handler = FreshRecords(DeltaStore(admin, space), KEYS)
    two = kit.happening(1, NOW_MS, device_md5s=(kit.md5_of(1), kit.md5_of(2)))
    none = kit.happening(2, NOW_MS, Event.AD_WIN)
    stream = numbered(kit, [two, none])

    handler.handle(stream)
    assert (handler.deltas, handler.replayed) == (2, 0)
    handler.handle(stream)
    assert (handler.deltas, handler.replayed) == (2, 2)
