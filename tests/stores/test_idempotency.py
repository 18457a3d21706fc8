"""Keys of changes: claimed by one attempt, then holding its answer for a day."""

import itertools
from concurrent.futures import ThreadPoolExecutor

import pytest

from rta_service.stores.idempotency import CLAIM_S, KEPT_S, IdempotencyStore, Kept
from rta_service.stores.keys import release_name
from rta_service.stores.redis import AdminClient

NAME = "0" * 64
MINE, OTHERS = Kept("same request", "attempt 1"), Kept("same request", "attempt 2")


@pytest.fixture
def store(admin: AdminClient, namespace: str) -> IdempotencyStore:
    return IdempotencyStore(admin, namespace)


def test_the_first_claims_and_the_second_sees_it_at_work(store: IdempotencyStore) -> None:
    assert store.begin(NAME, MINE) is None
    assert store.begin(NAME, OTHERS) == MINE


def test_a_claim_that_is_sent_again_is_still_ours(store: IdempotencyStore) -> None:
    store.begin(NAME, MINE)

    assert store.begin(NAME, MINE) is None


def test_an_answer_is_found_by_whoever_comes_later(store: IdempotencyStore) -> None:
    store.begin(NAME, MINE)
    store.keep(NAME, MINE, b"\x00done")

    assert store.begin(NAME, OTHERS) == Kept("same request", "attempt 1", b"\x00done")


def test_a_released_key_is_free(store: IdempotencyStore) -> None:
    store.begin(NAME, MINE)
    store.release(NAME, MINE)

    assert store.begin(NAME, OTHERS) is None


def test_whose_claim_expired_keeps_and_releases_nothing(
    store: IdempotencyStore, admin: AdminClient, namespace: str
) -> None:
    store.begin(NAME, MINE)
    admin.delete(release_name(namespace, f"idem:{NAME}"))
    store.begin(NAME, OTHERS)

    store.keep(NAME, MINE, b"late")
    store.release(NAME, MINE)

    assert store.begin(NAME, MINE) == OTHERS


def test_claims_end_soon_and_answers_after_a_day(
    store: IdempotencyStore, admin: AdminClient, namespace: str
) -> None:
    key = release_name(namespace, f"idem:{NAME}")
    store.begin(NAME, MINE)
    claimed = admin.ttl(key)
    store.keep(NAME, MINE, b"done")

    kept = admin.ttl(key)

    assert isinstance(claimed, int)
    assert isinstance(kept, int)
    assert 0 < claimed <= CLAIM_S
    assert KEPT_S - 10 < kept <= KEPT_S


def test_of_many_at_once_one_claims(store: IdempotencyStore) -> None:
    attempts = [Kept("same request", f"attempt {n}") for n in range(40)]

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(store.begin, itertools.repeat(NAME), attempts))

    assert found.count(None) == 1
    assert {kept.claim for kept in found if kept} == {attempts[found.index(None)].claim}
