"""The service's controller as a bidder of the wind tunnel, and what an advertiser has learnt."""

from dataclasses import dataclass, field
from typing import Final

import numpy as np

from rta_service.domain.control import MICROS, Aim, Block, Budget, CostGoal, Mode, Targets
from rta_service.domain.control_pricing import bids, prices
from rta_service.nearline.control.budget import learn_curve
from rta_service.nearline.control.delay import DelayEvidence, DelayLaw, fit, from_rows, pooled
from rta_service.nearline.control.feed import Conversions, Wins as UnitWins
from rta_service.nearline.control.unit import ControlUnit, Rules
from rta_service.nearline.control.update import Tuning
from rta_service.simulation.wind_tunnel.controller import Asked, Brief, Wins
from rta_service.simulation.wind_tunnel.curves import Floats
from rta_service.simulation.wind_tunnel.funnel import DEEP, SHALLOW
from rta_service.simulation.wind_tunnel.postbacks import Postbacks

_GOALS: Final = {SHALLOW: CostGoal.SHALLOW, DEEP: CostGoal.DEEP}
_CURVE_SLOTS: Final = 24
_KEPT_DAYS: Final = 10


@dataclass
class Experience:
    """What the advertiser's earlier campaigns have left: delays, and when traffic comes."""

    delays: dict[CostGoal, list[DelayEvidence]] = field(default_factory=dict)
    days: list[Floats] = field(default_factory=list)

    def laws(self, brief: Brief) -> dict[CostGoal, DelayLaw]:
        """Learn the advertiser's delay laws; none without any earlier conversion."""
        found = {}
        for goal, past in zip(_GOALS.values(), brief.past_delays, strict=True):
            evidence = self.delays.get(goal, [])
            if len(past):
                evidence = [*evidence, _complete(past)]
            if sum(one.arrived.sum() for one in evidence) > 0.0:
                usual_s = brief.period_s / 12.0
                found[goal] = fit(pooled(evidence), expected_mean_s=usual_s)
        return found

    def curve(self) -> tuple[float, ...]:
        """Give the traffic's shares of a day's 24 parts; flat before the first day."""
        return learn_curve(np.stack(self.days[-_KEPT_DAYS:])) if self.days else (1.0,)

    def remember(self, bidder: "OurBidder") -> None:
        """Take what a campaign has seen by its end."""
        for goal in _GOALS.values():
            self.delays.setdefault(goal, []).append(bidder.unit.delay_evidence(goal))
        self.days.append(bidder.traffic)


class OurBidder:
    """Steps a control unit at the end of every slot, and bids as workers do."""

    def __init__(
        self,
        brief: Brief,
        mode: Mode | None = None,
        experience: Experience | None = None,
        tuning: Tuning | None = None,
    ) -> None:
        past = experience or Experience()
        rules = Rules(
            aim_of(brief, mode),
            _budget(brief, past.curve()),
            tuning or Tuning(horizon_s=brief.period_s, dead_time_s=brief.cache_s),
            parents=past.laws(brief),
        )
        self._seen: set[int] = set()
        self._slot_s = brief.period_s / _CURVE_SLOTS
        self._goal = brief.goal
        self.traffic: Floats = np.zeros(_CURVE_SLOTS)
        """Predicted value of all requests by part of the day."""
        self.unit = ControlUnit("bench", rules)
        self.blocks: list[Block] = []
        self._step(0)

    def bid(self, asked: Asked) -> Floats:
        """Price each request by the newest block."""
        chances = asked.predicted
        slots = np.minimum((asked.at / self._slot_s).astype(np.int64), _CURVE_SLOTS - 1)
        self.traffic += np.bincount(slots, chances.of(self._goal), _CURVE_SLOTS)
        rows = np.stack([chances.shallow, chances.deep, chances.value])[:, :, None]
        offers, _ = bids(self._prices, rows)
        return np.asarray(offers[:, 0] / MICROS)

    def learn(self, wins: Wins, postbacks: Postbacks, now: float, /) -> None:
        """Feed what was reported, each conversion once, and step."""
        told = wins.predicted
        columns = (_millis(wins.won_at), _micros(wins.cost), told.shallow, told.deep, told.value)
        self.unit.learn(UnitWins(*columns), *self._conversions(postbacks))
        self._step(round(now * 1000))

    def _conversions(self, postbacks: Postbacks) -> list[Conversions]:
        fresh = np.zeros(len(postbacks), np.bool_)
        for at, conversion in enumerate(postbacks.id.tolist()):
            fresh[at] = conversion not in self._seen
            self._seen.add(conversion)
        batches = []
        for kind, goal in _GOALS.items():
            mine = postbacks.take(fresh & (postbacks.kind == kind))
            won, converted = _millis(mine.won_at), _millis(mine.converted_at)
            batches.append(Conversions(goal, won, converted, _micros(mine.value)))
        return batches

    def _step(self, now_ms: int) -> None:
        self.blocks.append(self.unit.step(now_ms))
        self._prices = prices(self.blocks[-1:], now_ms)


def aim_of(brief: Brief, mode: Mode | None = None) -> Aim:
    """Say what a campaign wants: the given mode, or the one its targets ask for."""
    if brief.goal is CostGoal.VALUE:
        return Aim(Mode.ROAS, Targets(roas=1.0 / brief.target), brief.goal)
    first, second = brief.target, brief.other_target or None
    shallow, deep = (second, first) if brief.goal is CostGoal.DEEP else (first, second)
    targets = Targets(*(None if t is None else round(t * MICROS) for t in (shallow, deep)))
    usual = Mode.DUAL_GUARANTEE if second else Mode.TCPA
    return Aim(mode or usual, targets, brief.goal)


def _budget(brief: Brief, curve: tuple[float, ...]) -> Budget | None:
    if not np.isfinite(brief.budget):
        return None
    return Budget(round(brief.budget * MICROS), curve, day_ms=round(brief.period_s * 1000))


def _complete(delays: Floats) -> DelayEvidence:
    """Read delays of conversions whose wins are so old that all have come."""
    everything = np.ones(len(delays))
    return from_rows(np.zeros(len(delays)), delays, everything, now_s=float("inf"))


def _millis(seconds: Floats) -> Floats:
    return np.rint(seconds * 1000.0)


def _micros(money: Floats) -> Floats:
    return np.rint(money * MICROS)
