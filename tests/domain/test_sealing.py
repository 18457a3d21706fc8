import msgspec
import pytest
from hypothesis import given, strategies as st

from rta_service.domain.errors import InvalidInput
from rta_service.domain.events import Event
from rta_service.domain.happening import Happening, SealedHappening
from rta_service.domain.sealing import Sealer, from_bytes, to_bytes

OURS = Sealer(b"a secret of the tests")
OTHER = Sealer(b"another secret of the tests")
MD5 = "c4ca4238a0b923820dcc509a6f75849b"
MD5S = st.binary(min_size=16, max_size=16).map(bytes.hex)
WORDS = st.text(st.characters(codec="utf-8"), max_size=20)

HAPPENINGS = st.builds(
    Happening,
    event_id=WORDS,
    ts_ms=st.integers(0, 2**53),
    event=st.sampled_from(Event),
    device_md5s=st.lists(MD5S, max_size=3).map(tuple),
    user_id=WORDS,
    cents=st.integers(0, 10**14),
    **dict.fromkeys(
        ("currency", "order_id", "category", "item_id", "campaign_id", "channel", "placement"),
        WORDS,
    ),
    **dict.fromkeys(("os", "request_id", "tag", "strategy_id", "step"), WORDS),
    cost_micros=st.integers(0, 10**15),
)


@given(HAPPENINGS)
def test_a_sealed_happening_comes_back_as_it_was(happening: Happening) -> None:
    sealed = from_bytes(to_bytes(OURS.seal(happening)))

    assert OURS.unseal(sealed) == happening


def test_nobody_is_found_in_sealed_bytes() -> None:
    happening = Happening("e1", 1, Event.PAY, (MD5,), "user-77")

    data = to_bytes(OURS.seal(happening))

    assert b"user-77" not in data
    assert MD5.encode() not in data
    assert bytes.fromhex(MD5) not in data


def test_the_same_person_looks_the_same_and_another_does_not() -> None:
    again = Sealer(b"a secret of the tests")

    assert OURS.seal_md5(MD5) == again.seal_md5(MD5)
    assert OURS.seal_user("u1") == again.seal_user("u1")
    assert OURS.seal_md5(MD5) != OURS.seal_md5("0" + MD5[1:])
    assert OURS.seal_user("u1") != OURS.seal_user("u2")
    assert OURS.seal_md5(MD5) != OTHER.seal_md5(MD5)


def test_sealed_forms_never_change() -> None:
    # events are kept for years: another result would mean that nobody is found again
    assert OURS.key_id == "280d1f8b"
    assert OURS.seal_md5(MD5).hex() == "7e2f986966529e49c05859dc81827126"
    assert OURS.seal_user("u1").hex() == "95022f0153c53a239837f2fed60beffd3571"


def test_a_wrong_key_is_noticed() -> None:
    sealed = OURS.seal(Happening("e1", 1, Event.PAY, (MD5,)))

    with pytest.raises(InvalidInput, match="another event key"):
        OTHER.unseal(sealed)
    with pytest.raises(InvalidInput, match="another event key"):
        OTHER.unseal_user(OURS.seal_user("u1"))


@pytest.mark.parametrize("sealed", [b"x", b"x" * 17, OURS.seal_user("u1")[:-1]])
def test_a_damaged_user_id_is_noticed(sealed: bytes) -> None:
    with pytest.raises(InvalidInput, match="damaged"):
        OURS.unseal_user(sealed)


def test_a_block_of_another_length_is_no_md5() -> None:
    with pytest.raises(InvalidInput, match="16 bytes, not 15"):
        OURS.unseal_md5(b"x" * 15)


@pytest.mark.parametrize(
    "data", [b"", b"\xc1", b"{}", to_bytes(OURS.seal(Happening("e", 1, Event.PAY)))[:-1]]
)
def test_bytes_that_hold_no_sealed_happening_are_refused(data: bytes) -> None:
    with pytest.raises(InvalidInput, match="not a sealed event"):
        from_bytes(data)


def test_what_was_written_before_a_field_was_added_is_still_read() -> None:
    first = SealedHappening("00000000", "e1", 1, Event.PAY)
    written = msgspec.msgpack.encode(["00000000", "e1", 1, "pay"])

    assert from_bytes(written) == first


def test_a_long_secret_is_as_good_as_a_short_one() -> None:
    assert Sealer(b"x" * 500).key_id != Sealer(b"x" * 501).key_id


def test_what_was_sealed_before_there_were_steps_is_read() -> None:
    sealed = OURS.seal(Happening("e1", 1, Event.PAY, (MD5,)))
    before = msgspec.msgpack.encode(list(msgspec.structs.astuple(sealed))[:-1])

    assert from_bytes(before) == sealed


def test_earlier_keys_unseal_what_they_sealed_and_seal_nothing_new() -> None:
    happening = Happening("e1", 1, Event.PAY, (MD5,), "user-77")
    after = Sealer(b"the third secret", [b"another secret of the tests", b"a secret of the tests"])

    assert after.unseal(OURS.seal(happening)) == happening
    assert after.unseal(OTHER.seal(happening)) == happening
    assert after.seal(happening) == Sealer(b"the third secret").seal(happening)
    assert after.under(OURS.key_id).unseal_md5(OURS.seal_md5(MD5)) == MD5
    assert (after.knows(after.key_id), after.knows(OURS.key_id)) == (True, True)
    assert not after.knows("00000000")
    with pytest.raises(InvalidInput, match="RTA_EARLIER_EVENT_KEYS"):
        OURS.unseal(after.seal(happening))
