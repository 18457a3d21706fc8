"""Where the parts of releases stand, and taking them down."""

from dataclasses import dataclass, field
from pathlib import Path

from rta_service.domain.errors import StartupError
from rta_service.domain.platform import PlatformInfo
from rta_service.domain.release import Release, SnapshotManifest
from rta_service.domain.strategy import Strategy
from rta_service.online.strategy_file import parse
from rta_service.scoring.head_cache import HeadCache
from rta_service.stores.redis import AdminClient
from rta_service.stores.releases import ReleaseStore
from rta_service.stores.snapshots import fetch_manifest


@dataclass(frozen=True, slots=True)
class Shelf:
    """Where the parts of releases stand."""

    client: AdminClient
    namespace: str
    models_folder: Path
    platforms: tuple[PlatformInfo, ...]
    pepper_id: str
    heads: HeadCache = field(default_factory=HeadCache)
    """The models this process has loaded."""

    @property
    def releases(self) -> ReleaseStore:
        """The pointer and its history."""
        return ReleaseStore(self.client, self.namespace)


def snapshot_of(shelf: Shelf, snapshot_id: str) -> SnapshotManifest:
    """Give a loaded snapshot's manifest; raises StartupError when it can't serve here."""
    snapshot = fetch_manifest(shelf.client, shelf.namespace, snapshot_id)
    if snapshot is None:
        raise StartupError(
            f"snapshot {snapshot_id} is not in the store: publish it again (rta profiles publish)"
        )
    if snapshot.pepper_id != shelf.pepper_id:
        raise StartupError(
            f"snapshot {snapshot.snapshot_id} hides ids under another pepper: build it with the "
            "pepper of this service (RTA_PEPPER, or the same data folder)"
        )
    return snapshot


def strategies_of(shelf: Shelf, release: Release) -> tuple[Strategy, ...]:
    """Give a release's strategies; raises StartupError when the store lost them."""
    text = shelf.releases.get_strategies(release.strategies_id)
    if text is None:
        raise StartupError(f"strategies {release.strategies_id} are not in the store")
    return parse(text)
