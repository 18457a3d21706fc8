"""Upload -> arrays -> text -> LightGBM: the same raw scores to the last bit, whatever the row."""

from collections.abc import Callable, Mapping
from typing import Any

import lightgbm
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from numpy.typing import NDArray

from rta_service.scoring.canonical_text import canonical_text
from rta_service.scoring.flat_forest import FlatForest
from rta_service.scoring.forest_text import parse_forest

Rows = NDArray[np.float64]

VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "dart": {"boosting": "dart", "drop_rate": 0.5},
    "goss": {"data_sample_strategy": "goss"},
    "bagged": {"bagging_fraction": 0.5, "bagging_freq": 1},
    "one-hot categories": {"max_cat_to_onehot": 200},
    "sets of categories": {"max_cat_to_onehot": 1, "cat_smooth": 1.0, "min_data_per_group": 5},
    "zero as missing": {"zero_as_missing": True},
    "no missing": {"use_missing": False},
    "monotone": {"monotone_constraints": [1, -1, 0, 0, 0, 0, 0, 0]},
    "quantised": {"use_quantized_grad": True},
    "tiny leaves": {"min_data_in_leaf": 1, "min_sum_hessian_in_leaf": 0.0, "num_leaves": 150},
    "single leaves": {"min_data_in_leaf": 1_400},
    "tiny steps": {"learning_rate": 1e-6},
    "stumps": {"num_leaves": 2},
}


def bits(scores: Rows) -> list[int]:
    whole: list[int] = scores.view(np.int64).tolist()
    return whole


def raw(text: str, rows: Rows) -> Rows:
    booster = lightgbm.Booster(model_str=text)
    return np.asarray(booster.predict(rows, raw_score=True, num_threads=1), dtype=np.float64)


@pytest.mark.parametrize("objective", ["binary", "regression", "poisson", "gamma", "tweedie"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_the_round_trip_keeps_every_bit_of_raw_scores(
    train: Callable[..., Any], strange_rows: Rows, objective: str, variant: str
) -> None:
    booster = train(objective, **VARIANTS[variant])
    original = booster.model_to_string()

    forest = parse_forest(original.encode(), "model.txt")
    text = canonical_text(forest)

    expected = raw(original, strange_rows)
    assert bits(raw(text, strange_rows)) == bits(expected)
    assert bits(forest.raw_plainly(strange_rows)) == bits(expected)
    assert parse_forest(text.encode(), "canonical").digest() == forest.digest()
    predicted = lightgbm.Booster(model_str=original).predict(strange_rows, num_threads=1)
    np.testing.assert_allclose(forest.predict_plainly(strange_rows), predicted, rtol=1e-14)


def test_the_text_by_hand_scores_alike_in_lightgbm(by_hand: bytes, strange_rows: Rows) -> None:
    rows = np.ascontiguousarray(strange_rows[:, [4, 5, 1]])
    forest = parse_forest(by_hand, "model.txt")

    expected = bits(raw(by_hand.decode(), rows))

    assert bits(forest.raw_plainly(rows)) == expected
    assert bits(raw(canonical_text(forest), rows)) == expected


def test_no_line_of_the_original_but_names_and_numbers_is_in_the_text(
    texts: Mapping[str, bytes],
) -> None:
    text = canonical_text(parse_forest(texts["categories"], "model.txt"))

    assert text.endswith("end of trees\n")
    assert "feature_infos=none none" in text
    assert "split_gain=0 0" in text
    assert text.isascii()


def a_forest(seed: int, trees: int) -> FlatForest:
    """Grow a sound forest at random, in LightGBM's order, with values of every size."""
    chance = np.random.default_rng(seed)
    grown = [_a_tree(chance) for _ in range(trees)]
    columns = {name: np.concatenate([tree[name] for tree in grown]) for name in grown[0]}
    words = columns.pop("words")
    sizes = columns.pop("sizes").astype(np.int64)
    cats = [len(tree["sizes"]) for tree in grown]
    return FlatForest(
        objective=("binary", "regression", "poisson", "gamma", "tweedie")[seed % 5],
        sigmoid=0.7 if seed % 5 == 0 else 1.0,
        feature_names=tuple(f"f{i}" for i in range(8)),
        node_start=np.cumsum([0, *(len(tree["left"]) for tree in grown)]),
        leaf_start=np.cumsum([0, *(len(tree["leaf_value"]) for tree in grown)]),
        cat_start=np.cumsum([0, *cats]),
        split_feature=columns["split_feature"].astype(np.int32),
        threshold=columns["threshold"].astype(np.float64),
        decision_type=columns["decision_type"].astype(np.uint8),
        left=columns["left"].astype(np.int32),
        right=columns["right"].astype(np.int32),
        leaf_value=columns["leaf_value"].astype(np.float64),
        node_count=columns["node_count"].astype(np.int64),
        leaf_count=np.ones(len(columns["leaf_value"]), dtype=np.int64),
        cat_offset=np.cumsum(np.concatenate(([0], sizes))),
        cat_words=words.astype(np.uint32),
    )


def _a_tree(chance: np.random.Generator) -> dict[str, NDArray[Any]]:
    nodes = int(chance.integers(0, 12))
    left, right, parent = [0] * nodes, [0] * nodes, {0: (-1, 0)}
    for node in range(nodes):
        leaf = int(chance.integers(0, node + 1))
        above, side = parent[leaf]
        if above >= 0:
            (left if side == 0 else right)[above] = node
        left[node], right[node] = ~leaf, ~(node + 1)
        parent[leaf], parent[node + 1] = (node, 0), (node, 1)
    decision = chance.choice([0, 2, 4, 6, 8, 10, 1, 5, 9], nodes)
    threshold = chance.normal(size=nodes) * 10.0 ** chance.integers(-320, 300, nodes)
    threshold[(decision == 8) & (chance.random(nodes) < 0.3)] = np.inf
    is_cat = (decision & 1) > 0
    threshold[is_cat] = np.arange(is_cat.sum())
    sizes = chance.integers(1, 5, int(is_cat.sum()))
    counts = np.ones(nodes, dtype=np.int64)
    for node in reversed(range(nodes)):
        counts[node] = sum(counts[c] if c >= 0 else 1 for c in (left[node], right[node]))
    return {
        "split_feature": chance.integers(0, 8, nodes),
        "threshold": threshold,
        "decision_type": decision,
        "left": np.array(left),
        "right": np.array(right),
        "leaf_value": chance.normal(size=nodes + 1) * 10.0 ** chance.integers(-20, 2, nodes + 1),
        "node_count": counts,
        "sizes": sizes,
        "words": chance.integers(1, 2**32, int(sizes.sum())),
    }


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 2**32), trees=st.integers(1, 12))
def test_any_sound_forest_is_written_read_and_scored_alike(
    strange_rows: Rows, seed: int, trees: int
) -> None:
    forest = a_forest(seed, trees)

    text = canonical_text(forest)
    again = parse_forest(text.encode(), "canonical")

    assert again.digest() == forest.digest()
    assert canonical_text(again) == text
    assert bits(forest.raw_plainly(strange_rows)) == bits(raw(text, strange_rows))
