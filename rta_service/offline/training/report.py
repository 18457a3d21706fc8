"""What a training run published and what it left out, for `--json`, cards and the release."""

from typing import Any, Final

import msgspec

from rta_service.domain.release import ModelRef
from rta_service.scoring.manifest import ModelManifest

_TOLD: Final = ("version", "sha256", "rows", "positives", "prefer")


class FoldMark(msgspec.Struct, frozen=True):
    """What one rolling-origin fold learned from, and how it did on the rows that followed."""

    learn_rows: int
    learn_until_s: int
    judge_from_s: int
    judge_until_s: int
    judge_rows: int
    judge_positives: int
    trees: int
    """The number that was best in this fold alone."""
    loss: float
    """With the number of trees that was best over all folds."""


class DelayedMark(msgspec.Struct, frozen=True):
    """Whether fresh rows helped, tried as of the beginning of the evaluation week."""

    known_rows: int
    fresh_rows: int
    log_loss_without: float
    log_loss_with: float
    error: float
    """Standard error of the difference, row by row."""
    kept: bool
    used_rows: int = 0
    """Fresh rows of the log's end that the published trees learned from."""
    doubt: str = ""
    """Why those could not be believed; empty where they could."""


class TuningMark(msgspec.Struct, frozen=True):
    """The search's best parameters against the default ones, by the folds' mean loss."""

    trials: int
    default_loss: float
    tuned_loss: float
    error: float
    """Standard error of the difference, row by row."""
    won: bool
    parameters: dict[str, float | int]


class Choices(msgspec.Struct, frozen=True):
    """What training decided for one head, and on which grounds."""

    objective: str
    trees: int
    folds: tuple[FoldMark, ...]
    negatives_kept: float
    """Share of the negatives that trees learned from; the rest is made up for exactly."""
    monotone: dict[str, int]
    delayed: DelayedMark | None = None
    tuning: TuningMark | None = None
    remarks: tuple[str, ...] = ()


class HeadReport(msgspec.Struct, frozen=True):
    """What became of one head: its manifest and choices, or why it was not trained."""

    manifest: ModelManifest | None
    dropped: dict[str, int]
    reason: str = ""
    choices: Choices | None = None


class TrainReport(msgspec.Struct, frozen=True):
    """What a training run published, and what it left out."""

    heads: dict[str, HeadReport]
    unattributed: int
    """Downloads, activations and registrations that no click led to; no row was made of them."""
    sampled_share: float
    exposures_share: float
    """Share of the exposures without a click that rows were made of."""
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
    return {
        "trained": True,
        **{name: told[name] for name in _TOLD},
        "evaluation": told["evaluation"],
        "choices": msgspec.to_builtins(head.choices),
        "dropped": head.dropped,
    }
