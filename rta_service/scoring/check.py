"""Proves models harmless before a release may name them, in a process that is allowed to die.

LightGBM trusts its text: a truncated or damaged one ends the process by a signal, loops for ever,
or gives nonsense. So a child process with limits loads the models and scores rows with them; what
becomes of the child is the verdict. Run as `python -m rta_service.scoring.check FOLDER SECONDS
(NAME VERSION SHA256)...`; it prints one line before each model, and DONE after the last.
"""

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from rta_service.domain.errors import ModelRefused
from rta_service.domain.release import ModelRef
from rta_service.features import CATEGORICAL, FEATURE_NAMES
from rta_service.scoring.head import Head
from rta_service.scoring.manifest import MODEL, model_path
from rta_service.scoring.model_set import load_head

DONE: Final = "all models are fine"

_MEMORY_BYTES: Final = 4 << 30
"""Address space of the child; a sane one with LightGBM loaded maps about 1 GB."""

_ROWS: Final = 512
_REFUSED: Final = 3
_SHOWN_CHARACTERS: Final = 300


def check_models(folder: Path, refs: Sequence[ModelRef], timeout_s: float = 20.0) -> None:
    """Load and score the models in a separate process; returns only if all of them are fine.

    Raises ModelRefused naming the file and what happened: refused by a check, killed by a signal,
    still busy after `timeout_s` (for all of them together), or not a sane probability.
    """
    if not refs:
        return
    for ref in refs:
        model_path(folder, ref)
    command = [sys.executable, "-m", __spec__.name, str(folder), str(timeout_s)]
    command += chain.from_iterable((ref.name, ref.version, ref.sha256) for ref in refs)
    try:
        child = subprocess.run(  # noqa: S603 - our own interpreter and module; names are checked
            command, env=_environment(), capture_output=True, timeout=timeout_s, check=False
        )
    except subprocess.TimeoutExpired as error:
        place = _place(folder, refs, error.stdout or b"")
        raise ModelRefused(f"{place}: not loaded and scored within {timeout_s:g} s") from error
    lines = child.stdout.decode(errors="replace").splitlines()
    if child.returncode == 0 and lines and lines[-1] == DONE:
        return
    place = _place(folder, refs, child.stdout)
    last = "".join(child.stderr.decode(errors="replace").splitlines()[-1:])
    if child.returncode == _REFUSED:
        raise ModelRefused(last)
    said = f" ({last[:_SHOWN_CHARACTERS]})" if last else ""
    raise ModelRefused(f"{place}: {_end_of(child.returncode)}{said}")


def _environment() -> dict[str, str]:
    """Ours without the service's settings and secrets, which untrusted text must not reach.

    Native libraries are held to one thread: their stacks count against the limit.
    """
    ours = {name: value for name, value in os.environ.items() if not name.startswith("RTA_")}
    return {**ours, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONFAULTHANDLER": ""}


def _place(folder: Path, refs: Sequence[ModelRef], output: bytes) -> Path:
    """Name the model file that the child had begun with when it ended."""
    begun = max(output.decode(errors="replace").count("\n"), 1)
    return model_path(folder, refs[min(begun, len(refs)) - 1]) / MODEL


def _end_of(code: int) -> str:
    if code < 0:
        return f"the process that loaded it was killed by {signal.Signals(-code).name}"
    return f"the process that loaded it ended with {code}"


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


def check_head(head: Head, place: Path) -> None:
    """Score fixed rows; raises ModelRefused unless all raw and final values are probabilities."""
    matrix = sample_matrix()
    for words, values in (
        ("raw", head.forest.predict(matrix)),
        ("calibrated", head.probabilities(matrix)),
    ):
        if values.shape != (len(matrix),):
            raise ModelRefused(f"{place}: gives {values.shape} {words} values for {len(matrix)}")
        wrong = values[~((values >= 0.0) & (values <= 1.0))]
        if len(wrong):
            raise ModelRefused(f"{place}: gives {wrong[0]} as a {words} probability")


def _limit(seconds: int) -> None:
    """Bound what a hostile text can take; the hard CPU limit outlives a parent that died."""
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _refs(words: Sequence[str]) -> list[ModelRef]:
    triples = zip(words[0::3], words[1::3], words[2::3], strict=True)
    return [ModelRef(name, version, sha256) for name, version, sha256 in triples]


def main(arguments: Sequence[str]) -> int:
    """Be the child: check the models that the arguments name; 0 if all are fine."""
    folder, seconds, *words = arguments
    _limit(int(float(seconds)) + 1)
    try:
        for ref in _refs(words):
            sys.stdout.write(f"{ref.name}\n")
            sys.stdout.flush()
            check_head(load_head(Path(folder), ref), model_path(Path(folder), ref) / MODEL)
    except ModelRefused as error:
        sys.stderr.write(f"\n{error}")
        return _REFUSED
    sys.stdout.write(f"{DONE}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
