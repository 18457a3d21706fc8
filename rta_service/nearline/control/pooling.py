"""What the units of an advertiser tell together: how late conversions come, and whether all are silent."""

from collections.abc import Sequence
from typing import Final

from rta_service.domain.control import CostGoal
from rta_service.nearline.control import guards
from rta_service.nearline.control.delay import fit, pooled
from rta_service.nearline.control.posterior import Evidence
from rta_service.nearline.control.sight import Sight
from rta_service.nearline.control.unit import ControlUnit

_GOALS: Final = (CostGoal.SHALLOW, CostGoal.DEEP)
_LEAST_CONVERSIONS: Final = 20.0
"""Below, an advertiser's law would be a guess."""


def parent_laws(units: Sequence[ControlUnit]) -> dict[CostGoal, list[float]]:
    """Fit the delay law of each goal to all units, as shares by bin; none where little is known."""
    laws = {}
    for goal in _GOALS:
        evidence = [unit.delay_evidence(goal) for unit in units]
        if len(evidence) > 1 and sum(one.arrived.sum() for one in evidence) >= _LEAST_CONVERSIONS:
            laws[goal] = fit(pooled(evidence)).shares.tolist()
    return laws


def all_silent(units: Sequence[ControlUnit]) -> bool:
    """Say whether far too few postbacks of every steered goal came to all units together.

    One unit may be too small to tell silence from chance; a line that broke is silent for all.
    """
    steered = {goal for unit in units for goal in unit.rules.aim.goals}
    goals = {CostGoal.DEEP if goal is CostGoal.VALUE else goal for goal in steered}
    return guards.outage([_is_silent(units, goal) for goal in sorted(goals)]) is not None


def _is_silent(units: Sequence[ControlUnit], goal: CostGoal) -> bool:
    came, due, arrived, matured, prior = 0, 0.0, 0.0, 0.0, 0.0
    for unit in units:
        sight = _sight(unit)
        known = sight.evidence(goal)
        window_s = max(sight.tuning.recent_s, guards.LEAST_WINDOW_S)
        of_window, expected = sight.arrivals(goal, window_s)
        came, due = came + of_window, due + expected
        arrived += max(known.arrived - of_window, 0.0)
        matured += max(known.matured - expected, 0.0)
        prior = max(prior, sight.tuning.prior)
    return guards.silent(came, due, Evidence(arrived=arrived, matured=matured), prior)


def _sight(unit: ControlUnit) -> Sight:
    return Sight(unit.books, unit.rules.tuning, unit.history, unit.rules.parents)
