"""From sampled rows and their matured labels to evidence: one vectorised pass a batch."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from math import log
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from rta_service.nearline.autopilot.evidence import (
    BINS_AN_OCTAVE,
    LATENCY_BINS,
    LOWEST_SCORE,
    RATIO_BINS,
    SCORE_BINS,
    ArmRecord,
    Evidence,
    Level,
    Moments,
    Split,
)

FloatColumn = NDArray[np.float64]

_CERTAIN: Final = 1e-6
"""Predictions are held this far from 0 and 1, so that one row's log loss stays bounded."""
_MICROS: Final = 1e6
_BINS_A_NAT: Final = SCORE_BINS / -log(LOWEST_SCORE)


@dataclass(frozen=True, slots=True)
class Observation:
    """Sampled requests that both models scored; arrays of length n unless said otherwise."""

    live_scores: FloatColumn
    """Calibrated predictions, 0 to 1; rows without one (NaN) are left out."""
    candidate_scores: FloatColumn
    is_candidate: NDArray[np.bool_]
    """Who decided: the candidate's arm, or the live one."""
    participated: NDArray[np.bool_]
    bid_micros: FloatColumn
    """0 where no bid was made."""
    latency_us: FloatColumn
    """The whole decision's time in microseconds; NaN where it is not known."""


@dataclass(frozen=True, slots=True)
class Outcomes:
    """Rows whose label has matured; arrays of length n. Each row is given once in a trial.

    A person who was shown several ads should appear once a day at most: rows of one person are
    not independent, and the tests would be surer than they may be.
    """

    segments: Sequence[str] | NDArray[np.str_]
    """Such as `mature/json`: stage and platform."""
    live_scores: FloatColumn
    candidate_scores: FloatColumn
    labels: NDArray[Any]
    """0 or 1: whether the goal came within its window, which has passed."""
    is_candidate: NDArray[np.bool_]
    value_micros: FloatColumn
    """What a conversion of this row is worth, such as the strategy's target cost."""
    cost_micros: FloatColumn
    """What was paid for the row; 0 where it is not known."""


def observe(evidence: Evidence, batch: Observation) -> Evidence:
    """Add sampled rows; raises ValueError for columns of different lengths."""
    _check_lengths(batch)
    live, candidate, _ = _scores(batch.live_scores, batch.candidate_scores)
    found = Evidence(
        evidence.live,
        evidence.candidate,
        live_scores=_histogram(score_bins(live), SCORE_BINS),
        candidate_scores=_histogram(score_bins(candidate), SCORE_BINS),
        live_sum=float(live.sum()),
        candidate_sum=float(candidate.sum()),
        unsound=int(np.count_nonzero(~_is_chance(batch.candidate_scores))),
        arm_live=_decided(batch, ~batch.is_candidate),
        arm_candidate=_decided(batch, batch.is_candidate),
    )
    return evidence.merge(found)


def settle(evidence: Evidence, batch: Outcomes) -> Evidence:
    """Add matured rows; raises ValueError for columns of different lengths."""
    _check_lengths(batch)
    live, candidate, sound = _scores(batch.live_scores, batch.candidate_scores)
    hits = np.asarray(batch.labels)[sound] > 0
    worth = batch.value_micros[sound] / _MICROS
    live_bins, candidate_bins = score_bins(live), score_bins(candidate)
    pairs = live_bins * SCORE_BINS + candidate_bins
    found = Evidence(
        evidence.live,
        evidence.candidate,
        levels=_levels(np.asarray(batch.segments)[sound], hits, live, candidate),
        positive_pairs=_histogram(pairs[hits], SCORE_BINS**2),
        negative_pairs=_histogram(pairs[~hits], SCORE_BINS**2),
        positive_worth=_sums(pairs[hits], worth[hits] ** 2, SCORE_BINS**2),
        negative_worth=_sums(pairs[~hits], worth[~hits] ** 2, SCORE_BINS**2),
        worth_squares=float((worth**2) @ (worth**2)),
        live_promised=_sums(live_bins, live, SCORE_BINS),
        candidate_promised=_sums(candidate_bins, candidate, SCORE_BINS),
        unsound=int(np.count_nonzero(~_is_chance(batch.candidate_scores))),
        arm_live=_came_of(batch, batch.live_scores, sound & ~batch.is_candidate),
        arm_candidate=_came_of(batch, batch.candidate_scores, sound & batch.is_candidate),
    )
    return evidence.merge(found)


def count_people(evidence: Evidence, share_millionths: int, split: Split) -> Evidence:
    """Add people met while a share was asked for; each person of a step is counted once."""
    people = {str(share_millionths): split}
    return evidence.merge(Evidence(evidence.live, evidence.candidate, people=people))


def time_calls(evidence: Evidence, live_us: FloatColumn, candidate_us: FloatColumn) -> Evidence:
    """Add timed scoring calls, both models on the same rows in turn; microseconds, [m] each."""
    ratio = np.log2(np.maximum(candidate_us, 1e-3) / np.maximum(live_us, 1e-3))
    bins = np.clip(np.floor(ratio * BINS_AN_OCTAVE) + RATIO_BINS // 2, 0, RATIO_BINS - 1)
    found = _histogram(bins.astype(np.int64), RATIO_BINS)
    return evidence.merge(Evidence(evidence.live, evidence.candidate, time_ratios=found))


def score_bins(scores: FloatColumn) -> NDArray[np.int64]:
    """Say which of SCORE_BINS each score falls into."""
    depth = np.floor(np.log(np.clip(scores, LOWEST_SCORE, 1.0)) * _BINS_A_NAT)
    return np.asarray(np.clip(depth + SCORE_BINS, 0, SCORE_BINS - 1), dtype=np.int64)


def latency_bins(latency_us: FloatColumn) -> NDArray[np.int64]:
    """Say which of LATENCY_BINS each time falls into."""
    depth = np.log2(np.maximum(latency_us, 1.0)) * BINS_AN_OCTAVE
    return np.asarray(np.clip(depth, 0, LATENCY_BINS - 1), dtype=np.int64)


def _scores(
    live: FloatColumn, candidate: FloatColumn
) -> tuple[FloatColumn, FloatColumn, NDArray[np.bool_]]:
    """Keep rows with two probabilities; gives both columns and which rows were kept."""
    sound = np.isfinite(live) & _is_chance(candidate)
    low, high = _CERTAIN, 1.0 - _CERTAIN
    return np.clip(live[sound], low, high), np.clip(candidate[sound], low, high), sound


def _is_chance(scores: FloatColumn) -> NDArray[np.bool_]:
    return (scores >= 0.0) & (scores <= 1.0)


def _histogram(bins: NDArray[np.int64], size: int) -> list[int]:
    return list(map(int, np.bincount(bins, minlength=size)))


def _sums(bins: NDArray[np.int64], values: FloatColumn, size: int) -> list[float]:
    return list(map(float, np.bincount(bins, weights=values, minlength=size)))


def _moments(values: FloatColumn) -> Moments:
    return Moments(len(values), float(values.sum()), float(values @ values))


def _levels(
    segments: NDArray[Any], hits: NDArray[np.bool_], live: FloatColumn, candidate: FloatColumn
) -> dict[str, Level]:
    names, codes = np.unique(segments, return_inverse=True)
    sums = [
        np.bincount(codes, weights=weights, minlength=len(names)).tolist()
        for weights in (np.ones(len(codes)), hits.astype(np.float64), live, candidate)
    ]
    return {
        str(name): Level(int(rows), int(positives), live_sum, candidate_sum)
        for name, rows, positives, live_sum, candidate_sum in zip(names, *sums, strict=True)
    }


def _decided(batch: Observation, chosen: NDArray[np.bool_]) -> ArmRecord:
    times = batch.latency_us[chosen]
    return ArmRecord(
        decided=int(np.count_nonzero(chosen)),
        participated=int(np.count_nonzero(batch.participated & chosen)),
        bid_micros=float(batch.bid_micros[chosen].sum()),
        latency=_histogram(latency_bins(times[np.isfinite(times)]), LATENCY_BINS),
    )


def _came_of(batch: Outcomes, scores: FloatColumn, chosen: NDArray[np.bool_]) -> ArmRecord:
    hits = np.asarray(batch.labels)[chosen] > 0
    cost = batch.cost_micros[chosen]
    return ArmRecord(
        cost_micros=float(cost.sum()),
        matured=len(hits),
        positives=int(np.count_nonzero(hits)),
        promised=float(scores[chosen].sum()),
        surplus=_moments((batch.value_micros[chosen] * hits - cost) / _MICROS),
    )


def _check_lengths(batch: Observation | Outcomes) -> None:
    lengths = {field.name: len(getattr(batch, field.name)) for field in fields(batch)}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"the columns of a batch must have one length, not {lengths}")


def fresh_evidence(live: str, candidate: str, kept: bytes = b"") -> Evidence:
    """Read kept evidence (JSON), or begin anew where it is of other versions or can't be read."""
    try:
        found = msgspec.json.decode(kept, type=Evidence)
    except msgspec.MsgspecError:
        return Evidence(live, candidate)
    same = (found.live, found.candidate) == (live, candidate)
    return found if same else Evidence(live, candidate)
