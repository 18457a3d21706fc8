"""What the control port may do with releases."""

from collections.abc import Callable

from rta_service.domain.audit import AuditEntry
from rta_service.domain.clock import Clock
from rta_service.domain.release import Release
from rta_service.releasing.shelf import Shelf


class Desk:
    """What the control port may do with releases."""

    def __init__(self, shelf: Callable[[], Shelf], clock: Clock) -> None:
        self._shelf = shelf
        self._clock = clock

    def current(self) -> Release | None:
        """Give the release that the pointer names."""
        return self._shelf().releases.current()

    def history(self, count: int) -> list[Release]:
        """Give the newest releases, the current one first."""
        return self._shelf().releases.history(count)

    def rollback(self, who: str, why: str = "", decided_on: str = "") -> Release:
        """Let the release before the current one decide again, at once.

        Raises OutOfDate when it was decided on another release than the current one.
        """
        entry = rollback_entry(self._clock.now_ms(), who, why)
        return self._shelf().releases.rollback(entry, decided_on)


def rollback_entry(now_ms: int, who: str, why: str) -> AuditEntry:
    """Say in the audit log that somebody went back a release."""
    return AuditEntry(now_ms, who, "rollback", "back to the content of the release before", why)
