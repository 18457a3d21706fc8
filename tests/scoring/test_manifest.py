"""A manifest says what is wrong with it, with file and field."""

from collections.abc import Callable
from pathlib import Path

import pytest

from rta_service.domain.errors import ModelRefused
from rta_service.domain.release import ModelRef
from rta_service.features import FEATURE_NAMES
from rta_service.scoring.manifest import (
    CARD,
    MANIFEST,
    MODEL,
    ModelManifest,
    check_features,
    model_path,
    read_manifest,
    write_manifest,
    write_model,
)

MakeManifest = Callable[..., ModelManifest]


def test_a_written_manifest_reads_back(make_manifest: MakeManifest, tmp_path: Path) -> None:
    made = make_manifest(name="trade")
    write_model(tmp_path, b"tree", "# card\n", made)
    folder = model_path(tmp_path, made.ref)

    assert read_manifest(folder) == made
    assert (folder / MODEL).read_bytes() == b"tree"
    assert (folder / CARD).read_text() == "# card\n"


def test_a_missing_manifest_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelRefused, match=r"manifest\.json: can't be read"):
        read_manifest(tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ('"rows": 2000', '"rows": "many"', r"Expected `int`, got `str` - at `\$\.rows`"),
        ('"seed"', '"sead"', "contains unknown field `sead`"),
        ('"goal": "register"', '"goal": "fame"', r"Invalid enum value 'fame' - at `\$\.goal`"),
        ('"prefer": "head"', '"prefer": "luck"', r"at `\$\.prefer`"),
        ('"schema": 2', '"schema": 3', "schema 3, this service reads 2"),
        ("0.4", "0.95", r"y must not fall - at `\$\.calibration`"),
        ("{", "{,", "malformed"),
    ],
)
def test_a_wrong_field_is_named(
    make_manifest: MakeManifest, tmp_path: Path, old: str, new: str, reason: str
) -> None:
    write_manifest(tmp_path, make_manifest())
    text = (tmp_path / MANIFEST).read_text()
    (tmp_path / MANIFEST).write_text(text.replace(old, new, 1))

    with pytest.raises(ModelRefused, match=rf"manifest\.json: .*{reason}"):
        read_manifest(tmp_path)


@pytest.mark.parametrize("name", ["../register", "", "a/b", "..", "-x"])
def test_a_name_can_not_leave_the_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(ModelRefused, match="is not a model name"):
        model_path(tmp_path, ModelRef(name, "v1", ""))


def _set_of(names: tuple[str, ...]) -> dict[str, object]:
    return {"feature_names": names, "feature_set_id": "abc"}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (_set_of(("age", *FEATURE_NAMES[1:])), r"unknown here: age; missing in the model: known\)"),
        (_set_of(FEATURE_NAMES[:-1]), r"\(missing in the model: placement\)"),
        (_set_of((*FEATURE_NAMES, "hour")), r"\(unknown here: hour\)"),
        (
            _set_of((FEATURE_NAMES[1], FEATURE_NAMES[0], *FEATURE_NAMES[2:])),
            r"\(moved: known, idle_days\)",
        ),
        (_set_of(FEATURE_NAMES), "same columns, other id"),
    ],
)
def test_another_feature_set_is_refused_by_naming_the_columns(
    make_manifest: MakeManifest, changes: dict[str, object], reason: str
) -> None:
    manifest = make_manifest(**changes)

    with pytest.raises(ModelRefused, match=f"here: feature set abc.*{reason}"):
        check_features(manifest, Path("here"))
