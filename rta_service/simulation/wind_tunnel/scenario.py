"""Scenarios: what a wind tunnel blows at a controller, written as TOML.

A file has one `[campaign]`, whose fields are those of Campaign, and a table `[vary]` of
`"market.level" = [low, high]`: each of its campaigns draws those fields anew, even in the log
where both ends are positive. The same file, seed and number give the same campaign.
"""

import tomllib
from collections.abc import Iterator
from copy import deepcopy
from importlib.resources import files
from typing import Annotated, Any, Final, Literal

import msgspec
import numpy as np

from rta_service.domain.control import CostGoal
from rta_service.domain.errors import InvalidInput
from rta_service.simulation.wind_tunnel.delays import ShapeName

_Positive = Annotated[float, msgspec.Meta(gt=0)]
_NotNegative = Annotated[float, msgspec.Meta(ge=0)]
_Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
_Count = Annotated[int, msgspec.Meta(ge=1)]

_FOLDER: Final = files("rta_service.simulation.wind_tunnel").joinpath("scenarios")


class _Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A table of a scenario file: a misspelt field is an error."""


class Step(_Part, frozen=True):
    """From a share of the period on, everything is multiplied by a factor."""

    at: _Share
    factor: _Positive


class Market(_Part, frozen=True):
    """Rivals' highest price: lognormal about the worth of a mean request, T x chance."""

    auction: Literal["second", "first"] = "second"
    level: float = 0.3
    """Log of the median price over that worth; above -spread^2/2 a cost goal binds."""
    spread: _NotNegative = 1.0
    follows_value: float = 0.3
    """The power of a person's relative chance in the price: rivals like good people too."""
    daily: _NotNegative = 0.3
    drift: _NotNegative = 0.2
    floor: _NotNegative = 0.0
    """The least price, in worths of a mean request."""
    steps: tuple[Step, ...] = ()


class Delay(_Part, frozen=True):
    """A named shape, and its mean as a share of the period."""

    shape: ShapeName = "prompt"
    mean: _NotNegative = 0.0


class Funnel(_Part, frozen=True):
    """From impression to registration to trade, and what the model believes of it."""

    shallow: Annotated[float, msgspec.Meta(gt=0, le=0.5)] = 0.02
    """Mean chance of a shallow conversion after an impression."""
    deep_share: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.3
    """Mean chance of a deep conversion after a shallow one."""
    spread: _NotNegative = 0.8
    deep_spread: _NotNegative = 0.5
    daily: _NotNegative = 0.15
    """How far chances move with the hour; the model does not know it."""
    drift: _NotNegative = 0.1
    bias: _Positive = 1.0
    """Predicted over real, on average; 1 is a calibrated model."""
    deep_bias: _Positive = 1.0
    power: _Positive = 1.0
    """Above 1 the model exaggerates differences between people."""
    noise: _NotNegative = 0.0
    """Sigma of the log of what the model gets wrong about a single request."""
    value: _Positive = 100.0
    """Mean money of a deep conversion."""
    steps: tuple[Step, ...] = ()
    shallow_delay: Delay = Delay()
    deep_delay: Delay = Delay()
    past: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Conversions of either kind that the advertiser's earlier campaigns had, with their delays."""
    past_mean: _Positive = 1.0
    """Mean delay of those over today's."""


class Outage(_Part, frozen=True):
    """No postback arrives in a part of the period; then all at once, or never."""

    start: _Share
    end: _Share
    lost: bool = False


class Platform(_Part, frozen=True):
    """How the platform takes our answers and gives back what came of them."""

    answer: Literal["price", "weight"] = "price"
    """A price an impression; or a weight on the platform's own bid for shallow conversions."""
    cache_s: _NotNegative = 0.0
    """How long it keeps an answer about a person instead of asking again."""
    guarantee: _Share = 0.0
    """The first share of the period, in which weights are void."""
    bias: _Positive = 1.0
    """The platform's own prediction over the real chance."""
    noise: _NotNegative = 0.5
    gain: _NotNegative = 0.3
    """Of its own cost loop, a slot."""
    report_s: _NotNegative = 0.0
    """How late it tells of wins and their cost."""
    late_s: _NotNegative = 0.0
    """Mean lateness of a postback after its conversion."""
    missing: _Share = 0.0
    twice: _Share = 0.0
    """Share of postbacks that come a second time, under the same id."""
    stops_at_budget: bool = True
    outages: tuple[Outage, ...] = ()


class Campaign(_Part, frozen=True):
    """One control unit in one market for one period."""

    name: str = "campaign"
    number: int = 0
    requests: _Count = 40_000
    people: _Count = 10_000
    period_s: _Positive = 86_400.0
    slots: _Count = 80
    """The controller learns at the end of each."""
    start_hour: float = 0.0
    goal: CostGoal = CostGoal.DEEP
    target: _Positive = 50.0
    """Cost a conversion of the goal; for `value`, cost a unit of money (1 / ROAS)."""
    other_target: _NotNegative = 0.0
    """Cost a shallow conversion where the goal is deep (or the reverse); 0 means none."""
    budget: _NotNegative = 0.0
    """As a share of what a clairvoyant would spend without one; 0 means none."""
    market: Market = Market()
    funnel: Funnel = Funnel()
    platform: Platform = Platform()


class Scenario(_Part, frozen=True):
    """A named set of campaigns; see the module."""

    name: str
    description: str
    campaigns: _Count
    campaign: dict[str, Any]
    vary: dict[str, tuple[int | float, int | float]] = {}
    """Whole ends give whole numbers."""

    def draw(self, seed: int, count: int | None = None) -> Iterator[Campaign]:
        """Draw the scenario's campaigns, or the first `count`; raises InvalidInput."""
        for number in range(self.campaigns if count is None else count):
            yield self._one(np.random.default_rng([seed, number]), number)

    def _one(self, rng: np.random.Generator, number: int) -> Campaign:
        form = deepcopy(self.campaign)
        form |= {"name": f"{self.name}-{number}", "number": number}
        for path, ends in self.vary.items():
            _place(form, path, _between(rng, *ends))
        try:
            return msgspec.convert(form, Campaign)
        except msgspec.ValidationError as error:
            raise InvalidInput(f"scenario {self.name}: campaign {number}: {error}") from error


def read_scenario(text: str) -> Scenario:
    """Read a scenario's TOML; raises InvalidInput that says what to correct."""
    try:
        scenario = msgspec.convert(tomllib.loads(text), Scenario)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise InvalidInput(f"the scenario cannot be read: {error}") from error
    next(scenario.draw(seed=0))
    return scenario


def scenario_names() -> list[str]:
    """List the scenarios that come with the package."""
    names = (file.name for file in _FOLDER.iterdir())
    return sorted(name.removesuffix(".toml") for name in names if name.endswith(".toml"))


def load_scenario(name: str) -> Scenario:
    """Open a scenario of the package by its name; raises InvalidInput for an unknown one."""
    if name not in scenario_names():
        raise InvalidInput(f"no scenario {name!r}; there are {', '.join(scenario_names())}")
    return read_scenario(_FOLDER.joinpath(f"{name}.toml").read_text(encoding="utf-8"))


def _between(rng: np.random.Generator, low: float, high: float) -> float | int:
    drawn = rng.random()
    if low <= 0:
        return low + (high - low) * drawn
    value = float(low * (high / low) ** drawn)
    whole = isinstance(low, int) and isinstance(high, int)
    return round(value) if whole else value


def _place(form: dict[str, Any], path: str, value: float) -> None:
    """Set a dotted field; what does not exist is named by the conversion that follows."""
    *tables, field = path.split(".")
    for table in tables:
        form = form.setdefault(table, {})
    form[field] = value
