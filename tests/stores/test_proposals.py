"""The first phase of a release: proposed, answered by workers, withdrawn or committed."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import msgspec
import pytest

from rta_service.domain.audit import AuditEntry
from rta_service.domain.errors import InvalidInput
from rta_service.domain.release import Canary, ModelRef, Release
from rta_service.stores.redis import AdminClient, close, watch_client
from rta_service.stores.release_reader import AsyncReleaseReader, worker_name
from rta_service.stores.releases import ReleaseStore
from rta_service.stores.snapshots import load_snapshot

DEED = AuditEntry(1, "cli:ann", "publish", "models")


@pytest.fixture
def store(admin: AdminClient, namespace: str, a_snapshot: Callable[..., Path]) -> ReleaseStore:
    """A store of releases of which r1 decides."""
    load_snapshot(admin, namespace, a_snapshot(10))
    releases = ReleaseStore(admin, namespace)
    releases.publish(a_release(releases, "r1"), DEED)
    return releases


@pytest.fixture
async def worker(store_url: str, namespace: str) -> AsyncIterator[AsyncReleaseReader]:
    client = watch_client(store_url)
    yield AsyncReleaseReader(client, namespace, "decision-0@host:7")
    await close(client)


def a_release(store: ReleaseStore, release_id: str, previous_id: str = "") -> Release:
    ref = ModelRef("trade", "v2", "ab")
    canary = Canary((ref,), 100_000, 5, {"wake@json": 0.5})
    strategies = store.put_strategies("")
    return Release(release_id, "s1", (ref,), strategies, 1, previous_id=previous_id, canary=canary)


async def test_a_worker_answers_and_the_commit_takes_what_was_proposed(
    store: ReleaseStore, worker: AsyncReleaseReader, admin: AdminClient, namespace: str
) -> None:
    release = a_release(store, "r2", "r1")
    store.propose(release)
    before = store.prepared("r2")

    await worker.acknowledge("r2", "")
    answers = store.prepared("r2")
    store.publish(release, DEED)

    assert (before, answers) == ({}, {"decision-0@host:7": ""})
    assert await worker.pointers() == ("r2", "")
    assert store.get("r2") == store.find("r2") == release
    assert admin.exists(f"{{{namespace}}}:r1:proposal:r2") == 0


async def test_a_refusal_carries_its_reason(
    store: ReleaseStore, worker: AsyncReleaseReader
) -> None:
    store.propose(a_release(store, "r2", "r1"))

    await worker.acknowledge("r2", "trade v2: damaged")

    assert store.prepared("r2") == {"decision-0@host:7": "trade v2: damaged"}


async def test_a_withdrawn_proposal_leaves_no_trace(
    store: ReleaseStore, worker: AsyncReleaseReader, admin: AdminClient, namespace: str
) -> None:
    store.propose(a_release(store, "r2", "r1"))
    await worker.acknowledge("r2", "")

    store.withdraw("r2")

    assert await worker.pointers() == ("r1", "")
    assert store.find("r2") is None
    assert store.prepared("r2") == {}
    assert admin.keys(f"{{{namespace}}}:r1:p*") == []


def test_of_two_proposals_the_second_is_told_to_wait(store: ReleaseStore) -> None:
    store.propose(a_release(store, "r2", "r1"))

    with pytest.raises(InvalidInput, match="release r2 is being made ready; try again"):
        store.propose(a_release(store, "r3", "r1"))
    store.withdraw("r3")  # what its author does then; it is not r2's business

    assert store.find("r2") is not None


def test_a_proposal_whose_author_died_is_forgotten(
    store: ReleaseStore, admin: AdminClient, namespace: str
) -> None:
    store.propose(a_release(store, "r2", "r1"), ttl_ms=40_000)

    lives_ms = [admin.pttl(f"{{{namespace}}}:r1:{part}") for part in ("proposed", "proposal:r2")]
    assert all(0 < life <= 40_000 for life in lives_ms)


def test_what_was_proposed_can_not_be_exchanged_before_the_commit(store: ReleaseStore) -> None:
    release = a_release(store, "r2", "r1")
    store.propose(release)

    with pytest.raises(InvalidInput, match="published before; ids are never reused"):
        store.publish(msgspec.structs.replace(release, note="another"), DEED)

    current = store.current()
    assert current is not None
    assert current.release_id == "r1"


def test_a_published_id_can_not_be_proposed(store: ReleaseStore) -> None:
    with pytest.raises(InvalidInput, match="published before"):
        store.propose(a_release(store, "r1"))
    with pytest.raises(InvalidInput, match="snapshot gone: is not loaded"):
        store.propose(msgspec.structs.replace(a_release(store, "r2", "r1"), snapshot_id="gone"))


async def test_workers_are_there_for_as_long_as_they_show_themselves(
    store: ReleaseStore, worker: AsyncReleaseReader
) -> None:
    await worker.show("r1", 7)

    shown = store.workers()
    gone = store.workers(within_ms=-1)

    assert list(shown) == ["decision-0@host:7"]
    assert (shown["decision-0@host:7"].release_id, shown["decision-0@host:7"].pid) == ("r1", 7)
    assert gone == {}


async def test_a_worker_that_went_away_leaves_the_table_in_the_end(
    store: ReleaseStore, worker: AsyncReleaseReader, admin: AdminClient, namespace: str
) -> None:
    key = f"{{{namespace}}}:r1:workers"
    admin.hset(key, "decision-0@host:6", '{"release_id":"r0","pid":6,"seen_ms":1}')
    await worker.show("r1", 7)

    store.workers()

    assert admin.hkeys(key) == [b"decision-0@host:7"]


async def test_who_only_follows_is_not_waited_for(
    store: ReleaseStore, store_url: str, namespace: str
) -> None:
    client = watch_client(store_url)
    control = AsyncReleaseReader(client, namespace)

    await control.show("r1", 8)
    await control.acknowledge("r2", "")

    assert store.workers() == {}
    assert store.prepared("r2") == {}
    assert await control.pointers() == ("r1", "")
    await close(client)


def test_a_worker_started_anew_has_another_name() -> None:
    assert worker_name("decision-0", "web 1", 7) == "decision-0@web_1:7"
    assert worker_name("decision-0", "web 1", 8) != worker_name("decision-0", "web 1", 7)
