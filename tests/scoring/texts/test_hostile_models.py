"""Hostile texts: each is refused with reasons, proven score-identical, or sound but another model.

The last kind (a digit of a leaf, say) no rule of structure can tell: the digest in a bundle's
golden vectors does. What is tested here is that even these are harmless to load.
"""

import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from rta_service.domain.errors import ModelUnsound
from rta_service.scoring.canonical_text import canonical_text
from rta_service.scoring.flat_forest import FlatForest
from rta_service.scoring.forest_text import parse_forest
from rta_service.simulation.hostile_models import Mutant, mutants, truncations

ORIGINS = ("categories", "small", "large", "stopped", "value", "amount", "by hand")
SLOWEST_S = 2.0

LOAD_AND_SCORE = """
import sys, pathlib, lightgbm, numpy
rows = numpy.load(sys.argv[1])
for file in sorted(pathlib.Path(sys.argv[2]).iterdir()):
    booster = lightgbm.Booster(model_str=file.read_text())
    scores = booster.predict(rows[:, : booster.num_feature()], num_threads=1)
    assert scores.shape == (len(rows),) and numpy.isfinite(scores).all(), file
    print(file.name)
"""


@pytest.fixture(scope="session")
def origins(texts: Mapping[str, bytes], by_hand: bytes) -> Mapping[str, bytes]:
    return {**texts, "by hand": by_hand}


def outcome(data: bytes) -> FlatForest | ModelUnsound:
    """Validate; anything but a forest or a named refusal fails the test."""
    try:
        return parse_forest(data, "mutant")
    except ModelUnsound as error:
        return error


class Tally:
    """What became of mutants, by kind; keeps the forests of those that were sound."""

    def __init__(self, text: bytes) -> None:
        self.origin = parse_forest(text, "origin")
        self.refused: Counter[str] = Counter()
        self.same: Counter[str] = Counter()
        self.changed: Counter[str] = Counter()
        self.different: dict[str, FlatForest] = {}
        self.identical: list[FlatForest] = []
        self.slowest_s = 0.0

    def judge(self, mutant: Mutant) -> None:
        start = time.process_time()
        found = outcome(mutant.data)
        self.slowest_s = max(self.slowest_s, time.process_time() - start)
        if isinstance(found, ModelUnsound):
            self.refused[mutant.kind] += 1
            check_reasons(found)
        elif found.digest() == self.origin.digest():
            self.same[mutant.kind] += 1
            self.identical.append(found)
        else:
            self.changed[mutant.kind] += 1
            self.different[found.digest()] = found

    def check(self, rows: NDArray[np.float64]) -> None:
        """Prove the identical ones identical, on rows and not by their digest only."""
        rows = rows[::8, : len(self.origin.feature_names)]
        expected = self.origin.raw_plainly(rows).view(np.int64)
        for forest in self.identical[:20]:
            assert (forest.raw_plainly(rows).view(np.int64) == expected).all()
        assert self.slowest_s <= SLOWEST_S
        assert not self.changed["cyclic_children"] + self.changed["truncation"]

    def __str__(self) -> str:
        kinds = sorted({*self.refused, *self.same, *self.changed})
        counts = (self.refused, self.same, self.changed)
        lines = [f"{kind:<22}" + "".join(f"{c[kind]:>7}" for c in counts) for kind in kinds]
        return "\n".join([*lines, f"{'all':<22}" + "".join(f"{c.total():>7}" for c in counts)])


def check_reasons(error: ModelUnsound) -> None:
    assert 1 <= len(error.faults) <= 50
    for fault in error.faults:
        assert fault.field
        assert fault.reason
        assert len(str(fault)) < 400
        assert str(fault).isprintable()


def check_harmless(forests: list[FlatForest], rows: NDArray[np.float64], folder: Path) -> None:
    """Let LightGBM load and score them, from their canonical text, in a process of its own."""
    (folder / "texts").mkdir()
    for number, forest in enumerate(forests):
        (folder / "texts" / f"{number}.txt").write_text(canonical_text(forest))
    np.save(folder / "rows.npy", rows[::8])
    command = [
        sys.executable,
        "-c",
        LOAD_AND_SCORE,
        str(folder / "rows.npy"),
        str(folder / "texts"),
    ]

    done = subprocess.run(command, capture_output=True, timeout=100, check=False)

    assert done.returncode == 0, done.stderr.decode()[-500:]
    assert len(done.stdout.split()) == len(forests)


def test_mutants_are_refused_or_harmless(
    origins: Mapping[str, bytes], strange_rows: NDArray[np.float64], tmp_path: Path
) -> None:
    loaded: list[FlatForest] = []

    for name, text in origins.items():
        count = 60 if name == "large" else 240
        tally = Tally(text)
        for mutant in mutants(text, seed=1, count=count):
            tally.judge(mutant)

        assert tally.refused.total() > 0.6 * count
        tally.check(strange_rows)
        loaded += tally.different.values()

    assert 30 < len(loaded) < 300
    check_harmless(loaded, strange_rows, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", ORIGINS)
def test_twenty_thousand_mutants_are_refused_or_harmless(
    origins: Mapping[str, bytes], strange_rows: NDArray[np.float64], tmp_path: Path, name: str
) -> None:
    text = origins[name]
    tally = Tally(text)

    for mutant in _all(text, 1_000 if name == "large" else 3_300):
        tally.judge(mutant)
    sys.stdout.write(f"\n{name}: refused, same, different\n{tally}\n")

    tally.check(strange_rows)
    check_harmless(list(tally.different.values()), strange_rows, tmp_path)


def _all(text: bytes, count: int) -> Iterator[Mutant]:
    yield from truncations(text, 64 if len(text) < 100_000 else 640)
    yield from mutants(text, seed=2, count=count)


@pytest.mark.parametrize("name", ["small", "by hand"])
def test_a_text_cut_anywhere_is_refused_or_the_same(
    origins: Mapping[str, bytes], name: str
) -> None:
    text = origins[name]
    tally = Tally(text)
    last_tree = text.index(b"end of trees\n") + len(b"end of trees\n")

    for mutant in truncations(text, 32):
        tally.judge(mutant)

    assert not tally.different
    assert tally.refused.total() >= last_tree // 32
    for end in range(last_tree, len(text), 1 + len(text) // 5_000):
        tally.judge(Mutant("cut in the tail", text[:end]))
    assert not tally.different


def test_rules_of_structure_are_not_only_found_by_sizes(origins: Mapping[str, bytes]) -> None:
    fields: Counter[str] = Counter()

    for mutant in mutants(origins["categories"], seed=3, count=300):
        found = outcome(mutant.data)
        if isinstance(found, ModelUnsound):
            fields.update({fault.field for fault in found.faults} - {"tree_sizes"})

    assert {"left_child", "leaf_value", "split_feature", "num_leaves", "threshold"} <= set(fields)
    assert {"cat_boundaries", "decision_type", "objective", "version", "num_class"} <= set(fields)


def test_same_seed_same_mutants(by_hand: bytes) -> None:
    one, again = (list(mutants(by_hand, 7, 100)) for _ in range(2))
    other = list(mutants(by_hand, 8, 100))

    assert one == again
    assert [m.data for m in one] != [m.data for m in other]
    assert all(mutant.data != by_hand for mutant in one)
    assert len({mutant.kind for mutant in one}) >= 30


@pytest.mark.parametrize("seed", range(4))
def test_random_bytes_anywhere_only_ever_raise_model_unsound(by_hand: bytes, seed: int) -> None:
    chance = np.random.default_rng(seed)
    alphabet = np.frombuffer(b"0123456789-+.e =\n[]:TreeINFNANinfnan_\0\xff", dtype=np.uint8)

    for _ in range(150):
        data = np.frombuffer(by_hand, dtype=np.uint8).copy()
        places = chance.integers(0, len(data), chance.integers(1, 30))
        data[places] = chance.choice(alphabet, len(places))
        found = outcome(data.tobytes())
        if isinstance(found, ModelUnsound):
            check_reasons(found)
