from urllib.parse import parse_qsl

import pytest

from rta_service.domain.errors import InvalidInput
from rta_service.domain.happening import Happening
from rta_service.domain.platform import PLATFORM_CODES
from rta_service.domain.tracking import FILLED, SIGNED, TRACKED
from rta_service.nearline.reading import ReadingRules
from rta_service.nearline.tracking import LinkKeys, Links
from rta_service.platforms.base import read_macros
from rta_service.platforms.registry import ADAPTERS, load_tables

NOW_S = 1_790_000_000
MD5 = "c4ca4238a0b923820dcc509a6f75849b"
TABLES = load_tables()
LINKS = Links(LinkKeys([b"a secret of the tests"]), TABLES, lambda _: None)
ADDED_BY_TENCENT = {
    *("click_time", "click_id", "advertiser_id", "muid", "ip", "user_agent", "app_type", "appid"),
    *("android_id", "campaign_id", "adgroup_id", "creative_id", "deeplink_url", "agent_id", "oaid"),
    *("device_os_type", "dest_url", "adgroup_name", "click_sku_id", "process_time"),
    *("product_type", "request_id", "site_set"),
}
FILLED_BY_TENCENT = {
    "__RTA_TRACE_ID__": "trace-1",
    "__HASH_OAID__": MD5,
    "__MUID__": MD5[::-1],
    "__DEVICE_OS_TYPE__": "android",
    "__CLICK_ID__": "click-1",
    "__CLICK_TIME__": str(NOW_S),
    "__IMPRESSION_ID__": "impression-1",
    "__IMPRESSION_TIME__": str(NOW_S),
}


def test_every_platform_has_macros_for_clicks() -> None:
    assert TABLES.keys() == ADAPTERS.keys() <= PLATFORM_CODES.keys()
    assert all("ad_click" in table.events for table in TABLES.values())


def test_our_parameters_are_none_that_tencent_adds_on_its_own() -> None:
    assert ADDED_BY_TENCENT.isdisjoint(FILLED | SIGNED.keys())


@pytest.mark.parametrize("event", sorted(TABLES["tencent"].events))
def test_a_link_that_tencent_has_filled_in_is_read(event: str) -> None:
    link = LINKS.make("https://ads.example", "tencent", event, {"strategy": "s1"})
    for macro, value in FILLED_BY_TENCENT.items():
        link = link.replace(macro, value)

    query = link.partition("?")[2].encode()
    happening = LINKS.read("tencent", event, query, ReadingRules(NOW_S * 1000))

    assert isinstance(happening, Happening), happening
    assert happening.device_md5s == (MD5, MD5[::-1])
    assert happening.ts_ms == NOW_S * 1000
    assert (happening.request_id, happening.tag) == ("trace-1", "")
    assert (happening.strategy_id, happening.os) == ("s1", "android")


@pytest.mark.parametrize("platform", sorted(TABLES))
def test_a_link_that_nobody_filled_in_counts_for_nothing(platform: str) -> None:
    for event in TABLES[platform].events:
        link = LINKS.make("https://ads.example", platform, event, {})

        found = LINKS.read(
            platform, event, link.partition("?")[2].encode(), ReadingRules(NOW_S * 1000)
        )

        assert not isinstance(found, Happening)
        assert found.rule == "bad_ts"


@pytest.mark.parametrize("platform", sorted(TABLES))
def test_each_macro_stands_once_in_a_link(platform: str) -> None:
    for event, table in ((event, TABLES[platform]) for event in TABLES[platform].events):
        link = LINKS.make("https://ads.example", platform, event, {})

        given = parse_qsl(link.partition("?")[2])
        assert dict(given[2:]) == table.of(event)
        assert event in TRACKED


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("docs = ", "Invalid value"),
        ("docs = 7\n[events.ad_click]\n", "docs"),
        ('docs = ""\nmacro = 1\n[events.ad_click]\n', "macro"),
        ('docs = ""\n[events.pay]\n', "'pay' is none of ad_exposure, ad_click, ad_win"),
        ('docs = ""\n[events.ad_click]\nuser = "x"\n', "'user' is no parameter"),
        ('docs = ""\n[events.ad_click]\nrequest = "x"\n', "needs ts_ms or ts_s"),
    ],
)
def test_a_wrong_table_is_refused_with_its_place(text: str, named: str) -> None:
    with pytest.raises(InvalidInput, match=named) as caught:
        read_macros(text, "a/tracking.toml")

    assert caught.value.place == "a/tracking.toml"
