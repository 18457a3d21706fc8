import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest

from rta_service.domain.errors import InvalidInput, ModelRefused
from rta_service.domain.funnel import Step
from rta_service.domain.release import ModelRef
from rta_service.features import FEATURE_NAMES, FEATURE_SET_ID
from rta_service.scoring.calibration import Calibration
from rta_service.scoring.manifest import (
    MANIFEST,
    MODEL,
    Evaluation,
    ModelManifest,
    read_verified,
    write_model,
)
from rta_service.stores.model_folder import latest_models, publish_model

ModelMaker = Callable[..., Path]


@pytest.fixture
def a_model(tmp_path: Path) -> ModelMaker:
    """Writes a trained model's folder; the text is not parsed here."""

    def make(
        name: str = "trade", version: str = "1", text: bytes = b"tree", made_ms: int = 1
    ) -> Path:
        manifest = ModelManifest(
            name=name,
            version=version,
            goal=Step.TRADE,
            given=Step.CLICK,
            feature_set_id=FEATURE_SET_ID,
            feature_names=FEATURE_NAMES,
            window_s=86_400,
            trained_from_s=1,
            trained_to_s=2,
            rows=10,
            positives=1,
            evaluation=Evaluation(5, 1, 0.7, 0.1, 1.0),
            sha256=hashlib.sha256(text).hexdigest(),
            calibration=Calibration((0.0, 1.0), (0.0, 1.0)),
            seed=7,
            lightgbm_version="4.6.0",
            created_at_ms=made_ms,
        )
        source = tmp_path / "trained" / hashlib.sha256(text).hexdigest()[:8]
        write_model(source, text, "# card\n", manifest)
        return source / name / version

    return make


def test_a_published_model_is_whole_and_verifies(a_model: ModelMaker, tmp_path: Path) -> None:
    ref = publish_model(a_model(), tmp_path / "models")

    assert ref == ModelRef("trade", "1", hashlib.sha256(b"tree").hexdigest())
    assert read_verified(tmp_path / "models", ref)[1] == b"tree"
    assert sorted(path.name for path in (tmp_path / "models" / "trade" / "1").iterdir()) == [
        "card.md",
        "manifest.json",
        "model.txt",
    ]
    assert [path.name for path in (tmp_path / "models" / "trade").iterdir()] == ["1"]


def test_publishing_again_changes_nothing(a_model: ModelMaker, tmp_path: Path) -> None:
    first = publish_model(a_model(), tmp_path / "models")
    changed_at = (tmp_path / "models" / "trade" / "1" / MODEL).stat().st_mtime_ns

    assert publish_model(a_model(), tmp_path / "models") == first
    assert (tmp_path / "models" / "trade" / "1" / MODEL).stat().st_mtime_ns == changed_at


def test_many_publishers_of_one_model_all_succeed(a_model: ModelMaker, tmp_path: Path) -> None:
    source, folder = a_model(text=b"x" * 1_000_000), tmp_path / "models"

    with ThreadPoolExecutor(8) as pool:
        refs = set(pool.map(lambda _: publish_model(source, folder), range(8)))

    assert len(refs) == 1
    assert [path.name for path in (folder / "trade").iterdir()] == ["1"]


def test_a_version_is_never_changed(a_model: ModelMaker, tmp_path: Path) -> None:
    publish_model(a_model(), tmp_path / "models")

    with pytest.raises(InvalidInput, match="versions are never changed"):
        publish_model(a_model(text=b"another"), tmp_path / "models")
    with pytest.raises(InvalidInput, match="versions are never changed"):
        publish_model(a_model(made_ms=2), tmp_path / "models")


def test_a_published_model_that_was_damaged_is_not_taken_for_the_same(
    a_model: ModelMaker, tmp_path: Path
) -> None:
    source = a_model()
    publish_model(source, tmp_path / "models")
    (tmp_path / "models" / "trade" / "1" / MODEL).write_bytes(b"tr")

    with pytest.raises(InvalidInput, match="exists with another content"):
        publish_model(source, tmp_path / "models")


def test_a_text_that_the_manifest_did_not_hash_is_refused(
    a_model: ModelMaker, tmp_path: Path
) -> None:
    source = a_model()
    (source / MODEL).write_bytes(b"tr")

    with pytest.raises(InvalidInput, match=r"model\.txt: is not the text"):
        publish_model(source, tmp_path / "models")
    (source / MODEL).unlink()
    with pytest.raises(InvalidInput, match=r"model\.txt: can't be read"):
        publish_model(source, tmp_path / "models")

    assert not (tmp_path / "models").exists()


def test_names_that_leave_the_folder_are_refused(a_model: ModelMaker, tmp_path: Path) -> None:
    source = a_model()
    manifest = msgspec.json.decode((source / MANIFEST).read_bytes())
    (source / MANIFEST).write_bytes(msgspec.json.encode(manifest | {"name": "../up"}))

    with pytest.raises(ModelRefused, match="not a model name"):
        publish_model(source, tmp_path / "models")


def test_the_latest_version_is_the_one_made_last(a_model: ModelMaker, tmp_path: Path) -> None:
    for name, version, made_ms in (("trade", "9", 1), ("trade", "10", 2), ("register", "1", 1)):
        text = f"{name}{version}".encode()
        publish_model(a_model(name, version, text, made_ms), tmp_path / "models")

    latest = latest_models(tmp_path / "models")

    assert [(ref.name, ref.version) for ref in latest] == [("register", "1"), ("trade", "10")]
    assert latest_models(tmp_path / "none") == ()
