"""The registry: which versions of which models there are, each whole, each for ever the same.

    <folder>/objects/<sha256>.forest           the model as it is served, named by its content
    <folder>/bundles/<name>/<version>/         the upload as it came, for people; never served
    <folder>/registry/<name>/<version>.json    an `Entry`; once it stands, the version exists

Everything is written beside its place, synced and renamed into it, the entry last. What a killed
writer leaves counts for nothing, and is swept by a later one.
"""

import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import msgspec

from rta_service.domain.errors import InvalidInput, ModelRefused, StoreUnavailable
from rta_service.domain.release import ModelRef
from rta_service.scoring.bundle import EVALUATION, GOLDEN, MAX_BYTES
from rta_service.scoring.flat_forest import FlatForest
from rta_service.scoring.forest_text import parse_forest
from rta_service.scoring.manifest import (
    MANIFEST,
    MODEL,
    ModelManifest,
    check_features,
    model_path,
    read_manifest,
)
from rta_service.scoring.model_file import OBJECTS, SUFFIX, encode_model, object_path, read_model
from rta_service.stores.whole_files import (
    UNFINISHED,
    copy_unfinished,
    finish,
    make_folder,
    write_whole,
)

REGISTRY: Final = "registry"
BUNDLES: Final = "bundles"
LOCK: Final = ".lock"

_SWEPT_AFTER_S: Final = 3_600.0
"""Far longer than any writer takes between its first file and its entry."""


class EntryFacts(msgspec.Struct, frozen=True):
    """What an upload adds to the model itself."""

    uploaded_at_ms: int
    by: str
    manifest_sha256: str = ""
    """Of the bytes of manifest.json as they came: what a signature signs."""
    verdict_id: str = ""


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One version of a model; but for `was_live_ms` it never changes."""

    ref: ModelRef
    manifest_sha256: str
    uploaded_at_ms: int
    by: str
    """Who uploaded it."""
    verdict_id: str
    """Of the verdict that let it in; empty for a local publication."""
    was_live_ms: int = 0
    """When it last went live; 0 for never."""


def put_model(
    folder: Path,
    manifest: ModelManifest,
    forest: FlatForest,
    facts: EntryFacts,
    files: Mapping[str, Path] | None = None,
) -> Entry:
    """Make a version exist, whole or not at all; if it does already, give its entry.

    `files` are the bundle's: the names to keep them under, and where they are now. Raises
    InvalidInput when the version exists with another content, ModelRefused for a model that could
    not be read back, StoreUnavailable when the folder can't be written.
    """
    data = encode_model(manifest, forest)
    ref = ModelRef(manifest.name, manifest.version, hashlib.sha256(data).hexdigest())
    entry = Entry(ref, facts.manifest_sha256, facts.uploaded_at_ms, facts.by, facts.verdict_id)
    with _trouble_named(folder):
        bundle = bundle_path(folder, ref)
        copied = copy_unfinished(bundle.parent, files or {})
        try:
            with _locked(folder):
                known = _known(folder, ref)
                _put_object(folder, ref, data)
                if known is None:
                    finish(copied, bundle)
                    _write_entry(folder, entry)
        finally:
            shutil.rmtree(copied, ignore_errors=True)
        _sweep(folder, facts.uploaded_at_ms / 1000)
    return known or entry


def bundle_path(folder: Path, ref: ModelRef) -> Path:
    """Give the folder of a version's upload as it came."""
    return model_path(folder / BUNDLES, ref)


def find_entry(folder: Path, name: str, version: str) -> Entry | None:
    """Give a version's entry; raises ModelRefused for no plain name or an unreadable entry."""
    return _read_entry(_entry_path(folder, name, version))


def entries(folder: Path) -> list[Entry]:
    """Give all versions by name, the oldest upload first; raises ModelRefused naming the file."""
    found = (_read_entry(path) for path in folder.glob(f"{REGISTRY}/[!.]*/[!.]*.json"))
    there = [entry for entry in found if entry is not None]
    return sorted(there, key=lambda e: (e.ref.name, e.uploaded_at_ms, e.ref.version))


def latest_entries(folder: Path) -> list[Entry]:
    """Give the newest upload of each name."""
    return list({entry.ref.name: entry for entry in entries(folder)}.values())


def mark_was_live(folder: Path, refs: Sequence[ModelRef], now_ms: int) -> None:
    """Note that versions went live; one that the registry does not know is passed over."""
    with _trouble_named(folder), _locked(folder):
        for ref in refs:
            entry = find_entry(folder, ref.name, ref.version)
            if entry is not None and entry.ref == ref:
                _write_entry(folder, msgspec.structs.replace(entry, was_live_ms=now_ms))


def publish_model(source: Path, folder: Path, facts: EntryFacts | None = None) -> ModelRef:
    """Take a bundle's folder straight into the registry, after structural validation only.

    Raises InvalidInput when its files don't belong together or the version exists with another
    content, ModelRefused for an unreadable manifest, another feature set or an unsound text.
    """
    manifest = read_manifest(source)
    check_features(manifest, source / MANIFEST)
    text = _read(source / MODEL, manifest.sha256)
    for name, sha256 in (
        (GOLDEN, manifest.golden_sha256),
        (EVALUATION, manifest.evaluation_sha256),
    ):
        if sha256:
            _read(source / name, sha256)
    forest = parse_forest(text, str(source / MODEL))
    signed = hashlib.sha256((source / MANIFEST).read_bytes()).hexdigest()
    facts = facts or EntryFacts(manifest.created_at_ms, "local", signed)
    files = {name: source / name for name in MAX_BYTES if (source / name).is_file()}
    return put_model(folder, manifest, forest, facts, files).ref


def latest_bundles(folder: Path) -> tuple[Path, ...]:
    """Give the newest bundle of each name in a folder that training wrote, by its making.

    The folder of one name in it, with its versions, will do as well.
    """
    newest: dict[str, tuple[int, str, Path]] = {}
    found_in = sorted(folder.glob(f"[!.]*/[!.]*/{MANIFEST}"))
    for path in found_in or sorted(folder.glob(f"[!.]*/{MANIFEST}")):
        manifest = read_manifest(path.parent)
        found = (manifest.created_at_ms, manifest.version, path.parent)
        newest[manifest.name] = max(newest.get(manifest.name, found), found)
    return tuple(newest[name][-1] for name in sorted(newest))


def _read(path: Path, sha256: str) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InvalidInput(f"can't be read ({error.strerror})", str(path)) from error
    if hashlib.sha256(data).hexdigest() != sha256:
        raise InvalidInput("is not the file that the manifest hashed; train again", str(path))
    return data


def _entry_path(folder: Path, name: str, version: str) -> Path:
    path = model_path(folder / REGISTRY, ModelRef(name, version, ""))
    return path.parent / f"{path.name}.json"


def _read_entry(path: Path) -> Entry | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Entry)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ModelRefused(f"{path}: can't be read ({error.strerror})") from error
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ModelRefused(f"{path}: {error}") from error


def _write_entry(folder: Path, entry: Entry) -> None:
    path = _entry_path(folder, entry.ref.name, entry.ref.version)
    write_whole(path, msgspec.json.format(msgspec.json.encode(entry)))


def _known(folder: Path, ref: ModelRef) -> Entry | None:
    """Give the version's entry if it is there; raises InvalidInput if it is of another content."""
    known = find_entry(folder, ref.name, ref.version)
    if known is not None and known.ref != ref:
        raise InvalidInput(
            "exists with another content; versions are never changed: train under a new version",
            f"{ref.name} {ref.version}",
        )
    return known


def _put_object(folder: Path, ref: ModelRef, data: bytes) -> None:
    """Write the model's file unless it is there and whole, and prove that it can be read."""
    path = object_path(folder, ref.sha256)
    if path.is_file():
        with suppress(ModelRefused):
            read_model(path, ref.sha256)
            return
    write_whole(path, data)
    read_model(path, ref.sha256)


@contextmanager
def _trouble_named(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        place = error.filename or folder
        raise StoreUnavailable(f"{place}: can't be written ({error.strerror})") from error


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Let one writer at a time commit; the kernel lets go of the lock of one that dies."""
    make_folder(folder)
    descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _sweep(folder: Path, now_s: float) -> None:
    """Remove what killed writers left an hour ago or more; trouble here is nobody's failure."""
    with suppress(ModelRefused, OSError), _locked(folder):
        for path in _left_behind(folder):
            if path.stat().st_mtime < now_s - _SWEPT_AFTER_S:
                shutil.rmtree(path) if path.is_dir() else path.unlink()


def _left_behind(folder: Path) -> list[Path]:
    """List unfinished files and folders, and objects and bundles without an entry."""
    there = entries(folder)
    objects = {f"{entry.ref.sha256}{SUFFIX}" for entry in there}
    bundles = {bundle_path(folder, entry.ref) for entry in there}
    unfinished = [
        *folder.glob(f"*/{UNFINISHED}*"),
        *folder.glob(f"{BUNDLES}/*/{UNFINISHED}*"),
        *folder.glob(f"{REGISTRY}/*/{UNFINISHED}*"),
    ]
    lone_objects = [p for p in folder.glob(f"{OBJECTS}/*{SUFFIX}") if p.name not in objects]
    lone_bundles = [p for p in folder.glob(f"{BUNDLES}/[!.]*/[!.]*") if p not in bundles]
    return unfinished + lone_objects + lone_bundles
