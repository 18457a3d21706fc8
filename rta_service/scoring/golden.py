"""Golden vectors: rows with the scores their trainer saw, and a witness of the whole model.

A changed digit makes another sound model that only its scores can give away. So rows are chosen
that reach as many leaves as possible; and what no few hundred rows can reach, the witness covers:
a digest of the decision function, made by the trainer from its own reading of the text.
"""

import heapq
import math
from dataclasses import replace
from pathlib import Path
from typing import Final, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from rta_service.domain.errors import ModelRefused
from rta_service.features import CATEGORICAL
from rta_service.scoring.calibration import Calibration, calibrate
from rta_service.scoring.check import sample_matrix
from rta_service.scoring.flat_forest import FlatForest
from rta_service.scoring.gates import Gate, at_least, at_most, failed, skipped

SCHEMA: Final = 1
MIN_ROWS: Final = 100
MAX_ROWS: Final = 4_096
TOLERANCE: Final = 1e-9
"""Relative above 1, absolute below: scores in micros are large, probabilities small."""

GOLDEN_GATES: Final = ("golden_raw", "golden_calibrated", "golden_witness", "golden_coverage")

_CHOSEN_ROWS: Final = 512
_CANDIDATES: Final = 4_096
_UNSEEN_CATEGORY: Final = 1e6

Word = Literal["inf", "-inf"]
_WORDS: Final[dict[float, Word]] = {math.inf: "inf", -math.inf: "-inf"}


class Golden(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Feature rows [n][F] with their expected scores [n]; NaN is null, infinities are words."""

    rows: tuple[tuple[float | Word | None, ...], ...]
    raw: tuple[float, ...]
    """The sum over the trees, before the objective's sigmoid or exp."""
    calibrated: tuple[float, ...]
    """What the service would answer with."""
    witness: str = ""
    """FlatForest.digest() of the trainer's reading; empty from trainers that have none."""
    schema: int = SCHEMA

    def __post_init__(self) -> None:
        if self.schema != SCHEMA:
            raise ValueError(f"schema {self.schema}, this service reads {SCHEMA}")
        if not MIN_ROWS <= len(self.rows) <= MAX_ROWS:
            raise ValueError(f"{len(self.rows)} rows, not {MIN_ROWS} to {MAX_ROWS:,}")
        if not len(self.rows) == len(self.raw) == len(self.calibrated):
            raise ValueError("rows, raw and calibrated must be of one length")
        if len({len(row) for row in self.rows}) != 1:
            raise ValueError("all rows must be of one length")

    def matrix(self) -> NDArray[np.float64]:
        """Give the rows as float64 [n, F], NaN where missing."""
        plain = [[math.nan if cell is None else float(cell) for cell in row] for row in self.rows]
        return np.array(plain, dtype=np.float64)


def make_golden(
    matrix: NDArray[np.float64], forest: FlatForest, calibration: Calibration
) -> Golden:
    """Choose up to 512 rows of float64 [n, F] and of impossible ones, and score them.

    Of more than 4,096 rows, as many evenly spread ones are looked at.
    """
    picked = np.linspace(0, len(matrix) - 1, min(len(matrix), _CANDIDATES)).astype(int)
    edges = edge_rows(matrix[picked])
    candidates = np.concatenate((matrix[picked], sample_matrix()))
    chosen = choose_rows(leaves_of(forest, candidates), _CHOSEN_ROWS - len(edges))
    rows = np.concatenate((edges, candidates[chosen]))
    return Golden(
        rows=tuple(tuple(_cell(value) for value in row) for row in rows.tolist()),
        raw=tuple(forest.raw_plainly(rows).tolist()),
        calibrated=tuple(calibrate(forest.predict_plainly(rows), calibration).tolist()),
        witness=forest.digest(),
    )


def _cell(value: float) -> float | Word | None:
    return None if math.isnan(value) else _WORDS.get(value, value)


def edge_rows(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """Make rows of all missing, zeros, both infinities, and ordinary ones of unseen categories."""
    columns = len(sample_matrix()[0])
    flat = np.repeat(np.array([np.nan, 0.0, np.inf, -np.inf])[:, None], columns, axis=1)
    strange = np.repeat(matrix[:1] if len(matrix) else flat[:1], 4, axis=0)
    strange[:, CATEGORICAL] = np.array([_UNSEEN_CATEGORY, -1.0, 0.5, np.nan])[:, None]
    return np.concatenate((flat, strange))


def leaves_of(forest: FlatForest, matrix: NDArray[np.float64]) -> NDArray[np.int64]:
    """Give the leaf of every row in every tree, int64 [n, T], numbered over the whole forest."""
    numbers = np.arange(len(forest.leaf_value), dtype=np.float64)
    result = np.empty((len(matrix), forest.trees), dtype=np.int64)
    for tree in range(forest.trees):
        result[:, tree] = _one_tree(forest, numbers, tree).raw_plainly(matrix)
    return result


def _one_tree(forest: FlatForest, leaf_value: NDArray[np.float64], tree: int) -> FlatForest:
    """Cut one tree out and let it give other values."""
    nodes = slice(forest.node_start[tree], forest.node_start[tree + 1])
    leaves = slice(forest.leaf_start[tree], forest.leaf_start[tree + 1])
    cats = slice(forest.cat_start[tree], forest.cat_start[tree + 1])
    offsets = forest.cat_offset[cats.start : cats.stop + 1]
    return replace(
        forest,
        node_start=np.array([0, nodes.stop - nodes.start]),
        leaf_start=np.array([0, leaves.stop - leaves.start]),
        cat_start=np.array([0, cats.stop - cats.start]),
        split_feature=forest.split_feature[nodes],
        threshold=forest.threshold[nodes],
        decision_type=forest.decision_type[nodes],
        left=forest.left[nodes],
        right=forest.right[nodes],
        leaf_value=leaf_value[leaves],
        node_count=forest.node_count[nodes],
        leaf_count=forest.leaf_count[leaves],
        cat_offset=offsets - offsets[0],
        cat_words=forest.cat_words[offsets[0] : offsets[-1]],
    )


def choose_rows(leaves: NDArray[np.int64], limit: int) -> list[int]:
    """Choose rows that reach many leaves, greedily; at least MIN_ROWS, at most `limit`.

    Lazily: a row's gain only falls, so the best is found by looking again at few.
    """
    unseen = np.ones(int(leaves.max(initial=-1)) + 1, dtype=bool)
    waiting = [(-leaves.shape[1], row) for row in range(len(leaves))]
    chosen: list[int] = []
    while waiting and len(chosen) < limit:
        _, row = heapq.heappop(waiting)
        gain = int(unseen[leaves[row]].sum())
        if waiting and -gain > waiting[0][0]:
            heapq.heappush(waiting, (-gain, row))
            continue
        if not gain and len(chosen) >= MIN_ROWS:
            break
        unseen[leaves[row]] = False
        chosen.append(row)
    return chosen


def read_golden(path: Path) -> Golden:
    """Read the file; raises ModelRefused naming what is wrong with it."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Golden)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ModelRefused(f"{path.name}: {error}") from error


def write_golden(path: Path, golden: Golden) -> None:
    """Write the file; its SHA-256 belongs into the manifest."""
    path.write_bytes(msgspec.json.encode(golden))


def golden_gates(
    golden: Golden, forest: FlatForest, calibration: Calibration, min_coverage: float
) -> list[Gate]:
    """Hold what the trainer saw against the arrays that would be served; raises ModelRefused.

    With a witness the whole decision function is vouched for; without one the rows must reach
    `min_coverage` of the leaves, since what no row reaches could be anything.
    """
    rows = golden.matrix()
    if rows.shape[1] != len(forest.feature_names):
        columns = len(forest.feature_names)
        raise ModelRefused(f"golden.json: rows of {rows.shape[1]} values, not {columns}")
    calibrated = calibrate(forest.predict_plainly(rows), calibration)
    return [
        _difference(GOLDEN_GATES[0], golden.raw, forest.raw_plainly(rows)),
        _difference(GOLDEN_GATES[1], golden.calibrated, calibrated),
        _witness(golden, forest),
        _coverage(golden, forest, min_coverage),
    ]


def _difference(name: str, expected: tuple[float, ...], found: NDArray[np.float64]) -> Gate:
    """Give the largest difference [n], relative above 1; a score that is no number is wrong."""
    wanted = np.array(expected)
    with np.errstate(invalid="ignore"):
        differences = np.abs(found - wanted) / np.maximum(1.0, np.abs(wanted))
    row = int(np.argmax(np.where(np.isnan(differences), np.inf, differences)))
    note = f"{len(wanted)} rows; row {row}: expected {wanted[row]:.12g}, gives {found[row]:.12g}"
    return at_most(name, float(differences[row]), TOLERANCE, note)


def _witness(golden: Golden, forest: FlatForest) -> Gate:
    found = forest.digest()
    if not golden.witness:
        return skipped("golden_witness", "golden.json has none; its rows' coverage decides")
    if golden.witness == found:
        return Gate("golden_witness", "passed", note=found)
    why = f"the trainer's reading is {golden.witness[:64]}, ours {found}: another model"
    return failed("golden_witness", why)


def _coverage(golden: Golden, forest: FlatForest, least: float) -> Gate:
    leaves = len(forest.leaf_value)
    reached = len(np.unique(leaves_of(forest, golden.matrix())))
    note = f"{reached:,} of {leaves:,} leaves"
    gate = at_least("golden_coverage", reached / leaves, least, note)
    if not golden.witness:
        return gate
    note += "; the witness vouches for the others"
    return msgspec.structs.replace(gate, outcome="skipped", note=note)
