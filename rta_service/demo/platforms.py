"""Playing the ad platforms: their requests in their words, and how they would read an answer."""

from typing import Any, Final, Literal

import msgspec
from google.protobuf.message import DecodeError

from rta_service.domain.decision import Versions
from rta_service.domain.device import IdKind, OperatingSystem
from rta_service.domain.platform import BidKind
from rta_service.domain.reason import ReasonCode
from rta_service.platforms.tencent.tencent_pb2 import RtaRequest, RtaResponse
from rta_service.simulation.traffic import SimulatedId, SimulatedRequest, encode_json

_REASONS: Final = {reason.label for reason in ReasonCode}
_TENCENT_FIELDS: Final = {
    IdKind.IDFA: ("idfa_md5sum", 0),
    IdKind.IMEI: ("imei_md5sum", 1),
    IdKind.ANDROID_ID: ("android_id_md5sum", 2),
    IdKind.MAC: ("mac_md5sum", 3),
    IdKind.OAID: ("oaid_md5sum", 4),
}
_TENCENT_OS: Final = {
    OperatingSystem.OTHER: 0,
    OperatingSystem.IOS: 1,
    OperatingSystem.ANDROID: 2,
    OperatingSystem.HARMONY: 7,
}
_CAID_DOUBTFUL: Final = 6


class Answer(msgspec.Struct, frozen=True):
    """What a platform reads out of an answer."""

    participate: bool
    reason: str = ""
    """Only the json platform is told."""
    strategies: tuple[str, ...] = ()
    weights: tuple[float, ...] = ()
    release: str = ""
    tags: tuple[str, ...] = ()
    """Of the strategies, in their order."""


def encode_tencent(request: SimulatedRequest) -> bytes:
    """Write a request as Tencent sends it."""
    message = RtaRequest(id=request.request_id, is_ping=request.is_ping)
    device: Any = message.device
    device.os = _TENCENT_OS[request.os]
    kinds: set[IdKind] = set()
    for sent in sorted(request.ids, key=lambda i: not i.trusted):
        if sent.kind is IdKind.CAID or sent.kind not in kinds:
            _add_id(device, sent)  # one field a kind, but for CAID: a doubtful second has no place
        kinds.add(sent.kind)
    return message.SerializeToString()


def _add_id(device: Any, sent: SimulatedId) -> None:
    if sent.kind is IdKind.CAID:
        device.qaid_infos.add(version=20220111, qaid_md5sum=sent.value)
        tag = _CAID_DOUBTFUL
    elif sent.kind in _TENCENT_FIELDS:
        field, tag = _TENCENT_FIELDS[sent.kind]
        setattr(device, field, sent.value)
    else:
        return
    if not sent.trusted:
        device.doubtful_ids_list.append(tag)


def read_json(status: int, body: bytes, request_id: str | None = None) -> Answer | str:
    """Read an answer as the json platform's contract says, or say how it breaks it.

    Without a request id it may be the answer to any request.
    """
    if status != 200:  # noqa: PLR2004 - HTTP's OK
        return f"status {status}"
    try:
        answer = _JSON_ANSWERS.decode(body)
    except msgspec.MsgspecError as error:
        return f"not the contract's answer: {error}"
    fault = _json_fault(answer, request_id)
    if fault:
        return fault
    yes = [s for s in answer.strategies if s.participate]
    return Answer(
        answer.participate,
        answer.reason,
        tuple(s.strategy_id for s in yes),
        tuple(s.bid.value for s in yes if s.bid and s.bid.kind is BidKind.WEIGHT),
        answer.versions.release,
        tuple(s.tag for s in yes),
    )


class _JsonBid(msgspec.Struct):
    kind: BidKind
    value: float
    currency: str | None = None


class _JsonStrategy(msgspec.Struct):
    strategy_id: str
    participate: bool
    reason: str
    bid: _JsonBid | None
    pcvr: dict[Literal["register", "trade"], float] | None
    tag: str = ""


class _JsonAnswer(msgspec.Struct):
    request_id: str
    participate: bool
    reason: str
    strategies: list[_JsonStrategy]
    ttl_s: int
    versions: Versions


_JSON_ANSWERS: Final = msgspec.json.Decoder(_JsonAnswer)


def _json_fault(answer: _JsonAnswer, request_id: str | None) -> str:
    yes = [s for s in answer.strategies if s.participate]
    faults = {
        "another request's id": request_id not in (None, answer.request_id),
        "a reason that is not on the list": {answer.reason, *(s.reason for s in answer.strategies)}
        - _REASONS,
        "participates without a strategy, or a strategy without the answer": answer.participate
        != bool(yes),
        "a yes without a bid": any(s.bid is None or s.bid.value <= 0 for s in yes),
        "a no with a bid": any(s.bid for s in answer.strategies if not s.participate),
        "a cache time that is not positive": answer.ttl_s <= 0,
    }
    return next((fault for fault, found in faults.items() if found), "")


def read_tencent(status: int, body: bytes, request_id: str | None = None) -> Answer | str:
    """Read an answer as Tencent does, or say how it would be misread.

    Without a request id it may be the answer to any request.
    """
    if status != 200:  # noqa: PLR2004 - HTTP's OK
        return f"status {status}"
    if not body:
        return "an empty body, which reads as a yes to everything"
    try:
        answer = RtaResponse.FromString(body)
    except DecodeError:
        return "not an RtaResponse"
    accepted = list(answer.out_target_id)
    weights = [t.user_weight_factor for t in answer.target_infos if t.user_weight_factor]
    faults = {
        "another request's id": request_id not in (None, answer.request_id),
        "code 0 without a target, which reads as a yes to everything": (
            answer.code == 0 and not accepted
        ),
        "a refusal that names strategies": answer.code != 0 and bool(accepted),
        "a weight that is ignored": any(not 0.2 <= w <= 5.0 for w in map(_float32, weights)),  # noqa: PLR2004 - Tencent's bounds
    }
    fault = next((fault for fault, found in faults.items() if found), "")
    own = {target.out_target_id: target.dsp_tag_str for target in answer.target_infos}
    tags = tuple(own.get(target_id, "") or answer.dsp_tag_str for target_id in accepted)
    return fault or Answer(answer.code == 0, "", tuple(accepted), tuple(weights), tags=tags)


def _float32(value: float) -> float:
    return round(value, 4)


PATHS: Final = {"json": "/rta/json", "tencent": "/rta/tencent"}
CONTENT_TYPES: Final = {"json": "application/json", "tencent": "application/x-protobuf"}
ENCODERS: Final = {"json": encode_json, "tencent": encode_tencent}
READERS: Final = {"json": read_json, "tencent": read_tencent}
