from hashlib import md5
from typing import Any

import pytest

from rta_service.device_key import KeyRing
from rta_service.domain.attribution import (
    NANOS,
    Conversion,
    CostRow,
    Fact,
    Place,
    Refund,
    Touch,
    TouchKind,
)
from rta_service.domain.decision import Arm, Prediction
from rta_service.domain.events import Event
from rta_service.domain.happening import Happening
from rta_service.domain.tag import Tag, TagCodec, release_mark, strategy_mark
from rta_service.nearline.attribution.facts import FactReader, naming

NOON_MS = 1_790_000_000_000
HOUR = NOON_MS // 3_600_000
KEYS = KeyRing(b"a pepper", b"an experiment key")
CODEC = TagCodec(b"an event key")
READER = FactReader(KEYS, CODEC.read, naming(["other", "wake"]))
MD5 = md5(b"a phone", usedforsecurity=False).hexdigest()
TAG = Tag(
    release_mark("r1"),
    strategy_mark("wake"),
    NOON_MS // 60_000 - 600,
    pcvr=Prediction(0.25, 0.5),
    arm=Arm.CANARY,
)
RELEASE = f"{release_mark('r1'):08x}"


def read(event: Event, **fields: Any) -> Fact | None:
    return READER.read(Happening("e1", NOON_MS, event, **fields))


def touch(event: Event = Event.AD_CLICK, **fields: Any) -> Touch:
    fact = read(event, **fields)
    assert isinstance(fact, Touch)
    return fact


def conversion(event: Event = Event.REGISTER, **fields: Any) -> Conversion:
    fact = read(event, **fields)
    assert isinstance(fact, Conversion)
    return fact


@pytest.mark.parametrize(
    ("event", "kind"),
    [
        (Event.AD_WIN, TouchKind.WIN),
        (Event.AD_EXPOSURE, TouchKind.EXPOSURE),
        (Event.AD_CLICK, TouchKind.CLICK),
    ],
)
def test_what_an_ad_did_is_a_touch_with_its_cost(event: Event, kind: TouchKind) -> None:
    found = touch(event, channel="json", strategy_id="s1", campaign_id="c1", cost_micros=7)

    assert (found.kind, found.cost_micros, found.told) == (kind, 7, False)
    assert found.place == Place(HOUR, "json", "s1", "c1")


def test_a_tag_tells_strategy_arm_release_and_predictions() -> None:
    found = touch(channel="tencent", tag=CODEC.write(TAG))

    assert found.place == Place(HOUR, "tencent", "wake", "", "canary", RELEASE)
    assert found.told
    assert found.register_nanos / NANOS == pytest.approx(0.25, rel=0.005)
    assert found.trade_nanos / NANOS == pytest.approx(0.5, rel=0.005)


def test_a_strategy_that_the_event_names_stays() -> None:
    assert touch(strategy_id="s1", tag=CODEC.write(TAG)).place.strategy == "s1"


def test_a_strategy_nobody_knows_any_more_goes_by_its_mark() -> None:
    reader = FactReader(KEYS, CODEC.read, naming(["other"]))
    happening = Happening("e1", NOON_MS, Event.AD_CLICK, tag=CODEC.write(TAG))

    fact = reader.read(happening)

    assert isinstance(fact, Touch)
    assert fact.place.strategy == f"#{strategy_mark('wake'):06x}"


@pytest.mark.parametrize("text", ["7", "x" * 36, TagCodec(b"another key").write(TAG)])
def test_a_text_that_is_no_tag_of_ours_names_nothing(text: str) -> None:
    found = touch(tag=text)

    assert (found.names, found.told, found.place.release) == ((), False, "")


def test_without_a_codec_no_text_is_a_tag() -> None:
    fact = FactReader(KEYS).read(Happening("e1", NOON_MS, Event.AD_CLICK, tag=CODEC.write(TAG)))

    assert isinstance(fact, Touch)
    assert fact.names == ()


def test_a_conversion_shares_persons_and_names_with_its_click() -> None:
    tag = CODEC.write(TAG)
    click = touch(device_md5s=(MD5,), request_id="r1", tag=tag, channel="json")
    register = conversion(device_md5s=(MD5,), request_id="r1", tag=tag, user_id="u1")

    assert set(click.persons) < set(register.persons)
    assert set(click.names) == set(register.names)
    assert len(click.names) == 2


def test_a_user_and_a_device_of_one_name_are_two() -> None:
    assert not {*touch(user_id=MD5).persons} & {*touch(device_md5s=(MD5,)).persons}


@pytest.mark.parametrize(
    ("event", "goal"),
    [
        (Event.DOWNLOAD, "download"),
        (Event.ACTIVATE, "activate"),
        (Event.REGISTER, "register"),
        (Event.PAY, "trade"),
    ],
)
def test_words_are_goals(event: Event, goal: str) -> None:
    assert conversion(event).goal == goal


def test_a_step_is_a_goal_by_its_own_name() -> None:
    assert conversion(Event.CONVERSION, step="loan_granted").goal == "loan_granted"


def test_a_conversion_keeps_what_its_tag_tells_in_the_hour_of_the_decision() -> None:
    found = conversion(channel="json", tag=CODEC.write(TAG), cents=5, order_id="o1")

    assert found.place == Place(HOUR, "json")
    assert found.told == Place(HOUR - 10, "json", "wake", "", "canary", RELEASE)
    assert found.told_ms == TAG.decided_ms
    assert found.cents == 5
    assert found.order


def test_a_refund_finds_its_order() -> None:
    refund = read(Event.REFUND, order_id="o1", cents=3)

    assert isinstance(refund, Refund)
    assert (refund.order, refund.cents) == (conversion(order_id="o1").order, 3)


def test_a_report_of_a_strategy_is_about_it_whatever_its_campaign() -> None:
    by_strategy = read(
        Event.COST_REPORT, channel="json", strategy_id="s1", campaign_id="c1", cost_micros=9
    )
    by_campaign = read(Event.COST_REPORT, channel="json", campaign_id="c1", cost_micros=9)

    assert isinstance(by_strategy, CostRow)
    assert isinstance(by_campaign, CostRow)
    assert by_strategy.place == Place(HOUR, "json", "s1")
    assert by_campaign.place == Place(HOUR, "json", "", "c1")


@pytest.mark.parametrize("event", [Event.LAUNCH, Event.VIEW, Event.OPT_OUT, Event.REFUND])
def test_the_rest_is_not_counted(event: Event) -> None:
    assert read(event) is None


def test_hashes_fit_into_64_bits_with_a_sign() -> None:
    events = [touch(device_md5s=(f"{n:032x}",), request_id=str(n)) for n in range(50)]

    hashes = [key for event in events for key in (*event.persons, *event.names)]
    assert len(set(hashes)) == 100
    assert min(hashes) < 0 < max(hashes)
    assert all(-(2**63) <= key < 2**63 for key in hashes)
