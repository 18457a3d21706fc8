"""The arrays themselves: who may write them, what tells two of them apart."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from rta_service.scoring.flat_forest import FlatForest
from rta_service.scoring.forest_text import parse_forest


@pytest.fixture
def forest(by_hand: bytes) -> FlatForest:
    return parse_forest(by_hand, "model.txt")


def with_array(forest: FlatForest, name: str, array: NDArray[Any]) -> FlatForest:
    fields: dict[str, Any] = {name: array}
    return replace(forest, **fields)


def test_arrays_cannot_be_written(forest: FlatForest) -> None:
    for array in forest.arrays.values():
        assert not array.flags.writeable
    with pytest.raises(ValueError, match="read-only"):
        forest.leaf_value[0] = 1.0


def test_the_arrays_of_the_caller_stay_its_own(forest: FlatForest) -> None:
    mine = forest.leaf_value.copy()

    replace(forest, leaf_value=mine)

    assert mine.flags.writeable


@pytest.mark.parametrize("name", ["threshold", "left", "node_count", "leaf_start", "cat_words"])
def test_arrays_of_another_type_or_length_are_refused(forest: FlatForest, name: str) -> None:
    array = getattr(forest, name)

    with pytest.raises(ValueError, match=name):
        with_array(forest, name, array.astype(np.float32))
    if name != "cat_words":
        with pytest.raises(ValueError, match=r"must be \w+|is \w+"):
            with_array(forest, name, array[:-1])


def test_the_digest_knows_all_that_decides_scores_and_nothing_else(forest: FlatForest) -> None:
    counts = ("node_count", "leaf_count")
    others = {
        name: with_array(forest, name, np.append(array[:-1], array[-1:] + 1)).digest()
        for name, array in forest.arrays.items()
    }
    others["objective"] = replace(forest, objective="poisson").digest()
    others["sigmoid"] = replace(forest, sigmoid=2.0).digest()
    others["names"] = replace(forest, feature_names=("age", "city", "spent")).digest()

    assert {others.pop(name) for name in counts} == {forest.digest()}
    assert len({forest.digest(), *others.values()}) == len(others) + 1
    assert forest.digest().startswith("9831a85fc30ac1df")  # golden vectors hold it


@pytest.mark.parametrize("shape", [(3,), (2, 4), (1, 3, 1)])
def test_a_matrix_of_another_shape_is_refused(forest: FlatForest, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="not \\[n, 3\\]"):
        forest.raw_plainly(np.zeros(shape))


def test_no_rows_give_no_scores(forest: FlatForest) -> None:
    assert forest.raw_plainly(np.empty((0, 3))).shape == (0,)
    assert forest.leaves_plainly(np.empty((0, 3))).shape == (0, 3)


def test_leaves_add_up_to_the_raw_score(forest: FlatForest) -> None:
    rows = np.array([[20.0, 2.0, 0.0], [40.0, 1.0, np.nan], [np.nan, 40.0, -5.0]])

    leaves = forest.leaves_plainly(rows)

    assert leaves.tolist() == [[0, 6, 7], [1, 5, 7], [0, 6, 7]]
    assert forest.raw_plainly(rows).tolist() == [-0.6875, 0.4375, -0.6875]
