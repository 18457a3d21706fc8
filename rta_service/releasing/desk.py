"""What the control port may do with releases."""

from collections.abc import Callable

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

    def rollback(self) -> Release:
        """Let the release before the current one decide again."""
        return self._shelf().releases.rollback(self._clock.now_ms())
