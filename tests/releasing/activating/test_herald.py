from pathlib import Path
from typing import Any

import pytest

from rta_service.device_key import KeyRing
from rta_service.domain.clock import SystemClock
from rta_service.domain.errors import ModelRefused, StoreUnavailable
from rta_service.domain.reason import ReasonCode
from rta_service.online.pipeline import Pipeline
from rta_service.online.watcher import News
from rta_service.releasing.herald import Herald
from rta_service.releasing.loading import load
from rta_service.telemetry import Telemetry, read_all
from rta_service.telemetry.registry import RELEASE_PREPARED, RELEASE_REFUSED, RELEASE_SWITCHES

Said = list[tuple[str, dict[str, str]]]


@pytest.fixture
def pipeline() -> Pipeline:
    keys = KeyRing(b"pepper-of-16-bytes", b"experiment-of-16-b")
    reader: Any = None  # nothing is read here
    return Pipeline(reader, keys, SystemClock())


def test_news_is_counted_each_time_and_said_once(
    stage: Any, pipeline: Pipeline, tmp_path: Path
) -> None:
    said: Said = []
    telemetry = Telemetry.open(tmp_path, "decision-0")
    herald = Herald(
        pipeline, telemetry, SystemClock(), lambda event, **facts: said.append((event, facts))
    )
    refusal = News("release_refused", "r2", ModelRefused("trade v2: damaged"))

    pipeline.live = load(stage.shelf, "r1")
    herald.tell(News("release_taken", "r1"))
    herald.tell(News("release_prepared", "r2", seconds=1.5))
    for _ in range(3):
        herald.tell(refusal)

    totals = read_all(tmp_path)
    counted = {
        metric.name: float(totals.block(metric).sum())
        for metric in (RELEASE_SWITCHES, RELEASE_PREPARED, RELEASE_REFUSED)
    }
    assert list(counted.values()) == [1.0, 1.0, 3.0]
    assert said == [
        ("release_taken", {"release": "r1", "error": ""}),
        ("release_prepared", {"release": "r2", "error": ""}),
        ("release_refused", {"release": "r2", "error": "trade v2: damaged"}),
    ]


def test_a_worker_without_a_release_says_whether_the_store_is_why(
    pipeline: Pipeline, tmp_path: Path
) -> None:
    telemetry = Telemetry.open(tmp_path, "decision-0")
    herald = Herald(pipeline, telemetry, SystemClock(), lambda *_, **__: None)
    absences = []

    for news in (
        News("store_unavailable", error=StoreUnavailable("gone")),
        News("store_back"),
        News("release_refused", "r1", StoreUnavailable("gone again")),
        News("way_back_cold", "r1", ModelRefused("gone")),
    ):
        herald.tell(news)
        absences.append(pipeline.absence)

    assert absences == [
        ReasonCode.STORE_UNAVAILABLE,
        ReasonCode.NO_RELEASE,
        ReasonCode.STORE_UNAVAILABLE,
        ReasonCode.NO_RELEASE,
    ]
