"""Model files on disk: the text, and whether the manifest beside it is of this text."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from rta_service.scoring.flat_forest import FlatForest
from rta_service.scoring.forest_text import parse_forest
from rta_service.scoring.manifest import MANIFEST, MODEL, ModelManifest, write_manifest
from rta_service.scoring.model_report import find_models, report_model
from rta_service.scoring.text_limits import Limits

MakeManifest = Callable[..., ModelManifest]


@pytest.fixture
def forest(by_hand: bytes) -> FlatForest:
    return parse_forest(by_hand, "model.txt")


@pytest.fixture
def bundle(tmp_path: Path, by_hand: bytes, make_manifest: MakeManifest) -> Path:
    folder = tmp_path / "register" / "v1"
    folder.mkdir(parents=True)
    (folder / MODEL).write_bytes(by_hand)
    names = ("age", "city", "spend")
    digest = hashlib.sha256(by_hand).hexdigest()
    write_manifest(folder, make_manifest(sha256=digest, feature_names=names))
    return folder


def test_a_sound_bundle_is_reported_with_its_size_and_digest(
    bundle: Path, by_hand: bytes, forest: FlatForest
) -> None:
    report = report_model(bundle / MODEL)

    assert report.sound
    assert (report.trees, report.leaves, report.bytes) == (3, 8, len(by_hand))
    assert report.digest == forest.digest()
    assert report.faults == ()


def test_a_manifest_must_be_of_this_text(bundle: Path, make_manifest: MakeManifest) -> None:
    write_manifest(bundle, make_manifest())

    reasons = [fault.reason for fault in report_model(bundle / MODEL).faults]

    assert len(reasons) == 2
    assert reasons[0].startswith("names SHA-256 0000")
    assert reasons[1] == "its feature_names are not those of the model"


def test_a_manifest_must_be_readable(bundle: Path) -> None:
    (bundle / MANIFEST).write_text("{}")

    report = report_model(bundle / MODEL)

    assert not report.sound
    assert [(fault.field, fault.line) for fault in report.faults] == [(MANIFEST, 0)]
    assert "missing required field" in report.faults[0].reason


def test_a_missing_text_is_a_fault(bundle: Path) -> None:
    (bundle / MODEL).unlink()

    report = report_model(bundle / MODEL)

    assert report.faults[0].reason == "can't be read (No such file or directory)"


def test_no_more_is_read_than_a_sound_model_may_have(bundle: Path) -> None:
    report = report_model(bundle / MODEL, Limits(max_bytes=500))

    assert report.bytes == 501
    assert report.faults[0].reason == "501 bytes, the limit is 500"


def test_a_path_means_a_file_a_bundle_or_a_folder_of_bundles(bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "trade" / "v2").mkdir(parents=True)
    (tmp_path / "trade" / "v2" / MANIFEST).touch()

    assert find_models(bundle / MODEL) == [bundle / MODEL]
    assert find_models(bundle) == [bundle / MODEL]
    assert find_models(tmp_path) == [bundle / MODEL, tmp_path / "trade" / "v2" / MODEL]
    assert find_models(tmp_path / "none") == []
