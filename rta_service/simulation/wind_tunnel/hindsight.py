"""What one could have had who knew: the clairvoyant, and the best single multiplier.

Both take requests in the order of price over worth. Where winners pay the rival's price, no other
set of requests yields more for the same cost.
"""

from dataclasses import dataclass

import numpy as np

from rta_service.simulation.wind_tunnel.curves import Floats


@dataclass(frozen=True, slots=True)
class Reference:
    """The result of knowing beforehand."""

    cost: float
    gain: float
    """Conversions, or money where the goal is value."""
    multiplier: float
    """Of T x chance; infinite where all there is can be had within the target."""

    @property
    def binds(self) -> bool:
        """Whether goal or budget limited it: else no bid at all reaches the target cost."""
        return bool(np.isfinite(self.multiplier))


def cheapest_first(
    prices: Floats, chance: Floats, target: float, budget: float = np.inf
) -> Reference:
    """Buy at the rivals' prices what is cheapest for its true chance, up to target and budget."""
    ratio = prices / np.maximum(chance * target, 1e-300)
    order = np.argsort(ratio, kind="stable")
    cost, gain = np.cumsum(prices[order]), np.cumsum(chance[order])
    return _last_allowed(ratio[order], cost, gain, (target, budget))


@dataclass(frozen=True, slots=True)
class Sale:
    """What a single multiplier is judged on: rows' prices, predictions and outcomes."""

    prices: Floats
    predicted: Floats
    outcomes: Floats
    pays_own_bid: bool


def single_multiplier(sale: Sale, target: float, budget: float = np.inf) -> Reference:
    """Find the multiplier m of T x predicted that won most within target and budget, by outcomes.

    It knows who converted, so near the end of the list it stops at a lucky moment: no controller
    can be as exact.
    """
    worth = np.maximum(sale.predicted * target, 1e-300)
    ratio = sale.prices / worth
    order = np.argsort(ratio, kind="stable")
    ratio, gain = ratio[order], np.cumsum(sale.outcomes[order])
    own = sale.pays_own_bid
    cost = ratio * np.cumsum(worth[order]) if own else np.cumsum(sale.prices[order])
    return _last_allowed(ratio, cost, gain, (target, budget))


@dataclass(frozen=True, slots=True)
class Mix:
    """The best bid that both targets allow: m x (share x T_s v_s + (1 - share) x T_d v_d)."""

    cost: float
    shallow: float
    deep: float
    share: float
    multiplier: float


def best_mix(
    prices: Floats, chances: tuple[Floats, Floats], targets: tuple[float, float], budget: float
) -> Mix:
    """Find the most deep conversions while shallow and deep ones each cost at most their target.

    Chances and targets are (shallow, deep). The optimum under both limits has this form; the
    share is tried in twentieths.
    """
    found = Mix(0.0, 0.0, 0.0, 0.0, 0.0)
    for share in np.linspace(0.0, 1.0, 21).tolist():
        worth = share * targets[0] * chances[0] + (1 - share) * targets[1] * chances[1]
        ratio = prices / np.maximum(worth, 1e-300)
        order = np.argsort(ratio, kind="stable")
        cost, shallow, deep = (np.cumsum(c[order]) for c in (prices, *chances))
        most = np.minimum(np.minimum(targets[0] * shallow, targets[1] * deep), budget)
        allowed = np.flatnonzero(cost <= most)
        if len(allowed) and deep[last := int(allowed[-1])] > found.deep:
            gains = float(cost[last]), float(shallow[last]), float(deep[last])
            found = Mix(*gains, share=share, multiplier=float(ratio[order[last]]))
    return found


def _last_allowed(
    ratio: Floats, cost: Floats, gain: Floats, limits: tuple[float, float]
) -> Reference:
    target, budget = limits
    allowed = np.flatnonzero((cost <= target * gain) & (cost <= budget))
    if not len(allowed):
        return Reference(0.0, 0.0, 0.0)
    last = int(allowed[-1])
    multiplier = float(ratio[last]) if last + 1 < len(ratio) else np.inf
    return Reference(float(cost[last]), float(gain[last]), multiplier)
