"""`rta profiles`: build user records from events, publish them, look one up."""

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from rta_service import wiring
from rta_service.cli.app import app, counting, progress, stderr, stdout
from rta_service.cli.options import (
    AsJson,
    AsOf,
    Columns,
    DataDir,
    RedisUrl,
    Why,
    existing,
    now_ms,
    settings_of,
    who,
)
from rta_service.cli.release import print_json, report_change
from rta_service.device_key import canonical_md5
from rta_service.domain.device import IdForm, IdKind
from rta_service.domain.errors import InvalidInput
from rta_service.domain.release import SnapshotManifest
from rta_service.domain.thresholds import DAY_S
from rta_service.domain.user import ValueTier
from rta_service.online.explain import describe_record
from rta_service.record import stage_at, unpack
from rta_service.record_delta import apply_deltas
from rta_service.releasing.publishing import Change, publish as publish_release
from rta_service.releasing.shelf import snapshot_of
from rta_service.snapshot_folder import read_manifest
from rta_service.stores.delta_store import DeltaStore, days_between
from rta_service.stores.snapshots import LoadOptions, find_record, load_snapshot

profiles_app = typer.Typer(help="User records: who a device is.", no_args_is_help=True)
app.add_typer(profiles_app, name="profiles")


@profiles_app.command()
def build(
    events: Annotated[
        list[Path],
        typer.Argument(
            help="Log: Parquet, CSV or JSON lines, a folder of them, or the archive of accepted "
            "events; several make one log."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder to write the snapshot into.")],
    columns: Columns = None,
    as_of: AsOf = None,
    max_bad_share: Annotated[
        float, typer.Option(min=0, max=1, help="Above this share of bad rows nothing is written.")
    ] = 0.01,
    keep_thresholds: Annotated[
        Path | None, typer.Option(help="Snapshot whose thresholds serve if this log has none.")
    ] = None,
    allow_inverted: Annotated[
        bool, typer.Option(help="Accept a silent threshold that is not below the churned one.")
    ] = False,
    data: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Build a snapshot of user records from a log of behaviour events."""
    from rta_service import wiring_events
    from rta_service.offline.audience.build import BuildOptions, build_profiles

    settings = settings_of(data, None)
    keys = wiring.key_ring(settings)
    options = BuildOptions(
        columns=columns,
        as_of=date_of(as_of),
        max_bad_share=max_bad_share,
        keep_thresholds=keep_thresholds,
        allow_inverted=allow_inverted,
        sealer=wiring_events.sealer(settings),
    )
    with progress(quiet=as_json) as bars:
        report = build_profiles(events, out, options, keys, now_ms(), bars)
    document = report.to_json()
    if as_json:
        print_json(document)
        return
    show_build(document)
    stdout.print(f"wrote {out}; next: rta profiles publish {out}", markup=False, soft_wrap=True)


@profiles_app.command()
def publish(
    folder: Annotated[Path, typer.Argument(help="A folder that `rta profiles build` wrote.")],
    data: DataDir = None,
    redis_url: RedisUrl = None,
    why: Why = "",
    as_json: AsJson = False,
) -> None:
    """Load a snapshot into the store, verify it, and let it decide."""
    settings = settings_of(data, redis_url)
    _warn_of_tomorrow(read_manifest(folder))
    options = LoadOptions(ttl_s=round(settings.snapshot_ttl_days * DAY_S))
    with wiring.open_shelf(settings) as shelf, progress(quiet=as_json) as bars:
        bar = counting(bars, "loading records")
        manifest = load_snapshot(shelf.client, shelf.namespace, folder, options, bar)
        stderr.print(
            f"snapshot {manifest.snapshot_id}: {manifest.devices:,} devices loaded and verified",
            highlight=False,
        )
        note = f"snapshot {manifest.snapshot_id}"
        change = Change(snapshot_id=manifest.snapshot_id, note=note, who=who(), why=why)
        outcome = publish_release(shelf, change, now_ms())
    report_change(outcome, as_json=as_json)


@profiles_app.command()
def show(
    device_id: Annotated[str, typer.Argument(metavar="ID", help="A device id, raw or as MD5.")],
    kind: Annotated[IdKind | None, typer.Option(help="What kind of id it is.")] = None,
    form: Annotated[IdForm | None, typer.Option(help="Guessed from its looks if left out.")] = None,
    data: DataDir = None,
    redis_url: RedisUrl = None,
    as_json: AsJson = False,
) -> None:
    """Show who a device is now: on the snapshot that decides, with what happened since."""
    settings = existing(settings_of(data, redis_url))
    md5 = canonical_md5(kind, device_id, form)
    if md5 is None:
        raise InvalidInput("stands for no device: empty, all zeros or a malformed MD5", "ID")
    key = wiring.key_ring(settings).device_key(md5)
    now_s = now_ms() // 1000
    with wiring.open_shelf(settings) as shelf:
        current = shelf.releases.current()
        snapshot_id = (current or shelf.releases.staged()).snapshot_id
        if not snapshot_id:
            raise InvalidInput(f"no snapshot was published yet ({settings.place})", "profiles")
        manifest = snapshot_of(shelf, snapshot_id)
        found = find_record(shelf.client, shelf.namespace, manifest, key)
        days = days_between(manifest.as_of_s, now_s)
        deltas = DeltaStore(shelf.client, shelf.namespace).find(key, days)
    if deltas:
        found = apply_deltas(found, deltas)
    if found is None:
        raise InvalidInput(
            f"unknown to snapshot {snapshot_id}. 32 hex digits are taken for an MD5, anything "
            "else as raw; say otherwise with --kind and --form",
            f"device {key.hex()}",
        )
    record = unpack(found)
    described: dict[str, Any] = {
        "device": key.hex(),
        "snapshot": snapshot_id,
        "days_of_newer_events": len(deltas),
        "stage": stage_at(record, now_s, manifest.thresholds).label,
        "stage_as_of_snapshot": stage_at(record, manifest.as_of_s, manifest.thresholds).label,
        "tier": ValueTier(record.tier).label,
        **describe_record(record, now_s),
    }
    if as_json:
        print_json(described)
        return
    table = Table("field", "value")
    for name, value in described.items():
        table.add_row(name, "never" if value is None else str(value))
    stdout.print(table)


def _warn_of_tomorrow(manifest: SnapshotManifest) -> None:
    """Warn of a snapshot that claims to know what has not happened yet."""
    if manifest.as_of_s <= now_ms() // 1000:
        return
    day = datetime.fromtimestamp(manifest.as_of_s, UTC).date()
    stderr.print(
        f"warning: {manifest.snapshot_id} is as of {day} 00:00 UTC, which is still to come: until "
        "then, events of today that it holds may count twice. Build without --as-of to end with "
        "yesterday",
        markup=False,
        style="yellow",
        soft_wrap=True,
    )


def date_of(text: str | None) -> date | None:
    """Read a --as-of date; raises InvalidInput naming the option."""
    if text is None:
        return None
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise InvalidInput(f"{text!r} is no date; write 2026-01-31", "--as-of") from error


def show_build(document: dict[str, Any]) -> None:
    """Print a build's report as tables."""
    cuts = Table("threshold", "value", title=f"snapshot {document['snapshot_id']}")
    for name, value in document["thresholds"].items():
        cuts.add_row(name, f"{value:g}" if isinstance(value, int) else f"{value:,.2f}")
    stdout.print(cuts)
    devices = document["devices"]
    people = Table("group", "", "devices", "share", title=f"{devices:,} devices")
    for group in ("stages", "tiers", "segments"):
        for word, count in document[group].items():
            people.add_row(group, word, f"{count:,}", f"{count / devices:.1%}")
    stdout.print(people)
    rows = Table("rows", "rule", "count", title=f"{document['events']:,} rows read")
    for group in ("skipped", "rejected"):
        for rule, count in document[group].items():
            rows.add_row(group, rule, f"{count:,}")
    if rows.row_count:
        stdout.print(rows)
    for warning in document["warnings"]:
        stdout.print(f"warning: {warning}", markup=False, style="yellow")
