"""How a day goes: when people come, when rivals bid more, when people buy; slow drifts and steps."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

DAY_S: Final = 86_400.0

VISITS: Final = (
    *(2.6, 1.5, 0.9, 0.7, 0.6, 0.8, 1.7, 3.0, 4.1, 4.6, 4.9, 5.2),
    *(5.9, 5.5, 4.8, 4.6, 4.6, 4.8, 5.2, 6.1, 7.3, 8.0, 7.2, 5.4),
)
"""Requests an hour of the day, in per cent of the day: a shopping app's two hills."""
RIVALRY: Final = (
    *(-0.5, -0.9, -1.2, -1.3, -1.3, -1.1, -0.7, -0.3, 0.1, 0.3, 0.3, 0.3),
    *(0.4, 0.3, 0.2, 0.2, 0.2, 0.2, 0.3, 0.6, 0.9, 1.0, 0.7, 0.1),
)
"""Where the log of rivals' prices stands an hour of the day, before its amplitude."""
KEENNESS: Final = (
    *(0.3, -0.1, -0.6, -0.9, -1.0, -0.9, -0.7, -0.4, -0.1, 0.0, 0.1, 0.1),
    *(0.0, -0.2, -0.2, -0.1, 0.0, 0.0, 0.0, 0.2, 0.5, 0.7, 0.7, 0.5),
)
"""Where the log of people's chance to convert stands an hour of the day, before its amplitude."""


def by_hour(curve: tuple[float, ...], at: Floats, start_hour: float) -> Floats:
    """Read an hourly curve at seconds since a start, straight lines between the hours' middles."""
    hours = at / 3_600.0 + start_hour
    return np.asarray(np.interp(hours, np.arange(24) + 0.5, curve, period=24.0))


def arrivals(rng: np.random.Generator, count: int, period_s: float, start_hour: float) -> Floats:
    """Draw when requests come, ordered, in [0, period) seconds, as the visits' curve has it."""
    grid = np.linspace(0.0, period_s, 1 + max(24, int(period_s // 900)))
    middle = (grid[1:] + grid[:-1]) / 2
    mass = np.concatenate([[0.0], np.cumsum(by_hour(VISITS, middle, start_hour))])
    drawn = np.interp(np.sort(rng.random(count)) * mass[-1], mass, grid)
    return np.asarray(np.minimum(drawn, np.nextafter(period_s, 0.0)), dtype=np.float64)


def drift(rng: np.random.Generator, at: Floats, period_s: float, size: float) -> Floats:
    """Walk at random through the period: the log starts at 0 and ends `size` (one sigma) away."""
    knots = 97
    walk = np.concatenate([[0.0], np.cumsum(rng.standard_normal(knots - 1))])
    path = walk * size / np.sqrt(knots - 1)
    return np.asarray(np.interp(at, np.linspace(0.0, period_s, knots), path))
