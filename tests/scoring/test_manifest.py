"""A manifest says what is wrong with it, with file and field."""

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from rta_service.domain.errors import ModelRefused
from rta_service.domain.release import ModelRef
from rta_service.features import FEATURE_NAMES
from rta_service.scoring.manifest import (
    MANIFEST,
    model_path,
    read_manifest,
    read_verified,
)

PutModel = Callable[..., ModelRef]


def test_a_written_manifest_reads_back(put_model: PutModel, tmp_path: Path) -> None:
    ref = put_model()

    manifest = read_manifest(model_path(tmp_path, ref))

    assert manifest.ref == ref
    assert manifest.feature_names == FEATURE_NAMES


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
    put_model: PutModel, tmp_path: Path, old: str, new: str, reason: str
) -> None:
    path = model_path(tmp_path, put_model())
    text = (path / MANIFEST).read_text()
    (path / MANIFEST).write_text(text.replace(old, new, 1))

    with pytest.raises(ModelRefused, match=rf"manifest\.json: .*{reason}"):
        read_manifest(path)


@pytest.mark.parametrize("name", ["../register", "", "a/b", "..", "-x"])
def test_a_name_can_not_leave_the_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(ModelRefused, match="is not a model name"):
        model_path(tmp_path, ModelRef(name, "v1", ""))


def test_another_version_than_the_release_names_is_refused(
    put_model: PutModel, tmp_path: Path
) -> None:
    ref = put_model()
    other = msgspec.structs.replace(ref, sha256="0" * 64)

    with pytest.raises(ModelRefused, match="the release names"):
        read_verified(tmp_path, other)


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
    put_model: PutModel, tmp_path: Path, changes: dict[str, object], reason: str
) -> None:
    ref = put_model(**changes)

    with pytest.raises(ModelRefused, match=f"feature set abc.*{reason}"):
        read_verified(tmp_path, ref)
