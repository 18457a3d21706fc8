"""The controller of one strategy on one platform: events in, a Block of multipliers out.

Between two steps it only adds integers, so a unit rebuilt from the same events and steps is the
same to the bit, whatever batches the events came in.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

import msgspec

from rta_service.domain.control import (
    Aim,
    Block,
    Budget,
    CostGoal,
    GoalBlock,
    GoalStanding,
    Limits,
    Mode,
    Reason,
    Targets,
)
from rta_service.domain.control_pricing import lines
from rta_service.nearline.control import budget as pacing, guards, levels
from rta_service.nearline.control.books import Books, Read
from rta_service.nearline.control.delay import DelayEvidence, DelayLaw
from rta_service.nearline.control.feed import Conversions, Origin, Wins
from rta_service.nearline.control.levels import Levels, Look
from rta_service.nearline.control.posterior import final
from rta_service.nearline.control.sight import Dated, Sight
from rta_service.nearline.control.update import Tuning


@dataclass(frozen=True)
class Rules:
    """What a unit is told from outside; not part of its saved state."""

    aim: Aim
    budget: Budget | None = None
    tuning: Tuning = field(default_factory=Tuning)
    limits: Limits = field(default_factory=Limits)
    parents: Mapping[CostGoal, DelayLaw] = field(default_factory=dict)
    """Delay laws of the advertiser or of all, to which the unit's are shrunk."""


class _Saved(msgspec.Struct, frozen=True):
    books: bytes
    levels: Levels
    history: list[tuple[int, Targets]]


class ControlUnit:
    """Feed it wins and conversions, step it, read the block."""

    def __init__(self, unit_id: str, rules: Rules) -> None:
        self.unit_id = unit_id
        self.rules = rules
        self.levels = Levels()
        self.books = Books(*_day(rules.budget))
        self.history = [Dated(0, rules.aim.targets)]

    def learn(
        self, wins: Wins | None = None, *conversions: Conversions, origin: Origin | None = None
    ) -> bool:
        """Add a batch; False, and nothing added, where its origin was seen before.

        Raises InvalidInput for columns that do not fit together; then nothing was added either.
        """
        if self.books.is_replay(origin):
            return False
        read = Read()
        if wins is not None:
            read.wins(wins)
        for batch in conversions:
            read.conversions(batch)
        self.books.take(read, origin)
        return True

    def step(self, now_ms: int, *, outage: bool = False) -> Block:
        """Move every multiplier once; `outage` tells that all of the advertiser is silent."""
        look = self._look(now_ms)
        self.levels = levels.advance(look, self.levels, outage=outage)
        return self._block(look)

    def _look(self, now_ms: int) -> Look:
        self.books.roll(now_ms)
        rules = self.rules
        sight = Sight(self.books, rules.tuning, self.history, rules.parents)
        return Look(sight, rules.aim, rules.limits, rules.budget)

    def aim_at(self, now_ms: int, aim: Aim) -> None:
        """Change targets or mode: bids rescale with the next block, multipliers stay.

        What was bought before is held to the targets of its time.
        """
        if aim.targets != self.rules.aim.targets:
            self.history = [*self.history, Dated(now_ms, aim.targets)][-levels.KEPT_TARGETS :]
            self.levels = msgspec.structs.replace(self.levels, changed=Reason.TARGET_CHANGED)
        self.rules = _with(self.rules, aim=aim)

    def spend_at_most(self, daily: Budget | None) -> None:
        """Change the budget: its pace jumps by the ratio of what remains, at most twofold."""
        old = self.rules.budget
        if old is None or daily is None:
            self.levels = msgspec.structs.replace(self.levels, log_budget=0.0)
        else:
            spent = self.books.spent.get(self.books.day(), 0)
            jump = pacing.jump(old.daily_micros - spent, daily.daily_micros - spent)
            moved = self.levels.log_budget + jump
            self.levels = msgspec.structs.replace(
                self.levels, log_budget=moved, changed=Reason.BUDGET_CHANGED
            )
        self.rules = _with(self.rules, budget=daily)

    def inherit(self, parents: Mapping[CostGoal, DelayLaw]) -> None:
        """Take newer delay laws of the advertiser or of all."""
        self.rules = _with(self.rules, parents=parents)

    def delay_evidence(self, goal: CostGoal) -> DelayEvidence:
        """Give what to add up over units, to `fit` the law of an advertiser or of all."""
        return Sight(self.books, self.rules.tuning, self.history).delay_evidence(goal)

    def standings(self) -> tuple[GoalStanding, ...]:
        """Say for each steered goal where its cost stands, as of the last step."""
        look = self._look(self.books.bought.clock_ms)
        return tuple(self._standing(look, goal) for goal in look.goals)

    def _standing(self, look: Look, goal: CostGoal) -> GoalStanding:
        evidence, size = look.evidence(goal), look.sight.unit_size(goal)
        kappa = self.levels.scales.get(goal, 1.0)
        expected = final(evidence, self.rules.tuning.prior, kappa)
        return GoalStanding(
            goal=goal,
            target_micros=look.price(goal),
            cost_micros=look.sight.spending()[0],
            arrived=evidence.arrived * size,
            predicted=evidence.predicted * size,
            matured=evidence.matured * size,
            scale=kappa,
            expected=expected.mean * size,
            expected_low=expected.low * size,
            expected_high=expected.high * size,
            log_multiplier=self.levels.logs.get(goal, 0.0),
            reason=self.levels.reasons.get(goal, Reason.STARTED),
        )

    def _block(self, look: Look) -> Block:
        state, mode = self.levels, levels.mode_in_force(look)
        goals = tuple(self._goal_block(look, goal) for goal in look.priced(mode))
        limits = self.rules.limits
        block = Block(
            unit_id=self.unit_id,
            version=state.version,
            made_at_ms=state.stepped_ms,
            period_ms=state.period_ms,
            mode=mode,
            goals=goals,
            log_budget=None if self.rules.budget is None else state.log_budget,
            theta=state.theta if mode is Mode.DEEP_BOOST else 0.0,
            mean_deep_rate=look.sight.deep_rate(),
            throttle=guards.throttle(state.stopped),
            flags=state.flags,
        )
        first = goals[0]
        mean = first.target_micros * first.scale * first.mean_prediction
        typical = msgspec.structs.replace(block, throttle=1.0)
        usual = lines(typical, state.stepped_ms)[:, 1:] @ look.means()
        usual += lines(typical, state.stepped_ms)[:, 0]
        cap = guards.cap(float(usual.min()), limits.mean_bids, limits.max_bid_micros)
        return msgspec.structs.replace(block, cap_micros=cap, neutral_micros=mean)

    def _goal_block(self, look: Look, goal: CostGoal) -> GoalBlock:
        state = self.levels
        return GoalBlock(
            goal=goal,
            target_micros=look.price(goal),
            scale=state.scales.get(goal, 1.0),
            log_multiplier=state.logs.get(goal, 0.0),
            mean_prediction=look.sight.mean_prediction(goal),
            reason=state.reasons.get(goal, Reason.STARTED),
        )

    def to_bytes(self) -> bytes:
        """Save all but the rules."""
        history = [(dated.since_ms, dated.targets) for dated in self.history]
        return msgspec.msgpack.encode(_Saved(self.books.to_bytes(), self.levels, history))

    @classmethod
    def from_bytes(cls, unit_id: str, rules: Rules, data: bytes) -> Self:
        """Load what `to_bytes` saved, under the same or other rules."""
        saved = msgspec.msgpack.decode(data, type=_Saved)
        unit = cls(unit_id, rules)
        unit.books = Books.from_bytes(saved.books, *_day(rules.budget))
        unit.levels = saved.levels
        unit.history = [Dated(since, targets) for since, targets in saved.history]
        return unit


def _day(budget: Budget | None) -> tuple[int, int]:
    return (budget.day_starts_ms, budget.day_ms) if budget else (0, 86_400_000)


def _with(rules: Rules, **changes: object) -> Rules:
    return Rules(**{**vars(rules), **changes})
