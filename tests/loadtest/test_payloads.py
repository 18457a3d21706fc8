"""Bodies for the load test: from the exemplary cases, about ever other devices."""

from itertools import islice
from pathlib import Path

import msgspec
import pytest

from loadtest.payloads import exemplary_requests, payloads
from rta_service.domain.request import AdRequest
from rta_service.platforms.registry import load_adapters

KNOWN = [f"{number:032x}" for number in range(1, 200)]
ADAPTERS = load_adapters()


def read(platform: str, *, seed: int = 1, many: int = 300) -> list[AdRequest]:
    return [
        ADAPTERS[platform].parse(body) for body in islice(payloads(platform, KNOWN, seed), many)
    ]


@pytest.mark.parametrize("platform", ADAPTERS)
def test_every_body_is_one_that_the_platform_could_send(platform: str) -> None:
    requests = read(platform)

    assert len({request.request_id for request in requests}) == len(requests)
    assert {request.is_ping for request in requests} == {True, False}
    assert not any(request.asked_strategies for request in requests)


@pytest.mark.parametrize("platform", ADAPTERS)
def test_known_devices_come_again_and_strangers_come_too(platform: str) -> None:
    values = [
        device_id.value
        for request in read(platform, many=1_000)
        for device_id in request.ids
        if len(device_id.value) == 32
    ]

    known = [value for value in values if value in KNOWN]
    assert 0.6 < len(known) / len(values) < 0.8
    assert known.count(KNOWN[0]) > len(known) / len(KNOWN) * 5


def test_the_same_seed_gives_the_same_bodies() -> None:
    def bodies(seed: int) -> list[bytes]:
        return list(islice(payloads("tencent", KNOWN, seed), 20))

    assert bodies(1) == bodies(1)
    assert bodies(1) != bodies(2)


def test_without_known_devices_all_are_strangers() -> None:
    first, second = (
        msgspec.json.decode(body)["device"]["ids"][0]["value"]
        for body in islice(payloads("json", [], 1), 2)
    )

    assert first != second


def test_a_platform_without_cases_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no exemplary cases"):
        exemplary_requests("json", tmp_path)
