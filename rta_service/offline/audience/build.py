"""From a behaviour log to a snapshot folder: clean, features, thresholds, labels, records."""

import hashlib
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray
from rich.progress import Progress

from rta_service.device_key import KEY_BYTES, KeyRing
from rta_service.domain.errors import InvalidInput
from rta_service.domain.release import SnapshotManifest
from rta_service.domain.sealing import Sealer
from rta_service.domain.thresholds import DAY_S, Thresholds
from rta_service.offline import engine
from rta_service.offline.audience import labels
from rta_service.offline.audience.report import BuildReport
from rta_service.offline.events import MAX_BAD_SHARE, CleanLog, LogOptions, clean_log
from rta_service.offline.history import record_columns, to_records
from rta_service.offline.log_inputs import Sources
from rta_service.offline.thresholds import check_order, find_thresholds
from rta_service.offline.tiers import tier_codes
from rta_service.record import RECORD_VERSION, Records
from rta_service.snapshot_folder import (
    MANIFEST,
    Keys,
    bucket_bits_for,
    read_manifest,
    write_arrays,
    write_manifest,
)

REPORT: Final = "report.json"
_STEPS: Final = 5
_LEAST_DAYS: Final = 28
"""Records count active days within as many."""


@dataclass(frozen=True, slots=True)
class BuildOptions:
    """How to build a snapshot."""

    columns: Path | None = None
    as_of: date | None = None
    max_bad_share: float = MAX_BAD_SHARE
    keep_thresholds: Path | None = None
    """A previous snapshot folder whose thresholds serve when this log yields none that are sane."""
    allow_inverted: bool = False
    """Accept silent >= churned from a log that has launches of its own."""
    sealer: Sealer | None = None
    """Unseals an archive of accepted events, where that is the log."""


@dataclass(frozen=True, slots=True)
class _People:
    """One row per person, ordered by person_id; and the devices that point to them."""

    columns: dict[str, NDArray[np.int64]]
    identities: list[str]
    md5s: list[str]
    person_of_device: NDArray[np.int64]


def build_profiles(  # noqa: PLR0913, PLR0917 - sources, target, choices, secrets, time and display: six inputs
    sources: Sources,
    out: Path,
    options: BuildOptions,
    keys: KeyRing,
    now_ms: int,
    progress: Progress | None = None,
) -> BuildReport:
    """Build the snapshot of a log, of one input or several, into a folder, with report.json beside it.

    Raises InvalidInput, having written nothing, when the log can't be used or no sane thresholds
    follow from it.
    """
    step = _steps(progress)
    reading = LogOptions(
        options.columns, options.as_of, options.max_bad_share, now_ms, options.sealer
    )
    with closing(clean_log(sources, reading)) as log:
        step("features")
        facts = _facts(log)
        features = _features(log, facts)
        step("thresholds")
        thresholds, warnings = _thresholds(log, facts, features, options)
        step("records")
        people = _fetch_people(log, features)
        records = _person_records(people, keys, log.as_of_s, thresholds)
        device_keys, device_records = _by_device(people, records, keys)
        step("writing")
        hashes = write_arrays(out, device_keys, device_records)
        manifest = SnapshotManifest(
            snapshot_id=_snapshot_id(log.as_of_s, "".join(hashes)),
            record_version=RECORD_VERSION,
            as_of_s=log.as_of_s,
            built_at_ms=now_ms,
            devices=len(device_keys),
            persons=len(people.identities),
            bucket_bits=bucket_bits_for(len(device_keys)),
            thresholds=thresholds,
            stages=labels.stage_counts(device_records, log.as_of_s, thresholds),
            segments=labels.segment_counts(device_records),
            tiers=labels.tier_counts(device_records),
            pepper_id=keys.pepper_id,
            keys_sha256=hashes[0],
            records_sha256=hashes[1],
        )
        warnings += _short_warning(facts)
        warnings += labels.stale_warning(device_records, log.as_of_s, now_ms // 1000, thresholds)
        report = _report(log, manifest, warnings)
        write_manifest(out, manifest)
        (out / REPORT).write_bytes(msgspec.json.format(msgspec.json.encode(report.to_json())))
        step("done")
    return report


def _steps(progress: Progress | None) -> Any:
    """Make the function that moves the progress bar on to a named step."""
    if progress is None:
        return lambda _name: None
    task = progress.add_task("reading the log", total=_STEPS)
    return lambda name: progress.update(task, advance=1, description=name)


def _facts(log: CleanLog) -> Any:
    """Give facts with person_id, joined once since five scans follow."""
    devices = log.devices.select("device", "person_id")
    names = ("person_id", "ts_s", "event", "cents", "order_id", "category", "category_code")
    joined = log.facts.inner_join(devices, "device")
    if log.is_per_id:  # a person who has several of an event's ids did it once
        named = joined.filter(joined.event_id.notnull())
        named = named.distinct(on=["person_id", "event_id", "ts_s", "event"], keep="first")
        joined = named.union(joined.filter(joined.event_id.isnull()))
    return engine.materialise(log.con, "person_facts", joined.select(*names))


def _features(log: CleanLog, facts: Any) -> Any:
    """Stage one of three, computed once: the history of each person as of the snapshot."""
    events = facts.mutate(subject=facts.person_id, as_of_s=log.as_of_s)
    return engine.materialise(log.con, "features", record_columns(events))


def _thresholds(
    log: CleanLog, facts: Any, features: Any, options: BuildOptions
) -> tuple[Thresholds, tuple[str, ...]]:
    """Stage two of three: the cuts, or those of an earlier snapshot when the guards refuse."""
    try:
        thresholds = find_thresholds(facts, features, log.as_of_s)
        return thresholds, _ordered(thresholds, log, options)
    except InvalidInput as error:
        if options.keep_thresholds is None:
            raise
        kept = read_manifest(_folder(options.keep_thresholds))
        return kept.thresholds, (f"kept the thresholds of {kept.snapshot_id}: {error}",)


def _ordered(thresholds: Thresholds, log: CleanLog, options: BuildOptions) -> tuple[str, ...]:
    try:
        warning = check_order(thresholds, log.launch_events)
    except InvalidInput as error:
        if not options.allow_inverted:
            raise
        warning = str(error)
    return () if warning is None else (warning,)


def _short_warning(facts: Any) -> tuple[str, ...]:
    """Say what a log of few days means: idle times longer than itself can't be found in it."""
    [found] = engine.fetch(facts.agg(first_s=facts.ts_s.min(), last_s=facts.ts_s.max()))
    days = found["last_s"] // DAY_S - found["first_s"] // DAY_S + 1
    if days >= _LEAST_DAYS:
        return ()
    return (
        (
            f"the log covers {days} {'day' if days == 1 else 'days'}, fewer than {_LEAST_DAYS}: idle"
            " times found in it are too short, so that soon nearly everybody counts as churned, and"
            " nobody is known for what they did before. Add the older log as a further input: rta"
            " profiles build OLDER THIS --out DIR"
        ),
    )


def _folder(path: Path) -> Path:
    return path.parent if path.name == MANIFEST else path


def _fetch_people(log: CleanLog, features: Any) -> _People:
    table = features.order_by("subject").to_pyarrow()
    devices = log.devices.order_by("device").to_pyarrow()
    people = log.devices.select("person_id", "person").distinct().order_by("person_id")
    return _People(
        columns={name: table[name].to_numpy() for name in table.column_names},
        identities=people.to_pyarrow()["person"].to_pylist(),
        md5s=devices["device_md5"].to_pylist(),
        person_of_device=devices["person_id"].to_numpy(),
    )


def _person_records(
    people: _People, keys: KeyRing, as_of_s: int, thresholds: Thresholds
) -> Records:
    """Stage three of three: labels, packed; one record per person."""
    person_keys = np.fromiter(
        (_person_key(keys, identity) for identity in people.identities),
        dtype=np.uint64,
        count=len(people.identities),
    )
    return to_records(
        people.columns,
        person_key=person_keys,
        tier=tier_codes(people.columns, thresholds),
        segment=labels.segment_codes(people.columns, as_of_s, thresholds),
    )


def _person_key(keys: KeyRing, identity: str) -> int:
    kind, _, value = identity.partition(":")
    return keys.person_key(value, "") if kind == "u" else keys.person_key(None, value)


def _by_device(people: _People, records: Records, keys: KeyRing) -> tuple[Keys, Records]:
    """Write each person's record under all their device keys, sorted by key."""
    joined = b"".join(keys.device_key(md5) for md5 in people.md5s)
    device_keys = np.frombuffer(joined, dtype=f"V{KEY_BYTES}")
    # keys compare as big-endian numbers, which numpy sorts and void bytes it does not
    order = np.argsort(device_keys.view(">u8"), kind="stable")
    return device_keys[order], records[people.person_of_device[order]]


def _snapshot_id(as_of_s: int, hashes: str) -> str:
    """Name a snapshot by its day and by its content: keys too, since a pepper changes them."""
    digest = hashlib.sha256(hashes.encode()).hexdigest()
    return f"s{datetime.fromtimestamp(as_of_s, UTC):%Y%m%d}-{digest[:8]}"


def _report(log: CleanLog, manifest: SnapshotManifest, warnings: tuple[str, ...]) -> BuildReport:
    return BuildReport(
        manifest=manifest,
        events=log.rows,
        skipped=log.skipped,
        rejected=log.rejected,
        samples=log.samples,
        warnings=(*log.warnings, *warnings),
    )
