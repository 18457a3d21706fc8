"""Ids meet whatever their spelling, absent ids never do, and keys keep their secret."""

import hashlib

import pytest
from hypothesis import given, strategies as st

from rta_service.device_key import KEY_BYTES, KeyRing, bucket_of, canonical_md5, canonical_raw
from rta_service.domain.device import IdForm, IdKind

KEYS = KeyRing(pepper=b"pepper", experiment_key=b"experiment")


def md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


@pytest.mark.parametrize(
    ("kind", "value", "spelled"),
    [
        (IdKind.IDFA, "abcdef01-2345", "ABCDEF01-2345"),
        (IdKind.MAC, "aa:bb-cc", "AABBCC"),
        (IdKind.IMEI, "35A", "35a"),
        (IdKind.ANDROID_ID, "ABC", "abc"),
        (IdKind.GAID, "ABC-D", "abc-d"),
        (IdKind.OAID, "AbC", "AbC"),
        (IdKind.CAID, "AbC", "AbC"),
        (None, " AbC ", "AbC"),
    ],
)
def test_a_raw_id_is_spelled_as_platforms_spell_it(
    kind: IdKind | None, value: str, spelled: str
) -> None:
    assert canonical_raw(kind, value) == spelled


@given(st.sampled_from(IdKind), st.text(min_size=1).filter(lambda text: text.strip(" 0:-")))
def test_a_raw_id_meets_its_md5_in_either_case(kind: IdKind, value: str) -> None:
    digest = md5(canonical_raw(kind, value))

    found = canonical_md5(kind, value, IdForm.RAW)

    if found is not None:  # a spelling may leave nothing but zeros or nothing at all
        assert found == digest
        assert canonical_md5(kind, digest.upper(), IdForm.MD5) == digest
        assert canonical_md5(None, digest) == digest


@pytest.mark.parametrize(
    "value",
    ["", "0", "00000000-0000-0000-0000-000000000000", "00:00:00:00:00:00", "0" * 32, "  "],
)
def test_zeros_and_nothing_are_absent_raw_and_hashed(value: str) -> None:
    assert canonical_md5(None, value) is None
    assert canonical_md5(None, value, IdForm.RAW) is None
    assert canonical_md5(None, md5(value.strip())) is None


@pytest.mark.parametrize("value", ["xyz", "g" * 32, "a" * 31])
def test_a_malformed_md5_is_absent(value: str) -> None:
    assert canonical_md5(IdKind.OAID, value, IdForm.MD5) is None


def test_keys_never_change_for_the_same_secrets() -> None:
    assert KEYS.device_key(md5("a")).hex() == "6d01488826418c0d"
    assert KEYS.person_key("user", md5("a")) == 11032123956031888001
    assert KEYS.person_key(None, md5("a")) == 14813405363856126880
    assert KEYS.request_tag("json", "q1") == 12304145844701832841


def test_the_pepper_hides_devices_and_leaves_people_where_they_are() -> None:
    rotated = KeyRing(pepper=b"another", experiment_key=KEYS.experiment_key)

    assert rotated.device_key(md5("a")) != KEYS.device_key(md5("a"))
    assert rotated.person_key("user", "") == KEYS.person_key("user", "")
    assert rotated.request_tag("json", "q1") == KEYS.request_tag("json", "q1")
    assert rotated.pepper_id != KEYS.pepper_id
    assert b"pepper".hex() not in KEYS.pepper_id


def test_a_user_keeps_one_key_on_every_device() -> None:
    assert KEYS.person_key("user", md5("a")) == KEYS.person_key("user", md5("b"))
    assert KEYS.person_key(None, md5("a")) != KEYS.person_key(None, md5("b"))


@given(st.binary(min_size=KEY_BYTES, max_size=KEY_BYTES), st.integers(0, 24))
def test_buckets_of_sorted_keys_are_runs(key: bytes, bits: int) -> None:
    bucket = bucket_of(key, bits)

    assert 0 <= bucket < 2**bits
    assert bucket == int.from_bytes(key, "big") >> (64 - bits)


def test_requests_of_two_platforms_may_have_one_name() -> None:
    assert KEYS.request_tag("json", "q1") != KEYS.request_tag("tencent", "q1")
