"""Registered versions as people speak of them: found by name, shown with their phase."""

from collections.abc import Sequence
from pathlib import Path

from rta_service.domain.command import ModelState
from rta_service.domain.errors import InvalidInput, ModelRefused, UnknownName
from rta_service.domain.release import ModelRef, Release
from rta_service.domain.rollout import MILLION, Phase, phase_of
from rta_service.releasing.verdicts import is_plain
from rta_service.scoring.manifest import MANIFEST, ModelManifest, read_manifest
from rta_service.scoring.model_file import object_path, read_model
from rta_service.stores.model_folder import Entry, bundle_path, entries, find_entry, latest_entries


def find_version(folder: Path, name: str, version: str = "") -> Entry:
    """Find a registered version, the newest for an empty one; raises UnknownName."""
    if not version:
        newest = [entry for entry in latest_entries(folder) if entry.ref.name == name]
        if not newest:
            raise UnknownName("no version was ever uploaded (rta models push)", f"model {name}")
        return newest[0]
    plain = is_plain(name) and is_plain(version)
    found = find_entry(folder, name, version) if plain else None
    if found is None:
        raise UnknownName("is not registered; see rta models list", f"model {name}@{version}")
    return found


def refs_of(folder: Path, models: Sequence[tuple[str, str]]) -> tuple[ModelRef, ...]:
    """Give registered versions as a release names them; raises UnknownName."""
    return tuple(find_version(folder, name, version).ref for name, version in models)


def pair_of(
    folder: Path, release: Release | None, name: str, given: Sequence[str]
) -> tuple[Entry, Entry]:
    """Find two versions to compare: those given, or the live one and one given, or the candidate.

    The candidate is what is in canary, else in shadow, else the newest upload that is not live.
    Raises UnknownName for a version that is not there, InvalidInput where there is no other.
    """
    found = [find_version(folder, name, version) for version in given or ("",)]
    if len(given) > 1:
        return found[0], found[1]
    live = [ref for ref in (release.models if release else ()) if ref.name == name]
    if not live:
        raise InvalidInput("no version of it is live: name two versions", f"model {name}")
    if not given:
        found = [find_version(folder, name, _candidate(folder, release, live[0]))]
    return find_version(folder, name, live[0].version), found[0]


def _candidate(folder: Path, release: Release | None, live: ModelRef) -> str:
    canary = release.canary.models if release and release.canary else ()
    on_trial = (*canary, *(release.shadow if release else ()))
    newest_first = [entry.ref for entry in reversed(entries(folder))]
    for ref in (*on_trial, *newest_first):
        if ref.name == live.name and ref != live:
            return ref.version
    raise InvalidInput("has no other version than the live one", f"model {live.name}")


def state_of(folder: Path, entry: Entry, release: Release | None) -> ModelState:
    """Say where a version stands and how it did."""
    phase = phase_of(release, entry.ref, was_live=entry.was_live_ms > 0)
    try:
        seen = manifest_of(folder, entry).evaluation
    except ModelRefused:  # of another feature set, or damaged: it is listed all the same
        seen = None
    return ModelState(
        entry.ref.name,
        entry.ref.version,
        entry.ref.sha256,
        phase,
        _share(phase, entry.ref, release),
        entry.uploaded_at_ms,
        entry.by,
        entry.verdict_id,
        seen.auc if seen else None,
        seen.log_loss if seen else None,
        seen.pcoc if seen else None,
    )


def manifest_of(folder: Path, entry: Entry) -> ModelManifest:
    """Give a version's manifest: as it came, or where that is gone, as it is served."""
    bundle = bundle_path(folder, entry.ref)
    if (bundle / MANIFEST).is_file():
        return read_manifest(bundle)
    return read_model(object_path(folder, entry.ref.sha256), entry.ref.sha256)[0]


def _share(phase: Phase, ref: ModelRef, release: Release | None) -> int:
    """Give the people of a million for whom a version decides."""
    canary = release.canary if release else None
    if phase is Phase.CANARY and canary:
        return canary.share_millionths
    if phase is not Phase.LIVE:
        return 0
    replaced = canary is not None and any(one.name == ref.name for one in canary.models)
    return MILLION - canary.share_millionths if canary and replaced else MILLION
