"""Sums a bench up: a table for each scenario, the issue's targets, and who beat us."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

import numpy as np

from rta_service.demo.control_bench.lineup import ALONE, BASELINES, BOOST, ONE_GOAL, OURS
from rta_service.demo.control_bench.playing import Outcome
from rta_service.simulation.wind_tunnel.score import ALL, CLOSE, Line, Score, table

_SAME_ERROR: Final = 1e-3
"""Median errors nearer than that are the same; they print alike."""
_BACK_SHARE: Final = 0.15
_BACK_AFTER: Final = 30.0
_MANY: Final = (">= 100 deep", 100.0)

Outcomes = dict[str, Outcome]


@dataclass(frozen=True, slots=True)
class Row:
    """A line of a scenario's table, with the share whose other target is held too."""

    scenario: str
    player: str
    line: Line
    other_within_10: float
    """NaN without another target."""


@dataclass(frozen=True, slots=True)
class Beaten:
    """A baseline that is nearer its target than ours and wins no fewer conversions."""

    scenario: str
    bucket: str
    player: str
    ours: Line
    theirs: Line


@dataclass(frozen=True, slots=True)
class Mark:
    """A target of the issue beside what was found."""

    scenario: str
    bucket: str
    what: str
    target: float
    found: float
    at_most: bool = False

    @property
    def met(self) -> bool:
        """Whether the figure is as wanted; a figure that is not there is not."""
        return self.found <= self.target if self.at_most else self.found >= self.target


@dataclass(frozen=True, slots=True)
class Verdict:
    """All that a bench found."""

    rows: list[Row]
    beaten: list[Beaten]
    marks: list[Mark]

    @property
    def passed(self) -> bool:
        """Whether no baseline beat us in any bucket."""
        return not self.beaten


def judge(outcomes: Outcomes) -> Verdict:
    """Sum up what was played; where there are two targets, a run's error is the worse of both."""
    outcomes = {name: _worse_of_two(outcome) for name, outcome in outcomes.items()}
    rows = [row for name, outcome in outcomes.items() for row in _rows(name, outcome)]
    return Verdict(rows, _beaten(rows), [mark for mark in _marks(outcomes) if mark is not None])


def _worse_of_two(outcome: Outcome) -> Outcome:
    scores = {
        player: [replace(one, error=float(np.fmax(one.error, one.other_error))) for one in theirs]
        for player, theirs in outcome.scores.items()
    }
    return Outcome(scores, outcome.paths)


def document_of(verdict: Verdict) -> dict[str, Any]:
    """Give a verdict as JSON; what is not there, or never came, is null."""
    document = {
        "passed": verdict.passed,
        "rows": [asdict(row) for row in verdict.rows],
        "beaten": [asdict(one) for one in verdict.beaten],
        "targets": [{**asdict(mark), "met": mark.met} for mark in verdict.marks],
    }
    return {key: _finite(part) for key, part in document.items()}


def _finite(part: Any) -> Any:
    match part:
        case dict():
            return {key: _finite(one) for key, one in part.items()}
        case list():
            return [_finite(one) for one in part]
        case float():
            return part if np.isfinite(part) else None
        case _:
            return part


def _rows(scenario: str, outcome: Outcome) -> list[Row]:
    rows = []
    for player, scores in outcome.scores.items():
        for line in table(scores):
            some = [s for s in scores if line.bucket in {ALL, s.bucket}]
            others = [s.other_error <= CLOSE for s in some if not np.isnan(s.other_error)]
            held = float(np.mean(others)) if others else float("nan")
            rows.append(Row(scenario, player, line, held))
    order = {name: place for place, name in enumerate(dict.fromkeys(r.line.bucket for r in rows))}
    return sorted(rows, key=lambda row: order[row.line.bucket])


_TELLING: Final = 10
"""Campaigns of a bucket from which it says something; a quick run has one here and there."""


def _beaten(rows: Sequence[Row]) -> list[Beaten]:
    ours = {(r.scenario, r.line.bucket): r.line for r in rows if r.player == OURS}
    found = []
    for row in rows:
        mine = ours[row.scenario, row.line.bucket]
        if mine.campaigns < _TELLING:
            continue
        if row.player in BASELINES and _is_better(row.line, mine):
            found.append(Beaten(row.scenario, row.line.bucket, row.player, mine, row.line))
    return found


def _is_better(one: Line, other: Line) -> bool:
    """Say whether a line is as good in median error and conversions, and better in one."""
    nearer = other.median_error - one.median_error
    more = one.over_clairvoyant - other.over_clairvoyant
    if nearer < -_SAME_ERROR or more < 0.0:
        return False
    return nearer > _SAME_ERROR or more > 0.0


def _marks(outcomes: Outcomes) -> list[Mark | None]:
    def mark(
        place: tuple[str, str], what: str, target: float, *, at_most: bool = False
    ) -> Mark | None:
        scenario, bucket = place
        line = _line(outcomes, scenario, bucket)
        if line is None:
            return None
        return Mark(scenario, bucket, what, target, getattr(line, what), at_most)

    day = [
        mark(("daily", "> 300"), "within_10", 0.98),
        mark(("daily", "> 300"), "median_error", 0.025, at_most=True),
        mark(("daily", "100-300"), "within_10", 0.92),
        mark(("daily", "30-100"), "within_20", 0.97),
        mark(("daily", ALL), "over_clairvoyant", 0.93),
        mark(("late", "100-300"), "within_20", 0.80),
        mark(("late", ALL), "over_clairvoyant", 0.85),
        mark(("budget", "30-100"), "budget_use", 0.97),
        mark(("budget", "100-300"), "budget_use", 0.97),
        mark(("budget", "> 300"), "budget_use", 0.97),
    ]
    return [*day, *_step_marks(outcomes), *_dual_marks(outcomes)]


def _step_marks(outcomes: Outcomes) -> list[Mark]:
    """Take the target as one of the median campaign: half of them are back in time."""
    scores = outcomes["price_step"].scores[OURS] if "price_step" in outcomes else []
    marks = []
    for bucket in ("30-100", "100-300", "> 300"):
        backs = [s.recovery for s in scores if s.bucket == bucket and s.recovery]
        if backs:
            soon = [r.share <= _BACK_SHARE or r.conversions <= _BACK_AFTER for r in backs]
            what = "back within 15 % of the day or 30 conversions"
            marks.append(Mark("price_step", bucket, what, 0.5, float(np.mean(soon))))
    return marks


def _line(outcomes: Outcomes, scenario: str, bucket: str) -> Line | None:
    scores = outcomes[scenario].scores[OURS] if scenario in outcomes else []
    return next((line for line in table(scores) if line.bucket == bucket), None)


def _dual_marks(outcomes: Outcomes) -> list[Mark]:
    """Compare both costs, and the deep conversions with those of the single goal."""
    if "two_goals" not in outcomes:
        return []
    scores = outcomes["two_goals"].scores
    large = [at for at, score in enumerate(scores[OURS]) if score.best_gain >= _MANY[1]]
    if not large:
        return []
    ours, single = ([scores[player][at] for at in large] for player in (OURS, ONE_GOAL))
    held = float(np.mean([s.error <= CLOSE for s in ours]))
    more = _sum(ours, lambda s: s.deep) / max(_sum(single, lambda s: s.deep), 1e-9)
    cost = float(np.median([s.other_ratio for s in ours]))
    return [
        Mark("two_goals", _MANY[0], "both costs within 10 %", 0.9, held),
        Mark("two_goals", _MANY[0], "deep over the single goal's", 1.15, more),
        Mark("two_goals", _MANY[0], "median shallow cost over target", 1.02, cost, at_most=True),
    ]


def _sum(scores: list[Score], column: Callable[[Score], float]) -> float:
    return sum(column(score) for score in scores)


OWN: Final = (OURS, ALONE, BOOST, ONE_GOAL)
"""Players that are ours, for tables to mark."""
