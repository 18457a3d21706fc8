"""Tags and decision records of a real service: what platforms are given, and what is kept of it."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from rta_service import wiring
from rta_service.demo.platforms import CONTENT_TYPES, ENCODERS, PATHS
from rta_service.domain.clock import SystemClock
from rta_service.domain.decision_record import DecisionRecord
from rta_service.domain.reason import ReasonCode
from rta_service.domain.release import Release
from rta_service.domain.tag import TagCodec, release_mark, strategy_mark
from rta_service.platforms.tencent.tencent_pb2 import RtaResponse
from rta_service.releasing.publishing import Change, publish
from rta_service.releasing.shelf import Shelf
from rta_service.simulation.traffic import SimulatedRequest
from rta_service.stores.decision_records import DecisionRecordLog


@dataclass(frozen=True)
class Heard:
    """What a service answered to some people, and what it recorded of that."""

    codec: TagCodec
    release: Release
    json: list[dict[str, Any]]
    tencent: list[RtaResponse]
    records: list[DecisionRecord]


@pytest.fixture
def heard(start_service: Any) -> Heard:
    """Ask a service whose strategies record all they decide, and hold half of the people out."""
    with start_service(1) as service, wiring.open_shelf(service.settings) as shelf:
        release = publish_recording(shelf, service.world.release)
        people = [request for request in service.requests(600) if request.known][:150]
        log = DecisionRecordLog(shelf.client, service.settings.namespace)
        base = f"http://127.0.0.1:{service.settings.port}"
        with httpx.Client(base_url=base) as client:
            eventually(lambda: release_of(client, people[0]) == release.release_id)
            json = [ask(client, person, "json").json() for person in people]
            bodies = [ask(client, person, "tencent").content for person in people]
        tencent = [RtaResponse.FromString(body) for body in bodies]
        told = tags_told(json, tencent)
        eventually(lambda: told <= {one.record.tag for one in log.read(count=10_000)})
        codec = wiring.tag_codec(service.settings)
        records = [one.record for one in log.read(count=10_000)]
    return Heard(codec, release, json, tencent, records)


def tags_told(json: list[dict[str, Any]], tencent: list[RtaResponse]) -> set[str]:
    told = {s["tag"] for answer in json for s in answer["strategies"] if s["participate"]}
    return told | {t.dsp_tag_str for answer in tencent for t in answer.target_infos}


def publish_recording(shelf: Shelf, current: Release) -> Release:
    text = shelf.releases.get_strategies(current.strategies_id)
    assert text is not None
    changed = text.replace("holdout_share = 0.02", "holdout_share = 0.5")
    changed = changed.replace("[[strategy]]", "[[strategy]]\nrecord_rate = 1.0")
    release = publish(shelf, Change(strategies=changed), SystemClock().now_ms())
    assert isinstance(release, Release)
    return release


def ask(client: httpx.Client, request: SimulatedRequest, platform: str) -> httpx.Response:
    headers = {"Content-Type": CONTENT_TYPES[platform]}
    return client.post(PATHS[platform], content=ENCODERS[platform](request), headers=headers)


def release_of(client: httpx.Client, request: SimulatedRequest) -> str:
    return str(ask(client, request, "json").json()["versions"]["release"])


def eventually(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def test_platforms_are_told_and_the_store_keeps_what_was_decided(heard: Heard) -> None:
    assert_json_is_tagged(heard)
    assert_tencent_is_tagged(heard)
    assert_all_is_recorded(heard)


def assert_json_is_tagged(heard: Heard) -> None:
    told = [(answer["request_id"], s) for answer in heard.json for s in answer["strategies"]]
    assert any(strategy["participate"] for _, strategy in told)
    for request_id, strategy in told:
        assert ("tag" in strategy) is strategy["participate"]
        if strategy["participate"]:
            tag = heard.codec.read(strategy["tag"])
            assert tag is not None
            assert tag.release == release_mark(heard.release.release_id)
            assert tag.strategy == strategy_mark(strategy["strategy_id"])
            assert tag.request == heard.codec.request_mark("json", request_id)
            assert tag.pcvr is not None
            assert tag.pcvr.trade == pytest.approx(strategy["pcvr"]["trade"], rel=0.0025)
            assert tag.bid is not None
            assert tag.bid.value == pytest.approx(strategy["bid"]["value"], rel=0.0025)


def assert_tencent_is_tagged(heard: Heard) -> None:
    assert any(answer.code == 0 for answer in heard.tencent)
    for answer in heard.tencent:
        tags = {t.out_target_id: heard.codec.read(t.dsp_tag_str) for t in answer.target_infos}
        assert set(tags) == set(answer.out_target_id)
        assert all(tags.values())
        assert answer.dsp_tag_str == (answer.target_infos[0].dsp_tag_str if tags else "")


def assert_all_is_recorded(heard: Heard) -> None:
    ours = [r for r in heard.records if r.versions.release == heard.release.release_id]
    assert {r.tag for r in ours if r.participate} >= tags_told(heard.json, heard.tencent)
    assert all(r.tag for r in ours if r.participate)
    assert {r.propensity for r in ours} == {1.0}
    held = [r for r in ours if r.reason is ReasonCode.HOLDOUT]
    assert any(r.ghost is not None and r.ghost.bid is not None for r in held)
