"""Named gates: what a model must show before it may be staged, with every figure kept."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from rta_service.domain.device import Placement
from rta_service.domain.funnel import HeadKind
from rta_service.domain.platform import PLATFORM_CODES
from rta_service.domain.user import LifecycleStage
from rta_service.features import FEATURE_NAMES
from rta_service.scoring.drift import Drift
from rta_service.scoring.manifest import Evaluation
from rta_service.scoring.metrics import (
    auc,
    auc_error,
    evaluate,
    gini_error,
    log_loss,
    normalised_gini,
    pcoc,
    pcoc_interval,
)

FloatColumn = NDArray[np.float64]
Range = tuple[float, float]
Outcome = Literal["passed", "failed", "skipped", "not_reached"]
"""skipped: there was nothing to judge by (the note says what). not_reached: an earlier one failed."""

DRIFT_GATES: Final = ("drift_psi", "drift_mean", "drift_share")
PROBABILITY_GATES: Final = ("auc", "auc_live", "log_loss", "log_loss_live", "pcoc", "pcoc_slices")
VALUE_GATES: Final = ("gini", "gini_live", "mean_ratio")
CLAIMS: Final = "claims"


class Gate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One named check and what it found."""

    name: str
    outcome: Outcome
    figure: float | None = None
    limit: str = ""
    """In words: ">= 0.55", "0.9 to 1.1"."""
    note: str = ""

    @property
    def passed(self) -> bool:
        """Say whether the model was judged and found good."""
        return self.outcome == "passed"


class GateRules(msgspec.Struct, frozen=True):
    """What models are held to; the defaults are for a first model as well as for the hundredth."""

    min_auc: float = 0.55
    """Below it, the model orders people hardly better than chance, and bids are noise. Like the
    level, it is refused only for what the chance of few rows can't explain."""
    max_auc_loss: float = 0.02
    """Under the live model on the same rows; less is within the noise of some 1,000 positives."""
    max_log_loss_ratio: float = 1.02
    """Against the constant base rate, and against the live model."""
    pcoc: Range = (0.9, 1.1)
    """A level off by a tenth is money off by a tenth, which the control loop can still mend."""
    slice_pcoc: Range = (0.8, 1.25)
    """Of the worst platform, placement or stage: two in three standard errors at 200 positives."""
    slice_positives: int = 200
    min_live_positives: int = 200
    """Fewer positives can't tell two models apart by 0.02 of AUC."""
    min_gini: float = 0.1
    """Of value heads: money is noisy, and its order is known less well than AUC's."""
    max_gini_loss: float = 0.05
    mean_ratio: Range = (0.8, 1.25)
    """Of value heads: predicted over observed money."""
    max_psi: float = 0.25
    """The convention for "another population" (Siddiqi 2006)."""
    drift_ratio: Range = (0.5, 2.0)
    """Of the mean score, and of the share above the live model's threshold, on recent traffic."""
    min_traffic_rows: int = 500
    claim_tolerance: float = 1e-6
    """Relative: the same rows and the same model give the same figures."""
    min_coverage: float = 0.9
    """Share of leaves that golden rows must reach where no witness vouches for the others."""
    allow_unjudged: bool = False
    """Whether a bundle without evaluation rows may pass."""


class EvaluationRows(NamedTuple):
    """Rows later than all that a model was trained and calibrated on."""

    matrix: NDArray[np.float64]
    """[n, F], NaN where missing."""
    labels: NDArray[np.float64]
    """[n]: 0 or 1; of a value head the money in micros."""
    stages: NDArray[np.int64]
    """[n], LifecycleStage codes."""


@dataclass(frozen=True, slots=True)
class Judged:
    """One model's answers [n] on evaluation rows, and the live model's where there is one."""

    kind: HeadKind
    predictions: FloatColumn
    rows: EvaluationRows
    live: FloatColumn | None = None


def drift_gates(found: Drift, rules: GateRules) -> list[Gate]:
    """Judge how far the scores on recent traffic lie from the live model's on the same rows."""
    if found.rows < rules.min_traffic_rows:
        why = f"{found.rows:,} rows of recent traffic, {rules.min_traffic_rows:,} are needed"
        return [skipped(name, why) for name in DRIFT_GATES]
    note = f"{found.rows:,} rows"
    shares = f"{found.share_over:.1%} of rows, of the live model's {found.live_share_over:.1%}"
    share = found.share_over / found.live_share_over if found.live_share_over else math.nan
    return [
        at_most("drift_psi", found.psi, rules.max_psi, note),
        _within("drift_mean", found.mean_ratio, rules.drift_ratio, note),
        _within("drift_share", share, rules.drift_ratio, shares),
    ]


def evaluation_gates(judged: Judged, rules: GateRules) -> list[Gate]:
    """Judge a model on its evaluation rows; a gate that lacks a kind of row is skipped."""
    labels = judged.rows.labels
    if judged.kind == "value":
        return _value_gates(judged, rules)
    if not np.isin(labels, (0.0, 1.0)).all():
        return [failed("auc", "evaluation.parquet: a label is neither 0 nor 1")]
    positives = int(np.count_nonzero(labels))
    if not 0 < positives < len(labels):
        why = f"{positives:,} positives in {len(labels):,} rows"
        return [skipped(name, why) for name in PROBABILITY_GATES]
    return [*_order_gates(judged, rules), *_level_gates(judged, rules)]


def _order_gates(judged: Judged, rules: GateRules) -> Iterator[Gate]:
    labels, found = judged.rows.labels, judged.predictions
    positives = int(np.count_nonzero(labels))
    mine, loss = auc(labels, found), log_loss(labels, found)
    constant = log_loss(labels, np.full(len(labels), positives / len(labels)))
    ratio = rules.max_log_loss_ratio
    note = f"{len(labels):,} rows, {positives:,} positive"
    yield at_least("auc", mine, rules.min_auc, note, auc_error(labels, mine))
    yield _against_live("auc_live", judged, rules)
    yield at_most("log_loss", loss / constant, ratio, f"{loss:.5f}; the base rate's {constant:.5f}")
    yield _against_live("log_loss_live", judged, rules)


def _against_live(name: str, judged: Judged, rules: GateRules) -> Gate:
    """Compare with the live model on the same rows, if there is one and there are enough."""
    labels, positives = judged.rows.labels, int(np.count_nonzero(judged.rows.labels))
    if judged.live is None:
        return skipped(name, "no model of this name is live")
    if positives < rules.min_live_positives:
        return skipped(name, f"{positives:,} positives, {rules.min_live_positives:,} are needed")
    if name == "log_loss_live":
        mine, live = log_loss(labels, judged.predictions), log_loss(labels, judged.live)
        return at_most(name, mine / live, rules.max_log_loss_ratio, f"{mine:.5f}; live {live:.5f}")
    measure, most = (
        (auc, rules.max_auc_loss) if name == "auc_live" else (normalised_gini, rules.max_gini_loss)
    )
    mine, live = measure(labels, judged.predictions), measure(labels, judged.live)
    return at_least(name, mine - live, -most, f"{mine:.4f}; live {live:.4f}")


def _level_gates(judged: Judged, rules: GateRules) -> Iterator[Gate]:
    labels, found = judged.rows.labels, judged.predictions
    bounds = pcoc_interval(labels, found)
    yield _within("pcoc", pcoc(labels, found), rules.pcoc, "", bounds)
    yield _worst_slice(judged, rules)


def _worst_slice(judged: Judged, rules: GateRules) -> Gate:
    """Find the slice whose level is furthest off, among those with positives enough."""
    worst, where = 1.0, ""
    for name, chosen in slices(judged.rows):
        labels = judged.rows.labels[chosen]
        if np.count_nonzero(labels) < rules.slice_positives:
            continue
        level = pcoc(labels, judged.predictions[chosen])
        if not where or abs(math.log(max(level, 1e-12))) > abs(math.log(max(worst, 1e-12))):
            worst, where = level, name
    if not where:
        return skipped("pcoc_slices", f"no slice has {rules.slice_positives:,} positives")
    return _within("pcoc_slices", worst, rules.slice_pcoc, f"worst: {where}")


def slices(rows: EvaluationRows) -> Iterator[tuple[str, NDArray[np.bool_]]]:
    """Give every platform, placement and stage that occurs, in words, with its rows bool [n]."""
    platforms = {code: name for name, code in PLATFORM_CODES.items()}
    placements = {int(p): p.label for p in Placement}
    stages = {int(s): s.label for s in LifecycleStage}
    for word, codes, names in (
        ("platform", rows.matrix[:, FEATURE_NAMES.index("platform")], platforms),
        ("placement", rows.matrix[:, FEATURE_NAMES.index("placement")], placements),
        ("stage", rows.stages, stages),
    ):
        for code in np.unique(codes[np.isfinite(codes)]):
            yield f"{word} {names.get(int(code), int(code))}", codes == code


def _value_gates(judged: Judged, rules: GateRules) -> list[Gate]:
    values, found = judged.rows.labels, judged.predictions
    if not (values > 0).all():
        return [failed("gini", "evaluation.parquet: a label is not a positive amount")]
    if not float(np.ptp(values)) > 0:
        return [skipped(name, "all rows have the same value") for name in VALUE_GATES]
    note = f"{len(values):,} rows"
    ratio, error = mean_ratio(values, found)
    bounds = ratio / (1.0 + error), ratio / max(1.0 - error, 1e-9)
    return [
        at_least("gini", normalised_gini(values, found), rules.min_gini, note, gini_error(values)),
        _against_live("gini_live", judged, rules),
        _within("mean_ratio", ratio, rules.mean_ratio, "", bounds),
    ]


def mean_ratio(values: FloatColumn, predictions: FloatColumn) -> Range:
    """Give predicted over observed mean, and 2.58 relative standard errors of the observed."""
    error = 2.58 * float(np.std(values)) / math.sqrt(len(values)) / float(np.mean(values))
    return float(np.sum(predictions) / np.sum(values)), error


def claims_gate(claimed: Evaluation, judged: Judged, rules: GateRules) -> Gate:
    """Hold the manifest's own figures against what we measure on the rows it came with."""
    try:
        found = evaluate(judged.kind, judged.rows.labels, judged.predictions)
    except ValueError as error:
        return skipped(CLAIMS, str(error))
    worst, where = 0.0, "all"
    for name in Evaluation.__struct_fields__:
        mine, theirs = float(getattr(found, name)), float(getattr(claimed, name))
        off = abs(mine - theirs) / max(abs(mine), 1e-300)
        if not off <= worst:
            worst, where = off, f"{name}: claimed {theirs:.9g}, measured {mine:.9g}"
    return at_most(CLAIMS, worst, rules.claim_tolerance, where)


def skipped(name: str, why: str) -> Gate:
    """Say that there was nothing to judge by."""
    return Gate(name, "skipped", note=why)


def failed(name: str, why: str) -> Gate:
    """Refuse without a figure."""
    return Gate(name, "failed", note=why)


def _within(
    name: str, figure: float, limits: Range, note: str, bounds: Range | None = None
) -> Gate:
    """Refuse only what lies outside with all of its bounds; without any, the figure counts."""
    low, high = bounds or (figure, figure)
    outcome: Outcome = "passed" if low <= limits[1] and high >= limits[0] else "failed"
    if bounds:
        note = f"99 % interval {low:.3f} to {high:.3f}; refused only if all of it lies outside"
    return Gate(name, outcome, _kept(figure), f"{limits[0]:g} to {limits[1]:g}", note)


def at_least(name: str, figure: float, least: float, note: str, error: float = 0.0) -> Gate:
    """Refuse a lesser figure, even with its error on top; what is no number is refused too."""
    outcome: Outcome = "passed" if figure + error >= least else "failed"
    if error and figure < least <= figure + error:
        note += f"; below, but so few rows know it only to {error:.3f} (99 %): not refused for that"
    elif error:
        note += f"; 99 % error {error:.3f}, refused only if it is too small with that on top"
    return Gate(name, outcome, _kept(figure), f">= {least:g}", note)


def at_most(name: str, figure: float, most: float, note: str) -> Gate:
    """Refuse a greater figure; what is no number is refused too."""
    outcome: Outcome = "passed" if figure <= most else "failed"
    return Gate(name, outcome, _kept(figure), f"<= {most:g}", note)


def _kept(figure: float) -> float | None:
    """JSON knows no infinity: a figure that is none is left out."""
    return float(figure) if math.isfinite(figure) else None
