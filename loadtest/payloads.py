"""Request bodies from the platforms' exemplary cases, each with a device of its own.

The cases are the platforms' documentation and tests too, so that they are written once. Imports no
locust, so tests can use it.
"""

import copy
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from random import Random
from typing import Any, Final

from google.protobuf.json_format import ParseDict

from rta_service.platforms.tencent.tencent_pb2 import RtaRequest

CASES: Final = Path(__file__).parent.parent / "tests" / "platforms"

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Speech:
    """How a platform's case becomes a body: where its ids are, and how it is written."""

    content_type: str
    with_device: Callable[[Json, str, Callable[[], str]], Json]
    """The case's request, a request id and a source of MD5s to a request about another device."""
    encode: Callable[[Json], bytes]


def _json_with_device(request: Json, request_id: str, md5: Callable[[], str]) -> Json:
    request = copy.deepcopy(request)
    request["request_id"] = request_id
    request.pop("strategy_ids", None)  # the cases' strategies are not the tested service's
    for device_id in request["device"]["ids"]:
        device_id.update(form="md5", value=md5())
    return request


def _tencent_with_device(request: Json, request_id: str, md5: Callable[[], str]) -> Json:
    request = copy.deepcopy(request)
    request["id"] = request_id
    device = request.get("device", {})
    for part in (device, *device.get("qaid_infos", [])):
        for name in part:
            if name.endswith("_md5sum"):
                part[name] = md5()
    return request


def _encode_json(request: Json) -> bytes:
    return json.dumps(request, separators=(",", ":")).encode()


def _encode_tencent(request: Json) -> bytes:
    return ParseDict(request, RtaRequest()).SerializeToString()


SPEECH: Final = {
    "json": Speech("application/json", _json_with_device, _encode_json),
    "tencent": Speech("application/x-protobuf", _tencent_with_device, _encode_tencent),
}


def exemplary_requests(platform: str, folder: Path = CASES) -> list[Json]:
    """Read the requests of a platform's exemplary cases; raises FileNotFoundError without any."""
    files = sorted((folder / platform / "exemplary").glob("*.json"))
    if not files:
        raise FileNotFoundError(f"no exemplary cases in {folder / platform / 'exemplary'}")
    cases = [json.loads(file.read_text(encoding="utf-8")) for file in files]
    return [case["request"] for case in cases if "request" in case]


def payloads(platform: str, md5s: Sequence[str], seed: int) -> Iterator[bytes]:
    """Give bodies without end: the cases in turn, about devices of `md5s` or about strangers.

    Popularity is Zipf-like: the first of `md5s` come again and again. Three in ten are strangers.
    """
    chance = Random(seed)
    speech, cases = SPEECH[platform], exemplary_requests(platform)

    def device() -> str:
        if not md5s or chance.random() < 0.3:
            return hashlib.md5(chance.randbytes(8), usedforsecurity=False).hexdigest()
        return md5s[min(int(chance.paretovariate(0.5)) - 1, 10**9) % len(md5s)]

    for number in count():
        case = cases[number % len(cases)]
        yield speech.encode(speech.with_device(case, f"load-{seed}-{number}", device))
