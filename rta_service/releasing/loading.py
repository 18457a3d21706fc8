"""A published release made ready to decide, off the event loop."""

import asyncio
import math
from collections.abc import Callable

import numpy as np

from rta_service.domain.errors import StartupError
from rta_service.features import FEATURES
from rta_service.online.live_release import LiveRelease, assemble
from rta_service.releasing.shelf import Shelf, snapshot_of, strategies_of
from rta_service.scoring.model_set import load_model_set
from rta_service.stores.redis import AsyncClient
from rta_service.stores.releases import AsyncReleaseReader


def load(shelf: Shelf, release_id: str) -> LiveRelease:
    """Make a published release ready to decide; raises RTAError when a part is not right."""
    release = shelf.releases.get(release_id)
    if release is None:
        raise StartupError(f"release {release_id} is not in the store")
    snapshot = snapshot_of(shelf, release.snapshot_id)
    models = load_model_set(shelf.models_folder, release.models)
    live = assemble(release, snapshot, models, strategies_of(shelf, release), shelf.platforms)
    for bound in live.bound.values():
        for strategy in bound:
            if not math.isfinite(strategy.mean_value):
                name = strategy.strategy.strategy_id
                raise StartupError(f"release {release_id} has no mean value for {name}")
    for head in models.heads.values():
        head.probabilities(np.zeros((1, len(FEATURES))))  # the first call is the slow one
    return live


class StoredReleases:
    """Finds releases in the store and makes them ready off the event loop."""

    def __init__(self, client: AsyncClient, namespace: str, shelf: Callable[[], Shelf]) -> None:
        self._reader = AsyncReleaseReader(client, namespace)
        self._shelf = shelf

    async def current_id(self) -> str:
        """Name the release that should decide; empty when none was published."""
        return await self._reader.current_id() or ""

    async def load(self, release_id: str) -> LiveRelease:
        """Load a release in a thread; raises RTAError when a part is not right."""
        return await asyncio.to_thread(lambda: load(self._shelf(), release_id))
