"""A published or proposed release made ready to decide, off the event loop."""

import asyncio
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rta_service.domain.errors import StartupError
from rta_service.domain.release import ModelRef, Release, SnapshotManifest
from rta_service.domain.rollout import canary_arm
from rta_service.domain.strategy import Strategy
from rta_service.online.live_release import LiveRelease, assemble, with_canary
from rta_service.releasing.shelf import Shelf, snapshot_of, strategies_of
from rta_service.scoring.model_set import load_model_set
from rta_service.stores.release_reader import AsyncReleaseReader


@dataclass(frozen=True, slots=True)
class _Parts:
    """What both arms of a release share."""

    shelf: Shelf
    snapshot: SnapshotManifest
    strategies: tuple[Strategy, ...]


def load(shelf: Shelf, release_id: str) -> LiveRelease:
    """Make a release ready to decide; raises RTAError when a part is not right.

    Models that this process knows come from its cache: the way back reads no file.
    """
    release = shelf.releases.find(release_id)
    if release is None:
        raise StartupError(f"release {release_id} is not in the store")
    snapshot = snapshot_of(shelf, release.snapshot_id)
    parts = _Parts(shelf, snapshot, strategies_of(shelf, release))
    live = _arm(parts, release)
    arm = canary_arm(release)
    return live if arm is None else with_canary(live, _arm(parts, arm))


def _arm(parts: _Parts, release: Release) -> LiveRelease:
    shelf = parts.shelf
    shelf.heads.warm(shelf.models_folder, release.models)
    models = load_model_set(shelf.models_folder, release.models, shelf.heads)
    live = assemble(release, parts.snapshot, models, parts.strategies, shelf.platforms)
    for bound in live.bound.values():
        for strategy in bound:
            if not math.isfinite(strategy.mean_value):
                name = strategy.strategy.strategy_id
                raise StartupError(f"release {release.release_id} has no mean value for {name}")
    return live


class StoredReleases:
    """Finds releases in the store and makes them ready off the event loop."""

    def __init__(
        self,
        reader: AsyncReleaseReader,
        shelf: Callable[[], Shelf],
        besides: Callable[[Release], Sequence[ModelRef]],
    ) -> None:
        self._reader = reader
        self._shelf = shelf
        self._besides = besides

    async def pointers(self) -> tuple[str, str]:
        """Name what should decide and what may come next, empty for none."""
        return await self._reader.pointers()

    async def load(self, release_id: str) -> LiveRelease:
        """Load a release in a thread; raises RTAError when a part is not right."""
        return await asyncio.to_thread(lambda: load(self._shelf(), release_id))

    async def warm(self, live: LiveRelease) -> None:
        """Keep what may be needed next besides the deciding models; raises ModelRefused."""
        await asyncio.to_thread(self._warm, self._besides(live.release))

    def _warm(self, refs: Sequence[ModelRef]) -> None:
        shelf = self._shelf()
        shelf.heads.warm(shelf.models_folder, refs)

    async def acknowledge(self, release_id: str, reason: str) -> None:
        """Answer a proposal: "" for ready, else why not."""
        await self._reader.acknowledge(release_id, reason)

    async def show(self, release_id: str) -> None:
        """Show that this process is there and what it decides by."""
        await self._reader.show(release_id, os.getpid())


def way_back(release: Release) -> Sequence[ModelRef]:
    """Name what a decision worker keeps warm besides the models that decide."""
    return release.previous


def all_warm(release: Release) -> Sequence[ModelRef]:
    """Name what the control process keeps warm: it also scores for the shadows."""
    return (*release.previous, *release.shadow)
