"""Fresh rows: their window is not over, so a 0 may yet become a 1; weights make them usable.

Importance weights for delayed feedback (FSIW): with F(e) the share of goals that are reached
within e of the given event, a row of age e that shows its goal stands for 1 / F(e) rows, and one
that does not for (1 - p) / (1 - p F(e)), the chance that it never will. p is what trees that
learned from known outcomes say. In the mean every row weighs 1.
"""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rta_service.offline.training.dataset import HeadRows
from rta_service.offline.training.folds import compare
from rta_service.offline.training.growing import Grown, Lesson, Recipe, grow, join, lesson
from rta_service.offline.training.report import DelayedMark
from rta_service.scoring.metrics import log_losses

FloatColumn = NDArray[np.float64]
Column = NDArray[np.int64]

_MIN_SEEN: Final = 0.3
"""Rows so young that less than this share of the goals would show are left out: a positive among
them would stand for many."""

_LAW_SHARE: Final = 0.25
_MIN_LAW_POSITIVES: Final = 200

_BELIEVABLE: Final = 1.33
"""On the simulated market this ratio lay within 4 % of 1."""

_MIN_POSITIVES: Final = 50
_MIN_FRESH: Final = 100


class DelayLaw(NamedTuple):
    """How soon goals follow: ascending delays in seconds of goals that were reached.

    From rows whose window was over, of which nothing is censored: there the Kaplan-Meier estimate
    is the plain empirical one.
    """

    delays_s: Column

    def seen(self, age_s: Column) -> FloatColumn:
        """Give the share [n] of goals that are reached within an age."""
        return np.searchsorted(self.delays_s, age_s, side="right") / len(self.delays_s)


def delay_law(known: HeadRows) -> DelayLaw:
    """Learn the law from rows whose outcome is known, at least one of them positive.

    From the latest quarter of the positives: people trade sooner as a market grows, and the law of
    all its past made fresh rows promise 2 to 3 % too much on the simulated one.
    """
    delays_s = known.delay_s[known.delay_s >= 0]
    latest = max(_MIN_LAW_POSITIVES, round(_LAW_SHARE * len(delays_s)))
    return DelayLaw(np.sort(delays_s[-latest:]))


def weigh(observed: FloatColumn, seen: FloatColumn, chance: FloatColumn) -> FloatColumn:
    """Give each row's weight [n] from its label so far, F(age) and p."""
    missed = (1.0 - chance) / (1.0 - chance * seen)
    return np.where(observed > 0.0, 1.0 / seen, missed)


def fresh_lesson(fresh: HeadRows, now_s: int, law: DelayLaw, known: Grown) -> Lesson:
    """Make a lesson of rows whose window was open at an instant, as they looked then."""
    age_s = now_s - fresh.t_s
    seen = law.seen(age_s)
    old = seen >= _MIN_SEEN
    rows, seen = fresh.take(old), seen[old]
    observed = ((rows.delay_s >= 0) & (rows.delay_s < age_s[old])).astype(np.float64)
    weights = weigh(observed, seen, known.predict(rows.matrix))
    return Lesson(rows.matrix, observed, weights, rows.negatives_kept)


def doubt(fresh: Lesson, known: Grown) -> str:
    """Say why fresh rows can't be believed, or nothing.

    Where the end of a log is incomplete (postbacks arrive late, a day is missing), its goals are
    not delayed but lost, and no weight makes up for that.
    """
    if not len(fresh.labels):
        return "there are none"
    expected = np.average(known.predict(fresh.matrix), weights=fresh.weights)
    ratio = float(np.average(fresh.labels, weights=fresh.weights) / expected)
    if 1.0 / _BELIEVABLE <= ratio <= _BELIEVABLE:
        return ""
    return (
        f"fresh rows show {ratio:.2f} times what known rows lead to expect: is the end of the log"
        " complete?"
    )


def try_fresh_rows(
    rows: HeadRows, evaluate: HeadRows, recipe: Recipe, trees: int
) -> DelayedMark | None:
    """Ask the evaluation week whether fresh rows help, as a run at its start could have.

    Both contenders learn from what was known then; one also from the rows whose window was open.
    Their trees are compared uncalibrated. Fresh rows are kept unless they lose by more than a
    standard error: they know of the last days. Gives None where there is too little to compare.
    """
    now_s = int(evaluate.as_of_s[0])
    known = rows.take((rows.known_s <= now_s) & (rows.as_of_s < now_s))
    fresh = rows.take((rows.known_s > now_s) & (rows.t_s < now_s) & (rows.as_of_s < now_s))
    if min(known.positives, len(known) - known.positives) < _MIN_POSITIVES:
        return None
    without = grow(lesson(known), recipe, trees)
    more = fresh_lesson(fresh, now_s, delay_law(known), without)
    if len(more.labels) < _MIN_FRESH:
        return None
    with_fresh = grow(join(lesson(known), more), recipe, trees)
    old, new = (
        log_losses(evaluate.labels, grown.predict(evaluate.matrix))
        for grown in (without, with_fresh)
    )
    gain, error = compare(new, old)
    return DelayedMark(
        known_rows=len(known),
        fresh_rows=len(more.labels),
        log_loss_without=float(np.mean(old)),
        log_loss_with=float(np.mean(new)),
        error=error,
        kept=gain >= -error,
    )
