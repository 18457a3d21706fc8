"""The folder of published models: <folder>/<name>/<version>/, each written once and never changed."""

import hashlib
import os
import shutil
import tempfile
from pathlib import Path

from rta_service.domain.errors import InvalidInput, ModelRefused
from rta_service.domain.release import ModelRef
from rta_service.scoring.manifest import (
    CARD,
    MANIFEST,
    MODEL,
    ModelManifest,
    model_path,
    read_manifest,
)


def publish_model(source: Path, folder: Path) -> ModelRef:
    """Copy a trained model into the folder, whole or not at all; done already, do nothing.

    Raises InvalidInput when the model's files don't belong together or the version exists with
    another content, ModelRefused for an unreadable manifest. What the model predicts is checked
    elsewhere, before a release may name it.
    """
    manifest = read_manifest(source)
    _check_text(source, manifest)
    target = model_path(folder, manifest.ref)
    if target.is_dir():
        _check_same(target, manifest)
        return manifest.ref
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=".publishing-", dir=target.parent))
    try:
        _copy(source, temporary)
        _move(temporary, target, manifest)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return manifest.ref


def latest_models(folder: Path) -> tuple[ModelRef, ...]:
    """Give the newest version of each model in the folder, by the time of its making."""
    newest: dict[str, ModelManifest] = {}
    for path in sorted(folder.glob(f"[!.]*/[!.]*/{MANIFEST}")):
        manifest = read_manifest(path.parent)
        best = newest.get(manifest.name)
        if best is None or _age(manifest) > _age(best):
            newest[manifest.name] = manifest
    return tuple(newest[name].ref for name in sorted(newest))


def _age(manifest: ModelManifest) -> tuple[int, str]:
    return manifest.created_at_ms, manifest.version


def _check_text(source: Path, manifest: ModelManifest) -> None:
    path = source / MODEL
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InvalidInput(f"can't be read ({error.strerror})", str(path)) from error
    if found != manifest.sha256:
        raise InvalidInput("is not the text that the manifest hashed; train again", str(path))


def _check_same(target: Path, manifest: ModelManifest) -> None:
    try:
        _check_text(target, manifest)
        same = read_manifest(target) == manifest
    except (InvalidInput, ModelRefused):
        same = False
    if not same:
        raise InvalidInput(
            "exists with another content; versions are never changed: train under a new version",
            str(target),
        )


def _copy(source: Path, temporary: Path) -> None:
    temporary.chmod(0o755)  # models are no secret, and other users' workers read them
    for name in (MODEL, MANIFEST, CARD):
        if (source / name).is_file():
            shutil.copyfile(source / name, temporary / name)
            _sync(temporary / name)
    _sync(temporary)


def _move(temporary: Path, target: Path, manifest: ModelManifest) -> None:
    try:
        temporary.rename(target)
    except OSError:
        if not target.is_dir():
            raise
        _check_same(target, manifest)  # another publisher was quicker
        return
    _sync(target.parent)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
