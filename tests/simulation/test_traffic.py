"""Simulated platform requests: reproducible, true to the log, as troubled as asked for."""

import hashlib
import json
from collections import Counter
from dataclasses import replace

import pytest

from rta_service.device_key import canonical_md5
from rta_service.domain.device import IdForm, Placement
from rta_service.simulation.market import Market
from rta_service.simulation.traffic import (
    NOBODY,
    Encoder,
    SimulatedRequest,
    TrafficOptions,
    encode_json,
    encode_traffic,
    simulate_traffic,
)

OPTIONS = TrafficOptions(requests=3_000)


@pytest.fixture(scope="module")
def traffic(market: Market) -> list[SimulatedRequest]:
    return list(simulate_traffic(market.truth, OPTIONS))


def md5s(request: SimulatedRequest, *, trusted: bool) -> set[str]:
    canonical = (
        canonical_md5(one.kind, one.value, one.form)
        for one in request.ids
        if one.trusted is trusted
    )
    return {md5 for md5 in canonical if md5 is not None}


def test_the_same_options_give_the_same_requests(
    market: Market, traffic: list[SimulatedRequest]
) -> None:
    assert list(simulate_traffic(market.truth, OPTIONS)) == traffic
    assert list(simulate_traffic(market.truth, replace(OPTIONS, seed=8))) != traffic


def test_a_request_is_known_exactly_when_the_log_saw_a_trusted_id(
    market: Market, traffic: list[SimulatedRequest]
) -> None:
    truth = market.truth
    seen = {
        hashlib.md5(raw.encode(), usedforsecurity=False).hexdigest()
        for raw, seen in zip(truth.raw, truth.seen, strict=True)
        if seen
    }

    assert [bool(md5s(request, trusted=True) & seen) for request in traffic] == [
        request.known for request in traffic
    ]


def test_the_ids_of_a_request_belong_to_its_person(
    market: Market, traffic: list[SimulatedRequest]
) -> None:
    truth = market.truth
    owner = {
        hashlib.md5(raw.encode(), usedforsecurity=False).hexdigest(): int(person)
        for raw, person in zip(truth.raw, truth.person, strict=True)
    }

    for request in traffic:
        assert {owner.get(md5, NOBODY) for md5 in md5s(request, trusted=True)} <= {request.person}
        assert len({one.kind for one in request.ids}) == len(request.ids)


def test_shares_are_near_what_was_asked_for(traffic: list[SimulatedRequest]) -> None:
    def share(count: int) -> float:
        return count / len(traffic)

    assert share(sum(request.person == NOBODY for request in traffic)) == pytest.approx(
        0.3, abs=0.03
    )
    assert share(sum(request.platform == "tencent" for request in traffic)) == pytest.approx(
        0.5, abs=0.03
    )
    assert 0.015 < share(sum(request.doubtful for request in traffic)) < 0.05
    assert 0 < share(sum(request.is_ping for request in traffic)) < 0.02
    assert 0 < share(sum(not md5s(request, trusted=True) for request in traffic)) < 0.02
    assert share(sum(len(request.ids) > 1 for request in traffic)) > 0.2


def test_a_few_devices_come_again_and_again(traffic: list[SimulatedRequest]) -> None:
    counts = Counter(request.person for request in traffic if request.person != NOBODY)

    assert counts.most_common(1)[0][1] > 10
    assert sum(count == 1 for count in counts.values()) > 300


def test_tencent_is_told_hashes_only_and_no_placement(traffic: list[SimulatedRequest]) -> None:
    tencent = [request for request in traffic if request.platform == "tencent"]

    assert {one.form for request in tencent for one in request.ids} == {IdForm.MD5}
    assert {request.placement for request in tencent} == {Placement.NONE}
    assert {request.pctr for request in tencent} == {None}


def test_a_json_body_is_the_contracts(traffic: list[SimulatedRequest]) -> None:
    request = next(r for r in traffic if r.platform == "json" and len(r.ids) > 1)

    body = json.loads(encode_json(request))

    assert body["request_id"] == request.request_id
    assert body["device"]["os"] == request.os.label
    assert body["device"]["ids"][0] == {
        "kind": request.ids[0].kind.value,
        "form": request.ids[0].form.value,
        "value": request.ids[0].value,
        "trusted": True,
    }
    assert body["context"] == {"placement": request.placement.label, "pctr": request.pctr}
    assert body["ping"] is request.is_ping


def test_each_platform_gets_its_own_encoder(traffic: list[SimulatedRequest]) -> None:
    def encode_tencent(request: SimulatedRequest) -> bytes:
        return request.request_id.encode()

    encoders: dict[str, Encoder] = {"json": encode_json, "tencent": encode_tencent}

    encoded = list(encode_traffic(traffic[:40], encoders))

    assert [request for request, _ in encoded] == traffic[:40]
    for request, body in encoded:
        assert body == encoders[request.platform](request)
    assert b'"context":{}' in encode_json(next(r for r in traffic if r.platform == "tencent"))
