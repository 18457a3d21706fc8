"""One step of a unit's levels: the cost loops, the boost, the budget, and what stops them."""

from dataclasses import dataclass, field
from functools import cached_property
from math import log
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from rta_service.domain.control import Aim, Budget, CostGoal, Limits, Mode, Reason
from rta_service.domain.control_pricing import COLUMNS
from rta_service.nearline.control import budget as pacing, guards, modes, update
from rta_service.nearline.control.posterior import Evidence, scale
from rta_service.nearline.control.sight import Sight
from rta_service.nearline.control.update import Move

KEPT_TARGETS: Final = 8
_SLACK: Final = 0.5
_BOOST_ENDS: Final = 0.95
"""Share of the highest theta from which the boost can do no more."""
_IDLE_QUANTA: Final = 4.0
_FIRST_PERIOD_MS: Final = 60_000


class Levels(msgspec.Struct, frozen=True):
    """What steps have led to; the rest of a unit's state are sums of events."""

    version: int = 0
    stepped_ms: int = 0
    period_ms: int = _FIRST_PERIOD_MS
    logs: dict[CostGoal, float] = {}
    scales: dict[CostGoal, float] = {}
    """Conversions over predictions, times what one unit of the goal is."""
    seen: dict[CostGoal, int] = {}
    reasons: dict[CostGoal, Reason] = {}
    theta: float = 0.0
    log_budget: float = 0.0
    guaranteed: bool = False
    """The deep guarantee has begun."""
    idle_s: float = 0.0
    stopped: Reason | None = None
    changed: Reason | None = None
    flags: tuple[Reason, ...] = ()


@dataclass
class Look:
    """The books at a step, beside what is wanted."""

    sight: Sight
    aim: Aim
    limits: Limits
    budget: Budget | None
    _evidence: dict[CostGoal, Evidence] = field(default_factory=dict)

    @cached_property
    def goals(self) -> tuple[CostGoal, ...]:
        """Give the goals that are watched: the steered ones, and deep where it shapes."""
        extra = (CostGoal.DEEP,) if self.aim.mode is Mode.DEEP_BOOST else ()
        return self.aim.goals + extra

    def priced(self, mode: Mode) -> tuple[CostGoal, ...]:
        """Give the goals that make a bid in the mode in force."""
        return self.aim.goals if mode is self.aim.mode else self.aim.goals[:1]

    def price(self, goal: CostGoal) -> float:
        """Give the target in micros; deep follows from the rate where it only shapes."""
        price = self.aim.targets.price(goal)
        rate = self.aim.targets.wanted_deep_rate
        if price is None and rate and self.aim.targets.shallow_micros:
            return self.aim.targets.shallow_micros / rate
        return price or 0.0

    def evidence(self, goal: CostGoal, seen: int = 0) -> Evidence:
        """Sum up a goal, once."""
        if goal not in self._evidence:
            self._evidence[goal] = self.sight.evidence(goal, seen)
        return self._evidence[goal]

    def means(self) -> NDArray[np.float64]:
        """Give the mean predictions float64[3] of the wins, by cost."""
        return np.array([self.sight.mean_prediction(goal) for goal in COLUMNS])


def mode_in_force(look: Look) -> Mode:
    """Give the mode that makes bids: a guarantee bids as a boost, whose level also minds deep."""
    dual = look.aim.mode is Mode.DUAL_GUARANTEE
    return Mode.DEEP_BOOST if dual else look.aim.mode


def advance(look: Look, before: Levels, *, outage: bool = False) -> Levels:
    """Step all levels to the clock of the books."""
    clock_ms = look.sight.books.bought.clock_ms
    elapsed_s = (clock_ms - before.stepped_ms) / 1000.0 if before.version else 0.0
    timed = msgspec.structs.replace(
        before,
        version=before.version + 1,
        stepped_ms=clock_ms,
        period_ms=round(elapsed_s * 1000.0) or before.period_ms,
        seen={goal: look.sight.predicted_nano(goal) for goal in look.goals},
        changed=None,
    )
    for goal in look.goals:
        look.evidence(goal, before.seen.get(goal, 0))
    broken = Reason.POSTBACK_OUTAGE if outage else _outage(look)
    if broken:
        frozen = dict.fromkeys(look.goals, broken)
        paced = _budget(look, timed, elapsed_s)
        return _guarded(look, msgspec.structs.replace(paced, reasons=frozen), broken)
    moved = _costs(look, timed, elapsed_s)
    boosted = _boost(look, _budget(look, moved, elapsed_s))
    calm = _restrained(look, boosted)
    told = {**calm.reasons, **_told(look, before.changed)}
    return _guarded(look, msgspec.structs.replace(calm, reasons=told), None)


def _outage(look: Look) -> Reason | None:
    """Compare the last window's postbacks with those due, by what was known before it."""
    window_s = max(look.sight.tuning.recent_s, guards.LEAST_WINDOW_S)
    silences = []
    for goal in {CostGoal.DEEP if g is CostGoal.VALUE else g for g in look.goals}:
        whole = look.evidence(goal)
        came, due = look.sight.arrivals(goal, window_s)
        before = Evidence(
            arrived=max(whole.arrived - came, 0.0), matured=max(whole.matured - due, 0.0)
        )
        silences.append(guards.silent(came, due, before, look.sight.tuning.prior))
    return guards.outage(silences)


def _costs(look: Look, levels: Levels, elapsed_s: float) -> Levels:
    """Step the cost loop of every steered goal."""
    moves = {goal: _move(look, levels, goal, elapsed_s) for goal in look.goals}
    kappas = {goal: _scale(look, goal) for goal in look.goals}
    gained = any(look.evidence(goal).gained > 0.0 for goal in look.goals)
    return msgspec.structs.replace(
        levels,
        logs={goal: move.log_multiplier for goal, move in moves.items()},
        reasons={goal: move.reason for goal, move in moves.items()},
        scales=kappas,
        idle_s=0.0 if gained else levels.idle_s + elapsed_s,
    )


def _scale(look: Look, goal: CostGoal) -> float:
    return scale(look.evidence(goal), look.sight.tuning.prior)


def _move(look: Look, levels: Levels, goal: CostGoal, elapsed_s: float) -> Move:
    level, evidence = levels.logs.get(goal, 0.0), look.evidence(goal)
    tuning = look.sight.tuning
    if look.aim.mode is Mode.MAX_CONVERSIONS or goal not in look.aim.goals:
        return Move(0.0, Reason.BUDGET_ACTIVE if look.budget else Reason.ON_TARGET)
    if evidence.gained <= 0.0 and levels.idle_s > _IDLE_QUANTA * tuning.quantum_s:
        return update.probe(level, tuning, elapsed_s)
    move = update.step(level, evidence, tuning, look.limits, elapsed_s)
    if look.aim.mode is Mode.COST_CAP and move.log_multiplier > 0.0:
        closed = not update.proven_surplus(evidence, tuning)
        return Move(min(level, 0.0), Reason.CAP_CLOSED) if closed else move
    return move


def _budget(look: Look, levels: Levels, elapsed_s: float) -> Levels:
    if look.budget is None:
        return levels
    pace = _pace(look, look.budget)
    tuning, limits = look.sight.tuning, look.limits
    # where answers are kept, a move shows only when the old ones have run out
    slot_s = max(pacing.slot_s(look.budget), tuning.dead_time_s)
    level = pacing.step(levels.log_budget, pace, elapsed_s, slot_s, tuning.budget_gain)
    lowest = limits.lowest if limits.budget_lowest is None else limits.budget_lowest
    bounded = min(max(level, lowest), limits.highest)
    return msgspec.structs.replace(levels, log_budget=bounded)


def _pace(look: Look, budget: Budget) -> pacing.Pace:
    books = look.sight.books
    remaining = budget.daily_micros - books.spent.get(books.day(), 0)
    ahead_s = pacing.PLANNED_DEAD_TIMES * look.sight.tuning.dead_time_s
    planned = pacing.plan_rate(budget, books.bought.clock_ms, remaining, ahead_s)
    return pacing.Pace(remaining, planned, look.sight.spending()[1])


def _boost(look: Look, levels: Levels) -> Levels:
    """Move theta by the recent and the whole deep rate, as the cost loops do."""
    wanted = look.aim.targets.wanted_deep_rate
    if look.aim.mode not in {Mode.DEEP_BOOST, Mode.DUAL_GUARANTEE} or wanted is None:
        return levels
    shallow, deep = look.evidence(CostGoal.SHALLOW), look.evidence(CostGoal.DEEP)
    ratio = levels.scales[CostGoal.DEEP] / levels.scales[CostGoal.SHALLOW]
    soft = look.sight.tuning.prior
    whole = (deep.predicted * ratio + soft * wanted) / (shallow.predicted + soft)
    recent = (deep.recent_predicted * ratio + soft * wanted) / (shallow.recent_predicted + soft)
    gained = levels.scales[CostGoal.DEEP] * deep.gained
    highest = modes.max_theta(deep.arrived, look.limits.max_theta)
    theta = modes.next_theta(levels.theta, wanted, (whole * recent) ** 0.5, gained, highest)
    mode = modes.phase(look.aim.mode, deep.arrived, guaranteed=levels.guaranteed)
    begun = mode is Mode.DUAL_GUARANTEE
    return msgspec.structs.replace(levels, theta=theta, guaranteed=begun)


def _restrained(look: Look, levels: Levels) -> Levels:
    """Keep the loops that do not decide the bid near the one that does."""
    if look.aim.mode is Mode.DUAL_GUARANTEE:
        levels = _both(look, levels)
    first = look.aim.goals[0]
    usual = _usual(look, levels, first)
    wanted = levels.logs[first] + usual
    capped = [levels.log_budget + usual] if look.budget else []
    kept = update.follow([wanted, *capped], _SLACK)
    logs, reasons = dict(levels.logs), dict(levels.reasons)
    if kept[0] < wanted and look.aim.mode is not Mode.MAX_CONVERSIONS:
        logs[first], reasons[first] = kept[0] - usual, Reason.FOLLOWS_ACTIVE
    budget = kept[-1] - usual if capped else levels.log_budget
    if look.aim.mode is Mode.MAX_CONVERSIONS and look.budget:
        logs[first], budget = look.limits.highest, levels.log_budget
    return msgspec.structs.replace(levels, logs=logs, reasons=reasons, log_budget=budget)


def _both(look: Look, levels: Levels) -> Levels:
    """Let the deep cost lower the bid of the boost where the boost is at its end.

    Before, the boost itself brings the deep rate to the wanted one, and with it both costs to
    their targets: the lesser of two bids would drop rows that the mix of both wants, and paid
    a tenth of the deep conversions for it.
    """
    shallow, deep = look.aim.goals
    line = levels.logs[shallow] + _usual(look, levels, shallow)
    base = _usual(look, levels, deep)
    logs, reasons = dict(levels.logs), dict(levels.reasons)
    if not levels.guaranteed:
        logs[deep], reasons[deep] = line - base, Reason.DEEP_PHASE
    elif levels.theta < _BOOST_ENDS * look.limits.max_theta:
        logs[deep], reasons[deep] = line - base, Reason.FOLLOWS_ACTIVE
    elif logs[deep] + base < line:
        logs[shallow] = logs[deep] + base - _usual(look, levels, shallow)
        reasons[shallow] = Reason.FOLLOWS_ACTIVE
    else:
        logs[deep] = min(logs[deep], line - base + _SLACK)
        reasons[deep] = Reason.FOLLOWS_ACTIVE
    return msgspec.structs.replace(levels, logs=logs, reasons=reasons)


def _usual(look: Look, levels: Levels, goal: CostGoal) -> float:
    """Give the log of a goal's mean bid at a multiplier of 1."""
    mean = look.sight.mean_prediction(goal)
    return log(max(look.price(goal) * levels.scales[goal] * mean, 1e-9)) if mean > 0.0 else 0.0


def _told(look: Look, changed: Reason | None) -> dict[CostGoal, Reason]:
    return dict.fromkeys(look.aim.goals, changed) if changed else {}


def _guarded(look: Look, levels: Levels, broken: Reason | None) -> Levels:
    """Stop, halve or flag what the guards say."""
    flags = [broken] if broken else []
    reasons, stopped = dict(levels.reasons), None
    for goal in look.aim.goals:
        verdict = guards.sanity(look.evidence(goal))
        flags += [verdict] if verdict else []
        if verdict is Reason.MODEL_UNSOUND:
            reasons[goal] = verdict
    if not broken:
        stopped = guards.breaker(look.evidence(look.aim.goals[0]))
    if look.budget and _pace(look, look.budget).spent:
        stopped = Reason.BUDGET_SPENT
    flags += [stopped] if stopped else []
    if look.sight.bad_lately():
        flags.append(Reason.BAD_NUMBER)
    return msgspec.structs.replace(
        levels, flags=tuple(dict.fromkeys(flags)), reasons=reasons, stopped=stopped
    )
