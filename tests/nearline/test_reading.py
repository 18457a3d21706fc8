import json
from datetime import UTC, datetime, timedelta
from hashlib import md5
from typing import Any

import pytest
from hypothesis import given, strategies as st

from rta_service.domain.device import IdForm, IdKind
from rta_service.domain.events import Event
from rta_service.domain.happening import Happening, LineRule, Rejection
from rta_service.nearline.reading import DAY_MS, ReadingRules, read_line

NOW_MS = 1_790_000_000_000
RULES = ReadingRules(NOW_MS, currency="CNY")
MD5 = "c4ca4238a0b923820dcc509a6f75849b"
GOOD = {"event_id": "e1", "event": "launch", "ts_ms": NOW_MS - 1, "device_id": MD5}


def read(rules: ReadingRules = RULES, **fields: Any) -> Happening | Rejection:
    return read_line(json.dumps(GOOD | fields).encode(), rules)


def accepted(**fields: Any) -> Happening:
    happening = read(**fields)
    assert isinstance(happening, Happening), happening
    return happening


def rejected(**fields: Any) -> tuple[str, LineRule]:
    rejection = read(**fields)
    assert isinstance(rejection, Rejection), rejection
    return rejection.field, rejection.rule


def test_every_column_of_a_line_arrives() -> None:
    texts = {
        "user_id": "u1",
        "order_id": "o1",
        "category": "图书 a",
        "item_id": "i1",
        "campaign_id": "c1",
        "channel": "tencent",
        "placement": "feed",
        "os": "ios",
        "request_id": "r1",
        "tag": "t1",
        "strategy_id": "s1",
        "currency": "CNY",
        "step": "order.paid-2",
    }

    happening = accepted(event="pay", cents=1_250, cost_micros=7, **texts)

    assert happening.event is Event.PAY
    assert happening.ts_ms == NOW_MS - 1
    assert happening.device_md5s == (MD5,)
    assert (happening.cents, happening.cost_micros) == (1_250, 7)
    assert {name: getattr(happening, name) for name in texts} == texts


@pytest.mark.parametrize("event", list(Event))
def test_every_word_is_an_event(event: Event) -> None:
    more = {"step": "lead", "channel": "tencent", "strategy_id": "s1", "cost_micros": 0}

    assert accepted(event=event.value, **more).event is event


def test_null_and_unknown_columns_count_as_left_out() -> None:
    happening = accepted(cents=None, user_id=None, ids=None, app_version=[1, {"a": None}])

    assert (happening.cents, happening.user_id) == (0, "")


def test_whole_numbers_are_read_as_text() -> None:
    happening = accepted(event_id=17, order_id=4_711, device_id=123_456)

    assert (happening.event_id, happening.order_id) == ("17", "4711")
    assert happening.device_md5s == (md5(b"123456", usedforsecurity=False).hexdigest(),)


def test_ids_are_hashed_as_platforms_do_and_the_most_reliable_comes_first() -> None:
    happening = accepted(
        device_id=None,
        ids=[
            {"kind": "mac", "form": "raw", "value": "aa:bb:cc:dd:ee:ff"},
            {"value": "plain"},
            {"kind": "oaid", "form": "md5", "value": MD5.upper()},
            {"kind": "imei", "value": "000000000000000"},
            {"kind": "idfa", "value": None},
        ],
    )

    mac = md5(b"AABBCCDDEEFF", usedforsecurity=False).hexdigest()
    plain = md5(b"plain", usedforsecurity=False).hexdigest()
    assert happening.device_md5s == (MD5, mac, plain)


def test_an_id_named_twice_is_one() -> None:
    assert accepted(id_kind="oaid", ids=[{"kind": "oaid", "value": MD5}]).device_md5s == (MD5,)


@pytest.mark.parametrize("named", [{"request_id": "r"}, {"tag": "t"}])
def test_an_event_without_a_device_may_name_a_request_or_a_tag(named: dict[str, str]) -> None:
    assert accepted(device_id=None, **named).device_md5s == ()


@pytest.mark.parametrize("named", [{"strategy_id": "s"}, {"campaign_id": 7}])
def test_a_row_of_a_cost_report_needs_no_device(named: dict[str, Any]) -> None:
    happening = accepted(
        event="cost_report", device_id=None, channel="tencent", cost_micros=5, **named
    )

    assert (happening.device_md5s, happening.cost_micros) == ((), 5)


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("2026-09-21T14:13:20Z", 0),
        ("2026-09-21 14:13:20.250", 250),
        ("2026-09-21T16:13:20+02:00", 0),
    ],
)
def test_ts_may_be_a_timestamp(text: str, ms: int) -> None:
    expected = datetime(2026, 9, 21, 14, 13, 20, tzinfo=UTC) + timedelta(milliseconds=ms)
    rules = ReadingRules(NOW_MS + DAY_MS)

    happening = read(rules, ts_ms=None, ts=text)

    assert isinstance(happening, Happening)
    assert happening.ts_ms == expected.timestamp() * 1000


@pytest.mark.parametrize(
    ("money", "cents"),
    [
        ({"cents": 12.0}, 12),
        ({"amount": 12.34}, 1_234),
        ({"amount": 0.005}, 1),
        ({"cents": 5, "amount": 9}, 5),
        ({"cents": -700, "event": "refund"}, 700),
        ({"amount": -7.005, "event": "refund"}, 701),
        ({"cents": 5, "currency": "cny"}, 5),
        ({"cents": 0, "currency": "USD"}, 0),
    ],
)
def test_money_becomes_whole_cents_of_what_was_paid_or_paid_back(
    money: dict[str, Any], cents: int
) -> None:
    assert accepted(**({"event": "pay"} | money)).cents == cents


@pytest.mark.parametrize(
    ("fields", "field", "rule"),
    [
        ({"event_id": None}, "event_id", "missing_event_id"),
        ({"event_id": ""}, "event_id", "missing_event_id"),
        ({"event_id": "x" * 129}, "event_id", "too_long"),
        ({"event_id": "a\nb"}, "event_id", "control_character"),
        ({"event_id": ["e"]}, "event_id", "wrong_type"),
        ({"event_id": True}, "event_id", "wrong_type"),
        ({"category": "a\u2028b"}, "category", "control_character"),
        ({"event": "bought"}, "event", "unknown_event"),
        ({"event": 7}, "event", "unknown_event"),
        ({"event": None}, "event", "unknown_event"),
        ({"ts_ms": NOW_MS // 1000}, "ts_ms", "bad_ts"),
        ({"ts_ms": NOW_MS + 0.5}, "ts_ms", "bad_ts"),
        ({"ts_ms": str(NOW_MS)}, "ts_ms", "wrong_type"),
        ({"ts_ms": 10**17}, "ts_ms", "bad_ts"),
        ({"ts_ms": None}, "ts", "bad_ts"),
        ({"ts_ms": None, "ts": "yesterday"}, "ts", "bad_ts"),
        ({"ts_ms": None, "ts": NOW_MS}, "ts", "bad_ts"),
        ({"ts_ms": None, "ts": "0001-01-01T00:00:00+23:59"}, "ts", "bad_ts"),
        ({"ts_ms": NOW_MS - 8 * DAY_MS - 1}, "ts_ms", "too_old"),
        ({"ts_ms": NOW_MS + 600_001}, "ts_ms", "future"),
        ({"device_id": None}, "device_id", "missing_device_id"),
        ({"device_id": "00000000-0000-0000-0000-000000000000"}, "device_id", "missing_device_id"),
        (
            {"device_id": md5(b"", usedforsecurity=False).hexdigest()},
            "device_id",
            "missing_device_id",
        ),
        ({"device_id": "x" * 257}, "device_id", "too_long"),
        ({"device_id": None, "ids": []}, "ids", "missing_device_id"),
        ({"id_kind": "phone"}, "id_kind", "bad_id_kind"),
        ({"id_form": "sha1"}, "id_form", "bad_id_form"),
        ({"id_form": "md5", "device_id": "short"}, "device_id", "bad_id_form"),
        ({"ids": [{"value": MD5}, {"kind": "x"}]}, "ids[1].kind", "bad_id_kind"),
        ({"ids": [{"value": MD5, "form": 3}]}, "ids[0].form", "bad_id_form"),
        ({"ids": [{"value": "zz", "form": "md5"}]}, "ids[0].value", "bad_id_form"),
        ({"ids": [{"value": MD5}] * 17}, "ids", "too_long"),
        ({"ids": MD5}, "ids", "wrong_type"),
        ({"cents": "12"}, "cents", "wrong_type"),
        ({"cents": 12.5}, "cents", "bad_money"),
        ({"cents": 10**14}, "cents", "bad_money"),
        ({"amount": 1e300}, "amount", "bad_money"),
        ({"amount": 1e307}, "amount", "bad_money"),
        ({"cents": -1, "event": "pay"}, "cents", "negative_money"),
        ({"amount": -0.01, "event": "sold"}, "amount", "negative_money"),
        ({"cents": 5, "currency": "USD"}, "currency", "other_currency"),
        ({"currency": "yuan"}, "currency", "other_currency"),
        ({"cost_micros": -1}, "cost_micros", "negative_money"),
        ({"cost_micros": 10**15}, "cost_micros", "bad_money"),
        ({"cost_micros": 10**10 + 1}, "cost_micros", "bad_money"),
        ({"cost_micros": 0.5}, "cost_micros", "bad_money"),
        ({"cost_micros": 5, "currency": "USD"}, "currency", "other_currency"),
        ({"event": "conversion"}, "step", "bad_step"),
        ({"event": "conversion", "step": ""}, "step", "bad_step"),
        ({"step": "two words"}, "step", "bad_step"),
        ({"step": "x" * 65}, "step", "too_long"),
        ({"step": 10**64}, "step", "bad_step"),
        ({"event": "cost_report", "cost_micros": 1}, "channel", "incomplete_report"),
        ({"event": "cost_report", "channel": "json"}, "cost_micros", "incomplete_report"),
        (
            {"event": "cost_report", "channel": "json", "cost_micros": 1},
            "strategy_id",
            "incomplete_report",
        ),
    ],
)
def test_a_bad_column_is_named_with_the_rule_it_breaks(
    fields: dict[str, Any], field: str, rule: str
) -> None:
    assert rejected(**fields) == (field, rule)


@pytest.mark.parametrize(
    ("line", "rule"),
    [
        (b"", LineRule.MALFORMED_LINE),
        (b"launch", LineRule.MALFORMED_LINE),
        (b'{"event_id": "e1"', LineRule.MALFORMED_LINE),
        (b'{"event_id": "\xff"}', LineRule.MALFORMED_LINE),
        (b'{"event_id": "\\ud800"}', LineRule.MALFORMED_LINE),
        (b'{"event_id": "a\x01b"}', LineRule.MALFORMED_LINE),
        (b'{"a": ' + b"[" * 8_000, LineRule.MALFORMED_LINE),
        (b"[]", LineRule.WRONG_TYPE),
        (b"7", LineRule.WRONG_TYPE),
        (b" " * 8_193, LineRule.LINE_TOO_LONG),
    ],
)
def test_what_is_no_object_is_refused_as_a_line(line: bytes, rule: LineRule) -> None:
    rejection = read_line(line, RULES)

    assert isinstance(rejection, Rejection)
    assert (rejection.field, rejection.rule) == ("line", rule)


def test_a_number_of_endless_digits_is_refused() -> None:
    line = json.dumps(GOOD).replace('"e1"', "9" * 200).encode()

    rejection = read_line(line, RULES)

    assert isinstance(rejection, Rejection)
    assert rejection.rule is LineRule.TOO_LONG


@given(st.binary(max_size=200))
def test_whatever_the_bytes_are_the_line_has_a_fate(line: bytes) -> None:
    assert isinstance(read_line(line, RULES), Happening | Rejection)


@given(at=st.integers(0, 300), byte=st.integers(0, 255), cut=st.booleans())
def test_a_damaged_line_is_read_or_refused(at: int, byte: int, cut: bool) -> None:
    line = bytearray(json.dumps(GOOD | {"category": "图书", "ids": [{"kind": "mac"}]}).encode())
    line[at % len(line)] = byte
    damaged = bytes(line[: at % len(line)] if cut else line)

    assert isinstance(read_line(damaged, RULES), Happening | Rejection)


JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from(list(Event)),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)
COLUMNS = st.sampled_from(
    [
        *("event_id", "event", "ts_ms", "ts", "device_id", "id_kind", "id_form", "ids", "user_id"),
        *(
            "cents",
            "amount",
            "currency",
            "order_id",
            "category",
            "tag",
            "cost_micros",
            "request_id",
            "step",
        ),
    ]
)


@given(st.dictionaries(COLUMNS, JSON_VALUES, max_size=4))
def test_what_is_accepted_keeps_every_promise_of_a_happening(fields: dict[str, Any]) -> None:
    happening = read(**fields)
    if isinstance(happening, Rejection):
        assert happening.reason
        return

    texts = [happening.event_id, happening.user_id, happening.category, happening.tag]
    assert 1 <= len(happening.event_id) <= 128
    assert not any(set(text) & set("\0\n\r\t\x1f\x7f\u2028") for text in texts)
    assert NOW_MS - 8 * DAY_MS <= happening.ts_ms <= NOW_MS + 600_000
    assert 0 <= happening.cents < 10**14
    assert 0 <= happening.cost_micros < 10**15
    assert all(len(one) == 32 and int(one, 16) for one in happening.device_md5s)
    assert happening.device_md5s or happening.request_id or happening.tag
    assert len(happening.step) <= 64


@given(
    value=st.text(min_size=9, max_size=300),
    column=st.sampled_from(
        ["event_id", "event", "device_id", "id_kind", "currency", "ts", "user_id"]
    ),
)
def test_a_rejection_repeats_nothing_that_was_sent(value: str, column: str) -> None:
    fields: dict[str, Any] = {"ts_ms": None, column: value}

    rejection = read(**fields)

    assert isinstance(rejection, Rejection)
    assert value not in rejection.reason


@given(
    kind=st.sampled_from(IdKind), raw=st.text("0123456789abcdefABCDEF:-", min_size=1, max_size=40)
)
def test_an_id_in_the_raw_and_its_md5_name_one_device(kind: IdKind, raw: str) -> None:
    read_raw = read(device_id=raw, id_kind=kind, id_form=IdForm.RAW)
    if isinstance(read_raw, Rejection):
        assert read_raw.rule is LineRule.MISSING_DEVICE_ID
        return

    hashed = accepted(device_id=read_raw.device_md5s[0], id_kind=kind, id_form=IdForm.MD5)
    assert hashed.device_md5s == read_raw.device_md5s
