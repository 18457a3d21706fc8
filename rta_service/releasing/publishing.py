"""Putting the next release together from what is published, and letting it decide."""

from dataclasses import dataclass

import msgspec

from rta_service.domain.audit import AuditEntry
from rta_service.domain.release import ModelRef, Release, Staged
from rta_service.domain.rollout import exchange
from rta_service.online.strategy_file import parse
from rta_service.releasing.activation import Patience, activate
from rta_service.releasing.shelf import Shelf, snapshot_of
from rta_service.stores.model_folder import mark_was_live


@dataclass(frozen=True, slots=True)
class Change:
    """What the next release has other than the current one; None keeps a part as it is."""

    snapshot_id: str | None = None
    models: tuple[ModelRef, ...] | None = None
    strategies: str | None = None
    """The text of a strategies file."""
    note: str = ""
    who: str = "unknown"
    """For the audit log, as is `why`."""
    why: str = ""


def publish(
    shelf: Shelf, change: Change, now_ms: int, patience: Patience | None = None
) -> Release | Staged:
    """Make the next release decide: put together, tried out, made ready by every worker.

    A canary and shadows go on beside another snapshot or other strategies. Before the first
    release, parts are kept until there is one of each. Raises as `activate` does, naming what is
    wrong; the current release then goes on.
    """
    if change.snapshot_id:
        snapshot_of(shelf, change.snapshot_id)
    current = shelf.releases.current()
    parts = _merged(shelf, change, current)
    if current is None:
        shelf.releases.stage(parts)
        if parts.missing:
            return parts
    entry = AuditEntry(now_ms, change.who, "publish", change.note or _named(change), change.why)
    release = activate(shelf, _draft(current, parts, change, now_ms), entry, patience)
    if current is None or change.models is not None:
        mark_was_live(shelf.models_folder, release.models, now_ms)
    return release


def _draft(current: Release | None, parts: Staged, change: Change, now_ms: int) -> Release:
    draft = Release(
        release_id="",
        snapshot_id=parts.snapshot_id,
        models=parts.models,
        strategies_id=parts.strategies_id,
        created_at_ms=now_ms,
        note=change.note,
    )
    if current is None:
        return draft
    trials = current if change.models is None else exchange(current, change.models)
    return msgspec.structs.replace(
        draft,
        previous_id=current.release_id,
        canary=trials.canary,
        shadow=trials.shadow,
        previous=trials.previous,
    )


def _named(change: Change) -> str:
    """Say in words what was published."""
    parts = {
        "a snapshot": change.snapshot_id,
        "models": change.models,
        "strategies": change.strategies,
    }
    return ", ".join(name for name, part in parts.items() if part) or "the same parts again"


def _merged(shelf: Shelf, change: Change, current: Release | None) -> Staged:
    """Lay a change over what decides now, or over what was kept before the first release."""
    base: Staged | Release = current if current is not None else shelf.releases.staged()
    strategies_id = base.strategies_id
    if change.strategies is not None:
        parse(change.strategies)
        strategies_id = shelf.releases.put_strategies(change.strategies)
    models = base.models if change.models is None else change.models
    return Staged(change.snapshot_id or base.snapshot_id, models, strategies_id)
