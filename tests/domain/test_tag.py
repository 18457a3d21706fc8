import base64
import math

import msgspec
import pytest
from hypothesis import example, given, strategies as st

from rta_service.domain.decision import Arm, Bid, Prediction
from rta_service.domain.platform import BidKind
from rta_service.domain.tag import (
    TAG_CHARACTERS,
    Tag,
    TagCodec,
    reader_of,
    release_mark,
    strategy_mark,
)
from rta_service.domain.user import LifecycleStage, ValueTier

OURS = TagCodec(b"a secret of the tests")
OTHER = TagCodec(b"another secret of the tests")
RATES = st.floats(1e-8, 1.0)
PRICES = st.integers(1, 2**53).map(float)
BIDS = st.builds(Bid, st.just(BidKind.WEIGHT), st.floats(1e-6, 1e6)) | st.builds(
    Bid, st.sampled_from([k for k in BidKind if k is not BidKind.WEIGHT]), PRICES
)
TAGS = st.builds(
    Tag,
    release=st.integers(0, 2**32 - 1),
    strategy=st.integers(0, 2**22 - 1),
    minute=st.integers(26_297_280, 26_297_280 + 2**24 - 1),
    request=st.integers(0, 2**40 - 1),
    pcvr=st.none() | st.builds(Prediction, RATES, RATES),
    bid=st.none() | BIDS,
    stage=st.sampled_from(LifecycleStage),
    tier=st.sampled_from(ValueTier),
    arm=st.sampled_from(Arm),
    held_out=st.booleans(),
)
EXAMPLE = Tag(
    release=release_mark("r-20250901-1"),
    strategy=strategy_mark("wake-buyers"),
    minute=29_000_000,
    request=OURS.request_mark("tencent", "t-0001"),
    pcvr=Prediction(0.0312, 0.0123),
    bid=Bid(BidKind.WEIGHT, 1.35),
    stage=LifecycleStage.SILENT,
    tier=ValueTier.A,
    arm=Arm.CANARY,
    held_out=True,
)


def _plain(tag: Tag) -> Tag:
    return msgspec.structs.replace(tag, pcvr=None, bid=None)


@given(TAGS)
def test_a_tag_comes_back_as_it_was_with_numbers_rounded_by_a_quarter_of_a_percent(
    tag: Tag,
) -> None:
    read = OURS.read(OURS.write(tag))

    assert read is not None
    assert _plain(read) == _plain(tag)
    assert (read.pcvr is None) is (tag.pcvr is None)
    if tag.pcvr is not None and read.pcvr is not None:
        assert read.pcvr.register == pytest.approx(tag.pcvr.register, rel=0.0025, abs=1.1e-8)
        assert read.pcvr.trade == pytest.approx(tag.pcvr.trade, rel=0.0025, abs=1.1e-8)
    assert (read.bid is None) is (tag.bid is None)
    if tag.bid is not None and read.bid is not None:
        assert read.bid.kind is tag.bid.kind
        assert read.bid.value == pytest.approx(tag.bid.value, rel=0.0025)


@example(Tag(0, 0, 26_297_280, pcvr=Prediction(1.0, 1.0000000000000002e-08)))
@given(TAGS)
def test_what_was_read_is_written_as_the_same_text(tag: Tag) -> None:
    text = OURS.write(tag)
    read = OURS.read(text)

    assert read is not None
    assert OURS.write(read) == text


@given(TAGS)
def test_a_tag_passes_through_links_unharmed(tag: Tag) -> None:
    text = OURS.write(tag)

    assert len(text) == TAG_CHARACTERS
    assert base64.urlsafe_b64encode(base64.urlsafe_b64decode(text)).decode() == text


@given(TAGS, st.integers(0, 27 * 8 - 1))
def test_a_tag_with_any_bit_changed_is_none(tag: Tag, bit: int) -> None:
    data = bytearray(base64.urlsafe_b64decode(OURS.write(tag)))
    data[bit // 8] ^= 1 << bit % 8

    assert OURS.read(base64.urlsafe_b64encode(data).decode()) is None


@given(st.text(max_size=40) | st.from_regex(r"[A-Za-z0-9_-]{36}", fullmatch=True))
def test_any_other_text_is_none(text: str) -> None:
    assert OURS.read(text) is None


@pytest.mark.parametrize(
    "change",
    [str.upper, str.swapcase, lambda t: t[:-1], lambda t: t + "=", lambda t: t[:-1] + "="],
)
def test_a_tag_has_one_spelling(change: object) -> None:
    assert callable(change)
    assert OURS.read(change(OURS.write(EXAMPLE))) is None


def test_the_standard_alphabet_is_not_taken_for_ours() -> None:
    tags = (msgspec.structs.replace(EXAMPLE, request=n) for n in range(100))
    text = next(t for t in map(OURS.write, tags) if "-" in t or "_" in t)

    assert OURS.read(text) is not None
    assert OURS.read(text.replace("-", "+").replace("_", "/")) is None


def test_nobody_else_reads_a_tag_or_makes_one() -> None:
    assert OTHER.read(OURS.write(EXAMPLE)) is None
    assert OTHER.request_mark("tencent", "t-0001") != OURS.request_mark("tencent", "t-0001")


def test_two_tags_that_differ_a_little_look_nothing_alike() -> None:
    one = base64.urlsafe_b64decode(OURS.write(EXAMPLE))
    two = base64.urlsafe_b64decode(OURS.write(msgspec.structs.replace(EXAMPLE, minute=29_000_001)))

    assert sum(a == b for a, b in zip(one, two, strict=True)) <= 3


def test_tags_never_change() -> None:
    assert OURS.write(EXAMPLE) == "NFpaWNlIdLmfwGilhk-vA75kHSCw1NY3uxFF"
    assert release_mark("r-20250901-1") == 3742067918
    assert strategy_mark("wake-buyers") == 2433522


@pytest.mark.parametrize(
    ("rate", "read"),
    [(0.0, 0.0), (-1.0, 0.0), (math.nan, 0.0), (1e-9, 0.0), (1.0, 1.0), (9.0, 1.0)],
)
def test_a_rate_beyond_the_scale_is_read_as_its_end(rate: float, read: float) -> None:
    tag = OURS.read(OURS.write(msgspec.structs.replace(EXAMPLE, pcvr=Prediction(rate, 0.5))))

    assert tag is not None
    assert tag.pcvr is not None
    assert tag.pcvr.register == read


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf, 1e300])
@pytest.mark.parametrize("kind", BidKind)
def test_a_bid_beyond_the_scale_is_read_as_its_end(kind: BidKind, value: float) -> None:
    tag = OURS.read(OURS.write(msgspec.structs.replace(EXAMPLE, bid=Bid(kind, value))))

    assert tag is not None
    assert tag.bid is not None
    assert tag.bid.kind is kind
    assert tag.bid.value > 0
    assert tag.bid.value < (1e-5 if not value > 0 and kind is BidKind.WEIGHT else math.inf)


@pytest.mark.parametrize(("minute", "read"), [(0, 26_297_280), (2**40, 26_297_280 + 2**24 - 1)])
def test_a_clock_that_is_wild_makes_no_unreadable_tag(minute: int, read: int) -> None:
    tag = OURS.read(OURS.write(msgspec.structs.replace(EXAMPLE, minute=minute)))

    assert tag is not None
    assert tag.minute == read


def test_a_request_without_an_id_has_no_mark() -> None:
    assert OURS.request_mark("tencent", "") == 0
    assert OURS.request_mark("tencent", "a") != OURS.request_mark("json", "a")
    assert OURS.request_mark("tencent", "\u5f20") < 2**40


def test_the_minute_of_a_decision_is_given_in_ms() -> None:
    assert EXAMPLE.decided_ms == 1_740_000_000_000


def test_tags_of_several_keys_are_read_and_forged_ones_are_not() -> None:
    tag = Tag(1, 2, 29_000_000)
    read = reader_of([OURS, OTHER])

    assert read(OURS.write(tag)) == read(OTHER.write(tag)) == tag
    assert reader_of([OURS])(OURS.write(tag)) == tag
    assert reader_of([OURS])(OTHER.write(tag)) is None
    assert read(TagCodec(b"a third secret").write(tag)) is None
    assert read("x" * TAG_CHARACTERS) is None
