"""Really trained bundles to upload, and the shelf of a real store to upload them to."""

import hashlib
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightgbm
import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from rta_service.domain.funnel import Step
from rta_service.features import CATEGORICAL, FEATURE_NAMES, FEATURE_SET_ID
from rta_service.platforms.registry import load_adapters
from rta_service.releasing.shelf import Shelf
from rta_service.releasing.uploading import UploadRules
from rta_service.scoring.calibration import Calibration, calibrate, fit_calibration
from rta_service.scoring.evaluation_file import write_evaluation
from rta_service.scoring.forest_text import parse_forest
from rta_service.scoring.golden import make_golden, write_golden
from rta_service.scoring.manifest import ModelManifest
from rta_service.scoring.metrics import evaluate
from rta_service.scoring.signature import TrustedKey, key_id, public_of, sign, write_signature
from rta_service.stores.embedded import EmbeddedStore
from rta_service.stores.redis import admin_client

Matrix = NDArray[np.float64]

UPLOAD_KEY = bytes(range(32))
TRUSTED = {key_id(public_of(UPLOAD_KEY)): TrustedKey("growth", public_of(UPLOAD_KEY))}

_COUNTER = itertools.count()


@dataclass(frozen=True)
class Trained:
    """One trained head with the rows it is judged on."""

    text: bytes
    calibration: Calibration
    matrix: Matrix
    labels: Matrix
    stages: NDArray[np.int64]


def some_rows(count: int, seed: int) -> tuple[Matrix, Matrix]:
    """Rows float64 [n, F] and the chance [n] that each is a positive."""
    chance = np.random.default_rng(seed)
    matrix = chance.normal(10.0, 5.0, (count, len(FEATURE_NAMES)))
    matrix[:, CATEGORICAL] = chance.integers(0, 4, (count, len(CATEGORICAL)))
    matrix[chance.random(matrix.shape) < 0.05] = np.nan
    lean = np.nan_to_num(matrix[:, 1] - 10.0) * 0.3 + (matrix[:, 23] == 2)
    return matrix, 1.0 / (1.0 + np.exp(1.5 - lean))


def train(seed: int) -> Trained:
    matrix, rate = some_rows(12_000, seed)
    labels = (np.random.default_rng(seed + 1).random(len(rate)) < rate).astype(np.float64)
    learn, fit, judge = slice(0, 4_000), slice(4_000, 8_000), slice(8_000, None)
    data = lightgbm.Dataset(
        matrix[learn],
        labels[learn],
        feature_name=list(FEATURE_NAMES),
        categorical_feature=list(CATEGORICAL),
    )
    params = {"objective": "binary", "num_leaves": 7, "num_threads": 1, "verbosity": -1}
    booster = lightgbm.train({**params, "seed": seed}, data, num_boost_round=30)
    calibration = fit_calibration(np.asarray(booster.predict(matrix[fit])), labels[fit])
    stages = np.arange(len(labels[judge])) % 5
    text = booster.model_to_string().encode()
    return Trained(text, calibration, matrix[judge], labels[judge], stages)


@pytest.fixture(scope="session")
def trained() -> Trained:
    return train(5)


@pytest.fixture(scope="session")
def trained_anew() -> Trained:
    return train(50)


def manifest_of(model: Trained, name: str, version: str) -> ModelManifest:
    booster = lightgbm.Booster(model_str=model.text.decode())
    predictions = calibrate(np.asarray(booster.predict(model.matrix)), model.calibration)
    goal = Step.TRADE if name == "trade" else Step.REGISTER
    return ModelManifest(
        name=name,
        version=version,
        goal=goal,
        given=Step.CLICK,
        feature_set_id=FEATURE_SET_ID,
        feature_names=FEATURE_NAMES,
        window_s=7 * 86_400,
        trained_from_s=1_710_000_000,
        trained_to_s=1_717_200_000,
        rows=8_000,
        positives=2_000,
        evaluation=evaluate("probability", model.labels, predictions),
        sha256=hashlib.sha256(model.text).hexdigest(),
        calibration=model.calibration,
        seed=7,
        lightgbm_version=lightgbm.__version__,
        created_at_ms=1_717_286_400_000,
    )


MakeBundle = Callable[..., Path]


@pytest.fixture
def a_bundle(tmp_path: Path, trained: Trained) -> MakeBundle:
    """Writes a bundle's folder, whole and signed.

    `text` and `calibration` damage what the trainer saw; `files` are written after all hashes are
    known (None removes one), and `changes` are made in the manifest before it is signed.
    """

    def make(
        name: str = "register",
        version: str = "v1",
        *,
        model: Trained | None = None,
        text: bytes | None = None,
        files: dict[str, bytes | None] | None = None,
        key: bytes | None = UPLOAD_KEY,
        **changes: Any,
    ) -> Path:
        model = model or trained
        folder = tmp_path / f"bundle{next(_COUNTER)}"
        folder.mkdir()
        golden = make_golden(model.matrix, parse_forest(model.text, "model"), model.calibration)
        write_golden(folder / "golden.json", golden)
        write_evaluation(folder / "evaluation.parquet", model.matrix, model.labels, model.stages)
        (folder / "model.txt").write_bytes(model.text if text is None else text)
        (folder / "card.md").write_text("# card\n")
        hashes = {
            field: hashlib.sha256((folder / file).read_bytes()).hexdigest()
            for field, file in (
                ("sha256", "model.txt"),
                ("golden_sha256", "golden.json"),
                ("evaluation_sha256", "evaluation.parquet"),
            )
        }
        manifest = msgspec.structs.replace(
            manifest_of(model, name, version), **{**hashes, **changes}
        )
        (folder / "manifest.json").write_bytes(msgspec.json.encode(manifest))
        for file, data in (files or {}).items():
            if data is None:
                (folder / file).unlink()
            else:
                (folder / file).write_bytes(data)
        if key is not None:
            signed = sign((folder / "manifest.json").read_bytes(), key)
            write_signature(folder / "signature.json", signed)
        return folder

    return make


@pytest.fixture(scope="session")
def store_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with EmbeddedStore(tmp_path_factory.mktemp("store")) as store:
        yield store.url


@pytest.fixture
def shelf(store_url: str, tmp_path: Path) -> Iterator[Shelf]:
    """A shelf in a namespace of its own, nothing on it."""
    client = admin_client(store_url)
    platforms = tuple(adapter.info for adapter in load_adapters().values())
    yield Shelf(client, f"up{next(_COUNTER)}", tmp_path / "models", platforms, "00000000")
    client.close()


@pytest.fixture
def rules() -> UploadRules:
    """What the service holds uploads to unless told otherwise; the tests' key is trusted."""
    return UploadRules(TRUSTED)
