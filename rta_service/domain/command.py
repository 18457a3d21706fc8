"""What somebody wants done with models' versions, and what became of the wish."""

import msgspec

from rta_service.domain.rollout import Action, Phase


class Command(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One wish: what to do, with which versions, and why."""

    action: Action
    models: tuple[tuple[str, str], ...] = ()
    """(name, version); an empty version is the newest registered one. `canary` and `live` without
    models mean those of the running canary; `stop` and `rollback` take none."""
    share_millionths: int = 0
    """Of all people; for `canary` only."""
    why: str = ""
    skip: bool = False
    """Go live without shadow and canary; for admins."""
    release_id: str = ""
    """The release that this was decided on; empty: whichever decides now."""


class Pending(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A wish that waits for a second person."""

    pending_id: str
    command: Command
    """With every version and the release named."""
    asked_by: str
    asked_at_ms: int
    expires_at_ms: int


class ModelState(msgspec.Struct, frozen=True):
    """One registered version: where it stands, and how it did."""

    name: str
    version: str
    sha256: str
    phase: Phase
    share_millionths: int
    """Of all people whom this version decides for: all while live, the canary's share, or none."""
    uploaded_at_ms: int
    by: str
    verdict_id: str
    auc: float | None = None
    log_loss: float | None = None
    pcoc: float | None = None
    """On the evaluation file; None where the upload's manifest can't be read any more."""
