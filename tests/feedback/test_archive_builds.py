"""A build says of an archive what it says of the same events as a log."""

import random
from collections.abc import Callable, Sequence
from datetime import date
from hashlib import md5
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner

from rta_service.cli import profiles  # noqa: F401 - adds its commands to the app
from rta_service.cli.app import app
from rta_service.device_key import KeyRing
from rta_service.domain.errors import InvalidInput
from rta_service.domain.events import Event
from rta_service.domain.happening import Happening
from rta_service.feedback.archive import EventArchive
from rta_service.offline.archive_folder import days_of
from rta_service.offline.audience.build import BuildOptions, build_profiles
from rta_service.offline.events import LogOptions, clean_log
from rta_service.offline.log_inputs import Sources
from rta_service.record import UserRecord, unpack
from rta_service.snapshot_folder import read_arrays, read_manifest
from rta_service.stores.event_log import DAY_MS

Kit = Any
"""The builder of conftest.py: test folders are no packages."""
DAY = 20_000
AS_OF = date(2024, 10, 4)
NOW_MS = DAY * DAY_MS + 1
KEYS = KeyRing(b"pepper", b"experiment")


def md5_of(name: str) -> str:
    return md5(name.encode(), usedforsecurity=False).hexdigest()


def a_market() -> list[Happening]:
    """A hundred people who come, look and buy in 60 days, some with two devices."""
    chance = random.Random(1)
    found: list[Happening] = []

    def add(person: int, device: str, at_ms: int, event: Event, **more: Any) -> None:
        user = f"user{person}" if person % 2 else ""
        ids = (md5_of(device),)
        found.append(Happening(f"e{len(found)}", at_ms, event, ids, user, **more))

    for person in range(100):
        at_ms = (DAY - 60) * DAY_MS + chance.randrange(20 * DAY_MS)
        while at_ms < DAY * DAY_MS:
            device = f"device{person}-{chance.randrange(2 if person % 2 else 1)}"
            add(person, device, at_ms, Event.LAUNCH)
            add(person, device, at_ms + 5_000, Event.VIEW, category=f"c{person % 5}")
            if chance.random() < 0.4:
                order = f"o{len(found)}"
                add(person, device, at_ms + 9_000, Event.PAY, cents=100 + person, order_id=order)
            at_ms += round(chance.expovariate(1 / 9) * DAY_MS) + DAY_MS
    return found


def archive(kit: Kit, folder: Path, happened: Sequence[Happening]) -> Path:
    """Accept events in the order given, with some batches twice."""
    start = (DAY - 3) * DAY_MS
    stream = [kit.taken(f"{start + 60_000 * n}-0", one) for n, one in enumerate(happened)]
    with EventArchive(folder) as writer:
        for at in range(0, len(stream), 300):
            writer.handle(stream[at : at + 300])
            writer.handle(stream[max(0, at - 100) : at + 300])
    return folder


def in_two(happened: Sequence[Happening]) -> tuple[list[Happening], list[Happening]]:
    """Split at day 30, with ten days in both."""
    middle = (DAY - 30) * DAY_MS
    older = [one for one in happened if one.ts_ms < middle + 10 * DAY_MS]
    return older, [one for one in happened if one.ts_ms >= middle]


def a_log(folder: Path, happened: Sequence[Happening]) -> Path:
    rows = [
        {
            "event_id": one.event_id,
            "ts_ms": one.ts_ms,
            "event": one.event,
            "device_id": one.device_md5s[0],
            "user_id": one.user_id or None,
            "cents": one.cents,
            "order_id": one.order_id or None,
            "category": one.category or None,
        }
        for one in happened
    ]
    folder.mkdir()
    (folder / "log.jsonl").write_bytes(b"\n".join(map(msgspec.json.encode, rows)))
    return folder


def built(source: Sources, out: Path, **options: Any) -> dict[bytes, UserRecord]:
    chosen = BuildOptions(as_of=AS_OF, allow_inverted=True, **options)
    build_profiles(source, out, chosen, KEYS, NOW_MS)
    keys, records = read_arrays(out, read_manifest(out))
    return {k.tobytes(): unpack(r.tobytes()) for k, r in zip(keys, records, strict=True)}


def test_an_archive_gives_the_same_records_as_the_log(kit: Kit, tmp_path: Path) -> None:
    market = a_market()
    shuffled = random.Random(2).sample(market, len(market))

    by_log = built(a_log(tmp_path / "log", market), tmp_path / "one")
    by_archive = built(
        archive(kit, tmp_path / "archive", shuffled), tmp_path / "two", sealer=kit.sealer
    )

    assert len(by_log) > 100
    assert by_archive == by_log


def test_an_event_of_several_ids_counts_under_each_and_once_for_the_person(
    kit: Kit, tmp_path: Path
) -> None:
    market = a_market()
    at_ms = (DAY - 1) * DAY_MS
    twins = (md5_of("phone"), md5_of("phone, by its other id"))
    market += [
        Happening(f"x{n}", at_ms + 1_000 * n, event, twins, user, cents=cents, order_id=order)
        for n, (event, user, cents, order) in enumerate(
            [
                (Event.LAUNCH, "", 0, ""),
                (Event.PAY, "", 700, "order1"),
                (Event.PAY, "", 700, "order2"),
            ]
        )
    ]
    ours = (md5_of("tablet"), md5_of("tablet, by its other id"))
    market += [
        Happening(
            f"y{n}", at_ms + 1_000 * n, Event.PAY, ours, "somebody", cents=50, order_id=f"p{n}"
        )
        for n in range(3)
    ]

    records = built(archive(kit, tmp_path / "archive", market), tmp_path / "s", sealer=kit.sealer)

    first, second = (records[KEYS.device_key(one)] for one in twins)
    assert (first.orders, first.launches) == (second.orders, second.launches) == (2, 1)
    assert first.person_key != second.person_key
    first, second = (records[KEYS.device_key(one)] for one in ours)
    assert first == second
    assert first.orders == 3


def test_an_older_log_and_the_archive_after_it_give_the_same_records_as_the_whole_log(
    kit: Kit, tmp_path: Path
) -> None:
    market = a_market()
    older, newer = in_two(market)

    by_log = built(a_log(tmp_path / "log", market), tmp_path / "one")
    by_both = built(
        [a_log(tmp_path / "older", older), archive(kit, tmp_path / "archive", newer)],
        tmp_path / "two",
        sealer=kit.sealer,
    )

    assert len(older) + len(newer) > len(market)
    assert by_both == by_log


def test_what_a_log_tells_of_an_archived_event_is_not_counted_again(
    kit: Kit, tmp_path: Path
) -> None:
    phone, twin = md5_of("phone"), md5_of("phone, by its other id")
    paid = [
        Happening(f"x{n}", (DAY - 1) * DAY_MS + n, Event.PAY, (phone, twin), cents=50)
        for n in range(2)
    ]
    of_twin = [Happening(one.event_id, one.ts_ms, one.event, (twin,), cents=50) for one in paid]
    nameless = [
        {"device_id": twin, "ts_ms": (DAY - 1) * DAY_MS, "event": "pay", "cents": 7}
        for _ in range(2)
    ]
    log = a_log(tmp_path / "log", of_twin)
    (log / "more.jsonl").write_bytes(b"\n".join(map(msgspec.json.encode, nameless)))

    records = built(
        [log, archive(kit, tmp_path / "archive", [*a_market(), *paid])],
        tmp_path / "s",
        sealer=kit.sealer,
    )

    assert records[KEYS.device_key(phone)].orders == 2
    assert records[KEYS.device_key(twin)].orders == 4


def test_the_mapping_of_the_older_log_is_not_for_the_archive(kit: Kit, tmp_path: Path) -> None:
    older, newer = in_two(a_market())
    log = a_log(tmp_path / "older", older)
    written = (log / "log.jsonl").read_text()
    (log / "log.jsonl").write_text(written.replace('"device_id"', '"who"').replace("pay", "paid"))
    mapping = tmp_path / "map.toml"
    mapping.write_text('[columns]\ndevice_id = "who"\n[events]\npaid = "pay"\npay = "ignore"\n')

    by_log = built(a_log(tmp_path / "log", a_market()), tmp_path / "one")
    by_both = built(
        [archive(kit, tmp_path / "archive", newer), log],
        tmp_path / "two",
        sealer=kit.sealer,
        columns=mapping,
    )

    assert by_both == by_log


def test_a_file_that_is_no_part_of_an_archive_is_refused_by_its_name(
    kit: Kit, tmp_path: Path
) -> None:
    folder = archive(kit, tmp_path / "archive", a_market())
    [day, *_] = days_of(folder)
    (folder / ".hidden").mkdir()
    (folder / ".hidden" / "x.parquet").touch()
    (day / ".writing-x").touch()
    built(folder, tmp_path / "s", sealer=kit.sealer)

    (folder / "older.parquet").touch()
    (day / "part-0.parquet").touch()

    with pytest.raises(
        InvalidInput, match=rf"no part of this archive: {day.name}/part-0\.parquet, older\.parquet;"
    ):
        built(folder, tmp_path / "s", sealer=kit.sealer)
    for number in range(9):
        (folder / f"log{number}.csv").touch()
    with pytest.raises(InvalidInput, match=r"log3\.csv and 6 more; move them elsewhere"):
        built(folder, tmp_path / "s", sealer=kit.sealer)


def test_without_the_sealer_an_archive_is_refused(kit: Kit, tmp_path: Path) -> None:
    folder = archive(kit, tmp_path / "archive", a_market()[:10])

    with pytest.raises(InvalidInput, match="sealed events, which only a build of profiles reads"):
        clean_log(folder, LogOptions())


def test_the_command_builds_from_an_older_log_and_an_archive_of_an_earlier_event_key(
    kit: Kit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    earlier = tmp_path / "earlier_keys"
    earlier.write_bytes(b"a key of long ago\n" + kit.event_key + b"\n")
    monkeypatch.setenv("RTA_EVENT_KEY", "a key that came after the archive")
    monkeypatch.setenv("RTA_EARLIER_EVENT_KEYS", str(earlier))
    older, newer = in_two(a_market())
    folder, log = archive(kit, tmp_path / "archive", newer), a_log(tmp_path / "log", older)
    call: Callable[..., Any] = CliRunner().invoke

    options = ["--out", str(tmp_path / "s"), "--data", str(tmp_path / "data"), "--allow-inverted"]
    done = call(
        app, ["profiles", "build", str(log), str(folder), *options, "--as-of", str(AS_OF), "--json"]
    )

    assert done.exit_code == 0, done.output
    assert msgspec.json.decode(done.stdout)["rejected"] == {}
