"""Putting a release together and trying it out before the pointer moves."""

from dataclasses import dataclass

import msgspec

from rta_service.domain.errors import InvalidInput
from rta_service.domain.release import ModelRef, Release, Staged
from rta_service.online.strategy_file import parse
from rta_service.releasing.shelf import Shelf, snapshot_of
from rta_service.releasing.weighing import mean_values
from rta_service.scoring.check import check_models
from rta_service.stores.releases import new_release_id


@dataclass(frozen=True, slots=True)
class Change:
    """What the next release has other than the current one; None keeps a part as it is."""

    snapshot_id: str | None = None
    models: tuple[ModelRef, ...] | None = None
    strategies: str | None = None
    """The text of a strategies file."""
    note: str = ""


def publish(shelf: Shelf, change: Change, now_ms: int) -> Release | Staged:
    """Make the next release decide: put together, tried out, and then the pointer moves.

    Before the first release, parts are kept until there is one of each. Raises InvalidInput,
    ModelRefused or StartupError naming what is wrong; the current release then goes on.
    """
    if change.snapshot_id:
        snapshot_of(shelf, change.snapshot_id)
    current = shelf.releases.current()
    parts = _merged(shelf, change, current)
    if current is None:
        shelf.releases.stage(parts)
        if parts.missing:
            return parts
    draft = Release(
        release_id="",
        snapshot_id=parts.snapshot_id,
        models=parts.models,
        strategies_id=parts.strategies_id,
        created_at_ms=now_ms,
        previous_id=current.release_id if current else "",
        note=change.note,
    )
    release = tried(shelf, draft)
    shelf.releases.publish(release)
    return release


def tried(shelf: Shelf, draft: Release) -> Release:
    """Try a release out: models load and score elsewhere, every strategy has a mean value."""
    names = {ref.name for ref in draft.models}
    if not {"register", "trade"} <= names:
        raise InvalidInput(f"a release needs the models register and trade, not {sorted(names)}")
    check_models(shelf.models_folder, draft.models)
    return msgspec.structs.replace(
        draft,
        release_id=new_release_id(draft.created_at_ms),
        mean_values=mean_values(shelf, draft, draft.created_at_ms // 1000),
    )


def _merged(shelf: Shelf, change: Change, current: Release | None) -> Staged:
    """Lay a change over what decides now, or over what was kept before the first release."""
    base: Staged | Release = current if current is not None else shelf.releases.staged()
    strategies_id = base.strategies_id
    if change.strategies is not None:
        parse(change.strategies)
        strategies_id = shelf.releases.put_strategies(change.strategies)
    models = base.models if change.models is None else change.models
    return Staged(change.snapshot_id or base.snapshot_id, models, strategies_id)
