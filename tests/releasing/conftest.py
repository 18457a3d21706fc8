"""Really trained bundles to upload, and the shelf of a real store to upload them to."""

import hashlib
import itertools
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lightgbm
import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from rta_service.domain.clock import SystemClock
from rta_service.domain.funnel import Step
from rta_service.features import CATEGORICAL, FEATURE_NAMES, FEATURE_SET_ID
from rta_service.platforms.registry import load_adapters
from rta_service.releasing.shelf import Shelf
from rta_service.releasing.uploading import UploadFacts, UploadRules, Verdict, accept_upload
from rta_service.scoring.calibration import Calibration, calibrate, fit_calibration
from rta_service.scoring.disposable import DisposableProcess
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


def train(seed: int, leaves: int = 7, rounds: int = 30) -> Trained:
    matrix, rate = some_rows(12_000, seed)
    labels = (np.random.default_rng(seed + 1).random(len(rate)) < rate).astype(np.float64)
    learn, fit, judge = slice(0, 4_000), slice(4_000, 8_000), slice(8_000, None)
    data = lightgbm.Dataset(
        matrix[learn],
        labels[learn],
        feature_name=list(FEATURE_NAMES),
        categorical_feature=list(CATEGORICAL),
    )
    params = {"objective": "binary", "num_leaves": leaves, "num_threads": 1, "verbosity": -1}
    booster = lightgbm.train({**params, "seed": seed}, data, num_boost_round=rounds)
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


@pytest.fixture(scope="session")
def trained_larger() -> Trained:
    return train(5, leaves=31, rounds=120)


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


@dataclass(frozen=True)
class Changes:
    """What is wrong with a bundle."""

    text: bytes | None = None
    """Another model.txt than the trainer saw, hashed and signed."""
    files: dict[str, bytes | None] = field(default_factory=dict)
    """Written once all hashes are known; None removes a file."""
    key: bytes | None = UPLOAD_KEY
    """Signs the manifest as it stands at last; None leaves it unsigned."""
    manifest: dict[str, Any] = field(default_factory=dict)
    """Fields changed before the signature."""


def write_bundle(folder: Path, model: Trained, name: str, version: str, changes: Changes) -> Path:
    """Write a bundle's folder, whole and signed but for the changes."""
    folder.mkdir()
    golden = make_golden(model.matrix, parse_forest(model.text, "model"), model.calibration)
    write_golden(folder / "golden.json", golden)
    write_evaluation(folder / "evaluation.parquet", model.matrix, model.labels, model.stages)
    (folder / "model.txt").write_bytes(model.text if changes.text is None else changes.text)
    (folder / "card.md").write_text("# card\n")
    hashes = {
        field: hashlib.sha256((folder / file).read_bytes()).hexdigest()
        for field, file in (
            ("sha256", "model.txt"),
            ("golden_sha256", "golden.json"),
            ("evaluation_sha256", "evaluation.parquet"),
        )
    }
    fields = {**hashes, **changes.manifest}
    manifest = msgspec.structs.replace(manifest_of(model, name, version), **fields)
    (folder / "manifest.json").write_bytes(msgspec.json.encode(manifest))
    for file, data in changes.files.items():
        if data is None:
            (folder / file).unlink()
        else:
            (folder / file).write_bytes(data)
    if changes.key is not None:
        signed = sign((folder / "manifest.json").read_bytes(), changes.key)
        write_signature(folder / "signature.json", signed)
    return folder


@pytest.fixture
def a_bundle(tmp_path: Path, trained: Trained) -> MakeBundle:
    """Writes bundles: `version`, the trained `model`, and any of the Changes."""

    def make(version: str = "v1", model: Trained | None = None, **changes: Any) -> Path:
        folder = tmp_path / f"bundle{next(_COUNTER)}"
        return write_bundle(folder, model or trained, "register", version, Changes(**changes))

    return make


@pytest.fixture(scope="session")
def upload_key() -> bytes:
    """The private key whose signatures `rules` trusts."""
    return UPLOAD_KEY


@pytest.fixture(scope="session")
def store_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with EmbeddedStore(tmp_path_factory.mktemp("store")) as store:
        yield store.url


def shelf_on(url: str, models_folder: Path) -> Shelf:
    """A shelf in a namespace of its own, nothing on it."""
    platforms = tuple(adapter.info for adapter in load_adapters().values())
    return Shelf(admin_client(url), f"up{next(_COUNTER)}", models_folder, platforms, "00000000")


@pytest.fixture
def shelf(store_url: str, tmp_path: Path) -> Iterator[Shelf]:
    """A shelf of its own, nothing on it."""
    made = shelf_on(store_url, tmp_path / "models")
    yield made
    made.client.close()


@pytest.fixture(scope="session")
def process() -> Iterator[DisposableProcess]:
    """One for all, since each start takes a second."""
    with DisposableProcess() as shared:
        yield shared


@dataclass(frozen=True)
class Accepted:
    """An upload that was let in: its source, its verdict, and the models folder afterwards."""

    source: Path
    verdict: Verdict
    models_folder: Path


@pytest.fixture(scope="session")
def accepted(
    store_url: str, tmp_path_factory: pytest.TempPathFactory, trained: Trained
) -> Accepted:
    """Uploads `register v1` once; nobody may change it."""
    folder = tmp_path_factory.mktemp("accepted")
    source = write_bundle(folder / "bundle", trained, "register", "v1", Changes())
    shelf = shelf_on(store_url, folder / "models")
    facts = UploadFacts(by="ann", at_ms=SystemClock().now_ms(), why="a better week")
    verdict = accept_upload(shelf, source, facts, UploadRules(TRUSTED))
    shelf.client.close()
    return Accepted(source, verdict, shelf.models_folder)


@pytest.fixture
def shelf_with_v1(shelf: Shelf, accepted: Accepted) -> Shelf:
    """A shelf of its own on which `register v1` is staged."""
    shutil.copytree(accepted.models_folder, shelf.models_folder)
    return shelf


@pytest.fixture
def rules(process: DisposableProcess) -> UploadRules:
    """What the service holds uploads to unless told otherwise; the tests' key is trusted."""
    return UploadRules(TRUSTED, shared=process)
