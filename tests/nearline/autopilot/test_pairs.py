"""Tables of two models' rows: as good as the rows, and fair to the one that did not choose them."""

from typing import Any

import numpy as np
import pytest

from rta_service.nearline.autopilot.evidence import Evidence
from rta_service.nearline.autopilot.observing import Observation, Outcomes, observe, settle
from rta_service.nearline.autopilot.pairs import pairs_of
from rta_service.scoring.metrics import log_loss

EMPTY = Evidence("v1", "v2")


def test_excess_loss_is_that_of_the_rows(market: Any) -> None:
    batch = market.outcomes(40_000, lambda scores: np.minimum(1.3 * scores, 1.0))
    labels = np.asarray(batch.labels)
    losses = [log_loss(labels, scores) for scores in (batch.candidate_scores, batch.live_scores)]

    found = pairs_of(settle(EMPTY, batch)).excess_loss()

    assert found.figure == pytest.approx((losses[0] - losses[1]) / labels.mean(), abs=0.002)
    assert 0.0 < found.error < 0.01


def test_gain_is_what_bids_earn_at_uniform_prices(market: Any) -> None:
    batch = market.outcomes(40_000, lambda scores: np.minimum(1.5 * scores, 1.0))
    worth = 30.0 * np.asarray(batch.labels)

    def earned(scores: np.ndarray) -> np.ndarray:
        """Win with a chance in proportion to the bid, and pay half of it on average."""
        bids = 30.0 * scores
        return bids * (worth - bids / 2.0)

    scale = ((30.0 * batch.live_scores) ** 2).sum() / 2.0
    gains = (earned(batch.candidate_scores) - earned(batch.live_scores)) / scale

    evidence = settle(EMPTY, batch)
    found = pairs_of(evidence).gain(evidence)

    assert found is not None
    assert found.figure == pytest.approx(gains.sum(), abs=0.01)
    assert found.error == pytest.approx(gains.std() * len(gains) ** 0.5, rel=0.05)


def test_conversions_that_are_worth_nothing_have_no_gain(market: Any) -> None:
    evidence = settle(EMPTY, market.outcomes(1_000, value_micros=np.zeros(1_000)))

    assert pairs_of(evidence).gain(evidence) is None


def a_bought_market(rng: np.random.Generator) -> tuple[Evidence, float]:
    """Two equally good, noisy models; the live one buys in proportion to its score.

    Gives the evidence and the candidate's predictions over outcomes as they look at first.
    """
    truth = rng.normal(-3.0, 0.9, 200_000)
    live, candidate = (
        1.0 / (1.0 + np.exp(-(truth + rng.normal(-0.03, 0.35, len(truth))))) for _ in range(2)
    )
    chance = 1.0 / (1.0 + np.exp(-truth))
    # calibrated as models are: the mean of the truth at each score
    live, candidate = (_calibrated(scores, chance) for scores in (live, candidate))
    nobody = np.zeros(len(truth), np.bool_)
    zeros = np.zeros(len(truth))
    evidence = observe(EMPTY, Observation(live, candidate, nobody, nobody, zeros, zeros))
    won = rng.random(len(truth)) < live / 0.3
    labels = rng.random(len(truth)) < chance
    rows = (live[won], candidate[won], labels[won], nobody[won], zeros[won], zeros[won])
    at_first = float(candidate[won].sum() / labels[won].sum())
    return settle(evidence, Outcomes(["all"] * int(won.sum()), *rows)), at_first


def _calibrated(scores: np.ndarray, chance: np.ndarray) -> np.ndarray:
    order = np.argsort(scores)
    blocks = np.array_split(order, 400)
    mean = [chance[block].mean() for block in blocks]
    at = [scores[block].mean() for block in blocks]
    return np.asarray(np.interp(scores, at, np.maximum.accumulate(mean)))


def test_a_candidate_is_not_blamed_for_rows_that_the_live_model_chose() -> None:
    found = [a_bought_market(np.random.default_rng(seed)) for seed in range(4)]

    promised_over_come = []
    losses = []
    for evidence, _ in found:
        come, promised = pairs_of(evidence).come_and_promised()
        promised_over_come.append(promised / come)
        losses.append(pairs_of(evidence).excess_loss().figure)

    assert np.mean([at_first for _, at_first in found]) < 0.96
    assert np.mean(promised_over_come) == pytest.approx(1.0, abs=0.02)
    assert np.mean(losses) == pytest.approx(0.0, abs=0.01)


def test_the_ratio_of_levels_is_known_better_than_either_level() -> None:
    found = [a_bought_market(np.random.default_rng(seed))[0] for seed in range(10, 22)]

    ratios = [pairs_of(evidence).level_ratio() for evidence in found]
    levels = [promised / come for come, promised in map(_come_and_promised, found)]

    spread = np.std([ratio.figure for ratio in ratios])
    assert spread < 0.6 * np.std(levels)
    assert ratios[0].error == pytest.approx(spread, rel=0.6)
    assert np.mean([ratio.figure for ratio in ratios]) == pytest.approx(0.0, abs=0.02)


def _come_and_promised(evidence: Evidence) -> tuple[float, float]:
    return pairs_of(evidence).come_and_promised()


def test_without_sampled_rows_every_row_weighs_the_same(market: Any) -> None:
    pairs = pairs_of(settle(EMPTY, market.outcomes(1_000)))

    assert (pairs.own == 1.0).all()
    assert (pairs.even == 1.0).all()


def test_without_rows_every_mean_is_still_a_probability() -> None:
    pairs = pairs_of(EMPTY)

    assert pairs.come_and_promised() == (0.0, 0.0)
    assert np.isfinite(np.log(pairs.live / (1.0 - pairs.candidate))).all()
