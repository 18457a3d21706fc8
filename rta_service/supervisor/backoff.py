"""How long to wait before a dead process is started again."""

from dataclasses import dataclass


@dataclass(slots=True)
class Backoff:
    """Pauses that double while a process keeps dying, and start over once it lived long enough."""

    first_s: float = 0.1
    longest_s: float = 5.0
    healthy_s: float = 10.0
    _next_s: float = 0.0

    def pause_after(self, lived_s: float) -> float:
        """Give the pause after a death; `lived_s` is how long it was ready, 0 if it never was."""
        if lived_s >= self.healthy_s or self._next_s == 0.0:
            self._next_s = self.first_s
        pause_s = self._next_s
        self._next_s = min(2 * pause_s, self.longest_s)
        return pause_s
