"""A release tried out before anybody may propose it: its models, its strategies, its means."""

from collections.abc import Iterator
from typing import Final

import msgspec

from rta_service.domain.errors import InvalidInput
from rta_service.domain.release import Release
from rta_service.domain.rollout import canary_arm
from rta_service.releasing.shelf import Shelf
from rta_service.releasing.weighing import mean_values
from rta_service.scoring.check import check_models
from rta_service.stores.releases import new_release_id

_REMEMBERED: Final = 50
"""Releases among which known mean values are looked for."""


def tried(shelf: Shelf, draft: Release) -> Release:
    """Try a release out: models load and score elsewhere, every strategy has a mean value.

    Shadows are tried as well: they score real traffic. Raises ModelRefused or InvalidInput naming
    what is wrong.
    """
    names = {ref.name for ref in draft.models}
    if not {"register", "trade"} <= names:
        raise InvalidInput(f"a release needs the models register and trade, not {sorted(names)}")
    canary = draft.canary.models if draft.canary else ()
    check_models(shelf.models_folder, (*draft.models, *canary, *draft.shadow))
    return weighed(shelf, draft)


def weighed(shelf: Shelf, draft: Release) -> Release:
    """Name a draft, and give each of its arms its mean values.

    They are measured once for each snapshot with its models and strategies: a release that brings
    an arm back, or changes a share, has them at once.
    """
    release = msgspec.structs.replace(
        draft,
        release_id=new_release_id(draft.created_at_ms),
        mean_values=_means(shelf, draft),
    )
    arm = canary_arm(draft)
    if arm is None or draft.canary is None:
        return release
    canary = msgspec.structs.replace(draft.canary, mean_values=_means(shelf, arm))
    return msgspec.structs.replace(release, canary=canary)


def _means(shelf: Shelf, arm: Release) -> dict[str, float]:
    for known in _arms(shelf):
        if known.mean_values and _parts(known) == _parts(arm):
            return known.mean_values
    return mean_values(shelf, arm, arm.created_at_ms // 1000)


def _arms(shelf: Shelf) -> Iterator[Release]:
    """Give the arms of the last releases, newest first."""
    for release in shelf.releases.history(_REMEMBERED):
        yield release
        arm = canary_arm(release)
        if arm is not None:
            yield arm


def _parts(arm: Release) -> tuple[object, ...]:
    return arm.snapshot_id, frozenset(arm.models), arm.strategies_id
