"""The one pointer that names snapshot, models and strategies together."""

from typing import Final

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


class Canary(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Models that decide for a share of all people instead of the live ones of their names.

    What moves together is one canary with one share: its models are judged together.
    """

    models: tuple[ModelRef, ...]
    share_millionths: int
    """People of a million for whom these models decide; sticky, and more contains fewer."""
    since_ms: int
    """When this share began."""
    mean_values: dict[str, float] = {}
    """Like the release's, but of these models."""

    @property
    def layer(self) -> str:
        """Name the experiment layer: another canary draws its people anew, another share not."""
        return "canary:" + ",".join(sorted(f"{ref.name}={ref.version}" for ref in self.models))


SCHEMA: Final = 2
"""Of releases: 1 had no arms. A newer one is refused, an older one still read."""


class Release(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What decides now: immutable, named by one pointer, carried by every answer."""

    release_id: str
    snapshot_id: str
    models: tuple[ModelRef, ...]
    """The live models."""
    strategies_id: str
    created_at_ms: int
    previous_id: str = ""
    note: str = ""
    mean_values: dict[str, float] = {}
    """`strategy@platform` to the mean E[goal value | optimised event] of accepted devices."""
    canary: Canary | None = None
    shadow: tuple[ModelRef, ...] = ()
    """Models that score a sample of the traffic off the request's way and decide nothing."""
    previous: tuple[ModelRef, ...] = ()
    """What the live models of these names replaced: kept warm in every worker for the way back."""
    rolled_back: tuple[ModelRef, ...] = ()
    """Those of `previous` that were taken back: nobody goes back to them by a rollback."""
    schema: int = SCHEMA


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
