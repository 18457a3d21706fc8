import string
from collections.abc import Mapping
from urllib.parse import parse_qsl, quote, urlencode

import pytest
from hypothesis import given, strategies as st

from rta_service.domain.errors import InvalidInput, UnknownName
from rta_service.domain.events import Event
from rta_service.domain.happening import Happening, LineRule, Rejection
from rta_service.domain.tag import Tag, TagCodec, strategy_mark
from rta_service.domain.tracking import FILLED, SIGNED, MacroTable
from rta_service.nearline.reading import ReadingRules
from rta_service.nearline.tracking import LinkKeys, Links, _parameters

NOW_MS = 1_790_000_000_000
NOW_S = NOW_MS // 1000
RULES = ReadingRules(NOW_MS, currency="CNY")
MD5 = "c4ca4238a0b923820dcc509a6f75849b"
SECRET = b"a secret of the tests"
CODEC = TagCodec(SECRET)
TABLES = {
    "tencent": MacroTable(
        docs="",
        absent=("NULL",),
        macros={"request": "__TRACE__", "tag": "__TAG__", "oaid_md5": "__OAID__"},
        events={
            "ad_click": {"notice": "__CLICK_ID__", "ts_s": "__CLICK_TIME__"},
            "ad_win": {"ts_ms": "{ts}", "cost_micros": "${COST}"},
        },
    ),
    "json": MacroTable(docs="", events={"ad_click": {"ts_ms": "{ts_ms}"}}),
}
LINKS = Links(LinkKeys([SECRET]), TABLES, CODEC.read)
SAYS = {"strategy": "s1", "campaign": "c 1&x=y", "currency": "CNY"}
CLICK = {"ts_s": str(NOW_S), "oaid_md5": MD5, "notice": "n1", "request": "r1"}


def query_of(link: str) -> dict[str, str]:
    return dict(parse_qsl(link.partition("?")[2], keep_blank_values=True))


def the_link(event: str = "ad_click", says: Mapping[str, str] = SAYS) -> dict[str, str]:
    """A link's own parameters, and macros as the platform has them."""
    return query_of(LINKS.make("https://ads.example", "tencent", event, says))


def read(
    parameters: Mapping[str, str] | str, event: str = "ad_click", links: Links = LINKS
) -> Happening | Rejection:
    query = parameters if isinstance(parameters, str) else urlencode(parameters)
    return links.read("tencent", event, query.encode(), RULES)


def accepted(
    filled: dict[str, str], event: str = "ad_click", says: Mapping[str, str] = SAYS
) -> Happening:
    happening = read(the_link(event, says) | filled, event)
    assert isinstance(happening, Happening), happening
    return happening


def rejected(
    filled: dict[str, str], event: str = "ad_click", says: Mapping[str, str] = SAYS
) -> tuple[str, LineRule]:
    rejection = read(the_link(event, says) | filled, event)
    assert isinstance(rejection, Rejection), rejection
    return rejection.field, rejection.rule


def a_tag(minute: int = NOW_S // 60) -> str:
    return CODEC.write(Tag(release=1, strategy=strategy_mark("s1"), minute=minute))


def test_a_link_holds_what_it_says_a_signature_and_the_macros_as_they_are() -> None:
    link = LINKS.make("https://ads.example/", "tencent", "ad_click", {"strategy": "s1"})

    key_id, signature = query_of(link)["k"], query_of(link)["sig"]
    assert link == (
        f"https://ads.example/track/tencent/ad_click?strategy=s1&k={key_id}&sig={signature}"
        "&request=__TRACE__&tag=__TAG__&oaid_md5=__OAID__&notice=__CLICK_ID__&ts_s=__CLICK_TIME__"
    )
    assert len(signature) == 32


def test_links_stay_good_for_years() -> None:
    # they stand in the platforms' campaigns: another result would turn every notice away
    assert the_link()["k"] == "c3e97413"
    assert the_link()["sig"] == "c823adf9e1964381edc35d5aaf59ae79"


def test_what_the_link_says_and_the_platform_fills_in_become_an_event() -> None:
    happening = accepted(CLICK | {"tag": a_tag(), "os": "ios"})

    assert happening.event is Event.AD_CLICK
    assert happening.ts_ms == NOW_S * 1000
    assert happening.device_md5s == (MD5,)
    assert (happening.strategy_id, happening.campaign_id) == ("s1", "c 1&x=y")
    assert (happening.channel, happening.currency, happening.os) == ("tencent", "CNY", "ios")
    assert (happening.request_id, happening.tag) == ("r1", a_tag())


@pytest.mark.parametrize("left", ["", "__OAID__", "__OTHER__", "{x}", "${X}", "%%X%%", "NULL"])
def test_a_macro_that_was_not_filled_in_says_nothing(left: str) -> None:
    happening = accepted(CLICK | {"oaid_md5": left, "os": left})

    assert (happening.device_md5s, happening.os) == ((), "")


@pytest.mark.parametrize(
    ("price", "micros"),
    [
        ({"cost_micros": "17"}, 17),
        ({"cost_micros": "17.5"}, 18),
        ({"cost_cents": "1.5"}, 15_000),
        ({"cost_units": "0.0000025"}, 3),
        ({"cpm_micros": "2500"}, 3),
        ({"cpm_cents": "250"}, 2_500),
        ({"cpm_units": "25.00"}, 25_000),
        ({}, 0),
    ],
)
def test_prices_become_micros_of_one_win(price: dict[str, str], micros: int) -> None:
    filled = {"ts_ms": str(NOW_MS), "request": "r1", **price}

    assert accepted(filled, "ad_win").cost_micros == micros


@pytest.mark.parametrize(
    ("filled", "field", "rule"),
    [
        ({"ts_s": ""}, "ts_ms", "bad_ts"),
        ({"ts_s": "__CLICK_TIME__"}, "ts_ms", "bad_ts"),
        ({"ts_s": "yesterday"}, "ts_s", "bad_ts"),
        ({"ts_s": "-1"}, "ts_s", "bad_ts"),
        ({"ts_s": str(NOW_MS)}, "ts_ms", "bad_ts"),
        ({"ts_s": str(NOW_S - 9 * 86_400)}, "ts_ms", "too_old"),
        ({"ts_s": str(NOW_S + 3_600)}, "ts_ms", "future"),
        ({"oaid_md5": "short", "imei_raw": "1"}, "oaid_md5", "bad_id_form"),
        ({"oaid_md5": "", "request": ""}, "ids", "missing_device_id"),
        ({"request": "x" * 129}, "request", "too_long"),
        ({"request": "a\nb"}, "request", "control_character"),
        ({"cost_micros": "-1"}, "cost_micros", "bad_money"),
        ({"cost_units": "1e9"}, "cost_units", "bad_money"),
        ({"cost_units": "999999999999999"}, "cost_units", "bad_money"),
        ({"cost_micros": "10000000001"}, "cost_micros", "bad_money"),
        ({"tag": a_tag()[:-1] + "A"}, "tag", "bad_tag"),
        ({"tag": TagCodec(b"another key").write(Tag(1, 2, 3))}, "tag", "bad_tag"),
        ({"tag": CODEC.write(Tag(1, strategy_mark("s2"), 3))}, "tag", "bad_tag"),
        ({"tag": a_tag(NOW_S // 60 + 20)}, "tag", "bad_tag"),
    ],
)
def test_what_is_filled_in_wrongly_is_named(filled: dict[str, str], field: str, rule: str) -> None:
    assert rejected(CLICK | filled) == (field, rule)


def test_a_link_may_need_what_the_platform_fills_in() -> None:
    needing = SAYS | {"need": "tag,request"}

    assert rejected(CLICK, says=needing) == ("tag", "not_filled_in")
    assert accepted(CLICK | {"tag": a_tag()}, says=needing).request_id == "r1"


@pytest.mark.parametrize(
    "change",
    [
        {"strategy": "s2"},
        {"strategy": ""},
        {"placement": "feed"},
        {"need": "tag"},
        {"sig": "0" * 32},
        {"sig": ""},
        {"sig": "é"},
        {"k": "ffffffff"},
        {"k": ""},
    ],
)
def test_a_changed_link_counts_for_nothing(change: dict[str, str]) -> None:
    assert rejected(CLICK | change) == ("sig", "bad_signature")


def test_a_link_is_of_one_event_and_one_platform() -> None:
    query = urlencode(the_link() | CLICK).encode()

    for platform, event in (("tencent", "ad_win"), ("json", "ad_click")):
        rejection = LINKS.read(platform, event, query, RULES)

        assert isinstance(rejection, Rejection)
        assert rejection.rule is LineRule.BAD_SIGNATURE


@pytest.mark.parametrize(("platform", "event"), [("kuaishou", "ad_click"), ("tencent", "pay")])
def test_a_link_of_nobody_is_unknown(platform: str, event: str) -> None:
    rejection = LINKS.read(platform, event, b"", RULES)

    assert isinstance(rejection, Rejection)
    assert rejection.rule is LineRule.UNKNOWN_LINK


@given(
    says=st.dictionaries(st.sampled_from(sorted(SIGNED)), st.text(max_size=8)),
    other=st.dictionaries(st.sampled_from(sorted(SIGNED)), st.text(max_size=8)),
)
def test_no_two_links_share_a_signature(says: dict[str, str], other: dict[str, str]) -> None:
    says, other = ({**one, "need": ""} for one in (says, other))

    ours, theirs = the_link(says=says), the_link(says=other)

    said = {name: value for name, value in says.items() if value}
    same = said == {name: value for name, value in other.items() if value}
    assert (ours["sig"] == theirs["sig"]) == same


def test_keys_rotate_while_links_of_before_go_on() -> None:
    new = Links(LinkKeys([b"the new secret", SECRET]), TABLES, CODEC.read)
    gone = Links(LinkKeys([b"the new secret"]), TABLES, CODEC.read)
    before = the_link() | CLICK
    after = query_of(new.make("", "tencent", "ad_click", SAYS)) | CLICK

    assert isinstance(read(before, links=new), Happening)
    assert isinstance(read(after, links=new), Happening)
    assert isinstance(read(before, links=gone), Rejection)
    assert isinstance(read(after, links=gone), Happening)
    with pytest.raises(InvalidInput, match="at least one"):
        LinkKeys([])


def test_copies_of_a_notice_are_one_event() -> None:
    first = accepted(CLICK)
    again = accepted(CLICK | {"added": "on the way", "os": "ios"})

    assert first.event_id == again.event_id


@pytest.mark.parametrize(
    "another",
    [{"notice": "n2"}, {"ts_s": str(NOW_S - 1)}, {"notice": "", "request": "r2"}, {"notice": ""}],
)
def test_another_notice_is_another_event(another: dict[str, str]) -> None:
    assert accepted(CLICK).event_id != accepted(CLICK | another).event_id


def test_without_an_id_of_the_notice_the_request_names_it_with_whom_and_for_what() -> None:
    plain = CLICK | {"notice": ""}
    same = plain | {"os": "ios", "tag": a_tag()}
    others = [plain | {"oaid_md5": MD5[::-1]}, plain | {"request": "r2"}]

    first = accepted(plain).event_id
    assert accepted(same).event_id == first
    assert first not in [accepted(one).event_id for one in others]
    assert accepted(plain, says={"strategy": "s2"}).event_id != first


def test_without_any_id_everything_that_is_read_names_it() -> None:
    plain = CLICK | {"notice": "", "request": ""}

    first = accepted(plain).event_id
    assert accepted(plain | {"added": "x"}).event_id == first
    assert accepted(plain | {"os": "ios"}).event_id != first


@pytest.mark.parametrize(
    ("query", "rule"),
    [
        ("x" * 8_193, "line_too_long"),
        ("&".join(f"a{i}=1" for i in range(65)), "malformed_line"),
        ("sig=%ff", "malformed_line"),
        ("ts_s=1&ts_s=2", "malformed_line"),
        ("", "bad_signature"),
    ],
)
def test_a_query_that_is_none_is_refused(query: str, rule: str) -> None:
    rejection = read(query)

    assert isinstance(rejection, Rejection)
    assert rejection.rule == rule


def test_a_query_need_not_be_ascii() -> None:
    rejection = LINKS.read("tencent", "ad_click", b"\xff\xfe", RULES)

    assert isinstance(rejection, Rejection)


@given(st.lists(st.sampled_from(["tag", "os", "x", "=", "&", "+", "%41", "%", "%E4", "é", ""])))
def test_a_query_is_read_as_the_library_reads_it(pieces: list[str]) -> None:
    query = "".join(pieces)
    found = _parameters(query.encode())

    if isinstance(found, Rejection):
        return
    pairs = parse_qsl(query, keep_blank_values=True, errors="strict")
    assert found == {name: value for name, value in pairs if name in ("tag", "os")}


@given(query=st.binary(max_size=300))
def test_whatever_a_query_is_nothing_is_raised_and_nothing_counts(query: bytes) -> None:
    assert isinstance(LINKS.read("tencent", "ad_click", query, RULES), Rejection)


@given(st.dictionaries(st.sampled_from(sorted(FILLED)), st.text(string.printable, max_size=20)))
def test_whatever_is_filled_in_nothing_is_raised(filled: dict[str, str]) -> None:
    found = read(the_link() | filled)

    if isinstance(found, Happening):
        assert found.channel == "tencent"
        assert found.strategy_id == "s1"


@given(st.text(min_size=9, max_size=40), st.sampled_from(sorted(FILLED)))
def test_a_rejection_repeats_nothing_that_was_sent(value: str, name: str) -> None:
    found = read("&".join(f"{k}={quote(v)}" for k, v in ({**the_link(), name: value}).items()))

    assert isinstance(found, Rejection)
    assert value not in found.reason


@pytest.mark.parametrize(
    ("platform", "event", "says", "named"),
    [
        ("kuaishou", "ad_click", {}, "known: tencent, json"),
        ("tencent", "pay", {}, "ad_click, ad_win"),
        ("tencent", "ad_click", {"bid": "1"}, "strategy, campaign"),
        ("tencent", "ad_click", {"need": "order"}, "not filled in"),
    ],
)
def test_a_link_that_would_not_work_is_not_made(
    platform: str, event: str, says: dict[str, str], named: str
) -> None:
    with pytest.raises(UnknownName, match=named):
        LINKS.make("https://ads.example", platform, event, says)
