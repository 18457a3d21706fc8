"""How many users at which moment: ramp, step and spike, as plain functions of time.

Imports no locust, so tests can use it; locustfile.py makes a LoadTestShape of the chosen one.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Load:
    """The bounds of a run; every shape stays within them."""

    users: int
    """The most users at any moment."""
    seconds: float


Shape = Callable[[Load, float], int]
"""Users at a moment, in seconds from the start."""


def ramp(load: Load, second: float) -> int:
    """Rise steadily for the first two thirds, then hold."""
    return max(1, min(load.users, round(load.users * second / (load.seconds * 2 / 3))))


def step(load: Load, second: float) -> int:
    """Rise in five equal steps, so that each level can be read off the report."""
    level = min(int(second / load.seconds * 5) + 1, 5)
    return max(1, load.users * level // 5)


def spike(load: Load, second: float) -> int:
    """Hold a tenth, jump to everything for the middle fifth, then hold a tenth again."""
    is_peak = 0.4 <= second / load.seconds < 0.6
    return load.users if is_peak else max(1, load.users // 10)


SHAPES: Final[dict[str, Shape]] = {"ramp": ramp, "step": step, "spike": spike}


def users_at(name: str, load: Load, second: float) -> int | None:
    """Give the users of the named shape at a moment; None when the run is over."""
    return SHAPES[name](load, second) if second < load.seconds else None
