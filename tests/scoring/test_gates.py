"""Gates: what passes, what fails, and that what can't be judged never passes silently."""

from dataclasses import replace

import msgspec
import numpy as np
import pytest
from hypothesis import given, strategies as st
from numpy.typing import NDArray

from rta_service.features import FEATURE_NAMES
from rta_service.scoring.drift import compare
from rta_service.scoring.gates import (
    CLAIMS,
    DRIFT_GATES,
    PROBABILITY_GATES,
    EvaluationRows,
    Gate,
    GateRules,
    Judged,
    claims_gate,
    drift_gates,
    evaluation_gates,
)
from rta_service.scoring.metrics import auc_error, evaluate, pcoc, pcoc_interval

Column = NDArray[np.float64]
RULES = GateRules()


def a_judged(rows: int = 20_000, seed: int = 1, rate: float = 0.1) -> Judged:
    """A well calibrated model on rows that it orders well."""
    chance = np.random.default_rng(seed)
    predictions = np.clip(chance.gamma(1.0, rate, rows), 0.0, 0.9)
    labels = (chance.random(rows) < predictions).astype(np.float64)
    matrix = np.zeros((rows, len(FEATURE_NAMES)))
    matrix[:, FEATURE_NAMES.index("platform")] = chance.integers(1, 3, rows)
    matrix[:, FEATURE_NAMES.index("placement")] = chance.integers(0, 4, rows)
    stages = chance.integers(0, 5, rows)
    return Judged("probability", predictions, EvaluationRows(matrix, labels, stages))


def outcomes(gates: list[Gate]) -> dict[str, str]:
    return {gate.name: gate.outcome for gate in gates}


def test_a_good_first_model_passes_and_comparisons_with_a_live_one_are_skipped() -> None:
    gates = evaluation_gates(a_judged(), RULES)

    assert tuple(gate.name for gate in gates) == PROBABILITY_GATES
    found = outcomes(gates)
    assert found.pop("auc_live") == found.pop("log_loss_live") == "skipped"
    assert set(found.values()) == {"passed"}
    assert [gate.passed for gate in gates].count(True) == 4


@pytest.mark.parametrize("factor", [0.8, 1.2])
def test_a_level_that_is_off_by_a_fifth_is_refused(factor: float) -> None:
    judged = a_judged()

    gates = evaluation_gates(replace(judged, predictions=judged.predictions * factor), RULES)

    assert outcomes(gates)["pcoc"] == "failed"


def test_few_positives_are_refused_only_for_what_chance_can_not_explain() -> None:
    judged = a_judged(rows=300)

    near = evaluation_gates(replace(judged, predictions=judged.predictions * 1.2), RULES)
    far = evaluation_gates(replace(judged, predictions=judged.predictions * 3.0), RULES)

    assert np.count_nonzero(judged.rows.labels) < 50
    assert outcomes(near)["pcoc"] == "passed"
    assert outcomes(far)["pcoc"] == "failed"
    assert outcomes(near)["pcoc_slices"] == "skipped"


def test_an_order_that_few_rows_can_not_tell_from_a_fair_one_is_not_refused() -> None:
    few, many = a_judged(rows=300), a_judged()
    chance = np.random.default_rng(2)

    doubtful = evaluation_gates(
        replace(few, predictions=chance.permutation(few.predictions)), RULES
    )[0]
    certain = evaluation_gates(
        replace(many, predictions=chance.permutation(many.predictions)), RULES
    )[0]

    assert doubtful.figure is not None
    assert doubtful.figure < RULES.min_auc
    assert (doubtful.outcome, certain.outcome) == ("passed", "failed")
    assert "not refused for that" in doubtful.note


def test_the_error_of_an_auc_is_hanleys_and_mcneils() -> None:
    labels = np.r_[np.ones(51), np.zeros(58)]

    # their example: an area of 0.893 with 51 abnormal and 58 normal images has an error of 0.032
    assert auc_error(labels, 0.893) / 2.5758 == pytest.approx(0.032, abs=0.001)


def test_a_single_slice_that_is_off_is_named() -> None:
    judged = a_judged()
    wrong = judged.rows.matrix[:, FEATURE_NAMES.index("placement")] == 3
    predictions = np.where(wrong, judged.predictions * 1.5, judged.predictions)

    gate = evaluation_gates(replace(judged, predictions=predictions), RULES)[-1]

    assert (gate.name, gate.outcome, gate.note) == (
        "pcoc_slices",
        "failed",
        "worst: placement search_suggest",
    )


def test_an_order_like_chance_is_refused() -> None:
    judged = a_judged()
    shuffled = np.random.default_rng(2).permutation(judged.predictions)

    found = outcomes(evaluation_gates(replace(judged, predictions=shuffled), RULES))

    assert found["auc"] == found["log_loss"] == "failed"
    assert found["pcoc"] == "passed"


def test_a_model_behind_the_live_one_is_refused_and_one_before_it_is_not() -> None:
    judged = a_judged()
    noise = np.random.default_rng(3).lognormal(0.0, 1.0, len(judged.predictions))
    worse = judged.predictions * noise * np.exp(-0.5)

    behind = outcomes(
        evaluation_gates(replace(judged, predictions=worse, live=judged.predictions), RULES)
    )
    before = outcomes(evaluation_gates(replace(judged, live=worse), RULES))

    assert behind["auc_live"] == behind["log_loss_live"] == "failed"
    assert before["auc_live"] == before["log_loss_live"] == "passed"


def test_too_few_positives_can_not_tell_two_models_apart() -> None:
    judged = a_judged(rows=300)

    found = outcomes(evaluation_gates(replace(judged, live=judged.predictions), RULES))

    assert found["auc_live"] == found["log_loss_live"] == "skipped"


@pytest.mark.parametrize("label", [0.0, 1.0])
def test_rows_of_one_kind_of_label_judge_nothing(label: float) -> None:
    judged = a_judged(rows=100)
    rows = judged.rows._replace(labels=np.full(100, label))

    found = outcomes(evaluation_gates(replace(judged, rows=rows), RULES))

    assert set(found.values()) == {"skipped"}


def test_labels_that_are_none_are_refused() -> None:
    judged = a_judged(rows=100)
    rows = judged.rows._replace(labels=np.full(100, 0.5))

    assert outcomes(evaluation_gates(replace(judged, rows=rows), RULES)) == {"auc": "failed"}


def a_value_head(noise: float = 0.5) -> Judged:
    chance = np.random.default_rng(4)
    mean = chance.gamma(2.0, 5e6, 5_000)
    amounts = mean * chance.gamma(1.0 / noise, noise, 5_000)
    rows = EvaluationRows(np.zeros((5_000, len(FEATURE_NAMES))), amounts, np.zeros(5_000, int))
    return Judged("value", mean, rows)


def test_a_value_head_is_judged_by_order_and_mean() -> None:
    judged = a_value_head()

    good = outcomes(evaluation_gates(replace(judged, live=judged.predictions), RULES))
    dear = outcomes(evaluation_gates(replace(judged, predictions=judged.predictions * 2), RULES))
    random = np.random.default_rng(5).permutation(judged.predictions)
    blind = outcomes(
        evaluation_gates(replace(judged, predictions=random, live=judged.predictions), RULES)
    )

    assert good == {"gini": "passed", "gini_live": "passed", "mean_ratio": "passed"}
    assert dear == {"gini": "passed", "gini_live": "skipped", "mean_ratio": "failed"}
    assert blind == {"gini": "failed", "gini_live": "failed", "mean_ratio": "passed"}


def test_amounts_that_are_equal_or_not_positive_are_not_judged_as_good() -> None:
    judged = a_value_head()
    equal = judged.rows._replace(labels=np.full(5_000, 7.0))
    zero = judged.rows._replace(labels=np.zeros(5_000))

    same = outcomes(evaluation_gates(replace(judged, rows=equal), RULES))

    assert set(same.values()) == {"skipped"}
    assert outcomes(evaluation_gates(replace(judged, rows=zero), RULES)) == {"gini": "failed"}


@pytest.mark.parametrize("judged", [a_judged(), a_value_head()], ids=["probability", "value"])
def test_claims_must_be_what_we_measure(judged: Judged) -> None:
    honest = evaluate(judged.kind, judged.rows.labels, judged.predictions)
    proud = msgspec.structs.replace(honest, auc=honest.auc + 1e-4)

    refused = claims_gate(proud, judged, RULES)

    assert claims_gate(honest, judged, RULES).outcome == "passed"
    assert refused.outcome == "failed"
    assert refused.note.startswith("auc: claimed 0.")
    nan = msgspec.structs.replace(honest, pcoc=float("nan"))
    assert claims_gate(nan, judged, RULES) == Gate(
        CLAIMS, "failed", None, "<= 1e-06", claims_gate(nan, judged, RULES).note
    )


def test_claims_on_rows_that_say_nothing_are_skipped() -> None:
    judged = a_judged(rows=10)
    none = replace(judged, rows=judged.rows._replace(labels=np.zeros(10)))
    claimed = evaluate("probability", np.array([0, 1]), np.array([0.1, 0.2]))

    assert claims_gate(claimed, none, RULES).outcome == "skipped"


def test_scores_like_the_live_ones_pass_and_others_do_not() -> None:
    live = a_judged().predictions

    like = outcomes(drift_gates(compare(live, live * 1.02), RULES))
    high = outcomes(drift_gates(compare(live, live * 3.0), RULES))

    assert set(like.values()) == {"passed"}
    assert set(high.values()) == {"failed"}


def test_without_traffic_drift_is_not_judged() -> None:
    few = np.full(10, 0.1)

    gates = drift_gates(compare(few, few), RULES)

    assert [(gate.name, gate.outcome) for gate in gates] == [(n, "skipped") for n in DRIFT_GATES]
    assert gates[0].note == "10 rows of recent traffic, 500 are needed"


def test_a_live_model_without_a_threshold_gives_no_silent_pass() -> None:
    constant = np.zeros(1_000)

    found = outcomes(drift_gates(compare(constant, constant), RULES))

    assert found["drift_share"] == "failed"


@given(st.integers(1, 400), st.integers(0, 10_000), st.floats(0.001, 0.9))
def test_the_interval_holds_the_ratio_and_narrows(
    positives: int, negatives: int, prediction: float
) -> None:
    labels = np.r_[np.ones(positives), np.zeros(negatives)]
    predictions = np.full(len(labels), prediction)

    low, high = pcoc_interval(labels, predictions)
    twice = pcoc_interval(np.tile(labels, 2), np.tile(predictions, 2))

    assert low < pcoc(labels, predictions) < high
    assert low < twice[0] < twice[1] < high


def test_the_interval_is_garwoods() -> None:
    low, high = pcoc_interval(np.ones(100), np.ones(100), confidence=0.95)

    # a mean of 81.36 to 121.63 is what 100 counted events allow
    assert (100 / high, 100 / low) == pytest.approx((81.3639, 121.6272), abs=1e-3)


def test_no_positive_has_no_interval() -> None:
    with pytest.raises(ValueError, match="at least one positive"):
        pcoc_interval(np.zeros(3), np.ones(3))
