"""What stands beside a model's text: what it predicts, from what, how well, and its hash.

<folder>/<name>/<version>/model.txt       LightGBM's text form
<folder>/<name>/<version>/manifest.json   ModelManifest, written last
<folder>/<name>/<version>/card.md         the same for people
"""

import os
import re
from pathlib import Path
from typing import Final, Literal

import msgspec

from rta_service.domain.errors import ModelRefused
from rta_service.domain.funnel import HeadKind, Step
from rta_service.domain.release import ModelRef
from rta_service.features import FEATURE_NAMES, FEATURE_SET_ID
from rta_service.scoring.calibration import Calibration

MANIFEST: Final = "manifest.json"
MODEL: Final = "model.txt"
CARD: Final = "card.md"

SCHEMA: Final = 2

_PLAIN_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")


class Evaluation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the model did on rows that neither trees nor calibration saw (`metrics.evaluate`)."""

    rows: int
    positives: int
    auc: float
    """Of a value head (1 + normalised Gini) / 2, which for 0/1 labels is the AUC."""
    log_loss: float
    """Of a value head half the mean gamma deviance."""
    pcoc: float
    """Mean prediction over observed rate; of a value head over the mean amount."""

    @property
    def gini(self) -> float:
        """The normalised Gini, by which value heads are usually compared."""
        return 2.0 * self.auc - 1.0


class ModelManifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One trained and calibrated head, as published."""

    name: str
    version: str
    goal: Step
    given: Step
    feature_set_id: str
    feature_names: tuple[str, ...]
    window_s: int
    """The label's window: how long after the given event the goal counts."""
    trained_from_s: int
    trained_to_s: int
    """Instants of the first and the last row used at all, seconds since 1970."""
    rows: int
    positives: int
    evaluation: Evaluation
    sha256: str
    """Of the bytes of model.txt."""
    calibration: Calibration
    seed: int
    lightgbm_version: str
    created_at_ms: int
    """When the manifest was written; no part of the version's content."""
    prefer: Literal["head", "ratio"] = "head"
    """For trade given register: whether this head or the ratio of the click heads was better."""
    contexts: tuple[tuple[int, int, int, float], ...] = ()
    """What the rows' requests looked like: platform, os and placement codes, and their share."""
    kind: HeadKind = "probability"
    golden_sha256: str = ""
    """Of golden.json: rows with the scores that the trainer saw, and its witness."""
    evaluation_sha256: str = ""
    """Of evaluation.parquet: the rows behind `evaluation`, for the server to judge by itself."""
    schema: int = SCHEMA

    def __post_init__(self) -> None:
        if self.kind == "probability" and self.calibration.y[-1] > 1.0:
            raise ValueError("calibration y must lie between 0 and 1")

    @property
    def ref(self) -> ModelRef:
        """Name this bundle by its text; a release names the file that is served instead."""
        return ModelRef(self.name, self.version, self.sha256)


def model_path(folder: Path, ref: ModelRef) -> Path:
    """Give a model's own folder; raises ModelRefused for a name that is not a plain one."""
    for word in (ref.name, ref.version):
        if not _PLAIN_NAME.fullmatch(word):
            raise ModelRefused(f"{folder}: {word!r} is not a model name or version")
    return folder / ref.name / ref.version


def write_model(folder: Path, text: bytes, card: str, manifest: ModelManifest) -> None:
    """Write a model's three files, the manifest last and atomically."""
    path = model_path(folder, manifest.ref)
    path.mkdir(parents=True, exist_ok=True)
    (path / MANIFEST).unlink(missing_ok=True)
    (path / MODEL).write_bytes(text)
    (path / CARD).write_text(card, encoding="utf-8")
    write_manifest(path, manifest)


def write_manifest(path: Path, manifest: ModelManifest) -> None:
    """Write the manifest atomically; from then on the folder is a model."""
    temporary = path / (MANIFEST + ".tmp")
    with temporary.open("wb") as file:
        file.write(msgspec.json.format(msgspec.json.encode(manifest)))
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path / MANIFEST)


def read_manifest(path: Path) -> ModelManifest:
    """Read the manifest in a model's own folder; raises ModelRefused naming file and field."""
    file = path / MANIFEST
    try:
        manifest = msgspec.json.decode(file.read_bytes(), type=ModelManifest)
    except OSError as error:
        raise ModelRefused(f"{file}: can't be read ({error.strerror})") from error
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ModelRefused(f"{file}: {error}") from error
    if manifest.schema != SCHEMA:
        raise ModelRefused(f"{file}: schema {manifest.schema}, this service reads {SCHEMA}")
    return manifest


def check_features(manifest: ModelManifest, place: Path) -> None:
    """Raise ModelRefused, naming the columns, unless the model reads this feature set."""
    theirs, ours = manifest.feature_names, FEATURE_NAMES
    if theirs == ours and manifest.feature_set_id == FEATURE_SET_ID:
        return
    moved = [name for name in ours if name in theirs and theirs.index(name) != ours.index(name)]
    gone = [name for name in theirs if name not in ours]
    new = [name for name in ours if name not in theirs]
    found = [("unknown here", gone), ("missing in the model", new)]
    if not gone and not new:
        found.append(("moved", moved))
    reasons = "; ".join(f"{words}: {', '.join(names)}" for words, names in found if names)
    raise ModelRefused(
        f"{place}: feature set {manifest.feature_set_id}, this service computes {FEATURE_SET_ID}"
        f" ({reasons or 'same columns, other id'}); train the model again"
    )
