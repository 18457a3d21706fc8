"""Money of a budget that a worker may hold for its answers, granted in small pieces that run out."""

from collections import deque
from typing import Final

_AHEAD_S: Final = 2.0
"""Of what is asked for, as much is wanted as this long needs."""
_HALF_LIFE_S: Final = 10.0
"""How long a peak of what is asked for is remembered."""
_SOON_S: Final = 1.0
"""What runs out sooner is no longer counted on."""


class Purse:
    """The money of one unit in this worker. Holds the piece that runs out first, first."""

    def __init__(self) -> None:
        self.left = 0
        """Micros."""
        self._pieces: deque[list[float]] = deque()
        self._asked = 0
        self._rate = 0.0

    def put(self, micros: int, until_s: float) -> None:
        """Add a piece that may be held until a monotonic instant."""
        if micros > 0:
            self._pieces.append([until_s, micros])
            self.left += micros

    def hold(self, micros: int) -> bool:
        """Hold money for one answer; False where there is not enough."""
        self._asked += micros
        if micros > self.left:
            return False
        self.left -= micros
        pieces = self._pieces
        while micros:
            first = pieces[0]
            if first[1] > micros:
                first[1] -= micros
                break
            micros -= int(first[1])
            pieces.popleft()
        return True

    def expire(self, now_s: float) -> None:
        """Let go of what has run out."""
        pieces = self._pieces
        while pieces and pieces[0][0] <= now_s:
            self.left -= int(pieces.popleft()[1])

    def wants(self, now_s: float, since_s: float, least: int) -> int:
        """Say how much more is wanted at an instant, after so many seconds since the last time.

        Enough for the next seconds by what was asked for of late, and at least `least`.
        """
        seconds = max(since_s, 1e-3)
        self._rate = max(self._asked / seconds, self._rate * 0.5 ** (seconds / _HALF_LIFE_S))
        self._asked = 0
        lasting = sum(micros for until_s, micros in self._pieces if until_s > now_s + _SOON_S)
        return max(max(round(self._rate * _AHEAD_S), least) - int(lasting), 0)
