"""Golden vectors: that they reach the leaves, and give every change of a model away."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from rta_service.domain.errors import ModelRefused
from rta_service.features import CATEGORICAL
from rta_service.scoring.calibration import Calibration
from rta_service.scoring.flat_forest import FlatForest
from rta_service.scoring.golden import (
    GOLDEN_GATES,
    MIN_ROWS,
    Golden,
    choose_rows,
    golden_gates,
    leaves_of,
    make_golden,
    read_golden,
    write_golden,
)

Matrix = NDArray[np.float64]
CALIBRATION = Calibration((0.0, 0.5, 1.0), (0.001, 0.4, 0.9))


@pytest.fixture(scope="session")
def golden(rows: Matrix, model_forest: FlatForest) -> Golden:
    return make_golden(rows, model_forest, CALIBRATION)


def outcomes(golden: Golden, forest: FlatForest, calibration: Calibration = CALIBRATION) -> Any:
    gates = golden_gates(golden, forest, calibration, min_coverage=0.9)
    assert tuple(gate.name for gate in gates) == GOLDEN_GATES
    return [gate.outcome for gate in gates]


def test_the_rows_of_a_model_are_met_by_it(golden: Golden, model_forest: FlatForest) -> None:
    assert outcomes(golden, model_forest) == ["passed", "passed", "passed", "skipped"]
    assert MIN_ROWS <= len(golden.rows) <= 512


def test_golden_vectors_are_the_same_every_time(
    golden: Golden, rows: Matrix, model_forest: FlatForest
) -> None:
    assert make_golden(rows, model_forest, CALIBRATION) == golden


def test_a_file_gives_back_every_bit(golden: Golden, tmp_path: Path) -> None:
    write_golden(tmp_path / "golden.json", golden)

    found = read_golden(tmp_path / "golden.json")

    assert found == golden
    assert found.matrix().tobytes() == golden.matrix().tobytes()
    values = {value for row in golden.rows for value in row}
    assert {None, "inf", "-inf", 0.0} <= values


def test_the_edges_are_among_the_rows(golden: Golden) -> None:
    matrix = golden.matrix()

    assert np.isnan(matrix[0]).all()
    assert (matrix[1] == 0.0).all()
    assert (matrix[2] == math.inf).all()
    assert (matrix[4, list(CATEGORICAL)] == 1e6).all()


def test_most_leaves_are_reached(golden: Golden, model_forest: FlatForest) -> None:
    reached = np.unique(leaves_of(model_forest, golden.matrix()))

    assert len(reached) / len(model_forest.leaf_value) >= 0.95


def test_leaves_add_up_to_the_score(model_forest: FlatForest, rows: Matrix) -> None:
    leaves = leaves_of(model_forest, rows[:50])

    found = np.zeros(50)
    for tree in range(model_forest.trees):
        found += model_forest.leaf_value[leaves[:, tree]]

    assert leaves.shape == (50, model_forest.trees)
    assert np.array_equal(found, model_forest.raw_plainly(rows[:50]))


def test_every_changed_leaf_is_given_away_by_the_witness(
    golden: Golden, model_forest: FlatForest
) -> None:
    for leaf in range(0, len(model_forest.leaf_value), 7):
        values = model_forest.leaf_value.copy()
        values[leaf] = np.nextafter(values[leaf], 9.0)

        assert outcomes(golden, replace(model_forest, leaf_value=values))[2] == "failed"


def test_every_reached_leaf_that_changed_is_given_away_by_its_rows(
    golden: Golden, model_forest: FlatForest
) -> None:
    for leaf in np.unique(leaves_of(model_forest, golden.matrix()))[::7]:
        values = model_forest.leaf_value.copy()
        values[leaf] += 1e-6

        assert outcomes(golden, replace(model_forest, leaf_value=values))[0] == "failed"


def test_another_calibration_is_given_away(golden: Golden, model_forest: FlatForest) -> None:
    other = Calibration(CALIBRATION.x, (0.001, 0.400001, 0.9))

    assert outcomes(golden, model_forest, other)[:2] == ["passed", "failed"]


def test_without_a_witness_the_leaves_reached_decide(
    golden: Golden, model_forest: FlatForest
) -> None:
    alone = msgspec.structs.replace(golden, witness="")
    same = [0] * MIN_ROWS
    narrow = Golden(
        tuple(alone.rows[i] for i in same),
        tuple(alone.raw[i] for i in same),
        tuple(alone.calibrated[i] for i in same),
    )

    assert outcomes(alone, model_forest) == ["passed", "passed", "skipped", "passed"]
    assert outcomes(narrow, model_forest) == ["passed", "passed", "skipped", "failed"]


def test_rows_of_another_width_are_refused(golden: Golden, model_forest: FlatForest) -> None:
    narrow = msgspec.structs.replace(golden, rows=tuple(row[:5] for row in golden.rows))

    with pytest.raises(ModelRefused, match="rows of 5 values, not 24"):
        golden_gates(narrow, model_forest, CALIBRATION, 0.9)


Damage = Callable[[dict[str, Any]], object]


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda d: d.update(rows=d["rows"][:99]), "99 rows, not 100 to 4,096"),
        (lambda d: d["raw"].pop(), "must be of one length"),
        (lambda d: d["rows"][7].pop(), "all rows must be of one length"),
        (lambda d: d.update(schema=2), "schema 2, this service reads 1"),
        (lambda d: d["rows"][0].__setitem__(0, "nan"), "Invalid enum value 'nan'"),
        (lambda d: d["raw"].__setitem__(0, None), "Expected `float`, got `null`"),
        (lambda d: d.update(more=1), "unknown field `more`"),
        (lambda d: d.clear(), "missing required field"),
    ],
)
def test_a_damaged_file_is_refused_with_the_reason(
    damage: Damage, words: str, golden: Golden, tmp_path: Path
) -> None:
    document = msgspec.json.decode(msgspec.json.encode(golden))
    damage(document)
    (tmp_path / "golden.json").write_bytes(msgspec.json.encode(document))

    with pytest.raises(ModelRefused, match=rf"golden\.json: .*{words}"):
        read_golden(tmp_path / "golden.json")


@pytest.mark.parametrize("data", [b"", b"\xff", b"[" * 100_000])
def test_a_file_that_is_no_json_is_refused(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "golden.json").write_bytes(data)

    with pytest.raises(ModelRefused, match=r"golden\.json: "):
        read_golden(tmp_path / "golden.json")


def test_rows_are_chosen_for_the_leaves_that_no_other_reached() -> None:
    leaves = np.array([[0, 3]] * 300 + [[1, 4], [2, 4], [2, 5]])

    chosen = choose_rows(leaves, 512)

    assert len(chosen) == MIN_ROWS
    assert {0, 300, 302} == set(chosen[:3])
    assert choose_rows(leaves, 2) == chosen[:2]


def test_few_rows_are_made_up_for(model_forest: FlatForest, rows: Matrix) -> None:
    golden = make_golden(rows[:3], model_forest, CALIBRATION)
    none = make_golden(rows[:0], model_forest, CALIBRATION)

    assert len(golden.rows) >= MIN_ROWS
    assert len(none.rows) >= MIN_ROWS
