"""What a training run published and what it left out, for `--json` and for the release."""

from typing import Any

import msgspec

from rta_service.domain.release import ModelRef
from rta_service.scoring.manifest import ModelManifest


class HeadReport(msgspec.Struct, frozen=True):
    """What became of one head: its manifest, or why it was not trained."""

    manifest: ModelManifest | None
    dropped: dict[str, int]
    reason: str = ""


class TrainReport(msgspec.Struct, frozen=True):
    """What a training run published, and what it left out."""

    heads: dict[str, HeadReport]
    unattributed: int
    """Activations and registrations that no click led to; no row was made of them."""
    sampled_share: float
    skipped: dict[str, int]
    rejected: dict[str, int]

    @property
    def manifests(self) -> tuple[ModelManifest, ...]:
        """The published models."""
        return tuple(head.manifest for head in self.heads.values() if head.manifest)

    @property
    def refs(self) -> tuple[ModelRef, ...]:
        """How a release names the published models."""
        return tuple(manifest.ref for manifest in self.manifests)

    def to_json(self) -> dict[str, Any]:
        """Give what `--json` prints."""
        told: dict[str, Any] = msgspec.to_builtins(self)
        told["heads"] = {name: _told(head) for name, head in self.heads.items()}
        return told


def _told(head: HeadReport) -> dict[str, Any]:
    if head.manifest is None:
        return {"trained": False, "reason": head.reason, "dropped": head.dropped}
    told: dict[str, Any] = msgspec.to_builtins(head.manifest)
    told = {name: told[name] for name in ("version", "sha256", "rows", "positives", "prefer")}
    evaluation = msgspec.to_builtins(head.manifest.evaluation)
    return {"trained": True, **told, "evaluation": evaluation, "dropped": head.dropped}
