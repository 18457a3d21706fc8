"""The switch to a release in two phases: every worker makes it ready, then the pointer moves.

A worker loads and warms a proposal beside the release it decides by; on the commit it replaces one
reference. So no request waits for a model, and no worker is left behind on an older release. The
way back needs no first phase: workers keep the models of `previous` warm.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from rta_service.domain.audit import AuditEntry
from rta_service.domain.clock import Clock, SystemClock
from rta_service.domain.errors import DegradedError, InvalidInput
from rta_service.domain.release import Release
from rta_service.releasing.shelf import Shelf
from rta_service.releasing.trying import tried, weighed
from rta_service.stores.releases import ReleaseStore

_SHOWN: Final = 3
"""Workers named in a message."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long workers may take to make a release ready, and how time passes meanwhile."""

    prepare_s: float = 20.0
    look_s: float = 0.02
    clock: Clock = field(default_factory=SystemClock)
    sleep: Callable[[float], None] = time.sleep


def activate(
    shelf: Shelf, draft: Release, entry: AuditEntry, patience: Patience | None = None
) -> Release:
    """Try a draft out and let it decide; its `previous_id` must decide now.

    Raises InvalidInput, ModelRefused or StartupError when it is not fit to decide or a worker
    refuses it, DegradedError when a worker is not ready in time; the current release then goes on.
    """
    release = tried(shelf, draft)
    switch(shelf.releases, release, entry, patience or Patience())
    return release


def activate_at_once(shelf: Shelf, draft: Release, entry: AuditEntry) -> Release:
    """Let a draft decide that needs no first phase: all its models are live or warm already.

    For the way back (`rollout.roll_back`, `rollout.stop`). Raises InvalidInput.
    """
    release = weighed(shelf, draft)
    shelf.releases.publish(release, entry)
    return release


def switch(releases: ReleaseStore, release: Release, entry: AuditEntry, patience: Patience) -> None:
    """Propose a tried release, wait for the workers that are there, and commit.

    Raises as `activate` does; the proposal is then withdrawn.
    """
    if not releases.workers():
        releases.publish(release, entry)
        return
    releases.propose(release, ttl_ms=round(1000 * (patience.prepare_s + 10.0)))
    try:
        _await_workers(releases, release.release_id, patience)
        releases.publish(release, entry)
    except BaseException:
        releases.withdraw(release.release_id)
        raise


def _await_workers(releases: ReleaseStore, release_id: str, patience: Patience) -> None:
    end_s = patience.clock.monotonic_s() + patience.prepare_s
    while missing := _missing(releases, release_id):
        if patience.clock.monotonic_s() >= end_s:
            names = ", ".join(missing[:_SHOWN])
            raise DegradedError(
                f"{release_id}: not ready within {patience.prepare_s:g} s in {len(missing)} "
                f"worker(s): {names}; the current release goes on. Look at their log, or restart "
                "them, then try again"
            )
        patience.sleep(patience.look_s)


def _missing(releases: ReleaseStore, release_id: str) -> list[str]:
    """Name the workers that are there and have not answered; raises when one refused."""
    answers = releases.prepared(release_id)
    refused = sorted(worker for worker, reason in answers.items() if reason)
    if refused:
        raise InvalidInput(
            f"worker {refused[0]} can't decide by it: {answers[refused[0]]}; the current release "
            "goes on",
            release_id,
        )
    return sorted(releases.workers().keys() - answers.keys())
