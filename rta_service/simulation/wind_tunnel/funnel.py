"""People's chances to register and to trade, what a model believes of them, and what happens."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rta_service.domain.control import CostGoal
from rta_service.simulation.wind_tunnel.curves import KEENNESS, Floats, by_hour, drift
from rta_service.simulation.wind_tunnel.delays import SHAPES
from rta_service.simulation.wind_tunnel.scenario import Campaign, Delay, Step

SHALLOW, DEEP = 0, 1
"""Kinds of conversions and of postbacks."""

_MOST: float = 0.9
_PERSON_SHARE: float = 0.7
"""How much of the spread's variance belongs to people, the rest to single requests."""


@dataclass(frozen=True, slots=True)
class Requests:
    """What the platform asks about, ordered by time; columns of one length."""

    at: Floats
    """Seconds since the start."""
    person: NDArray[np.int32]
    likely: Floats
    """Latent chance of a shallow conversion after an impression, before hour, drift and steps."""
    likely_deep: Floats
    """Latent chance of a deep conversion after a shallow one."""
    money: Floats
    """Expected money of a deep conversion."""


@dataclass(frozen=True, slots=True)
class Chances:
    """Chances an impression, a column each for the three goals; true or predicted ones."""

    shallow: Floats
    deep: Floats
    """Of a shallow and a deep conversion, not only of the second step."""
    value: Floats
    """Expected money."""

    def of(self, goal: CostGoal) -> Floats:
        """Give a goal's column."""
        match goal:
            case CostGoal.SHALLOW:
                return self.shallow
            case CostGoal.DEEP:
                return self.deep
            case CostGoal.VALUE:
                return self.value


@dataclass(frozen=True, slots=True)
class Conversions:
    """What would follow an impression of a row if it were won, ordered by row."""

    row: NDArray[np.int64]
    kind: NDArray[np.int8]
    """SHALLOW or DEEP."""
    at: Floats
    value: Floats
    """Money, of deep conversions."""


def make_requests(campaign: Campaign, rng: np.random.Generator, at: Floats) -> Requests:
    """Let people come and go: who asks, and how likely each request is to convert."""
    funnel, people = campaign.funnel, campaign.people
    person = rng.integers(0, people, len(at), dtype=np.int32)
    liking = rng.standard_normal((3, people))
    mood = rng.standard_normal(len(at))
    taste = liking[0][person] * _PERSON_SHARE**0.5 + mood * (1 - _PERSON_SHARE) ** 0.5
    return Requests(
        at=at,
        person=person,
        likely=funnel.shallow * _lognormal(taste, funnel.spread),
        likely_deep=funnel.deep_share * _lognormal(liking[1], funnel.deep_spread)[person],
        money=funnel.value * _lognormal(liking[2], 0.5)[person],
    )


def true_chances(campaign: Campaign, rng: np.random.Generator, requests: Requests) -> Chances:
    """Move the latent chances with the hour, the drift and the steps."""
    funnel, at = campaign.funnel, requests.at
    moved = funnel.daily * by_hour(KEENNESS, at, campaign.start_hour)
    moved += drift(rng, at, campaign.period_s, funnel.drift)
    shallow = np.minimum(
        requests.likely * np.exp(moved) * stepped(campaign, funnel.steps, at), _MOST
    )
    deep = shallow * np.minimum(requests.likely_deep, _MOST)
    return Chances(shallow, deep, deep * requests.money)


def predictions(campaign: Campaign, rng: np.random.Generator, requests: Requests) -> Chances:
    """Predict as a model would: biased, exaggerating and noisy as the funnel says."""
    funnel = campaign.funnel
    noise = _lognormal(rng.standard_normal(len(requests.at)), funnel.noise)
    relative = (requests.likely / funnel.shallow) ** funnel.power
    shallow = np.minimum(funnel.bias * funnel.shallow * relative * noise, _MOST)
    deep = shallow * np.minimum(funnel.deep_bias * requests.likely_deep, _MOST)
    return Chances(shallow, deep, deep * requests.money)


def toss_conversions(
    campaign: Campaign, rng: np.random.Generator, requests: Requests, chances: Chances
) -> Conversions:
    """Decide beforehand who would convert, when and for how much.

    A deep conversion's own delay begins at its shallow one.

    One toss for all controllers: two runs that win the same row see the same conversion.
    """
    funnel = campaign.funnel
    tosses = rng.random(len(requests.at))
    shallow = np.flatnonzero(tosses < chances.shallow)
    deep = np.flatnonzero(tosses < chances.deep)
    shallow_at = requests.at[shallow] + _delays(campaign, rng, funnel.shallow_delay, len(shallow))
    is_deep = tosses[shallow] < chances.deep[shallow]
    deep_at = shallow_at[is_deep] + _delays(campaign, rng, funnel.deep_delay, len(deep))
    money = requests.money[deep] * _lognormal(rng.standard_normal(len(deep)), 0.8)
    row = np.concatenate([shallow, deep])
    order = np.argsort(row, kind="stable")
    kinds = np.repeat(np.array([SHALLOW, DEEP], dtype=np.int8), [len(shallow), len(deep)])
    return Conversions(
        row=row[order],
        kind=kinds[order],
        at=np.concatenate([shallow_at, deep_at])[order],
        value=np.concatenate([np.zeros(len(shallow)), money])[order],
    )


def past_delays(campaign: Campaign, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Draw delays in seconds, shallow and deep, that earlier campaigns have left on record."""
    funnel = campaign.funnel
    shallow, deep = (
        funnel.past_mean * _delays(campaign, rng, delay, funnel.past)
        for delay in (funnel.shallow_delay, funnel.deep_delay)
    )
    return shallow, shallow + deep


def stepped(campaign: Campaign, steps: tuple[Step, ...], at: Floats) -> Floats:
    """Give the product of the steps that have happened by each time."""
    factor = np.ones_like(at)
    for step in steps:
        factor[at >= step.at * campaign.period_s] *= step.factor
    return factor


def _delays(campaign: Campaign, rng: np.random.Generator, delay: Delay, count: int) -> Floats:
    return SHAPES[delay.shape].sample(rng, count, delay.mean * campaign.period_s)


def _lognormal(normal: Floats, sigma: float) -> Floats:
    """Make standard normals a lognormal factor of mean one."""
    return np.asarray(np.exp(sigma * normal - sigma * sigma / 2), dtype=np.float64)
