from hypothesis import given, strategies as st

from rta_service.domain.decision import Decision
from rta_service.domain.errors import InvalidRequest
from rta_service.domain.request import AdRequest
from rta_service.platforms.registry import load_adapters
from rta_service.platforms.tencent.tencent_pb2 import RtaRequest, RtaResponse

ADAPTER = load_adapters()["tencent"]
MD5 = st.from_regex(r"[0-9a-f]{32}", fullmatch=True)


def says_yes_to_everything(body: bytes) -> bool:
    response = RtaResponse.FromString(body)
    return response.code == 0 and not response.out_target_id


def test_no_decision_at_all_becomes_a_yes_to_everything(
    any_decision: st.SearchStrategy[Decision],
) -> None:
    @given(any_decision)
    def check(decision: Decision) -> None:
        body = ADAPTER.render(decision)

        assert body
        assert not says_yes_to_everything(body)
        assert RtaResponse.FromString(body).HasField("code")

    check()


def test_targets_are_named_exactly_for_the_strategies_that_take_part(
    any_decision: st.SearchStrategy[Decision],
) -> None:
    @given(any_decision)
    def check(decision: Decision) -> None:
        response = RtaResponse.FromString(ADAPTER.render(decision))

        wanted = {s.target_id for s in decision.strategies if s.participate}
        assert wanted.issuperset(response.out_target_id)
        assert len(set(response.out_target_id)) == len(response.out_target_id)
        assert {t.out_target_id for t in response.target_infos} <= set(response.out_target_id)

    check()


def read(body: bytes) -> AdRequest | InvalidRequest:
    try:
        return ADAPTER.parse(body)
    except InvalidRequest as error:
        return error


@given(st.binary())
def test_random_bytes_are_read_or_refused_and_never_crash(body: bytes) -> None:
    outcome = read(body)

    if isinstance(outcome, InvalidRequest):
        status, answer = ADAPTER.render_invalid(outcome)
        assert status == 200
        assert not says_yes_to_everything(answer)
    else:
        assert isinstance(outcome.request_id, str)
        assert all(isinstance(device_id.value, str) for device_id in outcome.ids)


@given(st.binary(max_size=8), st.sampled_from(["request", "device", "caid"]))
def test_bytes_in_place_of_text_never_reach_a_decision(raw: bytes, place: str) -> None:
    text = bytes([len(raw)]) + raw
    caid = b"\x22" + text
    device = {
        "request": b"",
        "device": b"\x12" + text,
        "caid": b"\x6a" + bytes([len(caid)]) + caid,
    }[place]
    request_id = b"\x0a" + (text if place == "request" else b"\x01r")

    outcome = read(request_id + b"\x2a" + bytes([len(device)]) + device)

    if isinstance(outcome, InvalidRequest):
        assert outcome.field
    else:
        assert all(isinstance(device_id.value, str) for device_id in outcome.ids)


@given(
    st.text(max_size=64), MD5, MD5, st.sampled_from(RtaRequest.Device.CacheDeviceIdType.values())
)
def test_a_request_comes_through_whole(request_id: str, oaid: str, imei: str, key: int) -> None:
    device = RtaRequest.Device(
        oaid_md5sum=oaid,
        imei_md5sum=imei,
        cached_deviceid_type=RtaRequest.Device.CacheDeviceIdType.Name(key),
    )
    message = RtaRequest(id=request_id, device=device)

    request = ADAPTER.parse(message.SerializeToString())

    assert request.request_id == request_id
    assert {(i.kind, i.value) for i in request.ids} == {("oaid", oaid), ("imei", imei)}
    assert (request.ids[0].kind == "imei") == (key == RtaRequest.Device.IMEI_MD5)


def test_the_answer_to_an_unreadable_body_is_not_empty() -> None:
    status, body = ADAPTER.render_invalid(InvalidRequest("whatever"))

    assert status == 200
    assert RtaResponse.FromString(body).code == 1
