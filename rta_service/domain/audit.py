"""Who did what, when and why: one entry for every change that decides or may come to decide."""

import msgspec


class AuditEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One deed; written together with what it changed, and never changed or removed."""

    at_ms: int
    who: str
    """`cli:<user>` for commands, a token's name for the control port."""
    action: str
    """One word: publish, canary, live, rollback, upload, approve, ..."""
    what: str
    """A short sentence, or facts as JSON."""
    why: str = ""
    release_id: str = ""
    """The release that came of it; empty for deeds that move no pointer."""
    previous_id: str = ""
    """The release that decided before."""
    schema: int = 1
