"""Order of two models from binned counts: agrees with the rows themselves."""

import numpy as np
import pytest

from rta_service.nearline.autopilot.evidence import SCORE_BINS, Evidence
from rta_service.nearline.autopilot.observing import score_bins
from rta_service.nearline.autopilot.pairs import pairs_of
from rta_service.nearline.autopilot.ranking import RankingGap, ranking_gap, stability_index
from rta_service.scoring.metrics import auc

Rows = tuple[np.ndarray, np.ndarray, np.ndarray]


def gap_of(live: np.ndarray, candidate: np.ndarray, labels: np.ndarray) -> RankingGap:
    joint = score_bins(live) * SCORE_BINS + score_bins(candidate)
    positives, negatives = (
        np.bincount(joint[chosen], minlength=SCORE_BINS**2).tolist() for chosen in (labels, ~labels)
    )
    evidence = Evidence("v1", "v2", positive_pairs=positives, negative_pairs=negatives)
    gap = ranking_gap(pairs_of(evidence))
    assert gap is not None
    return gap


@pytest.fixture(name="rows")
def rows_of_two_models() -> Rows:
    rng = np.random.default_rng(11)
    chance = rng.beta(1.0, 8.0, 500)
    live, candidate = (np.clip(chance * rng.lognormal(0.0, 0.5, 500), 0, 1) for _ in range(2))
    return live, candidate, rng.random(500) < chance


def test_the_areas_are_those_of_the_binned_scores(
    rows: Rows,
) -> None:
    live, candidate, labels = rows

    gap = gap_of(live, candidate, labels)

    assert gap.live == pytest.approx(auc(labels, score_bins(live).astype(float)))
    assert gap.candidate == pytest.approx(auc(labels, score_bins(candidate).astype(float)))
    assert gap.difference == pytest.approx(gap.candidate - gap.live)


def test_the_error_is_delongs_taken_pair_by_pair(
    rows: Rows,
) -> None:
    live, candidate, labels = rows
    gains = []
    for scores in (score_bins(live), score_bins(candidate)):
        ours, theirs = scores[labels], scores[~labels]
        gains.append((ours[:, None] > theirs) + 0.5 * (ours[:, None] == theirs))
    difference = gains[1] - gains[0]
    by_positive, by_negative = difference.mean(axis=1), difference.mean(axis=0)
    expected = by_positive.var() / len(by_positive) + by_negative.var() / len(by_negative)

    gap = gap_of(live, candidate, labels)

    assert gap.error**2 == pytest.approx(expected)


def test_a_model_against_itself_has_no_gap_and_no_error(
    rows: Rows,
) -> None:
    live, _, labels = rows

    gap = gap_of(live, live, labels)

    assert (gap.difference, gap.error) == (0.0, 0.0)


def test_one_kind_of_label_gives_no_order() -> None:
    evidence = Evidence("v1", "v2", negative_pairs=[1] * SCORE_BINS**2)

    assert ranking_gap(pairs_of(evidence)) is None


def test_equal_scores_are_stable_and_shifted_ones_are_not() -> None:
    rng = np.random.default_rng(12)
    scores = rng.beta(1.0, 12.0, 20_000)
    histograms = [
        np.bincount(score_bins(column), minlength=SCORE_BINS).tolist()
        for column in (scores, rng.permutation(scores), np.minimum(2.5 * scores, 1.0))
    ]

    assert stability_index(histograms[0], histograms[1]) == 0.0
    assert stability_index(histograms[0], histograms[2]) > 0.25


def test_strangers_who_share_one_score_may_move_together() -> None:
    live = [0] * 20 + [20] * 30 + [0] * 14
    candidate = list(live)
    live[30] += 400
    candidate[32] += 400
    elsewhere = [0] * 14 + live[:50]

    assert stability_index(live, candidate) < 0.5
    assert stability_index(live, elsewhere) > 1.0
