"""Tencent Ads' words to ours and back.

On this wire code 0 without a target means yes to everything, and so does an empty body: every no
is therefore written out as code 1.
"""

from typing import Final

from google.protobuf.message import DecodeError

from rta_service.domain.decision import Decision, StrategyDecision
from rta_service.domain.device import DeviceId, IdForm, IdKind, OperatingSystem
from rta_service.domain.errors import InvalidRequest
from rta_service.domain.platform import BidKind, PlatformInfo
from rta_service.domain.request import AdRequest
from rta_service.platforms.base import MAX_IDS, MAX_REQUEST_ID, money_units
from rta_service.platforms.tencent import tencent_pb2 as wire

REJECT_ALL: Final = 1

_NORMAL: Final = wire.RtaRequest.RequestInfo.NORMAL_REQUEST
_Device = wire.RtaRequest.Device
_SYSTEMS: Final[dict[int, OperatingSystem]] = {
    wire.RtaRequest.OS_IOS: OperatingSystem.IOS,
    wire.RtaRequest.OS_ANDROID: OperatingSystem.ANDROID,
    wire.RtaRequest.OS_HARMONY: OperatingSystem.HARMONY,
}
_MD5_FIELDS: Final = (
    (IdKind.OAID, "oaid_md5sum"),
    (IdKind.IDFA, "idfa_md5sum"),
    (IdKind.IMEI, "imei_md5sum"),
    (IdKind.ANDROID_ID, "android_id_md5sum"),
    (IdKind.MAC, "mac_md5sum"),
)
"""Most reliable first, as in IdKind; CAIDs follow, since only iOS sends them."""
_DOUBTFUL: Final[dict[int, IdKind]] = {
    _Device.IDFA_MD5_DOUBTFUL: IdKind.IDFA,
    _Device.IMEI_MD5_DOUBTFUL: IdKind.IMEI,
    _Device.ANDROIDID_MD5_DOUBTFUL: IdKind.ANDROID_ID,
    _Device.MAC_MD5_DOUBTFUL: IdKind.MAC,
    _Device.OAID_MD5_DOUBTFUL: IdKind.OAID,
    _Device.OAID_DOUBTFUL: IdKind.OAID,
    _Device.QAID_DOUBTFUL: IdKind.CAID,
}
_CACHE_KEYS: Final[dict[int, IdKind]] = {
    _Device.IDFA_MD5: IdKind.IDFA,
    _Device.IMEI_MD5: IdKind.IMEI,
    _Device.OAID: IdKind.OAID,
    _Device.OAID_MD5: IdKind.OAID,
    _Device.ANDROIDID_MD5: IdKind.ANDROID_ID,
    _Device.MAC_MD5: IdKind.MAC,
    _Device.QAID: IdKind.CAID,
}


class TencentAdapter:
    """First-stage requests, as docs/platforms/tencent.md describes them."""

    def __init__(self, info: PlatformInfo) -> None:
        self.info = info
        self._reject_unread = wire.RtaResponse(
            code=REJECT_ALL, response_cache_time=info.min_ttl_s
        ).SerializeToString()

    def parse(self, body: bytes) -> AdRequest:
        """Read a first-stage request; raises InvalidRequest for any other."""
        try:
            request = wire.RtaRequest.FromString(body)
        except DecodeError as exc:
            raise InvalidRequest("the body is not an RtaRequest") from exc
        if request.request_info.request_type != _NORMAL:
            raise InvalidRequest(
                "second-stage requests are not supported", "request_info.request_type"
            )
        request_id = _text(request.id, "id")
        if len(request_id) > MAX_REQUEST_ID:
            raise InvalidRequest(f"longer than {MAX_REQUEST_ID} characters", "id")
        return AdRequest(
            request_id=request_id,
            platform=self.info,
            ids=_ids(request.device),
            os=_SYSTEMS.get(request.device.os, OperatingSystem.OTHER),
            is_ping=request.is_ping,
            is_test=request.is_test,
        )

    def render(self, decision: Decision) -> bytes:
        """Write yes to the wanted targets, or an explicit no to everything."""
        wanted = {s.target_id: s for s in decision.strategies if s.participate and s.target_id}
        if not decision.participate or not wanted:
            return wire.RtaResponse(
                request_id=decision.request_id,
                code=REJECT_ALL,
                response_cache_time=decision.ttl_s,
            ).SerializeToString()
        response = wire.RtaResponse(
            request_id=decision.request_id,
            code=0,
            response_cache_time=decision.ttl_s,
            out_target_id=wanted,
            dsp_tag_str=next((s.tag for s in wanted.values() if s.tag), None),
        )
        for strategy in wanted.values():
            if strategy.bid is not None or strategy.tag:
                self._add_target(response, strategy)
        return response.SerializeToString()

    def render_invalid(self, error: InvalidRequest) -> tuple[int, bytes]:
        """Answer 200 with an explicit no: any other status may be read as a yes."""
        del error
        return 200, self._reject_unread

    def _add_target(self, response: wire.RtaResponse, strategy: StrategyDecision) -> None:
        """Add what is said of one target: None, to protobuf, is a field left out."""
        target_id, tag, bid = strategy.target_id, strategy.tag or None, strategy.bid
        if bid is None:
            response.target_infos.add(out_target_id=target_id, dsp_tag_str=tag)
            return
        if bid.kind is BidKind.WEIGHT:
            weight = round(bid.value, 2)
            response.target_infos.add(
                out_target_id=target_id, user_weight_factor=weight, dsp_tag_str=tag
            )
            return
        fen = money_units(bid.value, self.info.money_unit_micros)
        if bid.kind is BidKind.CPA:
            response.target_infos.add(out_target_id=target_id, cpa_price=fen, dsp_tag_str=tag)
        elif bid.kind is BidKind.CPC:
            response.target_infos.add(out_target_id=target_id, cpc_price=fen, dsp_tag_str=tag)


def _ids(device: wire.RtaRequest.Device) -> tuple[DeviceId, ...]:
    """Give the device's ids, the one first under which the platform caches the answer."""
    tags = device.doubtful_ids_list
    # A list, and only if there are any: reading an empty field costs 0.15, walking it 0.5 us.
    doubtful = [_DOUBTFUL[tag] for tag in tags] if tags else []
    ids = [
        DeviceId(kind, _text(value, "device", name), IdForm.MD5, kind not in doubtful)
        for kind, name in _MD5_FIELDS
        if (value := getattr(device, name))
    ]
    if device.qaid_infos:
        ids += _caids(device, trusted=IdKind.CAID not in doubtful)
    first = _CACHE_KEYS.get(device.cached_deviceid_type)
    if first not in doubtful and len(ids) > 1:
        ids.sort(key=lambda device_id: device_id.kind is not first)
    return tuple(ids)


def _caids(device: wire.RtaRequest.Device, *, trusted: bool) -> list[DeviceId]:
    """Give a CAID per version sent, as its MD5 where there is one."""
    if len(device.qaid_infos) > MAX_IDS:
        raise InvalidRequest(f"more than {MAX_IDS} versions", "device.qaid_infos")
    caids = []
    for info in device.qaid_infos:
        if info.qaid_md5sum:
            value = _text(info.qaid_md5sum, "device", "qaid_infos", "qaid_md5sum")
            caids.append(DeviceId(IdKind.CAID, value, IdForm.MD5, trusted))
        elif info.qaid:
            value = _text(info.qaid, "device", "qaid_infos", "qaid")
            caids.append(DeviceId(IdKind.CAID, value, IdForm.RAW, trusted))
    return caids


def _text(value: object, *path: str) -> str:
    """Insist on text: protobuf hands over a proto2 string that is not UTF-8 as bytes."""
    if not isinstance(value, str):
        raise InvalidRequest("not UTF-8", ".".join(path))
    return value
