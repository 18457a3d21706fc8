"""Whoever moves versions is killed at any moment: exactly the old or the new release decides."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rta_service.domain.access import Actor, Role
from rta_service.domain.clock import SystemClock
from rta_service.domain.command import Command
from rta_service.domain.release import Release
from rta_service.domain.rollout import Action
from rta_service.releasing.rollouts import Rollouts
from rta_service.releasing.shelf import Shelf
from rta_service.stores.keys import release_name

SCRIPT = Path(__file__).with_name("killed_act.py")
MOST_COMMANDS = 500
KILLED = -9
ADMIN = Actor("cli:ann", Role.ADMIN)

ActAndDie = Callable[[Action, int, int], int]


@pytest.fixture
def act_and_die(store_url: str, shelf: Shelf) -> Iterator[ActAndDie]:
    """Acts in a process that is killed before its n-th store command; gives its return code."""
    words = [store_url, shelf.namespace, str(shelf.models_folder)]
    with subprocess.Popen(
        [sys.executable, str(SCRIPT), *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        asked, answers = process.stdin, process.stdout

        def call(action: Action, at_ms: int, last: int) -> int:
            asked.write(f"{action.value} {at_ms} {last}\n")
            asked.flush()
            return int(answers.readline())

        yield call
        asked.close()


def _kill_everywhere(stage: Any, act_and_die: ActAndDie, action: Action, at_ms: int) -> list[int]:
    """Kill before every command, from the first; gives the commands after which the move stood."""
    releases = stage.shelf.releases
    moved = []
    for last in range(1, MOST_COMMANDS):
        before, entries = releases.current(), releases.audit(MOST_COMMANDS)
        code = act_and_die(action, at_ms + last, last)
        after, new = releases.current(), releases.audit(MOST_COMMANDS)[: -len(entries)]
        _forget_proposal(stage.shelf)
        if after == before:
            assert new == []
        else:
            assert after.previous_id == before.release_id
            assert [(e.release_id, e.previous_id) for e in new] == [
                (after.release_id, before.release_id)
            ]
            moved.append(last)
        assert releases.verify_audit() is None
        if code != KILLED:
            assert code == 0
            assert moved[-1] == last
            return moved
    raise AssertionError("never done")


def _forget_proposal(shelf: Shelf) -> None:
    """Do at once what a minute would: a dead author's proposal expires."""
    proposed: Any = shelf.client.get(release_name(shelf.namespace, "proposed"))
    if proposed is not None:
        shelf.releases.withdraw(proposed.decode())


def test_a_kill_at_any_command_of_a_rollback_leaves_the_old_or_the_new_release(
    stage: Any, act_and_die: ActAndDie
) -> None:
    now_ms = SystemClock().now_ms()
    rollouts = Rollouts(lambda: stage.shelf, SystemClock())
    went = rollouts.act(Command(Action.LIVE, (("trade", "v2"),), skip=True), ADMIN)

    moved = _kill_everywhere(stage, act_and_die, Action.ROLLBACK, now_ms + 60_000)

    live = {ref.version for ref in stage.shelf.releases.current().models if ref.name == "trade"}
    assert live == ({"v1"} if len(moved) % 2 else {"v2"})
    assert isinstance(went, Release)
    assert went.previous == (stage.old,)
    phases = {(s.name, s.version): s.phase.value for s in rollouts.models()}
    assert set(phases.values()) <= {"live", "previous"}


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_kill_at_any_command_of_going_live_leaves_every_worker_on_the_old_or_the_new_release(
    stage: Any, act_and_die: ActAndDie, run_workers: Any, wait_for: Callable[..., None]
) -> None:
    now_ms = SystemClock().now_ms()

    with run_workers(2) as workers:
        moved = _kill_everywhere(stage, act_and_die, Action.LIVE, now_ms)
        current = stage.shelf.releases.current().release_id
        wait_for(lambda: {worker.release_id for worker in workers} == {current})

    assert moved
