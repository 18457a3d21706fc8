"""Playing the ad platforms: their requests in their words, and how they would read an answer."""

from typing import Any, Final

import msgspec
from google.protobuf.message import DecodeError

from rta_service.domain.device import IdKind, OperatingSystem, Placement
from rta_service.domain.reason import ReasonCode
from rta_service.platforms.tencent.tencent_pb2 import RtaRequest, RtaResponse
from rta_service.simulation.traffic import SimulatedId, SimulatedRequest

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


def encode_json(request: SimulatedRequest) -> bytes:
    """Write a request as the json platform sends it."""
    context: dict[str, Any] = {}
    if request.placement is not Placement.NONE:
        context["placement"] = request.placement.label
    if request.pctr is not None:
        context["pctr"] = request.pctr
    return msgspec.json.encode(
        {
            "request_id": request.request_id,
            "device": {
                "os": request.os.label,
                "ids": [
                    {"kind": i.kind, "form": i.form, "value": i.value, "trusted": i.trusted}
                    for i in request.ids
                ],
            },
            "context": context,
            "ping": request.is_ping,
        }
    )


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


def read_json(status: int, body: bytes, request_id: str) -> Answer | str:
    """Read an answer as the json platform's contract says, or say how it breaks it."""
    if status != 200:  # noqa: PLR2004 - HTTP's OK
        return f"status {status}"
    try:
        answer = msgspec.json.decode(body, type=_JsonAnswer)
    except msgspec.MsgspecError as error:
        return str(error)
    fault = _json_fault(answer, request_id)
    if fault:
        return fault
    yes = [s for s in answer.strategies if s.participate]
    return Answer(
        answer.participate,
        answer.reason,
        tuple(s.strategy_id for s in yes),
        tuple(s.bid.value for s in yes if s.bid and s.bid.kind == "weight"),
        answer.versions["release"],
    )


class _JsonBid(msgspec.Struct):
    kind: str
    value: float
    currency: str | None = None


class _JsonStrategy(msgspec.Struct):
    strategy_id: str
    participate: bool
    reason: str
    bid: _JsonBid | None
    pcvr: dict[str, float] | None


class _JsonAnswer(msgspec.Struct):
    request_id: str
    participate: bool
    reason: str
    strategies: list[_JsonStrategy]
    ttl_s: int
    versions: dict[str, Any]


def _json_fault(answer: _JsonAnswer, request_id: str) -> str:
    yes = [s for s in answer.strategies if s.participate]
    faults = {
        "another request's id": answer.request_id != request_id,
        "an unknown reason": {answer.reason, *(s.reason for s in answer.strategies)} - _REASONS,
        "participate disagrees with the strategies": answer.participate != bool(yes),
        "a yes without a bid": any(s.bid is None or s.bid.value <= 0 for s in yes),
        "a no with a bid": any(s.bid for s in answer.strategies if not s.participate),
        "no cache time": answer.ttl_s <= 0,
    }
    return next((fault for fault, found in faults.items() if found), "")


def read_tencent(status: int, body: bytes, request_id: str) -> Answer | str:
    """Read an answer as Tencent does: an empty one would accept everything."""
    if status != 200 or not body:  # noqa: PLR2004 - HTTP's OK
        return f"status {status} with {len(body)} bytes"
    try:
        answer = RtaResponse.FromString(body)
    except DecodeError as error:
        return str(error)
    accepted = list(answer.out_target_id)
    weights = [t.user_weight_factor for t in answer.target_infos if t.user_weight_factor]
    faults = {
        "another request's id": answer.request_id != request_id,
        "accepts everything": answer.code == 0 and not accepted,
        "a refusal that names strategies": answer.code != 0 and bool(accepted),
        "a weight that is ignored": any(not 0.2 <= w <= 5.0 for w in map(_float32, weights)),  # noqa: PLR2004 - Tencent's bounds
        "no cache time": answer.response_cache_time <= 0,
    }
    fault = next((fault for fault, found in faults.items() if found), "")
    return fault or Answer(answer.code == 0, "", tuple(accepted), tuple(weights))


def _float32(value: float) -> float:
    return round(value, 4)


PATHS: Final = {"json": "/rta/json", "tencent": "/rta/tencent"}
CONTENT_TYPES: Final = {"json": "application/json", "tencent": "application/x-protobuf"}
ENCODERS: Final = {"json": encode_json, "tencent": encode_tencent}
READERS: Final = {"json": read_json, "tencent": read_tencent}
