"""How long conversions take after the impression: mixtures of Weibull laws, scaled to a mean."""

import math
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from rta_service.simulation.wind_tunnel.curves import Floats

ShapeName = Literal["prompt", "session", "days"]


@dataclass(frozen=True, slots=True)
class DelayShape:
    """A mixture of Weibull laws; parts are (weight, scale, power), relative to one another."""

    parts: tuple[tuple[float, float, float], ...]

    @property
    def mean(self) -> float:
        """The mixture's own mean, before it is scaled."""
        return sum(w * scale * math.gamma(1 + 1 / power) for w, scale, power in self.parts)

    def sample(self, rng: np.random.Generator, count: int, mean_s: float) -> Floats:
        """Draw delays in seconds whose mean is `mean_s`."""
        weights, scales, powers = (np.array(column) for column in zip(*self.parts, strict=True))
        part = rng.choice(len(weights), size=count, p=weights)
        drawn = scales[part] * rng.standard_exponential(count) ** (1 / powers[part])
        return np.asarray(drawn * (mean_s / self.mean), dtype=np.float64)

    def matured(self, age_s: Floats, mean_s: float) -> Floats:
        """Give the share of conversions that have happened at an age: the law's truth."""
        relative = np.maximum(age_s, 0.0) * (self.mean / mean_s)
        share = np.zeros_like(relative)
        for weight, scale, power in self.parts:
            share += weight * -np.expm1(-((relative / scale) ** power))
        return share


SHAPES: Final[dict[ShapeName, DelayShape]] = {
    "prompt": DelayShape(((1.0, 1.0, 1.0),)),
    "session": DelayShape(((0.8, 1.0, 0.8), (0.2, 20.0, 0.7))),
    "days": DelayShape(((0.4, 1.0, 0.7), (0.6, 30.0, 0.9))),
}
"""prompt: exponential. session: most in the same visit, some on a later one (a registration).
days: some at once, most spread over many visits (a first trade)."""
