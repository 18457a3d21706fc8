import hashlib
from typing import Any

import pytest
from hypothesis import given, strategies as st

from rta_service.domain.device import DeviceId, IdForm, IdKind
from rta_service.online.identity import MAX_IDS, resolve

KINDS = st.sampled_from(IdKind)
RAW_IDS = st.text("0123456789abcdef", min_size=16, max_size=16)


def _md5(raw: str) -> str:
    return hashlib.md5(raw.encode(), usedforsecurity=False).hexdigest()


@pytest.mark.parametrize(
    ("kind", "raw", "hashed"),
    [
        (IdKind.OAID, "A1b2-c3", "A1b2-c3"),
        (IdKind.IDFA, "1e2dfa89-496a-47fd-9941-df1fc4e6484a", None),
        (IdKind.MAC, "02:00:00:aa:00:01", "020000AA0001"),
        (IdKind.IMEI, "35A", "35a"),
    ],
)
def test_raw_and_hashed_ids_meet(
    a_request: Any, keys: Any, kind: IdKind, raw: str, hashed: str | None
) -> None:
    digest = _md5(hashed or raw.upper())

    as_raw = resolve(a_request(ids=(DeviceId(kind, raw, IdForm.RAW),)), keys)
    as_md5 = resolve(a_request(ids=(DeviceId(kind, digest.upper(), IdForm.MD5),)), keys)

    assert as_raw == as_md5
    assert as_raw[0].md5 == digest


@pytest.mark.parametrize(
    ("form", "value"),
    [
        (IdForm.RAW, ""),
        (IdForm.RAW, "00000000-0000-0000-0000-000000000000"),
        (IdForm.MD5, "0" * 32),
        (IdForm.MD5, _md5("")),
        (IdForm.MD5, _md5("000000000000000")),
        (IdForm.MD5, "not an md5"),
    ],
)
def test_absent_ids_vanish(a_request: Any, keys: Any, form: IdForm, value: str) -> None:
    assert resolve(a_request(ids=(DeviceId(IdKind.IDFA, value, form),)), keys) == []


@given(st.lists(st.tuples(RAW_IDS, st.booleans()), max_size=2 * MAX_IDS))
def test_ids_come_once_and_the_trusted_first_in_their_order(
    a_request: Any, keys: Any, sent: list[tuple[str, bool]]
) -> None:
    ids = tuple(DeviceId(IdKind.OAID, raw, IdForm.RAW, trusted) for raw, trusted in sent)

    resolved = [r.md5 for r in resolve(a_request(ids=ids), keys)]

    in_order = [raw for raw, trusted in sent if trusted] + [raw for raw, _ in sent]
    usable = [_md5(raw) for raw in dict.fromkeys(in_order) if raw.strip("0")]
    assert resolved == usable[:MAX_IDS]


def test_an_id_sent_as_doubtful_and_as_trusted_is_trusted(a_request: Any, keys: Any) -> None:
    twice = (
        DeviceId(IdKind.OAID, _md5("a"), trusted=False),
        DeviceId(IdKind.IMEI, _md5("b"), trusted=True),
        DeviceId(IdKind.OAID, _md5("a"), trusted=True),
    )

    assert [r.md5 for r in resolve(a_request(ids=twice), keys)] == [_md5("b"), _md5("a")]


def test_one_request_costs_the_store_a_bounded_number_of_reads(a_request: Any, keys: Any) -> None:
    ids = tuple(DeviceId(IdKind.CAID, _md5(str(i)), trusted=i != 1) for i in range(1, 30))

    resolved = resolve(a_request(ids=ids), keys)

    assert [r.md5 for r in resolved] == [_md5(str(i)) for i in range(2, MAX_IDS + 2)]
