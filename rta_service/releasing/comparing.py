"""How two versions of a model differ: what they say of themselves, and what they score."""

from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from rta_service.scoring.bundle import GOLDEN
from rta_service.scoring.calibration import calibrate
from rta_service.scoring.check import sample_matrix
from rta_service.scoring.drift import compare as compare_scores
from rta_service.scoring.flat_forest import FlatForest
from rta_service.scoring.golden import read_golden
from rta_service.scoring.manifest import ModelManifest
from rta_service.scoring.model_file import object_path, read_model
from rta_service.stores.model_folder import Entry, bundle_path

_APART: Final = frozenset({"calibration", "evaluation", "feature_names", "schema"})
"""Fields of a manifest that are compared in other words."""
_LEVELS: Final = (0.001, 0.01, 0.05, 0.2, 0.5)
"""Raw predictions at which two calibrations are compared."""
_FEATURES: Final = 15
"""Features shown, those that moved most first."""


def compare_versions(folder: Path, one: Entry, other: Entry) -> dict[str, Any]:
    """Compare two registered versions; raises ModelRefused when one can't be read any more."""
    (seen_1, forest_1), (seen_2, forest_2) = (
        read_model(object_path(folder, entry.ref.sha256), entry.ref.sha256)
        for entry in (one, other)
    )
    rows, origin = _rows(folder, (one, other), seen_1)
    scores = [
        calibrate(forest.predict_plainly(rows), manifest.calibration)
        for manifest, forest in ((seen_1, forest_1), (seen_2, forest_2))
    ]
    return {
        "name": one.ref.name,
        "from": one.ref.version,
        "to": other.ref.version,
        "manifest": _manifests(seen_1, seen_2),
        "evaluation": _pairs(
            msgspec.to_builtins(seen_1.evaluation), msgspec.to_builtins(seen_2.evaluation)
        ),
        "calibration": _calibrations(seen_1, seen_2),
        "forest": _pairs(_size(forest_1), _size(forest_2)),
        "features": _features(forest_1, forest_2),
        "scores": {"rows_from": origin, **_finite(compare_scores(scores[0], scores[1]))},
    }


def _rows(
    folder: Path, versions: tuple[Entry, Entry], manifest: ModelManifest
) -> tuple[NDArray[np.float64], str]:
    """Take the golden rows of both versions [n, F], or ours where there are none."""
    found = []
    for entry in versions:
        path = bundle_path(folder, entry.ref) / GOLDEN
        if path.is_file():
            found.append(read_golden(path).matrix())
    fitting = [rows for rows in found if rows.shape[1] == len(manifest.feature_names)]
    if fitting:
        return np.concatenate(fitting), "golden rows of both"
    return sample_matrix(), "fixed rows of the service"


def _pairs(one: dict[str, Any], other: dict[str, Any]) -> dict[str, list[Any]]:
    return {name: [value, other[name]] for name, value in one.items()}


def _manifests(one: ModelManifest, other: ModelManifest) -> dict[str, list[Any]]:
    """Give the fields that differ, besides those shown in other words."""
    pairs = _pairs(msgspec.to_builtins(one), msgspec.to_builtins(other))
    return {name: both for name, both in pairs.items() if name not in _APART and both[0] != both[1]}


def _calibrations(one: ModelManifest, other: ModelManifest) -> dict[str, list[Any]]:
    knots = [len(manifest.calibration.x) for manifest in (one, other)]
    levels = np.array(_LEVELS)
    lines = [calibrate(levels, manifest.calibration).tolist() for manifest in (one, other)]
    at = zip(_LEVELS, *lines, strict=True)
    return {"knots": knots, **{f"at {level:g}": [first, second] for level, first, second in at}}


def _size(forest: FlatForest) -> dict[str, Any]:
    return {
        "objective": forest.objective,
        "trees": forest.trees,
        "leaves": len(forest.leaf_value),
        "categorical_splits": len(forest.cat_offset) - 1,
    }


def _features(one: FlatForest, other: FlatForest) -> list[dict[str, Any]]:
    """Give how often training rows were split by each feature, as a share of all splits."""
    shares_1, shares_2 = _split_shares(one), _split_shares(other)
    order = np.argsort(-np.abs(shares_2 - shares_1), kind="stable")[:_FEATURES]
    return [
        {"feature": one.feature_names[i], "split_share": [float(shares_1[i]), float(shares_2[i])]}
        for i in order
        if shares_1[i] or shares_2[i]
    ]


def _split_shares(forest: FlatForest) -> NDArray[np.float64]:
    count = len(forest.feature_names)
    rows = np.bincount(forest.split_feature, weights=forest.node_count, minlength=count)
    return np.asarray(rows / max(rows.sum(), 1.0), dtype=np.float64)


def _finite(figures: msgspec.Struct) -> dict[str, Any]:
    """Leave figures out that nobody could tell, so that the answer is plain JSON."""
    shown: dict[str, Any] = msgspec.to_builtins(figures)
    return {name: value for name, value in shown.items() if np.isfinite(value)}
