"""A version exists whole or not at all, and for ever the same, whoever writes, fails or is killed."""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

from rta_service.domain.errors import InvalidInput, ModelRefused, ModelUnsound, StoreUnavailable
from rta_service.domain.funnel import Step
from rta_service.domain.release import ModelRef
from rta_service.features import CATEGORICAL, FEATURE_NAMES, FEATURE_SET_ID
from rta_service.scoring.bundle import GOLDEN
from rta_service.scoring.calibration import Calibration
from rta_service.scoring.canonical_text import canonical_text
from rta_service.scoring.flat_forest import FlatForest
from rta_service.scoring.manifest import (
    MANIFEST,
    MODEL,
    Evaluation,
    ModelManifest,
    read_manifest,
    write_manifest,
    write_model,
)
from rta_service.scoring.model_file import object_path, read_model
from rta_service.stores.model_folder import (
    EntryFacts,
    bundle_path,
    entries,
    find_entry,
    latest_bundles,
    latest_entries,
    mark_was_live,
    publish_model,
    put_model,
)

MakeBundle = Callable[..., Path]

MADE_MS = 1_717_286_400_000
HOUR_MS = 3_600_000


def a_forest(value: float = 0.25) -> FlatForest:
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
        leaf_value=np.array([-2.0, -1.0, value, 0.5, -0.125]),
        node_count=np.array([100, 100, 60]),
        leaf_count=np.array([70, 30, 40, 20, 40]),
        cat_offset=np.array([0, 1]),
        cat_words=np.array([0b101], np.uint32),
    )


def a_manifest(
    name: str = "trade", version: str = "1", text: bytes = b"", made_ms: int = MADE_MS
) -> ModelManifest:
    return ModelManifest(
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


@pytest.fixture
def models(tmp_path: Path) -> Path:
    return tmp_path / "models"


@pytest.fixture
def a_bundle(tmp_path: Path) -> MakeBundle:
    """Writes a bundle's folder as training does."""

    def make(
        name: str = "trade", version: str = "1", value: float = 0.25, made_ms: int = MADE_MS
    ) -> Path:
        text = canonical_text(a_forest(value)).encode()
        manifest = a_manifest(name, version, text, made_ms)
        out = tmp_path / "trained" / manifest.sha256[:8]
        write_model(out, text, "# card\n", manifest)
        return out / name / version

    return make


def facts(at_ms: int = MADE_MS, by: str = "ann") -> EntryFacts:
    return EntryFacts(at_ms, by, manifest_sha256="f" * 64, verdict_id="u1")


def names_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_published_model_is_whole_and_reads_back(a_bundle: MakeBundle, models: Path) -> None:
    bundle = a_bundle()

    ref = publish_model(bundle, models)

    manifest, forest = read_model(object_path(models, ref.sha256), ref.sha256)
    assert (ref.name, ref.version) == ("trade", "1")
    assert manifest == read_manifest(bundle)
    assert forest.digest() == a_forest().digest()
    assert names_in(models) == [
        ".lock",
        "bundles/trade/1/card.md",
        "bundles/trade/1/manifest.json",
        "bundles/trade/1/model.txt",
        f"objects/{ref.sha256}.forest",
        "registry/trade/1.json",
    ]
    assert {path.stat().st_mode & 0o444 for path in models.rglob("*")} == {0o444}


def test_an_entry_keeps_who_uploaded_what_and_when(models: Path, tmp_path: Path) -> None:
    (tmp_path / "seen").write_text("as it came")

    entry = put_model(models, a_manifest(), a_forest(), facts(), {"card.md": tmp_path / "seen"})

    assert find_entry(models, "trade", "1") == entry
    assert (entry.by, entry.uploaded_at_ms, entry.verdict_id) == ("ann", MADE_MS, "u1")
    assert entry.was_live_ms == 0
    assert (bundle_path(models, entry.ref) / "card.md").read_text() == "as it came"


def test_a_local_publication_notes_the_hash_that_a_signature_would_sign(
    a_bundle: MakeBundle, models: Path
) -> None:
    bundle = a_bundle()
    publish_model(bundle, models)

    entry = find_entry(models, "trade", "1")

    assert entry is not None
    assert entry.manifest_sha256 == hashlib.sha256((bundle / MANIFEST).read_bytes()).hexdigest()
    assert entry.by == "local"


def test_putting_again_changes_nothing_and_gives_the_first_entry(models: Path) -> None:
    first = put_model(models, a_manifest(), a_forest(), facts())
    before = {path: path.stat().st_mtime_ns for path in models.rglob("*.*")}

    again = put_model(models, a_manifest(), a_forest(), facts(MADE_MS + 5, "bob"))

    assert again == first
    assert {path: path.stat().st_mtime_ns for path in models.rglob("*.*")} == before


def test_many_writers_of_one_model_all_succeed(a_bundle: MakeBundle, models: Path) -> None:
    bundle = a_bundle()

    with ThreadPoolExecutor(8) as pool:
        refs = set(pool.map(lambda _: publish_model(bundle, models), range(24)))

    assert len(refs) == 1
    assert len(names_in(models)) == 6


def test_of_many_writers_of_one_version_with_other_contents_one_wins_whole(
    a_bundle: MakeBundle, models: Path
) -> None:
    bundles = [a_bundle(value=0.25 + number / 100) for number in range(8)]

    def attempt(bundle: Path) -> ModelRef | None:
        try:
            return publish_model(bundle, models)
        except InvalidInput:
            return None

    with ThreadPoolExecutor(8) as pool:
        won = [ref for ref in pool.map(attempt, bundles) if ref is not None]

    entry = find_entry(models, "trade", "1")
    assert entry is not None
    assert won == [entry.ref]
    kept = read_manifest(bundle_path(models, entry.ref))
    assert read_model(object_path(models, entry.ref.sha256), entry.ref.sha256)[0] == kept


def test_a_version_is_never_changed(a_bundle: MakeBundle, models: Path) -> None:
    publish_model(a_bundle(), models)
    before = names_in(models)

    with pytest.raises(InvalidInput, match="trade 1: exists with another content; versions are"):
        publish_model(a_bundle(value=0.5), models)
    with pytest.raises(InvalidInput, match="versions are never changed"):
        publish_model(a_bundle(made_ms=2), models)

    assert names_in(models) == before


def test_a_damaged_object_is_mended_by_putting_the_model_again(models: Path) -> None:
    ref = put_model(models, a_manifest(), a_forest(), facts()).ref
    path = object_path(models, ref.sha256)
    whole = path.read_bytes()
    path.chmod(0o644)
    path.write_bytes(whole[:100])

    put_model(models, a_manifest(), a_forest(), facts())

    assert path.read_bytes() == whole


def test_a_model_that_would_not_read_back_is_not_registered(models: Path) -> None:
    endless = msgspec.structs.replace(
        a_manifest(), evaluation=Evaluation(5, 1, float("nan"), 0.1, 1.0)
    )

    with pytest.raises(ModelRefused, match=r"Expected `float`, got `null`"):
        put_model(models, endless, a_forest(), facts())

    assert entries(models) == []


def test_a_file_that_the_manifest_did_not_hash_is_refused(
    a_bundle: MakeBundle, models: Path
) -> None:
    bundle = a_bundle()
    manifest = read_manifest(bundle)
    write_manifest(bundle, msgspec.structs.replace(manifest, golden_sha256="0" * 64))

    with pytest.raises(InvalidInput, match=r"golden\.json: can't be read"):
        publish_model(bundle, models)
    (bundle / GOLDEN).write_text("{}")
    with pytest.raises(InvalidInput, match=r"golden\.json: is not the file"):
        publish_model(bundle, models)
    (bundle / MODEL).write_bytes(b"tr")
    with pytest.raises(InvalidInput, match=r"model\.txt: is not the file"):
        publish_model(bundle, models)

    assert not models.exists()


def test_an_unsound_text_and_another_feature_set_are_refused(
    a_bundle: MakeBundle, models: Path
) -> None:
    bundle = a_bundle()
    manifest = read_manifest(bundle)
    text = (bundle / MODEL).read_bytes()[:-400]
    (bundle / MODEL).write_bytes(text)
    write_manifest(
        bundle, msgspec.structs.replace(manifest, sha256=hashlib.sha256(text).hexdigest())
    )

    with pytest.raises(ModelUnsound, match=r"model\.txt: "):
        publish_model(bundle, models)
    write_manifest(bundle, msgspec.structs.replace(manifest, feature_set_id="abc"))
    with pytest.raises(ModelRefused, match="feature set abc, this service computes"):
        publish_model(bundle, models)

    assert not models.exists()


@pytest.mark.parametrize(("name", "version"), [("../up", "1"), ("trade", "../1"), (".x", "1")])
def test_names_that_leave_the_folder_are_refused(models: Path, name: str, version: str) -> None:
    with pytest.raises(ModelRefused, match="not a model name"):
        put_model(models, a_manifest(name, version), a_forest(), facts())
    with pytest.raises(ModelRefused, match="not a model name"):
        find_entry(models, name, version)


def test_a_folder_that_can_not_be_written_is_trouble_of_ours(models: Path) -> None:
    models.write_text("a file where the folder should be")

    with pytest.raises(StoreUnavailable, match=r"models.* can't be written"):
        put_model(models, a_manifest(), a_forest(), facts())


def test_entries_are_listed_by_name_and_age(models: Path) -> None:
    for name, version, at_ms in (("trade", "9", 1), ("trade", "10", 2), ("register", "1", 3)):
        put_model(models, a_manifest(name, version), a_forest(), facts(at_ms))

    listed = [(entry.ref.name, entry.ref.version) for entry in entries(models)]
    latest = [(entry.ref.name, entry.ref.version) for entry in latest_entries(models)]

    assert listed == [("register", "1"), ("trade", "9"), ("trade", "10")]
    assert latest == [("register", "1"), ("trade", "10")]
    assert entries(models / "none") == []
    assert find_entry(models, "trade", "8") is None


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff"])
def test_a_damaged_entry_is_named(models: Path, content: bytes) -> None:
    put_model(models, a_manifest(), a_forest(), facts())
    path = models / "registry" / "trade" / "1.json"
    path.chmod(0o644)
    path.write_bytes(content)

    with pytest.raises(ModelRefused, match=r"registry/trade/1\.json: "):
        entries(models)
    put_model(models, a_manifest(version="2"), a_forest(), facts(MADE_MS + 2 * HOUR_MS))

    assert find_entry(models, "trade", "2") is not None


def test_going_live_is_noted_and_nothing_else_changes(models: Path) -> None:
    entry = put_model(models, a_manifest(), a_forest(), facts())
    unknown = ModelRef("trade", "7", "0" * 64)
    other_content = ModelRef("trade", "1", "0" * 64)

    mark_was_live(models, [entry.ref, unknown], MADE_MS + 9)
    mark_was_live(models, [other_content], MADE_MS + 10)

    assert entries(models) == [msgspec.structs.replace(entry, was_live_ms=MADE_MS + 9)]


def test_the_latest_bundle_is_the_one_made_last(a_bundle: MakeBundle, tmp_path: Path) -> None:
    trained = a_bundle("trade", "9", made_ms=1).parents[1]
    newest = a_bundle("trade", "10", made_ms=2)
    other = a_bundle("register", "1", made_ms=1)

    assert latest_bundles(trained) == (other, newest)
    assert latest_bundles(trained / "trade") == (newest,)
    assert latest_bundles(tmp_path / "none") == ()


def test_what_killed_writers_left_is_swept_after_an_hour_and_not_before(models: Path) -> None:
    kept = put_model(models, a_manifest(), a_forest(), facts()).ref
    left = [
        models / "objects" / f"{'0' * 64}.forest",
        models / "objects" / ".writing-x",
        models / "registry" / "trade" / ".writing-y",
        models / "bundles" / "trade" / ".writing-z" / "model.txt",
        models / "bundles" / "trade" / "0" / "model.txt",
    ]
    for path in left:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x")
        for touched in (path, path.parent):
            os.utime(touched, (MADE_MS / 1000, MADE_MS / 1000))

    put_model(models, a_manifest(version="2"), a_forest(), facts(MADE_MS + HOUR_MS))
    still_there = [path.exists() for path in left]
    put_model(models, a_manifest(version="3"), a_forest(), facts(MADE_MS + HOUR_MS + 1))

    assert still_there == [True] * 5
    assert [path.exists() for path in left] == [False] * 5
    assert read_model(object_path(models, kept.sha256), kept.sha256)[0] == a_manifest()


def test_a_writer_killed_at_any_step_leaves_nothing_or_the_whole_version(
    a_bundle: MakeBundle, tmp_path: Path
) -> None:
    bundle, root = a_bundle(), tmp_path / "kills"
    shutil.copytree(bundle, root / "bundle")
    program = Path(__file__).parent / "killed_writer.py"
    subprocess.run([sys.executable, program, root], check=True, timeout=100)

    folders = sorted(root.glob("killed-*"))
    states = [state_of(folder, root / "bundle") for folder in folders]
    retried = [publish_model(root / "bundle", folder) for folder in folders]

    assert len(states) > 50, len(states)
    assert sorted(states) == states  # nothing, and from one step on the whole version
    assert set(states) == {0, 1}
    assert len(set(retried)) == 1
    assert {state_of(folder, root / "bundle") for folder in folders} == {1}


def state_of(folder: Path, bundle: Path) -> int:
    """Give 0 for a registry without the version, 1 for the whole of it; fail for anything else."""
    entry = find_entry(folder, "trade", "1")
    assert [entry] * (entry is not None) == entries(folder)
    if entry is None:
        return 0
    manifest, forest = read_model(object_path(folder, entry.ref.sha256), entry.ref.sha256)
    assert manifest == read_manifest(bundle)
    assert forest.digest() == a_forest().digest()
    kept = bundle_path(folder, entry.ref)
    assert names_in(kept) == names_in(bundle)
    assert all(
        (kept / name).read_bytes() == (bundle / name).read_bytes() for name in names_in(kept)
    )
    return 1


def test_forests_that_differ_in_one_leaf_are_other_contents(models: Path) -> None:
    put_model(models, a_manifest(), a_forest(), facts())
    value = np.nextafter(0.25, 1.0)
    leaves = a_forest().leaf_value.copy()
    leaves[2] = value

    with pytest.raises(InvalidInput, match="another content"):
        put_model(models, a_manifest(), replace(a_forest(), leaf_value=leaves), facts())
