"""The public Online Retail log (UCI data set 352), where a copy of it is at hand."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from rta_service.domain.errors import InvalidInput
from rta_service.offline.audience.build import BuildOptions
from rta_service.offline.audience.report import BuildReport

LOG = os.environ.get("RTA_ONLINE_RETAIL", "")
MAPPING = Path(__file__).parents[3] / "docs" / "examples" / "online_retail.toml"

pytestmark = pytest.mark.skipif(
    not LOG, reason="set RTA_ONLINE_RETAIL to the log as a Parquet file to run this"
)


def test_the_log_is_read_with_its_oddities_counted(build: Callable[..., BuildReport]) -> None:
    report = build(Path(LOG), BuildOptions(columns=MAPPING)).to_json()

    assert report["events"] == 541_909
    assert report["skipped"] == {"anonymous": 135_080, "cancellation": 8_905}
    assert report["rejected"] == {}
    assert [warning.split(" ", 1)[0] for warning in report["warnings"]] == [
        "5,194",  # repeated lines
        "44",  # lines that cost nothing
        "payments",  # count as launches
    ]


def test_thresholds_stages_and_segments_are_those_of_the_log(
    build: Callable[..., BuildReport],
) -> None:
    report = build(Path(LOG), BuildOptions(columns=MAPPING)).to_json()

    assert report["as_of"] == "2011-12-10"
    assert {name: round(cut, 2) for name, cut in report["thresholds"].items()} == {
        "silent_days": 62.91,
        "churned_days": 62.96,
        "recency_days": 179.38,
        "frequency": 6,
        "monetary": 2018.91,
    }
    assert report["devices"] == report["persons"] == sum(report["stages"].values()) == 4372
    assert sum(report["segments"].values()) == 4339
    assert report["segments"]["important_value"] == 634


def test_the_log_without_its_mapping_is_refused_by_name(build: Callable[..., BuildReport]) -> None:
    with pytest.raises(InvalidInput, match="no column device_id and no column event"):
        build(Path(LOG))
