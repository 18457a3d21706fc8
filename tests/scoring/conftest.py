"""Really trained small models, manifests, and folders to serve (and damage) them from."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import lightgbm
import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from rta_service.domain.funnel import Step
from rta_service.domain.release import ModelRef
from rta_service.features import CATEGORICAL, FEATURE_NAMES, FEATURE_SET_ID
from rta_service.scoring.calibration import Calibration
from rta_service.scoring.flat_forest import FlatForest
from rta_service.scoring.forest_text import parse_forest
from rta_service.scoring.manifest import Evaluation, ModelManifest
from rta_service.scoring.model_file import encode_model, object_path

MakeManifest = Callable[..., ModelManifest]


@pytest.fixture(scope="session")
def rows() -> NDArray[np.float64]:
    chance = np.random.default_rng(3)
    matrix = chance.normal(10.0, 5.0, (2_000, len(FEATURE_NAMES)))
    matrix[:, CATEGORICAL] = chance.integers(0, 4, (len(matrix), len(CATEGORICAL)))
    matrix[chance.random(matrix.shape) < 0.1] = np.nan
    return matrix


@pytest.fixture(scope="session")
def model_text(rows: NDArray[np.float64]) -> bytes:
    chance = np.random.default_rng(4)
    lean = np.nan_to_num(rows[:, 1] - 10.0) * 0.3 + (rows[:, 23] == 2)
    labels = chance.random(len(rows)) < 1.0 / (1.0 + np.exp(2.0 - lean))
    data = lightgbm.Dataset(
        rows, labels, feature_name=list(FEATURE_NAMES), categorical_feature=list(CATEGORICAL)
    )
    params = {"objective": "binary", "num_leaves": 15, "num_threads": 1, "verbosity": -1}
    booster = lightgbm.train(params, data, num_boost_round=20)
    return booster.model_to_string().encode()


@pytest.fixture(scope="session")
def make_manifest() -> MakeManifest:
    """Makes a manifest; any field can be altered."""

    def make(name: str = "register", **changes: object) -> ModelManifest:
        manifest = ModelManifest(
            name=name,
            version="v20240601-12345678",
            goal=Step.REGISTER,
            given=Step.CLICK,
            feature_set_id=FEATURE_SET_ID,
            feature_names=FEATURE_NAMES,
            window_s=7 * 86_400,
            trained_from_s=1_710_000_000,
            trained_to_s=1_717_200_000,
            rows=2_000,
            positives=300,
            evaluation=Evaluation(rows=500, positives=70, auc=0.7, log_loss=0.3, pcoc=1.0),
            sha256="0" * 64,
            calibration=Calibration((0.0, 0.5, 1.0), (0.001, 0.4, 0.9)),
            seed=7,
            lightgbm_version="4.6.0",
            created_at_ms=1_717_286_400_000,
        )
        return msgspec.structs.replace(manifest, **changes)

    return make


@pytest.fixture(scope="session")
def small_forest() -> FlatForest:
    """A tree that splits on a number, and one that splits on a category."""
    return FlatForest(
        objective="binary",
        sigmoid=1.0,
        feature_names=FEATURE_NAMES,
        node_start=np.array([0, 1, 3]),
        leaf_start=np.array([0, 2, 5]),
        cat_start=np.array([0, 0, 1]),
        split_feature=np.array([1, CATEGORICAL[0], 2], np.int32),
        threshold=np.array([10.0, 0.0, 3.5]),
        decision_type=np.array([2 | 2 << 2, 1, 2 << 2], np.uint8),
        left=np.array([~0, 1, ~0], np.int32),
        right=np.array([~1, ~2, ~1], np.int32),
        leaf_value=np.array([-2.0, -1.0, 0.25, 0.5, -0.125]),
        node_count=np.array([100, 100, 60]),
        leaf_count=np.array([70, 30, 40, 20, 40]),
        cat_offset=np.array([0, 1]),
        cat_words=np.array([0b101], np.uint32),
    )


@pytest.fixture(scope="session")
def model_forest(model_text: bytes) -> FlatForest:
    """Reads the trained model as the service does."""
    return parse_forest(model_text, "model.txt")


@pytest.fixture
def put_model(
    tmp_path: Path, model_forest: FlatForest, make_manifest: MakeManifest
) -> Callable[..., ModelRef]:
    """Writes a model's file into tmp_path; the forest and any manifest field can be altered."""

    def put(
        name: str = "register", forest: FlatForest | None = None, **changes: object
    ) -> ModelRef:
        manifest = make_manifest(name, **changes)
        data = encode_model(manifest, model_forest if forest is None else forest)
        ref = ModelRef(name, manifest.version, hashlib.sha256(data).hexdigest())
        path = object_path(tmp_path, ref.sha256)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
        return ref

    return put
