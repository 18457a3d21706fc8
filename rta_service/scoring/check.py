"""Proves models harmless before a release may name them, in a process that is allowed to die.

What is served was validated, and LightGBM sees only text that we wrote. Still it is a large native
parser, so a child loads and scores the files of a release first; what becomes of it is the verdict.
"""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from rta_service.domain.errors import ModelRefused
from rta_service.domain.release import ModelRef
from rta_service.features import CATEGORICAL, FEATURE_NAMES
from rta_service.scoring.disposable import DisposableProcess, ProcessEnded
from rta_service.scoring.disposable_child import CHECK_OBJECT
from rta_service.scoring.head import Head
from rta_service.scoring.model_file import object_path
from rta_service.scoring.model_set import load_head

_ROWS: Final = 512
_ROUNDING: Final = 1e-12
"""Raw sums are equal to the last bit; the sigmoids of two libraries are not."""


def check_models(folder: Path, refs: Sequence[ModelRef], timeout_s: float = 20.0) -> None:
    """Load and score models in a separate process; returns only if all of them are fine.

    Raises ModelRefused naming model, file and what happened: refused by a check, killed by a
    signal, still busy after `timeout_s` (for all of them together), or not a sane prediction.
    """
    end_s = time.monotonic() + timeout_s
    with DisposableProcess() as process:
        for ref in refs:
            path = object_path(folder.resolve(), ref.sha256)
            arguments = {"folder": str(folder.resolve()), "ref": msgspec.to_builtins(ref)}
            try:
                process.call(CHECK_OBJECT, arguments, max(end_s - time.monotonic(), 0.0))
            except ProcessEnded as error:
                raise ModelRefused(f"{ref.name} {ref.version}: {path}: {error}") from error


def check_object(folder: str, ref: dict[str, str]) -> dict[str, Any]:
    """Be the child: load and score one model; raises ModelRefused."""
    head = load_head(Path(folder), ModelRef(**ref))
    check_head(head, f"{ref['name']} {ref['version']}")
    return {}


def sample_matrix() -> NDArray[np.float64]:
    """Give fixed rows [512, F] that visit ordinary, huge, missing and impossible values."""
    chance = np.random.default_rng(20)
    shape = (_ROWS, len(FEATURE_NAMES))
    matrix = np.exp(chance.normal(0.0, 3.0, shape))
    matrix[:, CATEGORICAL] = chance.integers(-1, 40, (_ROWS, len(CATEGORICAL)))
    for value in (0.0, np.nan):
        matrix[chance.integers(0, 10, shape) == 0] = value
    matrix[:8] = np.array([0.0, np.nan, np.inf, -np.inf, -1.0, 1e9, 1e300, -1e300])[:, np.newaxis]
    return matrix


def check_head(head: Head, place: str) -> None:
    """Score fixed rows; raises ModelRefused unless all values are what the head's kind promises.

    A probability lies in [0, 1], calibrated or not; a value is finite, and calibrated not negative.
    And unless the scorer gives what its arrays say.
    """
    matrix = sample_matrix()
    highest = 1.0 if head.manifest.kind == "probability" else np.finfo(np.float64).max
    lowest = 0.0 if head.manifest.kind == "probability" else -highest
    raw, final = head.forest.predict(matrix), head.probabilities(matrix)
    for words, values, low in (("raw", raw, lowest), ("calibrated", final, 0.0)):
        if values.shape != (len(matrix),):
            raise ModelRefused(f"{place}: gives {values.shape} {words} values for {len(matrix)}")
        wrong = values[~((values >= low) & (values <= highest))]
        if len(wrong):
            raise ModelRefused(f"{place}: gives {wrong[0]} as a {words} {head.manifest.kind}")
    if not np.allclose(raw, head.flat.predict_plainly(matrix), rtol=_ROUNDING, atol=0.0):
        raise ModelRefused(f"{place}: LightGBM's scores are not those of the validated arrays")
