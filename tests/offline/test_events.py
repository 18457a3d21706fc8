"""Reading and cleaning: each rule, each format, and identity."""

import gzip
import hashlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rta_service.domain.errors import InvalidInput
from rta_service.domain.events import UNRECORDED
from rta_service.offline.events import CleanLog, LogOptions, clean_log
from rta_service.record import category_code

T = 1_735_689_600_000  # 2025-01-01
DAY_MS = 86_400_000
MD5_OF_A = hashlib.md5(b"a", usedforsecurity=False).hexdigest()

Rows = list[dict[str, Any]]
Clean = Callable[..., CleanLog]


def row(**changes: Any) -> dict[str, Any]:
    return {"device_id": "a", "ts_ms": T, "event": "launch"} | changes


def told(log: CleanLog, *names: str) -> list[tuple[Any, ...]]:
    rows = log.events.select(*names).to_pyarrow().to_pylist()
    return sorted((tuple(row[name] for name in names) for row in rows), key=str)


@pytest.fixture
def clean(write_log: Callable[..., Path], tmp_path: Path) -> Iterator[Clean]:
    with ExitStack() as stack:

        def run(
            source: Rows | Path | tuple[Path, ...], mapping: str = "", **options: Any
        ) -> CleanLog:
            path = write_log(source) if isinstance(source, list) else source
            if mapping:
                options["columns"] = tmp_path / "map.toml"
                options["columns"].write_text(mapping, encoding="utf-8")
            log = clean_log(path, LogOptions(**({"max_bad_share": 1.0} | options)))
            return stack.enter_context(closing(log))

        yield run


def test_gives_the_columns_that_others_rely_on(clean: Clean) -> None:
    log = clean([row(category="toys", os="ios", channel="push", placement="feed")])

    names = ("device_md5", "person", "ts_s", "event", "cents", "order_id", "channel", "placement")
    assert told(log, *names) == [
        (MD5_OF_A, f"d:{MD5_OF_A}", T // 1000, "launch", 0, None, "push", "feed")
    ]
    assert told(log, "category", "category_code", "os") == [("toys", category_code("toys"), "ios")]


@pytest.mark.parametrize(
    ("changes", "rule", "shown"),
    [
        ({"device_id": None}, "missing_device_id", ""),
        ({"device_id": "0000-0000"}, "missing_device_id", "<hidden>"),
        ({"id_kind": "udid"}, "bad_id_kind", "udid"),
        ({"id_form": "sha1"}, "bad_id_form", "sha1"),
        ({"id_form": "md5", "device_id": "xyz"}, "bad_id_form", "<hidden>"),
        ({"event": "dance"}, "unknown_event", "dance"),
        ({"event": None}, "unknown_event", ""),
        ({"event": "a"}, "unknown_event", "<hidden>"),
        ({"event": "x" * 41}, "unknown_event", "<hidden>"),
        ({"ts_ms": None}, "bad_ts", ""),
        ({"ts_ms": T // 1000}, "bad_ts", "1735689600"),
        ({"ts_ms": T + 3 * 86_400_000}, "future", "1735948800000"),
        ({"cents": -5}, "negative_money", "-5"),
        ({"cents": 10**15}, "bad_money", "1000000000000000"),
        ({"cents": 5, "currency": "EUR"}, "other_currency", "EUR"),
    ],
)
def test_a_wrong_row_is_counted_by_rule_and_shown_without_its_id(
    clean: Clean, changes: dict[str, Any], rule: str, shown: str
) -> None:
    good = [row(event="pay", cents=n, currency="USD", id_kind=None, id_form=None) for n in (1, 2)]

    log = clean([*good, row(**changes)], now_ms=T + DAY_MS)

    assert log.rejected == {rule: 1}
    assert log.samples == {rule: [{"row": 3, "value": shown}]}
    assert len(told(log, "event")) == 2


def test_at_most_five_samples_a_rule_are_shown(clean: Clean) -> None:
    log = clean([row(), *(row(event=f"dance-{n}") for n in range(9))])

    assert [sample["row"] for sample in log.samples["unknown_event"]] == [2, 3, 4, 5, 6]


def test_future_is_not_looked_for_when_the_as_of_day_says_what_is_late(clean: Clean) -> None:
    log = clean([row(), row(ts_ms=T + 9 * 86_400_000)], now_ms=T, as_of=date(2025, 1, 2))

    assert (log.rejected, log.skipped) == ({}, {"after_as_of": 1})


@pytest.mark.parametrize(
    ("last_ms", "as_of", "late"),
    [
        (T - 5 * DAY_MS, date(2024, 12, 28), 0),
        (T - 1, date(2025, 1, 1), 0),
        (T + 7, date(2025, 1, 1), 1),
        (T + DAY_MS, date(2025, 1, 1), 1),
    ],
)
def test_a_log_ends_with_its_last_day_and_at_the_latest_with_yesterday(
    clean: Clean, last_ms: int, as_of: date, late: int
) -> None:
    now_ms = T + DAY_MS // 2

    log = clean([row(ts_ms=T - 9 * DAY_MS), row(ts_ms=last_ms)], now_ms=now_ms)

    assert datetime.fromtimestamp(log.as_of_s, UTC).date() == as_of
    assert log.skipped.get("after_as_of", 0) == late


def test_a_log_of_today_is_refused_with_what_can_be_done(clean: Clean) -> None:
    rows = [row(), row(ts_ms=T + 5_000)]

    with pytest.raises(InvalidInput, match=r"only events of today.*tomorrow, or say --as-of"):
        clean(rows, now_ms=T + 6_000)
    assert clean(rows, now_ms=T + 6_000, as_of=date(2025, 1, 2)).as_of_s == T // 1000 + 86_400
    assert clean(rows, now_ms=T + DAY_MS).as_of_s == T // 1000 + 86_400


def test_copies_of_an_event_count_once(clean: Clean) -> None:
    rows = [row(event_id="e1"), row(event_id="e1", ts_ms=T + 5000), row(), row()]

    log = clean(rows)

    assert log.skipped == {"duplicate": 1}
    assert told(log, "ts_s") == [(T // 1000,)] * 3


def test_money_repeated_without_an_event_id_is_told_and_counted(clean: Clean) -> None:
    log = clean([row(event="pay", cents=5), row(event="pay", cents=5), row(event="pay", cents=0)])

    assert [warning[:30] for warning in log.warnings] == [
        "1 payment rows repeat another ",
        "1 payment rows move no money; ",
    ]
    assert len(told(log, "event")) == 3


def test_rules_of_the_mapping_turn_oddities_into_counts(clean: Clean) -> None:
    rows = [
        row(event="pay", order_id="1", amount=10.0),
        row(event="pay", order_id="C1", amount=-4.0),
        row(event="pay", order_id="2", amount=-1.5),
        row(event="pay", order_id="C2", amount=3.0, device_id=None),
        row(event="pay", order_id="3", amount=3.0, device_id="0"),
        row(event="heartbeat", device_id=None),
    ]
    mapping = """
        [events]
        heartbeat = "ignore"
        [rules]
        anonymous = "skip"
        cancellation_prefix = "C"
        negative_money = "refund"
    """

    log = clean(rows, mapping)

    assert log.rejected == {}
    assert log.skipped == {"anonymous": 2, "cancellation": 1, "refund": 1, "ignored_event": 1}
    assert log.rows == 6
    assert told(log, "event", "cents") == [("pay", 1000), ("refund", 150), ("refund", 400)]


def test_what_only_attribution_reads_leaves_no_mark(clean: Clean) -> None:
    rows = [row(event=word.value, device_id=None) for word in UNRECORDED]
    mapping = '[events]\n"Won" = "ad_win"\n'

    log = clean([*rows, row(event="ad_win"), row(event="Won"), row(event="pay")], mapping)

    assert log.skipped == {"ignored_event": 5}
    assert told(log, "event") == [("pay",)]


def test_their_words_become_ours_and_a_remapped_word_of_ours_is_theirs(clean: Clean) -> None:
    mapping = '[events]\n"App Opened" = "launch"\nview = "search"\n'

    log = clean([row(event="App Opened"), row(event="view"), row(event="pay")], mapping)

    assert told(log, "event") == [("launch",), ("pay",), ("search",)]


def test_launch_events_add_one_launch_a_device_and_second(clean: Clean) -> None:
    rows = [
        row(event="pay", order_id="1"),
        row(event="pay", order_id="1"),
        row(event="launch", ts_ms=T + 1000),
        row(event="view", ts_ms=T + 1000),
        row(event="view", ts_ms=T + 2000),
        row(event="search", ts_ms=T + 3000),
    ]

    log = clean(rows, '[rules]\nlaunch_events = ["launch", "pay", "view"]\n')

    launches = [ts for ts, event in told(log, "ts_s", "event") if event == "launch"]
    assert launches == [T // 1000, T // 1000 + 1, T // 1000 + 2]
    assert log.launch_events == ("pay", "view")


@pytest.mark.parametrize(
    ("amount", "cents"),
    [(1.005, 100), (2.5, 250), (0.005, 1), (0.125, 13), ("7.25", 725), (3, 300)],
)
def test_amounts_round_half_away_from_zero_to_cents(
    clean: Clean, amount: object, cents: int
) -> None:
    assert told(clean([row(event="pay", amount=amount)]), "cents") == [(cents,)]


@pytest.mark.parametrize("amount", [float("inf"), -1e300, "ten", "inf"])
def test_an_amount_that_is_no_number_is_bad_money(clean: Clean, amount: object) -> None:
    log = clean([row(event="pay", amount=amount), row(amount=None)])

    assert log.rejected == {"bad_money": 1}


def test_a_fraction_of_a_cent_is_bad_money(clean: Clean) -> None:
    log = clean([row(event="pay", cents=0.5), row(event="pay", cents=float("nan")), row(cents=7.0)])

    assert log.rejected == {"bad_money": 1}
    assert told(log, "cents") == [(0,), (7,)]


def test_cents_and_amount_may_stand_side_by_side(clean: Clean) -> None:
    log = clean([row(event="pay", cents=5, amount=9.0), row(event="pay", cents=None, amount=9.0)])

    assert told(log, "cents") == [(5,), (900,)]


def test_a_product_and_a_constant_stand_for_columns(clean: Clean) -> None:
    mapping = """
        [columns]
        event = {constant = "pay"}
        amount = {product = ["quantity", "price"]}
        currency = {constant = "GBP"}
    """
    rows = [{"device_id": "a", "ts_ms": T, "quantity": 6, "price": 2.55}]

    assert told(clean(rows, mapping), "event", "cents") == [("pay", 1530)]


def test_a_constant_price_is_taken(clean: Clean) -> None:
    log = clean([row(event="pay")], "[columns]\ncents = {constant = 990}\n")

    assert told(log, "cents") == [(990,)]


@pytest.mark.parametrize(
    "ts",
    [
        datetime(2025, 1, 1, 0, 0, 0, 700_000, tzinfo=UTC).replace(tzinfo=None),
        datetime(2025, 1, 1, 0, 0, 0, 700_000, tzinfo=UTC),
        datetime(2025, 1, 1, tzinfo=UTC).date(),
        "2025-01-01 00:00:00.7",
        "2025-01-01T00:00:00Z",
        "2025-01-01T08:00:00+08:00",
    ],
)
def test_timestamps_of_all_kinds_mean_utc(clean: Clean, ts: object) -> None:
    assert told(clean([{"device_id": "a", "ts": ts, "event": "view"}]), "ts_s") == [(T // 1000,)]


def test_integer_ids_are_read_as_text_also_behind_a_decimal_point(clean: Clean) -> None:
    expected = hashlib.md5(b"17850", usedforsecurity=False).hexdigest()

    for value in (17850, 17850.0, "17850"):
        log = clean([row(device_id=value, user_id=value)])

        assert told(log, "device_md5", "person") == [(expected, "u:17850")]


def test_missing_ids_among_decimal_ones_are_missing(clean: Clean) -> None:
    values = (1.0, float("nan"), None, float("inf"))

    log = clean([row(device_id=value) for value in values])

    assert log.rejected == {"missing_device_id": 2}


def test_a_raw_id_and_its_md5_are_one_device(clean: Clean) -> None:
    raw = "ABCDEF01-2345-6789-ABCD-EF0123456789"
    md5 = hashlib.md5(raw.encode(), usedforsecurity=False).hexdigest()
    rows = [
        row(device_id=raw.lower(), id_kind="idfa", id_form="raw"),
        row(device_id=md5.upper(), id_kind="idfa", id_form="md5"),
        row(device_id=md5, id_kind=None, id_form=None),
    ]

    log = clean(rows)

    assert told(log, "device_md5") == [(md5,)] * 3
    assert log.devices.count().to_pyarrow().as_py() == 1


def test_a_person_is_the_last_user_a_device_named_and_all_its_devices(clean: Clean) -> None:
    rows = [
        row(user_id=None, ts_ms=T),
        row(user_id="old", ts_ms=T + 1000),
        row(user_id="new", ts_ms=T + 2000),
        row(user_id=None, ts_ms=T + 3000),
        row(device_id="b", user_id="new", ts_ms=T - 5000),
        row(device_id="c", user_id=None),
    ]

    log = clean(rows)

    people = [person for (person,) in told(log, "person")]
    assert people[1:] == ["u:new"] * 5
    assert people[0].startswith("d:")


def test_csv_rows_of_the_wrong_length_are_malformed(clean: Clean, tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text(
        'device_id;event;ts\na;"launch";2025-01-01\na;view;2025-01-01;x\nb\nc;"vi\new";2025-01-01\n',
        encoding="utf-8",
    )

    log = clean(path)

    assert log.rejected == {"malformed_row": 2, "unknown_event": 1}
    assert [sample["row"] for sample in log.samples["malformed_row"]] == [3, 4]
    assert log.rows == 4


def test_a_quote_that_never_ends_is_refused_with_its_line(clean: Clean, tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text('device_id,event,ts\na,launch,2025-01-01\na,"view,2025-01-01\nb,pay,2025-01-01')

    with pytest.raises(InvalidInput, match=r"log\.csv:3: a quoted field never ends"):
        clean(path)


def test_lines_that_are_no_json_are_malformed(clean: Clean, tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text(
        f'{{"device_id": 7, "ts_ms": {T}, "event": "pay", "x": {{}}}}\n{{"device_\nno\n'
    )

    log = clean(path)

    assert log.rejected == {"malformed_row": 2}
    assert told(log, "ts_s", "event") == [(T // 1000, "pay")]


def test_compressed_text_is_read(clean: Clean, tmp_path: Path) -> None:
    for name, text in (
        ("log.csv.gz", f"device_id,ts_ms,event\na,{T},view\n"),
        ("log.jsonl.gz", f'{{"device_id": "a", "ts_ms": {T}, "event": "view"}}\n'),
    ):
        (tmp_path / name).write_bytes(gzip.compress(text.encode()))

        assert told(clean(tmp_path / name), "event") == [("view",)]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("log.txt", b"x", "expected files of one format"),
        ("log.parquet", b"PAR1 nonsense", "can't be read as parquet"),
        ("log.csv", b"", "expected a header line"),
        ("log.csv", b"device_id,ts_ms,event\n", "the log is empty"),
        ("log.csv", b"device_id,when,what\n", "no column event and no column ts_ms or ts; the log"),
        ("log.csv", b"\xff\xfe\x00", "can't be read as csv"),
        ("log.csv", b"device_id,ts_ms,event\na,1,view\n", r"such as row 1: '1'"),
        ("log.jsonl", b'{"device_id": "a"}\n', "no column event and"),
    ],
)
def test_what_is_no_log_is_refused_with_its_place(
    clean: Clean, tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)

    with pytest.raises(InvalidInput, match=message) as caught:
        clean(tmp_path / name, max_bad_share=0.01)

    assert name in caught.value.place


def test_a_folder_holds_files_of_one_format_and_one_header(clean: Clean, tmp_path: Path) -> None:
    folder = tmp_path / "log"
    folder.mkdir()
    with pytest.raises(InvalidInput, match="found nothing"):
        clean(folder)
    with pytest.raises(InvalidInput, match="no such file"):
        clean(tmp_path / "nowhere")

    (folder / "1.csv").write_text("device_id,ts_ms,event\n")
    (folder / "2.csv").write_text("device_id,event,ts_ms\n")
    with pytest.raises(InvalidInput, match="same header"):
        clean(folder)

    pq.write_table(pa.table({"device_id": ["a"]}), folder / "3.parquet")
    with pytest.raises(InvalidInput, match="found csv, parquet"):
        clean(folder)


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ('[columns]\ndevice_id = "imei"\n', "--columns names imei, but the log has: device_id"),
        ('[columns]\nts = {constant = "2025-01-01"}\n', "ts must be a column"),
        ('[columns]\nts = "ts_ms"\n', "ts holds numbers"),
    ],
)
def test_a_mapping_that_does_not_fit_the_log_is_refused(
    clean: Clean, mapping: str, message: str
) -> None:
    with pytest.raises(InvalidInput, match=message):
        clean([row()], mapping)


def test_a_log_without_anything_to_count_is_refused(clean: Clean) -> None:
    with pytest.raises(InvalidInput, match="no event lies before --as-of"):
        clean([row()], as_of=date(2025, 1, 1))
    with pytest.raises(InvalidInput, match="no row of the log is left"):
        clean([row(device_id=None)], '[rules]\nanonymous = "skip"\n')


def test_inputs_of_any_formats_and_columns_make_one_log(
    clean: Clean, write_log: Callable[..., Path], tmp_path: Path
) -> None:
    (tmp_path / "days").mkdir()
    older = write_log([row(event="pay", cents=5, user_id="u"), row(event_id="e1")], "older.csv")
    newer = write_log([row(device_id=7, ts_ms=T + 1000, user_id="u")], "days/newer.parquet")
    newest = write_log([row(event_id="e1", ts_ms=T + 9000), row(event_id="e2")], "newest.jsonl")

    log = clean((older, newer.parent, newest))
    other_way = clean((newest, older, newer.parent))

    assert (log.rows, log.skipped, log.rejected) == (5, {"duplicate": 1}, {})
    assert [fact[1:] for fact in told(log, "device_md5", "ts_s", "event", "cents", "person")] == [
        fact[1:] for fact in told(other_way, "device_md5", "ts_s", "event", "cents", "person")
    ]
    assert {person for _, person in told(log, "event", "person")} == {"u:u"}
    assert len(told(log, "event")) == 4


def test_the_mapping_is_for_all_inputs_and_a_bad_row_names_its_own(
    clean: Clean, tmp_path: Path
) -> None:
    first, second = tmp_path / "first.csv", tmp_path / "second.csv"
    first.write_text(f"who,ts_ms,event\na,{T},came\nb,{T}\n")
    second.write_text(f"event,who,ts_ms\ncame,a,{T}\ndance,a,{T}\ncame,a,{T},more\n")

    log = clean((first, second), '[columns]\ndevice_id = "who"\n[events]\ncame = "launch"\n')

    assert log.rejected == {"malformed_row": 2, "unknown_event": 1}
    assert log.samples == {
        "unknown_event": [{"input": str(second), "row": 2, "value": "dance"}],
        "malformed_row": [
            {"input": str(first), "row": 3, "value": "missing columns"},
            {"input": str(second), "row": 4, "value": "too many columns"},
        ],
    }
    with pytest.raises(InvalidInput, match=f"such as row 2 of {second}: 'dance'"):
        clean((first, second), (tmp_path / "map.toml").read_text(), max_bad_share=0.1)


def test_a_file_that_is_given_twice_is_refused(
    clean: Clean, write_log: Callable[..., Path], tmp_path: Path
) -> None:
    (tmp_path / "logs").mkdir()
    path = write_log([row()], "logs/log.parquet")

    with pytest.raises(InvalidInput, match=r"log\.parquet: is given twice"):
        clean((path, path.parent))


def test_money_of_all_inputs_is_of_one_currency(
    clean: Clean, write_log: Callable[..., Path]
) -> None:
    dollars = [row(event="pay", cents=n, currency="USD") for n in (1, 2)]

    log = clean(
        (
            write_log([row(event="pay", cents=3, currency="EUR")], "euros.parquet"),
            write_log(dollars, "dollars.parquet"),
        )
    )

    assert log.rejected == {"other_currency": 1}
