"""The stages that an upload goes through, in order; the first that refuses ends it.

A stage gives the gates it judged, or raises InvalidInput or ModelRefused for its first one.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
import numpy as np

from rta_service.domain.errors import InvalidInput, ModelRefused
from rta_service.domain.release import ModelRef
from rta_service.features import matrix
from rta_service.releasing.registry import manifest_of
from rta_service.releasing.shelf import Shelf
from rta_service.releasing.verdicts import Verdict, is_plain, read_verdicts
from rta_service.scoring.bundle import (
    EVALUATION,
    GOLDEN,
    SIGNATURE,
    Bundle,
    BundleLimits,
    copy_folder,
    unpack,
)
from rta_service.scoring.candidate import TRAFFIC, words_of
from rta_service.scoring.disposable import DisposableProcess
from rta_service.scoring.disposable_child import (
    COMPARE_SCORES,
    COMPARE_TRAFFIC,
    JUDGE_EVALUATION,
    ProcessLimits,
)
from rta_service.scoring.drift import Drift
from rta_service.scoring.flat_forest import FlatForest
from rta_service.scoring.forest_text import parse_forest
from rta_service.scoring.gates import (
    CLAIMS,
    DRIFT_GATES,
    PROBABILITY_GATES,
    VALUE_GATES,
    Gate,
    GateRules,
    drift_gates,
    failed,
    skipped,
)
from rta_service.scoring.golden import GOLDEN_GATES, golden_gates, read_golden
from rta_service.scoring.manifest import (
    MANIFEST,
    MODEL,
    ModelManifest,
    check_features,
    read_manifest,
)
from rta_service.scoring.model_file import encode_model, object_path
from rta_service.scoring.model_set import check_ref
from rta_service.scoring.signature import TrustedKey, verify
from rta_service.stores.model_folder import EntryFacts, find_entry, put_model
from rta_service.stores.traffic_sample import read_sample

TRAFFIC_ROWS: Final = 20_000
"""More would not make a distribution clearer."""


class UploadFacts(msgspec.Struct, frozen=True):
    """Who uploads, when and why."""

    by: str
    at_ms: int
    name: str = ""
    """The model's name as the request's path says it; empty where the manifest decides."""
    why: str = ""


@dataclass(frozen=True, slots=True)
class UploadRules:
    """What an upload is held to."""

    trusted: Mapping[str, TrustedKey] = field(default_factory=dict)
    """Key ids and their Ed25519 public keys."""
    allow_unsigned: bool = False
    limits: BundleLimits = field(default_factory=BundleLimits)
    gates: GateRules = field(default_factory=GateRules)
    process: ProcessLimits = field(default_factory=ProcessLimits)
    call_seconds: float = 60.0
    """For one question to the disposable process; a sane one takes one to five."""
    shared: DisposableProcess | None = None
    """A process for several uploads of our own; without it each has one of its own, since what was
    in it before may have damaged it."""
    run_dir: Path | None = None
    """Where the workers keep their samples of recent traffic."""


@dataclass(slots=True)
class Trial:
    """One upload on its way; each stage adds what it found out."""

    shelf: Shelf
    source: Path
    facts: UploadFacts
    rules: UploadRules
    folder: Path
    """The candidate's own, deleted afterwards."""
    process: DisposableProcess
    upload_id: str = ""
    bundle: Bundle | None = None
    manifest: ModelManifest | None = None
    manifest_sha256: str = ""
    signed_by: str = ""
    known: Verdict | None = None
    """The verdict that let the same content in before."""
    forest: FlatForest | None = None
    ref: ModelRef | None = None
    live: ModelRef | None = None
    stored: bool = False

    def the_bundle(self) -> Bundle:
        """Give the bundle; stages after the first have one."""
        assert self.bundle is not None  # noqa: S101 - the order of the stages
        return self.bundle

    def the_manifest(self) -> ModelManifest:
        """Give the manifest; stages after the second have one."""
        assert self.manifest is not None  # noqa: S101 - the order of the stages
        return self.manifest

    def candidate(self) -> tuple[FlatForest, ModelRef]:
        """Give what would be served; stages after the validator have it."""
        assert self.forest is not None  # noqa: S101 - the order of the stages
        assert self.ref is not None  # noqa: S101 - the order of the stages
        return self.forest, self.ref

    def live_words(self) -> dict[str, str] | None:
        """Say where the live model of this name lies, if there is one."""
        return words_of(self.shelf.models_folder, self.live) if self.live else None


class Stage(NamedTuple):
    """One stage: its name, the gates it judges, and how."""

    name: str
    gates: tuple[str, ...]
    run: Callable[[Trial], list[Gate]]


def _bundle(trial: Trial) -> list[Gate]:
    """Take the files, bounded, into the candidate's folder."""
    take = copy_folder if trial.source.is_dir() else unpack
    trial.bundle = take(trial.source, trial.folder, trial.rules.limits)
    size = sum(trial.bundle.sizes.values())
    limit = f"<= {trial.rules.limits.max_bytes:,} bytes"
    return [Gate("bundle", "passed", float(size), limit, ", ".join(trial.bundle.sizes))]


def _manifest(trial: Trial) -> list[Gate]:
    bundle = trial.the_bundle()
    manifest = read_manifest(trial.folder)
    trial.manifest = manifest
    trial.manifest_sha256 = hashlib.sha256(bundle.read(MANIFEST)).hexdigest()
    for word in (manifest.name, manifest.version):
        if not is_plain(word):
            raise InvalidInput(f"{word[:100]!r} is not a model name or version", MANIFEST)
    if trial.facts.name not in ("", manifest.name):
        raise InvalidInput(
            f"is of {manifest.name!r}, and was sent as {trial.facts.name!r}", MANIFEST
        )
    check_features(manifest, Path(MANIFEST))
    check_ref(manifest, ModelRef(manifest.name, manifest.version, ""))
    return [Gate("manifest", "passed", note=f"{manifest.name} {manifest.version}"), _hashes(trial)]


def _hashes(trial: Trial) -> Gate:
    """Hold every file that the manifest speaks of against its hash."""
    bundle, manifest = trial.the_bundle(), trial.the_manifest()
    for name, expected in (
        (MODEL, manifest.sha256),
        (GOLDEN, manifest.golden_sha256),
        (EVALUATION, manifest.evaluation_sha256),
    ):
        if bundle.has(name) and not expected:
            return failed("hashes", f"{name}: the manifest does not name its SHA-256")
        if expected and not bundle.has(name):
            return failed("hashes", f"{name}: is missing, and the manifest names it")
        if expected and (found := _digest(trial.folder / name)) != expected:
            return failed("hashes", f"{name}: its SHA-256 is {found}, not {expected[:64]}")
    return Gate("hashes", "passed")


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _signature(trial: Trial) -> list[Gate]:
    bundle = trial.the_bundle()
    if not bundle.has(SIGNATURE):
        why = "the bundle has no signature.json (rta models sign)"
        if not trial.rules.allow_unsigned:
            raise ModelRefused(why)
        return [skipped("signature", f"{why}; RTA_ALLOW_UNSIGNED_MODELS is set")]
    key = verify(bundle.read(MANIFEST), bundle.read(SIGNATURE), trial.rules.trusted)
    trial.signed_by = key.name
    return [Gate("signature", "passed", note=f"key of {key.name}")]


def _version(trial: Trial) -> list[Gate]:
    """A version's content never changes; the same content again needs no second judgement."""
    manifest, folder = trial.the_manifest(), trial.shelf.models_folder
    entry = find_entry(folder, manifest.name, manifest.version)
    if entry is None:
        return [Gate("version", "passed", note="new")]
    if entry.manifest_sha256 != trial.manifest_sha256:
        kept = manifest_of(folder, entry)
        if _content(kept) != _content(manifest):
            raise InvalidInput(
                "exists with another content; versions are never changed: train under a new version",
                f"{manifest.name} {manifest.version}",
            )
        trial.manifest = kept
    for verdict in read_verdicts(folder, manifest.name, manifest.version):
        if verdict.accepted and verdict.ref == entry.ref:
            trial.known, trial.ref = verdict, entry.ref
            return [Gate("version", "passed", note=f"known since verdict {verdict.upload_id}")]
    return [Gate("version", "passed", note="known, but never judged here")]


def _content(manifest: ModelManifest) -> ModelManifest:
    """Leave out when it was written: the same training run again gives the same version."""
    return msgspec.structs.replace(manifest, created_at_ms=0)


def _structure(trial: Trial) -> list[Gate]:
    """Read the text into arrays; from here on, only they count."""
    manifest = trial.the_manifest()
    forest = parse_forest(trial.the_bundle().read(MODEL), MODEL)
    data = encode_model(manifest, forest)
    ref = ModelRef(manifest.name, manifest.version, hashlib.sha256(data).hexdigest())
    path = object_path(trial.folder, ref.sha256)
    path.parent.mkdir()
    path.write_bytes(data)
    trial.forest, trial.ref = forest, ref
    note = f"{forest.trees:,} trees, {len(forest.leaf_value):,} leaves"
    return [Gate("structure", "passed", note=note)]


def _scores(trial: Trial) -> list[Gate]:
    """Let LightGBM read the upload's text and ours, in a process that may die of it."""
    _, ref = trial.candidate()
    asked = {"candidate": words_of(trial.folder, ref)}
    found = trial.process.call(COMPARE_SCORES, asked, trial.rules.call_seconds)
    different, rows = int(found["different"]), int(found["rows"])
    note = f"rows of {rows} whose raw scores differ between the upload's text, ours and the arrays"
    outcome: Final = "failed" if different else "passed"
    return [Gate("scores", outcome, float(different), "0", note)]


def _golden(trial: Trial) -> list[Gate]:
    forest, _ = trial.candidate()
    golden = read_golden(trial.folder / GOLDEN)
    least = trial.rules.gates.min_coverage
    return golden_gates(golden, forest, trial.the_manifest().calibration, least)


def _drift(trial: Trial) -> list[Gate]:
    _, ref = trial.candidate()
    trial.live = _live(trial.shelf, ref)
    live = trial.live_words()
    if live is None:
        return [skipped(name, "no other model of this name is live") for name in DRIFT_GATES]
    run_dir = trial.rules.run_dir
    sample = read_sample(run_dir, TRAFFIC_ROWS) if run_dir and run_dir.is_dir() else None
    if sample is None or not len(sample):
        why = "the workers of this host have no sample of recent traffic"
        return [skipped(name, why) for name in DRIFT_GATES]
    np.save(trial.folder / TRAFFIC, matrix(sample.rows), allow_pickle=False)
    asked = {"candidate": words_of(trial.folder, ref), "live": live}
    found = trial.process.call(COMPARE_TRAFFIC, asked, trial.rules.call_seconds)
    return drift_gates(msgspec.convert(found, Drift), trial.rules.gates)


def _live(shelf: Shelf, ref: ModelRef) -> ModelRef | None:
    release = shelf.releases.current()
    named = [live for live in (release.models if release else ()) if live.name == ref.name]
    return named[0] if named and named[0] != ref else None


def _evaluation(trial: Trial) -> list[Gate]:
    names = evaluation_names(trial.manifest)
    if not trial.the_bundle().has(EVALUATION):
        why = f"the bundle has no {EVALUATION}, so nothing can be measured"
        if not trial.rules.gates.allow_unjudged:
            raise ModelRefused(why)
        return [skipped(name, why) for name in names]
    asked = {
        "candidate": words_of(trial.folder, trial.candidate()[1]),
        "live": trial.live_words(),
        "rules": msgspec.to_builtins(trial.rules.gates),
    }
    found = trial.process.call(JUDGE_EVALUATION, asked, trial.rules.call_seconds)
    return msgspec.convert(found["gates"], list[Gate])


def _store(trial: Trial) -> list[Gate]:
    """Make the version exist: the one step that others can see."""
    forest, _ = trial.candidate()
    facts = EntryFacts(trial.facts.at_ms, trial.facts.by, trial.manifest_sha256, trial.upload_id)
    files = {name: trial.folder / name for name in trial.the_bundle().sizes}
    entry = put_model(trial.shelf.models_folder, trial.the_manifest(), forest, facts, files)
    trial.stored = entry.verdict_id == trial.upload_id
    return [Gate("store", "passed", note=entry.ref.sha256 if trial.stored else "was there before")]


def evaluation_names(manifest: ModelManifest | None) -> tuple[str, ...]:
    """Name the gates of an evaluation, which depend on what kind of model it is."""
    value = manifest is not None and manifest.kind == "value"
    return (*(VALUE_GATES if value else PROBABILITY_GATES), CLAIMS)


STAGES: Final = (
    Stage("bundle", ("bundle",), _bundle),
    Stage("manifest", ("manifest", "hashes"), _manifest),
    Stage("signature", ("signature",), _signature),
    Stage("version", ("version",), _version),
    Stage("structure", ("structure",), _structure),
    Stage("scores", ("scores",), _scores),
    Stage("golden", GOLDEN_GATES, _golden),
    Stage("drift", DRIFT_GATES, _drift),
    Stage("evaluation", (), _evaluation),
    Stage("store", ("store",), _store),
)
"""The evaluation's gates are named by `evaluation_names`."""
