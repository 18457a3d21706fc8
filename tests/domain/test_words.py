"""Codes and words that are stored, trained on or sent: a silent change would do damage."""

import pytest

from rta_service.domain.device import OperatingSystem, Placement
from rta_service.domain.platform import PLATFORM_CODES, PlatformInfo
from rta_service.domain.thresholds import DAY_S, Thresholds
from rta_service.domain.user import LifecycleStage, RFMSegment, Role, ValueTier


def test_codes_in_records_and_model_rows_never_change() -> None:
    assert [s.label for s in LifecycleStage] == [
        "introduction",
        "growth",
        "maturity",
        "silent",
        "churned",
        "unknown",
    ]
    assert [t.label for t in ValueTier] == ["unknown", "S", "A", "B", "C", "D", "X"]
    assert [r.label for r in Role] == ["unknown", "buyer", "private_seller", "professional_seller"]
    assert [o.label for o in OperatingSystem] == ["other", "android", "ios", "harmony"]
    assert [p.label for p in Placement] == [
        "none",
        "splash",
        "app_store",
        "search_suggest",
        "search_result",
        "feed",
        "other",
    ]
    assert {s.label: s.value for s in RFMSegment} == {
        "general_win_back": 0,
        "important_win_back": 1,
        "general_keep": 2,
        "important_keep": 3,
        "general_develop": 4,
        "important_develop": 5,
        "general_value": 6,
        "important_value": 7,
        "none": 255,
    }
    assert PLATFORM_CODES == {"other": 0, "json": 1, "tencent": 2, "oceanengine": 3, "openrtb": 4}


@pytest.mark.parametrize(("name", "code"), [("tencent", 2), ("a new one", 0)])
def test_a_platform_that_no_model_knows_counts_as_other(name: str, code: int) -> None:
    info = PlatformInfo(name, "/", "", 60, 1, 1, 1, (), 0.0, 1.0, "")

    assert info.code == code


def test_thresholds_are_published_in_days_and_currency_units() -> None:
    cuts = Thresholds(18 * DAY_S, 27 * DAY_S, 18 * DAY_S, 3, 250_000, 3, 2, 1)

    assert cuts.as_days() == {
        "silent_days": 18.0,
        "churned_days": 27.0,
        "recency_days": 18.0,
        "frequency": 3,
        "monetary": 2500.0,
    }
