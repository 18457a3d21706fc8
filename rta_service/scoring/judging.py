"""What is asked of a candidate inside the disposable process: the only place that opens uploads.

The candidate lies in a folder of its own: the upload's files, and in objects/ the file that would
be stored. So what is judged is what would be served, byte for byte.
"""

from functools import lru_cache
from pathlib import Path
from typing import Any

import lightgbm
import msgspec
import numpy as np
from numpy.typing import NDArray

from rta_service.domain.errors import ModelRefused
from rta_service.domain.release import ModelRef
from rta_service.scoring.bundle import EVALUATION, GOLDEN
from rta_service.scoring.candidate import TRAFFIC, ModelWords, parts_of
from rta_service.scoring.canonical_text import canonical_text
from rta_service.scoring.check import check_head, sample_matrix
from rta_service.scoring.drift import compare
from rta_service.scoring.evaluation_file import read_evaluation
from rta_service.scoring.gates import GateRules, Judged, claims_gate, evaluation_gates
from rta_service.scoring.golden import read_golden
from rta_service.scoring.head import Head
from rta_service.scoring.manifest import MODEL
from rta_service.scoring.model_file import object_path, read_model
from rta_service.scoring.model_set import load_head


def compare_scores(candidate: ModelWords) -> dict[str, Any]:
    """Score golden and hostile rows by LightGBM from the upload's text and from ours, and plainly.

    Gives the number of rows and of those whose raw sums differ in any bit; raises ModelRefused
    when a text can't be read or a prediction is not sane.
    """
    folder, ref = parts_of(candidate)
    _, forest = read_model(object_path(folder, ref.sha256), ref.sha256)
    rows = np.concatenate((read_golden(folder / GOLDEN).matrix(), sample_matrix()))
    plain = forest.raw_plainly(rows)
    theirs = _raw(folder / MODEL, (folder / MODEL).read_text("utf-8"), rows)
    ours = _raw(folder / MODEL, canonical_text(forest), rows)
    check_head(_head(candidate), f"{ref.name} {ref.version}")
    bits = [scores.view(np.int64) for scores in (plain, theirs, ours)]
    other = (bits[0] != bits[1]) | (bits[0] != bits[2])
    return {"rows": len(rows), "different": int(np.count_nonzero(other))}


def _raw(path: Path, text: str, rows: NDArray[np.float64]) -> NDArray[np.float64]:
    try:
        scores = lightgbm.Booster(model_str=text).predict(rows, raw_score=True, num_threads=1)
    except (lightgbm.basic.LightGBMError, ValueError) as error:  # ValueError: of its parameters
        raise ModelRefused(f"{path.name}: LightGBM can't read it ({error})") from error
    result = np.asarray(scores, dtype=np.float64)
    if result.shape != (len(rows),):
        raise ModelRefused(f"{path.name}: gives {result.shape} scores for {len(rows)} rows")
    return result


def compare_traffic(candidate: ModelWords, live: ModelWords) -> dict[str, Any]:
    """Score recent requests by a candidate and by the live model; gives a Drift's fields."""
    rows = np.load(Path(candidate["folder"]) / TRAFFIC, allow_pickle=False)
    found, reference = (_head(words).probabilities(rows) for words in (candidate, live))
    fields: dict[str, Any] = msgspec.to_builtins(compare(reference, found))
    return fields


def judge_evaluation(
    candidate: ModelWords, live: ModelWords | None, rules: dict[str, Any]
) -> dict[str, Any]:
    """Judge a candidate on its evaluation rows, the live model on the same; gives `gates`."""
    folder, _ = parts_of(candidate)
    rows = read_evaluation(folder / EVALUATION)
    held_to = msgspec.convert(rules, GateRules)
    head = _head(candidate)
    reference = _head(live).probabilities(rows.matrix) if live else None
    judged = Judged(head.manifest.kind, head.probabilities(rows.matrix), rows, reference)
    gates = evaluation_gates(judged, held_to)
    gates.append(claims_gate(head.manifest.evaluation, judged, held_to))
    return {"gates": msgspec.to_builtins(gates)}


def _head(words: ModelWords) -> Head:
    return _loaded(*parts_of(words))


@lru_cache(maxsize=2)
def _loaded(folder: Path, ref: ModelRef) -> Head:
    """Load a candidate or a live model, once for all questions about it."""
    return load_head(folder, ref)
