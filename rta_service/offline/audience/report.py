"""What a profile build found, as the command prints it."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from rta_service.domain.release import SnapshotManifest


@dataclass(frozen=True, slots=True)
class BuildReport:
    """The snapshot, and how its log was read."""

    manifest: SnapshotManifest
    events: int
    """Rows of the log, good or bad."""
    skipped: dict[str, int]
    rejected: dict[str, int]
    samples: dict[str, list[dict[str, Any]]]
    warnings: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Give the report as plain JSON: thresholds in days and currency units."""
        manifest = self.manifest
        return {
            "snapshot_id": manifest.snapshot_id,
            "as_of": datetime.fromtimestamp(manifest.as_of_s, UTC).date().isoformat(),
            "events": self.events,
            "thresholds": manifest.thresholds.as_days(),
            "devices": manifest.devices,
            "persons": manifest.persons,
            "stages": manifest.stages,
            "segments": manifest.segments,
            "tiers": manifest.tiers,
            "skipped": self.skipped,
            "rejected": self.rejected,
            "samples": self.samples,
            "warnings": list(self.warnings),
        }
