"""What the validator says of model files on disk, before anything else looks at them."""

import hashlib
import time
from pathlib import Path

import msgspec

from rta_service.domain.errors import Fault, ModelRefused, ModelUnsound
from rta_service.scoring.flat_forest import FlatForest
from rta_service.scoring.forest_text import DEFAULT_LIMITS, Limits, parse_forest
from rta_service.scoring.manifest import MANIFEST, MODEL, read_manifest


class ModelReport(msgspec.Struct, frozen=True):
    """One model.txt: sound, or every fault that was found in it and its manifest."""

    file: str
    sound: bool
    trees: int
    leaves: int
    bytes: int
    digest: str
    """Of all that decides scores; empty where the text is unsound."""
    seconds: float
    faults: tuple[Fault, ...]


def find_models(path: Path) -> list[Path]:
    """Give the model files that a path means: itself, a bundle's, or all of a folder of bundles."""
    if path.is_file():
        return [path]
    folders = {file.parent for name in (MODEL, MANIFEST) for file in path.rglob(name)}
    return sorted(folder / MODEL for folder in folders)


def report_model(file: Path, limits: Limits = DEFAULT_LIMITS) -> ModelReport:
    """Validate one model file, and the manifest beside it if there is one."""
    start = time.perf_counter()
    data, forest, faults = b"", None, []
    try:
        with file.open("rb") as opened:
            data = opened.read(limits.max_bytes + 1)
        forest = parse_forest(data, str(file), limits)
    except OSError as error:
        faults.append(Fault(0, -1, MODEL, f"can't be read ({error.strerror})"))
    except ModelUnsound as error:
        faults += error.faults
    if file.name == MODEL and (file.parent / MANIFEST).exists():
        faults += _manifest_faults(file, data, forest)
    return ModelReport(
        file=str(file),
        sound=not faults,
        trees=forest.trees if forest else 0,
        leaves=len(forest.leaf_value) if forest else 0,
        bytes=len(data),
        digest=forest.digest() if forest else "",
        seconds=round(time.perf_counter() - start, 4),
        faults=tuple(faults),
    )


def _manifest_faults(file: Path, data: bytes, forest: FlatForest | None) -> list[Fault]:
    """Check that the manifest can be read, and is of this text."""
    try:
        manifest = read_manifest(file.parent)
    except ModelRefused as error:
        said = str(error).removeprefix(f"{file.parent / MANIFEST}: ")
        return [Fault(0, -1, MANIFEST, said)]
    faults = []
    found = hashlib.sha256(data).hexdigest()
    if manifest.sha256 != found:
        reason = f"names SHA-256 {manifest.sha256}, the model's is {found}"
        faults.append(Fault(0, -1, MANIFEST, reason))
    if forest is not None and manifest.feature_names != forest.feature_names:
        faults.append(Fault(0, -1, MANIFEST, "its feature_names are not those of the model"))
    return faults
