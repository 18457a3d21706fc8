"""Time as an input."""

import time
from typing import Protocol


class Clock(Protocol):
    """Where parts get the time from, so that tests can set it."""

    def now_ms(self) -> int:
        """Milliseconds since 1970, UTC."""

    def monotonic_s(self) -> float:
        """Seconds that never go backwards, for deadlines and durations."""


class SystemClock:
    """The machine's clocks."""

    def now_ms(self) -> int:
        """Milliseconds since 1970, UTC."""
        return time.time_ns() // 1_000_000

    def monotonic_s(self) -> float:
        """Seconds that never go backwards."""
        return time.monotonic()
