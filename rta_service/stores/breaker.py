"""When to stop asking a store that does not answer, and when to ask again."""

from dataclasses import dataclass


@dataclass(slots=True)
class Breaker:
    """Opens after `threshold` failures in a row; then lets one probe through now and then.

    The pause begins at `first_pause_s` and doubles with each failed probe up to `max_pause_s`.
    Time is the caller's monotonic clock, in seconds.
    """

    threshold: int = 5
    first_pause_s: float = 0.25
    max_pause_s: float = 2.0
    _failures: int = 0
    _pause_s: float = 0.0
    _open_until_s: float = 0.0
    _probing: bool = False
    _counted_at_s: float = float("-inf")

    @property
    def is_open(self) -> bool:
        """Whether reads are refused; true during the probe, too."""
        return self._pause_s > 0

    def admits(self, now_s: float) -> bool:
        """Tell whether a read may go out; whoever is let through must report how it went."""
        if not self.is_open:
            return True
        if self._probing or now_s < self._open_until_s:
            return False
        self._probing = True
        return True

    def succeeded(self) -> None:
        """Close again: the store answers."""
        self._failures = 0
        self._pause_s = 0.0
        self._probing = False

    def failed(self, now_s: float, started_s: float | None = None) -> None:
        """Count one failure; the last straw and every failed probe (re)open the breaker.

        Reads overlap, and one stall of the store fails all that are under way: a read that began
        before the last counted failure says nothing new.
        """
        if not self._probing and started_s is not None and started_s < self._counted_at_s:
            return
        self._counted_at_s = now_s
        self._failures += 1
        if self.is_open and not self._probing:
            return  # a read from before the opening: it says nothing new
        if self._probing or self._failures >= self.threshold:
            self._pause_s = min(max(2 * self._pause_s, self.first_pause_s), self.max_pause_s)
            self._open_until_s = now_s + self._pause_s
            self._probing = False
