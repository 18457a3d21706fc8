"""The one pointer that names snapshot, models and strategies together."""

import msgspec

from rta_service.domain.thresholds import Thresholds


class SnapshotManifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one immutable set of user records is; stands beside it on disk and in the store."""

    snapshot_id: str
    record_version: int
    as_of_s: int
    """Seconds since 1970: 00:00 UTC of the as-of day; events from then on are excluded."""
    built_at_ms: int
    devices: int
    persons: int
    bucket_bits: int
    """The store keeps 2**bucket_bits hashes; a key's bucket is its top bits."""
    thresholds: Thresholds
    stages: dict[str, int]
    segments: dict[str, int]
    tiers: dict[str, int]
    pepper_id: str
    """Fingerprint of the pepper that hid the ids: readers with another pepper refuse."""
    keys_sha256: str
    records_sha256: str


class ModelRef(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One model of a release: where it lies in the model folder and what it must hash to."""

    name: str
    version: str
    sha256: str


class Release(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What decides now: immutable, named by one pointer, carried by every answer."""

    release_id: str
    snapshot_id: str
    models: tuple[ModelRef, ...]
    strategies_id: str
    created_at_ms: int
    previous_id: str = ""
    note: str = ""
    mean_values: dict[str, float] = {}
    """`strategy@platform` to the mean E[goal value | optimised event] of accepted devices."""
    schema: int = 1


class Staged(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Parts published before there was a first release; empty once one decides."""

    snapshot_id: str = ""
    models: tuple[ModelRef, ...] = ()
    strategies_id: str = ""

    @property
    def missing(self) -> list[str]:
        """Name what is still missing, with the command that brings it."""
        parts = {
            "a snapshot (rta profiles publish)": self.snapshot_id,
            "models (rta models publish)": self.models,
            "strategies (rta strategies publish)": self.strategies_id,
        }
        return [name for name, part in parts.items() if not part]
