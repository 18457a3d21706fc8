"""Really trained small models, and folders to publish (and damage) them in."""

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
from rta_service.scoring.manifest import Evaluation, ModelManifest, write_model

WriteModel = Callable[..., ModelRef]


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


def _manifest(name: str, text: bytes) -> ModelManifest:
    digest = hashlib.sha256(text).hexdigest()
    return ModelManifest(
        name=name,
        version=f"v20240601-{digest[:8]}",
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
        sha256=digest,
        calibration=Calibration((0.0, 0.5, 1.0), (0.001, 0.4, 0.9)),
        seed=7,
        lightgbm_version=lightgbm.__version__,
        created_at_ms=1_717_286_400_000,
    )


@pytest.fixture
def put_model(tmp_path: Path, model_text: bytes) -> WriteModel:
    """Publishes a model into tmp_path; `text` and any manifest field can be altered."""

    def put(name: str = "register", text: bytes | None = None, **changes: object) -> ModelRef:
        text = model_text if text is None else text
        manifest = msgspec.structs.replace(_manifest(name, text), **changes)
        write_model(tmp_path, text, "# card\n", manifest)
        return manifest.ref

    return put
