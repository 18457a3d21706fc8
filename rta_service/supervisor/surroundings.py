"""What a supervisor has from outside: time, environment, patience, and who wants to know."""

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol, TextIO

import msgspec

from rta_service.domain.clock import Clock, SystemClock
from rta_service.supervisor.backoff import Backoff


class Observer(Protocol):
    """Who counts what happens to the children; `Telemetry` is one."""

    def set_workers_up(self, kind: str, count: int) -> None:
        """Take note of how many children of a kind are ready."""

    def count_restart(self, kind: str) -> None:
        """Take note of a child that is started again."""


class _Nobody:
    def set_workers_up(self, kind: str, count: int) -> None:
        """Look away."""

    def count_restart(self, kind: str) -> None:
        """Look away."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long the supervisor waits for what, in seconds."""

    ready_s: float = 30.0
    """For a child to say that it is ready."""
    drain_s: float = 10.0
    """For a child to finish what it has, after SIGTERM."""
    first_pause_s: float = 0.1
    longest_pause_s: float = 5.0
    """Before a dead child is started again: from the first, doubling, to the longest."""
    healthy_s: float = 10.0
    """A child that was ready this long starts over with the first pause."""
    store_poll_s: float = 0.2
    """Between two looks at the store."""

    def backoff(self) -> Backoff:
        """Make the pauses of one child."""
        return Backoff(self.first_pause_s, self.longest_pause_s, self.healthy_s)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """The world outside; the defaults are the real one."""

    clock: Clock = field(default_factory=SystemClock)
    environ: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    observer: Observer = field(default_factory=_Nobody)
    log: TextIO = field(default_factory=lambda: sys.stderr)
    on_ready: Callable[[], None] = lambda: None
    """Called once, when every child has been ready."""

    def say(self, event: str, **facts: str | float) -> None:
        """Report an event as one JSON object on a line; facts are never about people."""
        line = {"ts_ms": self.clock.now_ms(), "event": event, **facts}
        self.log.write(msgspec.json.encode(line).decode() + "\n")
        self.log.flush()
