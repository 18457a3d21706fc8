"""What a load run is asked to do and what it found: plan, request, result."""

from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import msgspec
import numpy as np
from numpy.typing import ArrayLike, NDArray

LATE_S: Final = 0.002
"""A request that leaves this long after its scheduled instant counts as sent late."""
QUANTILES: Final = (0.5, 0.9, 0.99, 0.999)


def percentiles(latencies_s: ArrayLike, quantiles: Sequence[float] = QUANTILES) -> dict[str, float]:
    """Give quantiles as `{"p50": seconds, ..., "max": seconds}`, each a latency that occurred.

    Nothing is interpolated: a stall must not be averaged away. Empty input gives an empty result.
    """
    values = np.asarray(latencies_s, dtype=np.float64)
    if not len(values):
        return {}
    found = np.quantile(values, list(quantiles), method="higher").tolist()
    names = (f"p{quantile * 100:g}" for quantile in quantiles)
    return {**dict(zip(names, found, strict=True)), "max": float(values.max())}


class PreparedRequest(msgspec.Struct, frozen=True, gc=False):
    """One POST, ready to send."""

    path: str
    body: bytes
    content_type: str = "application/json"
    authorization: str = ""


class LoadPlan(msgspec.Struct, frozen=True):
    """How to send; every run ends, by count or by time, whichever comes first."""

    connections: int = 32
    rate_per_s: float | None = None
    """Requests a second on an absolute schedule; None is closed loop."""
    count: int | None = None
    """How many requests; the given ones are repeated in order. None sends each once."""
    duration_s: float = 60.0
    """No request leaves after this."""
    grace_s: float = 5.0
    """How long to wait for outstanding answers after the last request left."""
    spin: bool = False
    """Poll the clock instead of sleeping until the next instant: exact to some 50 microseconds
    where timers are exact to 1 ms, for the price of a whole core."""


@dataclass(slots=True)
class LoadResult:
    """What a run did; latencies are of answers only, everything else is an error with its name."""

    sent: int = 0
    late: int = 0
    """Requests sent more than LATE_S after their instant: by a slow generator or a stalled server."""
    unsent: int = 0
    """Requests that were due but never left, because no connection was free in time."""
    statuses: Counter[int] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    """`closed`, `unreadable`, `no answer`: a request each; `refused`: a try to connect each."""
    seconds: float = 0.0
    """From the first request to the last answer, or to the end of the grace."""
    latencies: "array[float]" = field(default_factory=lambda: array("d"))
    """Seconds, in the order of the answers; in open loop from the scheduled instant."""
    send_lags: "array[float]" = field(default_factory=lambda: array("d"))
    """Seconds from the scheduled to the real sending, in open loop."""

    @property
    def answered(self) -> int:
        """How many requests got an answer of any status."""
        return len(self.latencies)

    @property
    def answers_per_s(self) -> float:
        """Answers over the run's seconds."""
        return self.answered / self.seconds if self.seconds > 0 else 0.0

    def latency_array(self) -> NDArray[np.float64]:
        """Give the latencies as an array, in seconds."""
        return np.frombuffer(self.latencies, dtype=np.float64)

    def latency_percentiles(self) -> dict[str, float]:
        """Give p50 to p99.9 and the maximum of the answers, in seconds."""
        return percentiles(self.latency_array())
