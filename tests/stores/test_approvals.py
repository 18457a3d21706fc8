"""Wishes that wait for a second person."""

import time

import msgspec
import pytest

from rta_service.domain.command import Command, Pending
from rta_service.domain.errors import UnknownName
from rta_service.domain.rollout import Action
from rta_service.stores.approvals import Approvals
from rta_service.stores.redis import AdminClient

NOW_MS = 1_717_286_400_000


def _wish(name: str = "w1", at_ms: int = NOW_MS, left_ms: int = 60_000) -> Pending:
    command = Command(Action.LIVE, (("trade", "v2"),), why="better", release_id="r1")
    return Pending(name, command, "ann", at_ms, at_ms + left_ms)


@pytest.fixture
def waiting(admin: AdminClient, namespace: str) -> Approvals:
    return Approvals(admin, namespace)


def test_what_waits_is_found_by_its_id_and_in_the_list(waiting: Approvals) -> None:
    later, wish = waiting.put(_wish("w2", NOW_MS + 1)), waiting.put(_wish())

    assert waiting.get("w1") == wish == _wish()
    assert waiting.all() == [wish, later]


def test_the_same_wish_waits_once(waiting: Approvals) -> None:
    first = waiting.put(_wish())

    again = waiting.put(msgspec.structs.replace(_wish(), asked_by="bob"))

    assert again == first
    assert waiting.all() == [first]


def test_what_was_dropped_waits_no_longer(waiting: Approvals) -> None:
    waiting.put(_wish())

    waiting.drop("w1")

    assert waiting.all() == []
    with pytest.raises(UnknownName, match="withdrawn"):
        waiting.get("w1")


def test_what_is_over_goes_by_itself_also_from_the_list(waiting: Approvals) -> None:
    waiting.put(_wish(left_ms=30))
    waiting.put(_wish("w2"))

    time.sleep(0.1)

    assert [wish.pending_id for wish in waiting.all()] == ["w2"]
    assert [wish.pending_id for wish in waiting.all()] == ["w2"]


@pytest.mark.parametrize("name", ["", "a b", "x:y", "../w"])
def test_an_id_that_is_none_is_refused(waiting: Approvals, name: str) -> None:
    with pytest.raises(UnknownName):
        waiting.get(name)
