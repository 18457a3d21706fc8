"""What may be done with models' versions, by whom, and what became of it."""

from collections.abc import Callable
from typing import Any

from rta_service.domain.access import Actor
from rta_service.domain.clock import Clock
from rta_service.domain.command import Command, ModelState, Pending
from rta_service.domain.release import Release
from rta_service.releasing.shelf import Shelf


class Rollouts:
    """What commands, the control port and the autopilot may do with models' versions."""

    def __init__(
        self, shelf: Callable[[], Shelf], clock: Clock, *, two_person: bool = False
    ) -> None:
        self._shelf = shelf
        self._clock = clock
        self._two_person = two_person

    def models(self) -> list[ModelState]:
        """List every registered version, by name, the newest first."""
        raise NotImplementedError

    def show(self, name: str, version: str) -> dict[str, Any]:
        """Show a version's state, manifest and verdicts; raises UnknownName."""
        raise NotImplementedError

    def diff(self, name: str, one: str, other: str) -> dict[str, Any]:
        """Compare two versions of a model; raises UnknownName."""
        raise NotImplementedError

    def act(self, command: Command, who: Actor) -> Release | Pending:
        """Do what is wished, or keep it for a second person.

        Raises NotAllowed, UnknownName, OutOfDate or InvalidInput when it may not or can't be done;
        what decides then goes on.
        """
        raise NotImplementedError

    def approve(self, pending_id: str, who: Actor) -> Release:
        """Do what somebody else wished; raises UnknownName, NotAllowed or OutOfDate."""
        raise NotImplementedError

    def withdraw(self, pending_id: str, who: Actor) -> Pending:
        """Let go of a wish that waits; raises UnknownName."""
        raise NotImplementedError

    def pending(self) -> list[Pending]:
        """Give what waits for a second person, the oldest first."""
        raise NotImplementedError

    def log(self, count: int) -> list[dict[str, Any]]:
        """Give the newest entries of the audit log, the newest first."""
        raise NotImplementedError
