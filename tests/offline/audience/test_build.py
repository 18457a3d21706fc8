"""The whole way from a log to a snapshot, against an independent twin in pandas."""

import hashlib
import json
from collections.abc import Callable, Sequence
from datetime import date
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
import pytest
from rich.progress import Progress

from rta_service.device_key import KeyRing
from rta_service.domain.errors import InvalidInput
from rta_service.domain.user import LifecycleStage, RFMSegment, Role, ValueTier
from rta_service.offline.audience.build import BuildOptions, build_profiles
from rta_service.offline.audience.report import BuildReport
from rta_service.record import UserRecord, money_cents, stage_at, unpack
from rta_service.snapshot_folder import read_arrays, read_manifest

DAY = 86_400
AS_OF_S = 1_735_689_600
AS_OF = date(2025, 1, 1)

Rows = list[dict[str, Any]]
Build = Callable[..., BuildReport]
KeyOf = Callable[[str], bytes]


class Built(Protocol):
    """What the fixture of this name gives: the planted log and its snapshot, built once."""

    rows: Rows
    report: BuildReport
    folder: Path


def records_of(folder: Path) -> dict[bytes, UserRecord]:
    keys, records = read_arrays(folder, read_manifest(folder))
    return {
        key.tobytes(): unpack(record.tobytes()) for key, record in zip(keys, records, strict=True)
    }


def event(device: str, days_ago: float, word: str, **more: Any) -> dict[str, Any]:
    return {
        "device_id": device,
        "ts_ms": round((AS_OF_S - days_ago * DAY) * 1000),
        "event": word,
        **more,
    }


def a_small_log() -> Rows:
    """Two payers and a visitor; silent 5 days, churned 10 days."""
    return [
        event("a", 40, "launch", cents=None, order_id=None),
        event("a", 30, "launch"),
        event("a", 25, "pay", cents=1000, order_id="o1"),
        event("a", 20, "launch"),
        event("b", 12, "pay", cents=300, order_id="o2"),
        event("b", 7, "launch"),
        event("c", 3, "launch"),
    ]


def nearest_rank(values: Sequence[float]) -> float:
    return sorted(values)[int(np.ceil(len(values) * 4 / 5)) - 1]


def twin(rows: Rows) -> tuple[dict[str, float], dict[str, tuple[str, str]]]:
    """Compute thresholds, and stage and segment of each device, another way."""
    log = pd.DataFrame(rows)
    log["ts"] = log["ts_ms"] // 1000
    signed = log[log["user_id"].notna()].sort_values("ts").groupby("device_id")["user_id"].last()
    log["person"] = log["device_id"].map(signed).fillna(log["device_id"])
    silent: list[float] = []
    churned: list[float] = []
    payers: dict[str, tuple[float, float, float]] = {}
    idle: dict[str, float] = {}
    for person, own in log.groupby("person"):
        launches = sorted(set(own.loc[own["event"] == "launch", "ts"]))
        idle[person] = AS_OF_S - launches[-1]
        churned += [b - a for a, b in pairwise(launches)]
        pays = own[own["event"] == "pay"]
        for paid in pays.groupby("order_id")["ts"].min():
            silent += [at - paid for at in launches if at > paid][:1]
        if len(pays):
            money = pays["cents"].sum() - own.loc[own["event"] == "refund", "cents"].sum()
            payers[person] = (AS_OF_S - pays["ts"].max(), pays["order_id"].nunique(), money)
    recency, orders, money = zip(*payers.values(), strict=True)
    cuts = {
        "silent_days": nearest_rank(silent) / DAY,
        "churned_days": nearest_rank(churned) / DAY,
        "recency_days": nearest_rank(recency) / DAY,
        "frequency": nearest_rank(orders),
        "monetary": nearest_rank(money) / 100,
    }
    people = log.drop_duplicates("device_id").set_index("device_id")["person"]
    return cuts, {
        device: (
            twin_stage(cuts, idle[person], payers.get(person)),
            twin_segment(cuts, payers.get(person)),
        )
        for device, person in people.items()
    }


def twin_stage(
    cuts: dict[str, float], idle: float, payer: tuple[float, float, float] | None
) -> str:
    orders = payer[1] if payer else 0
    if idle > cuts["churned_days"] * DAY:
        return "churned"
    if orders and idle > cuts["silent_days"] * DAY:
        return "silent"
    return ("introduction", "growth", "maturity")[int(min(orders, 2))]


def twin_segment(cuts: dict[str, float], payer: tuple[float, float, float] | None) -> str:
    if payer is None:
        return "none"
    names = {
        (True, True): "value",
        (True, False): "develop",
        (False, True): "keep",
        (False, False): "win_back",
    }
    kind = names[payer[0] <= cuts["recency_days"] * DAY, payer[1] >= cuts["frequency"]]
    return f"{'important' if payer[2] >= cuts['monetary'] * 100 else 'general'}_{kind}"


def test_finds_the_thresholds_that_were_planted(built: Built) -> None:
    assert built.report.to_json()["thresholds"] == {
        "silent_days": 18,
        "churned_days": 27,
        "recency_days": 18,
        "frequency": 3,
        "monetary": 2500,
    }


def test_every_device_is_labelled_as_by_an_independent_twin(built: Built, key_of: KeyOf) -> None:
    report, records = built.report, records_of(built.folder)

    cuts, expected = twin(built.rows)

    thresholds = report.manifest.thresholds
    labels = {
        device: (
            stage_at(records[key_of(device)], AS_OF_S, thresholds).label,
            RFMSegment(records[key_of(device)].segment).label,
        )
        for device in expected
    }
    assert report.to_json()["thresholds"] == cuts
    assert len(records) == len(expected) == report.manifest.devices
    assert labels == expected


def test_the_report_counts_what_the_records_say(built: Built) -> None:
    report = built.report.to_json()

    _, expected = twin(built.rows)
    stages = [stage for stage, _ in expected.values()]
    segments = [segment for _, segment in expected.values()]
    assert report["stages"] == {
        stage.label: stages.count(stage.label) for stage in LifecycleStage if stage.value < 5
    }
    assert report["segments"] == {
        segment.label: segments.count(segment.label)
        for segment in RFMSegment
        if segment is not RFMSegment.NONE
    }
    assert sum(report["tiers"].values()) == report["devices"]
    assert report["persons"] == 400


@pytest.mark.parametrize("name", ["log.csv", "log.jsonl"])
def test_other_formats_give_the_same_snapshot(
    build: Build, built: Built, write_log: Callable[..., Path], name: str
) -> None:
    other = build(write_log(built.rows, name), BuildOptions(as_of=AS_OF))

    assert other.manifest == built.report.manifest
    assert other.to_json() == built.report.to_json()


def test_neither_order_nor_files_matter(
    build: Build, built: Built, write_log: Callable[..., Path], tmp_path: Path
) -> None:
    (tmp_path / "parts" / "dt=1").mkdir(parents=True)
    backwards = built.rows[::-1]

    write_log(backwards[:1000], "parts/dt=1/one.parquet")
    write_log(backwards[1000:], "parts/two.parquet")
    parts = build(tmp_path / "parts", BuildOptions(as_of=AS_OF))

    assert parts.manifest == built.report.manifest


def test_events_from_the_as_of_day_on_change_nothing_but_their_count(
    build: Build, built: Built
) -> None:
    late = [event("device-0-0", 0, "pay", order_id="late", cents=99), event("new", -3, "launch")]

    after = build(built.rows + late, BuildOptions(as_of=AS_OF))

    assert after.manifest == built.report.manifest
    assert after.skipped == {"after_as_of": 2}


def test_as_of_defaults_to_the_day_after_the_last_event(build: Build) -> None:
    report = build(a_small_log())

    assert report.to_json()["as_of"] == "2024-12-30"


def test_a_persons_devices_share_one_record(build: Build, key_of: KeyOf, tmp_path: Path) -> None:
    rows = a_small_log()
    rows[3]["user_id"] = rows[5]["user_id"] = "u1"

    report = build(rows, BuildOptions(as_of=AS_OF))

    records = records_of(tmp_path / "snapshot")
    assert records[key_of("a")] == records[key_of("b")]
    assert records[key_of("a")].orders == 2
    assert (report.manifest.devices, report.manifest.persons) == (3, 2)


def test_a_device_belongs_to_the_last_user_it_named(
    build: Build, key_of: KeyOf, keys: KeyRing, tmp_path: Path
) -> None:
    rows = a_small_log()
    rows[0]["user_id"], rows[1]["user_id"] = "first", "second"

    build(rows, BuildOptions(as_of=AS_OF))

    record = records_of(tmp_path / "snapshot")[key_of("a")]
    assert record.person_key == keys.person_key("second", "")
    assert record.launches == 3


def test_refunds_take_money_back_but_no_order(build: Build, key_of: KeyOf, tmp_path: Path) -> None:
    rows = [*a_small_log(), event("a", 2, "refund", cents=400, order_id="o1")]

    build(rows, BuildOptions(as_of=AS_OF))

    record = records_of(tmp_path / "snapshot")[key_of("a")]
    assert money_cents(record.money_code) == pytest.approx(600, rel=0.006)
    assert record.orders == 1


def test_someone_with_only_refunds_never_paid(build: Build, key_of: KeyOf, tmp_path: Path) -> None:
    rows = [*a_small_log(), event("d", 2, "refund", cents=400)]

    build(rows, BuildOptions(as_of=AS_OF))

    record = records_of(tmp_path / "snapshot")[key_of("d")]
    assert (record.orders, record.last_pay_at, record.traded_at, record.money_code) == (0, 0, 0, 0)
    assert record.segment == RFMSegment.NONE
    assert record.tier == ValueTier.D


def test_sellers_and_those_who_opted_out_are_told_apart(
    build: Build, key_of: KeyOf, tmp_path: Path
) -> None:
    rows = a_small_log()
    rows += [event("shop", 1 + n / 10, "publish") for n in range(20)]
    rows += [event("private", 1, "publish"), event("private", 1, "sold", cents=700)]
    rows += [event("a", 1, "opt_out")]

    build(rows, BuildOptions(as_of=AS_OF))

    records = records_of(tmp_path / "snapshot")
    told = {name: records[key_of(name)] for name in ("shop", "private", "a")}
    assert {name: (Role(r.role), ValueTier(r.tier)) for name, r in told.items()} == {
        "shop": (Role.PROFESSIONAL_SELLER, ValueTier.X),
        "private": (Role.PRIVATE_SELLER, ValueTier.C),
        "a": (Role.BUYER, ValueTier.X),
    }


def test_nothing_is_written_when_too_many_rows_are_wrong(build: Build, tmp_path: Path) -> None:
    rows = [*a_small_log(), event("a", 1, "dance")]

    with pytest.raises(InvalidInput, match=r"1 of 8 rows \(12\.5%\).*unknown_event 1 .*'dance'"):
        build(rows, BuildOptions(as_of=AS_OF))

    assert not (tmp_path / "snapshot").exists()


def test_wrong_rows_are_reported_when_they_are_few(build: Build) -> None:
    rows = [*a_small_log(), event("a", 1, "dance")]

    report = build(rows, BuildOptions(as_of=AS_OF, max_bad_share=0.2)).to_json()

    assert report["rejected"] == {"unknown_event": 1}
    assert report["samples"] == {"unknown_event": [{"row": 8, "value": "dance"}]}
    assert report["events"] == 8


@pytest.mark.parametrize(
    ("dropped", "message"),
    [("pay", "no payments.*--columns"), ("launch", "launch_events")],
)
def test_a_log_that_gives_no_thresholds_is_refused_with_advice(
    build: Build, tmp_path: Path, dropped: str, message: str
) -> None:
    rows = [row for row in a_small_log() if row["event"] != dropped]

    with pytest.raises(InvalidInput, match=message):
        build(rows, BuildOptions(as_of=AS_OF))

    assert not (tmp_path / "snapshot").exists()


def test_earlier_thresholds_serve_when_a_log_gives_none(build: Build, tmp_path: Path) -> None:
    earlier = build(a_small_log(), BuildOptions(as_of=AS_OF))
    rows = [row for row in a_small_log() if row["event"] != "pay"]

    kept = build(
        rows, BuildOptions(as_of=AS_OF, keep_thresholds=tmp_path / "snapshot"), out="later"
    )

    assert kept.manifest.thresholds == earlier.manifest.thresholds
    assert kept.warnings[0].startswith(f"kept the thresholds of {earlier.manifest.snapshot_id}")


def test_silent_beyond_churned_is_refused_unless_allowed(build: Build) -> None:
    rows = [row for row in a_small_log() if row["device_id"] == "a"]
    rows += [event("c", 10 + n / 10, "launch") for n in range(20)]

    with pytest.raises(InvalidInput, match="nobody would be silent"):
        build(rows, BuildOptions(as_of=AS_OF))
    allowed = build(rows, BuildOptions(as_of=AS_OF, allow_inverted=True))

    assert "nobody would be silent" in allowed.warnings[0]
    assert allowed.manifest.stages["silent"] == 0


def test_a_log_of_payments_alone_warns_that_silent_means_little(
    build: Build, tmp_path: Path
) -> None:
    mapping = tmp_path / "map.toml"
    mapping.write_text('[rules]\nlaunch_events = ["pay"]\n')
    rows = [event("a", days, "pay", cents=100, order_id=f"o{days}") for days in (30, 20, 11, 3)]

    report = build(rows, BuildOptions(columns=mapping, as_of=AS_OF))

    assert "payments count as launches" in report.warnings[0]
    assert report.to_json()["thresholds"]["churned_days"] == 10


def test_the_folder_tells_the_same_as_the_report(build: Build, tmp_path: Path) -> None:
    report = build(a_small_log(), BuildOptions(as_of=AS_OF))

    manifest = read_manifest(tmp_path / "snapshot")
    keys, _ = read_arrays(tmp_path / "snapshot", manifest)
    written = json.loads((tmp_path / "snapshot" / "report.json").read_bytes())
    assert manifest == report.manifest
    content = manifest.keys_sha256 + manifest.records_sha256
    digest = hashlib.sha256(content.encode()).hexdigest()
    assert manifest.snapshot_id == f"s20250101-{digest[:8]}"
    assert written == report.to_json()
    assert [key.tobytes() for key in keys] == sorted(key.tobytes() for key in keys)


@pytest.mark.parametrize(("days", "told"), [(1, "1 day,"), (27, "27 days,"), (28, None)])
def test_a_log_of_few_days_is_warned_of_with_what_to_do(
    build: Build, days: int, told: str | None
) -> None:
    rows = [
        event("a", days - 0.01, "launch", cents=None, order_id=None),
        event("a", 0.9, "pay", cents=5, order_id="o1"),
        event("a", 0.1, "launch"),
    ]

    report = build(rows, BuildOptions(as_of=AS_OF, allow_inverted=True))

    short = [one for one in report.warnings if "fewer than 28" in one]
    assert [one.startswith(f"the log covers {told}") for one in short] == ([True] if told else [])
    assert all("Add the older log as a further input" in one for one in short)


def test_progress_ends_at_its_total(
    keys: KeyRing, write_log: Callable[..., Path], tmp_path: Path
) -> None:
    progress = Progress(disable=True)

    build_profiles(
        write_log(a_small_log()), tmp_path / "out", BuildOptions(), keys, 2**42, progress
    )

    assert progress.finished
