"""Killed at any step, an activation leaves exactly the old or exactly the new release deciding."""

import asyncio
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from rta_service.domain.audit import AuditEntry
from rta_service.releasing.activation import activate_at_once
from rta_service.releasing.trying import weighed
from rta_service.stores.redis import close, watch_client
from rta_service.stores.release_reader import AsyncReleaseReader

SCRIPT = Path(__file__).with_name("killed_activation.py")
CALLS = 9
"""Store calls of a whole activation with one worker that is ready at once."""


async def _one_worker_ready_for(url: str, namespace: str, release_id: str) -> None:
    client = watch_client(url)
    worker = AsyncReleaseReader(client, namespace, "decision-0@h:1")
    await worker.show("r1", 1)
    await worker.acknowledge(release_id, "")
    await close(client)


@pytest.mark.slow
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("call", range(1, CALLS + 2))
def test_a_killed_activation_leaves_the_old_or_the_new_release(
    stage: Any, store_url: str, when: str, call: int
) -> None:
    releases, namespace = stage.shelf.releases, stage.shelf.namespace
    release = weighed(stage.shelf, stage.draft(note="to be killed"))
    asyncio.run(_one_worker_ready_for(store_url, namespace, release.release_id))

    ended = subprocess.run(
        [sys.executable, str(SCRIPT), store_url, namespace, when, str(call)],
        input=msgspec.json.encode(release),
        check=False,
    )

    current = releases.current()
    assert ended.returncode == (0 if call > CALLS else -signal.SIGKILL)
    assert current in (stage.first, release)
    assert (current == release) is (call > CALLS or (call, when) == (CALLS, "after"))
    written = [entry.release_id for entry in releases.audit(9)]
    assert written == ([release.release_id, "r1"] if current == release else ["r1"])
    assert releases.verify_audit() is None
    # whatever was left lying about, the way is free for a rollback or another activation
    after = activate_at_once(
        stage.shelf, stage.draft(release.created_at_ms + 1), AuditEntry(1, "cli:ann", "live", "")
    )
    assert releases.current() == after
