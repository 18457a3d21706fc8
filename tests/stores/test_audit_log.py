"""Who did what, when and why: written with the change itself, and proof against meddling."""

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from rta_service.domain.audit import AuditEntry
from rta_service.domain.errors import InvalidInput
from rta_service.domain.release import Release
from rta_service.stores.redis import AdminClient
from rta_service.stores.releases import ReleaseStore
from rta_service.stores.snapshots import load_snapshot

UPLOAD = AuditEntry(1_000, "ann", "upload", "trade v2: accepted", "better on new users")


@pytest.fixture
def store(admin: AdminClient, namespace: str, a_snapshot: Callable[..., Path]) -> ReleaseStore:
    """A store of releases whose snapshot s1 is there."""
    load_snapshot(admin, namespace, a_snapshot(10))
    return ReleaseStore(admin, namespace)


@pytest.fixture
def log_key(namespace: str) -> str:
    return f"{{{namespace}}}:r1:audit"


def a_release(store: ReleaseStore, release_id: str, previous_id: str = "") -> Release:
    return Release(release_id, "s1", (), store.put_strategies(""), 1, previous_id=previous_id)


def publish(store: ReleaseStore, release_id: str, previous_id: str = "") -> None:
    deed = AuditEntry(2_000, "cli:ann", "publish", "strategies", "Monday's targets")
    store.publish(a_release(store, release_id, previous_id), deed)


def test_nothing_was_done_yet(store: ReleaseStore) -> None:
    assert store.audit(10) == []
    assert store.audit(0) == []
    assert store.verify_audit() is None


def test_every_deed_is_written_down_newest_first(store: ReleaseStore) -> None:
    store.note(UPLOAD)
    publish(store, "r1")
    publish(store, "r2", "r1")
    store.rollback(AuditEntry(3_000, "http:ops", "rollback", "back", "too many bids"))

    rollback, second, first, upload = store.audit(9)
    assert upload == UPLOAD
    assert (first.release_id, first.previous_id) == ("r1", "")
    assert (second.release_id, second.previous_id, second.why) == ("r2", "r1", "Monday's targets")
    current = store.current()
    assert current is not None
    assert rollback.release_id == current.release_id
    assert (rollback.who, rollback.action, rollback.at_ms) == ("http:ops", "rollback", 3_000)
    assert store.audit(1) == [rollback]
    assert store.verify_audit() is None


def test_a_change_that_did_not_happen_has_no_entry(store: ReleaseStore) -> None:
    publish(store, "r1")

    with pytest.raises(InvalidInput, match="r1 decides now"):
        publish(store, "r2")

    assert [entry.release_id for entry in store.audit(9)] == ["r1"]


def test_a_publication_whose_answer_was_lost_is_written_down_once(store: ReleaseStore) -> None:
    publish(store, "r1")

    publish(store, "r1")  # what a client does that lost its connection before the answer

    assert [entry.release_id for entry in store.audit(9)] == ["r1"]
    assert len(store.history(9)) == 1


def _changed(lines: list[bytes], at: int) -> list[bytes]:
    link, entry = lines[at].split(b" ", 1)
    changed = msgspec.structs.replace(
        msgspec.json.decode(entry, type=AuditEntry), who="somebody else"
    )
    return [*lines[:at], link + b" " + msgspec.json.encode(changed), *lines[at + 1 :]]


def _removed(lines: list[bytes], at: int) -> list[bytes]:
    return lines[:at] + lines[at + 1 :]


def _doubled(lines: list[bytes], at: int) -> list[bytes]:
    return [*lines[: at + 1], *lines[at:]]


def _swapped(lines: list[bytes], at: int) -> list[bytes]:
    before = max(at - 1, 0)
    return [*lines[:before], lines[before + 1], lines[before], *lines[before + 2 :]]


@pytest.mark.parametrize("meddle", [_changed, _removed, _doubled, _swapped])
@pytest.mark.parametrize("at", [0, 1, 3, 5])
def test_meddling_with_an_entry_shows_at_its_place(
    store: ReleaseStore,
    admin: AdminClient,
    log_key: str,
    meddle: Callable[[list[bytes], int], list[bytes]],
    at: int,
) -> None:
    publish(store, "r1")
    for number in range(4):
        store.note(msgspec.structs.replace(UPLOAD, at_ms=number))
    publish(store, "r2", "r1")
    lines: list[bytes] = admin.lrange(log_key, 0, -1)  # type: ignore[assignment]  # the stubs mix in the asynchronous client

    admin.delete(log_key)
    admin.rpush(log_key, *meddle(lines, at))

    broken = store.verify_audit()
    assert broken is not None
    assert abs(broken - 1 - at) <= 1


def test_a_log_that_lost_its_end_does_not_name_what_decides(
    store: ReleaseStore, admin: AdminClient, log_key: str
) -> None:
    publish(store, "r1")
    publish(store, "r2", "r1")

    admin.rpop(log_key)

    assert store.verify_audit() == 2


def test_a_release_older_than_the_log_needs_no_entry(
    store: ReleaseStore, admin: AdminClient, namespace: str
) -> None:
    old = (
        b'{"release_id":"r0","snapshot_id":"s1","models":[],"strategies_id":"x","created_at_ms":1}'
    )
    admin.set(f"{{{namespace}}}:r1:release:r0", old)
    admin.set(f"{{{namespace}}}:r1:current", "r0")

    assert store.verify_audit() is None


def test_an_entry_of_a_later_version_is_refused_by_name(
    store: ReleaseStore, admin: AdminClient, log_key: str
) -> None:
    admin.rpush(log_key, b"0" * 40 + b' {"colour": "red"}')

    with pytest.raises(InvalidInput, match="not an audit entry this version reads"):
        store.audit(1)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25)
@given(st.lists(st.text(max_size=40), min_size=1, max_size=5))
def test_any_words_survive_and_any_length_verifies(store: ReleaseStore, words: list[str]) -> None:
    before = len(store.audit(10_000))
    for word in words:
        store.note(AuditEntry(1, word, "note", word, word))

    assert [entry.who for entry in reversed(store.audit(len(words)))] == words
    assert len(store.audit(10_000)) == before + len(words)
    assert store.verify_audit() is None


def test_a_long_log_is_verified_in_parts(store: ReleaseStore, admin: AdminClient) -> None:
    for _ in range(1_100):
        store.note(UPLOAD)

    assert store.verify_audit() is None
