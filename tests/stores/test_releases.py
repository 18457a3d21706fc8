from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest

from rta_service.domain.audit import AuditEntry
from rta_service.domain.errors import InvalidInput, StoreUnavailable
from rta_service.domain.release import Canary, ModelRef, Release
from rta_service.stores.redis import AdminClient, close, watch_client
from rta_service.stores.release_reader import AsyncReleaseReader
from rta_service.stores.releases import ReleaseStore, new_release_id, strategies_id
from rta_service.stores.snapshots import load_snapshot

SnapshotMaker = Callable[..., Path]

NOW_MS = 1_791_793_800_123
DEED = AuditEntry(NOW_MS, "cli:ann", "publish", "a test's release", "to see")
BACK = AuditEntry(NOW_MS, "cli:ann", "rollback", "a test's way back")
AGAIN = AuditEntry(NOW_MS + 1, "cli:ann", "rollback", "and forth")
STRATEGIES = 'id = "wake"\n'


@pytest.fixture
def store(admin: AdminClient, namespace: str, a_snapshot: SnapshotMaker) -> ReleaseStore:
    """A store of releases whose parts, snapshot s1 and STRATEGIES, are there."""
    load_snapshot(admin, namespace, a_snapshot(10))
    releases = ReleaseStore(admin, namespace)
    releases.put_strategies(STRATEGIES)
    return releases


@pytest.fixture
async def reader(store_url: str, namespace: str) -> AsyncIterator[AsyncReleaseReader]:
    client = watch_client(store_url)
    yield AsyncReleaseReader(client, namespace)
    await close(client)


def a_release(release_id: str, previous_id: str = "", snapshot_id: str = "s1") -> Release:
    return Release(
        release_id=release_id,
        snapshot_id=snapshot_id,
        models=(ModelRef("trade", "1", "ab"),),
        strategies_id=strategies_id(STRATEGIES),
        created_at_ms=NOW_MS,
        previous_id=previous_id,
        mean_values={"wake": float(release_id[1:])},
    )


def test_before_the_first_release_nothing_decides(store: ReleaseStore) -> None:
    assert store.current() is None
    assert store.history(10) == []
    assert store.get("r1") is None


def test_the_last_published_release_decides_and_the_history_remembers_all(
    store: ReleaseStore,
) -> None:
    releases = [a_release("r1"), a_release("r2", "r1"), a_release("r3", "r2")]

    for release in releases:
        store.publish(release, DEED)

    assert store.current() == releases[2]
    assert store.history(2) == [releases[2], releases[1]]
    assert store.get("r1") == releases[0]


def test_a_publisher_that_missed_another_release_is_told(store: ReleaseStore) -> None:
    store.publish(a_release("r1"), DEED)
    store.publish(a_release("r2", "r1"), DEED)

    with pytest.raises(InvalidInput, match="made after r1, but r2 decides now"):
        store.publish(a_release("r3", "r1"), DEED)
    with pytest.raises(InvalidInput, match="made after no release, but r2 decides now"):
        store.publish(a_release("r3"), DEED)

    assert store.current() == a_release("r2", "r1")
    assert store.get("r3") is None


def test_of_many_publishers_at_once_exactly_one_wins(store: ReleaseStore) -> None:
    def publish(number: int) -> bool:
        try:
            store.publish(a_release(f"r{number}"), DEED)
        except InvalidInput:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(publish, range(8)))

    assert won.count(True) == 1
    assert store.current() == a_release(f"r{won.index(True)}")


def test_an_id_is_never_reused(store: ReleaseStore) -> None:
    store.publish(a_release("r1"), DEED)

    with pytest.raises(InvalidInput, match="published before"):
        store.publish(msgspec.structs.replace(a_release("r1", "r1"), note="another"), DEED)


def test_a_release_without_its_snapshot_or_strategies_is_refused(store: ReleaseStore) -> None:
    with pytest.raises(InvalidInput, match="snapshot gone: is not loaded"):
        store.publish(a_release("r1", snapshot_id="gone"), DEED)
    with pytest.raises(InvalidInput, match="strategies nope: are not in the store"):
        store.publish(msgspec.structs.replace(a_release("r1"), strategies_id="nope"), DEED)


def test_rolling_back_brings_the_earlier_content_under_a_new_id(store: ReleaseStore) -> None:
    first, second = a_release("r1"), a_release("r2", "r1")
    store.publish(first, DEED)
    store.publish(second, DEED)

    back = store.rollback(BACK)

    assert store.current() == back
    assert back.release_id == new_release_id(NOW_MS)
    assert back.previous_id == "r2"
    assert back.mean_values == first.mean_values
    assert back.note == "rollback from r2 to the content of r1"


def test_rolling_back_twice_returns_to_where_one_began(store: ReleaseStore) -> None:
    store.publish(a_release("r1"), DEED)
    store.publish(a_release("r2", "r1"), DEED)

    store.rollback(BACK)
    again = store.rollback(AGAIN)

    assert again.mean_values == {"wake": 2.0}


def test_there_is_no_way_back_from_the_first_release(store: ReleaseStore) -> None:
    with pytest.raises(InvalidInput, match="no earlier release"):
        store.rollback(BACK)
    store.publish(a_release("r1"), DEED)
    with pytest.raises(InvalidInput, match="no earlier release"):
        store.rollback(BACK)


def test_there_is_no_way_back_to_an_expired_snapshot(
    store: ReleaseStore, admin: AdminClient, namespace: str, a_snapshot: SnapshotMaker
) -> None:
    load_snapshot(admin, namespace, a_snapshot(10, snapshot_id="s2"))
    store.publish(a_release("r1"), DEED)
    store.publish(a_release("r2", "r1", "s2"), DEED)
    admin.delete(f"{namespace}:p1:s1:manifest")

    with pytest.raises(InvalidInput, match="snapshot s1: is not loaded, or has expired; load it"):
        store.rollback(BACK)


def test_strategies_are_known_by_their_content(store: ReleaseStore) -> None:
    name = store.put_strategies("größe = 1\n")

    assert name == store.put_strategies("größe = 1\n") == strategies_id("größe = 1\n")
    assert store.get_strategies(name) == "größe = 1\n"
    assert store.get_strategies("unknown") is None


def test_release_ids_sort_by_time() -> None:
    assert new_release_id(NOW_MS) == "r20261012T083000123"
    assert new_release_id(NOW_MS) < new_release_id(NOW_MS + 1)


def test_a_release_of_a_later_version_is_refused_by_name(
    store: ReleaseStore, admin: AdminClient, namespace: str
) -> None:
    admin.set(f"{{{namespace}}}:r1:release:r9", b'{"release_id": "r9", "colour": "red"}')

    with pytest.raises(InvalidInput, match="not a release this version reads"):
        store.get("r9")


def test_a_release_of_a_newer_schema_says_which_service_to_upgrade(
    store: ReleaseStore, admin: AdminClient, namespace: str
) -> None:
    admin.set(f"{{{namespace}}}:r1:release:r9", b'{"release_id": "r9", "schema": 3, "hue": 1}')

    with pytest.raises(InvalidInput, match=r"newer version.*schema 3, this one reads up to 2"):
        store.get("r9")


def test_a_release_from_before_there_were_arms_is_still_read(
    store: ReleaseStore, admin: AdminClient, namespace: str
) -> None:
    old = msgspec.to_builtins(a_release("r1"))
    for name in ("canary", "shadow", "previous", "schema"):
        del old[name]
    admin.set(f"{{{namespace}}}:r1:release:r1", msgspec.json.encode(old))

    assert store.get("r1") == msgspec.structs.replace(a_release("r1"), schema=1)


def test_a_canary_that_ended_is_not_started_again_by_going_back(store: ReleaseStore) -> None:
    one, two, three = (ModelRef("trade", version, "ab") for version in "123")
    first = msgspec.structs.replace(
        a_release("r1"), canary=Canary((two,), 10_000, 1), shadow=(three,)
    )
    second = msgspec.structs.replace(a_release("r2", "r1"), models=(two,), previous=(one,))
    store.publish(first, DEED)
    store.publish(second, DEED)

    back = store.rollback(BACK)

    assert back.models == (one,)
    assert back.canary is None
    assert back.shadow == ()
    assert back.previous == (two,)


def test_a_canary_that_still_runs_goes_back_to_its_earlier_share(store: ReleaseStore) -> None:
    two = ModelRef("trade", "2", "ab")
    first = msgspec.structs.replace(a_release("r1"), canary=Canary((two,), 10_000, 1))
    second = msgspec.structs.replace(a_release("r2", "r1"), canary=Canary((two,), 100_000, 2))
    store.publish(first, DEED)
    store.publish(second, DEED)

    assert store.rollback(BACK).canary == first.canary


async def test_workers_follow_both_pointers(
    store: ReleaseStore, reader: AsyncReleaseReader
) -> None:
    assert await reader.pointers() == ("", "")

    store.publish(a_release("r1"), DEED)
    store.propose(a_release("r2", "r1"))

    assert await reader.pointers() == ("r1", "r2")
    assert store.find("r1") == a_release("r1")
    assert store.find("r2") == a_release("r2", "r1")
    assert store.get("r2") is None
    assert store.find("r3") is None


async def test_a_worker_without_its_store_is_told(tmp_path_factory: pytest.TempPathFactory) -> None:
    client = watch_client(f"unix://{tmp_path_factory.mktemp('none')}/no.sock")

    with pytest.raises(StoreUnavailable, match="following the release"):
        await AsyncReleaseReader(client, "ad").pointers()
    await close(client)
