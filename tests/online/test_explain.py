import json
from typing import Any

import pytest

from rta_service import experiments
from rta_service.domain.device import DeviceId, IdForm, IdKind
from rta_service.domain.errors import StoreUnavailable
from rta_service.domain.platform import BidKind
from rta_service.domain.tag import TagCodec, release_mark
from rta_service.domain.user import ValueTier
from rta_service.online.explain import Means, explain
from rta_service.scoring.model_set import ValueRule

RAW = "a-raw-oaid"


@pytest.fixture
def ask(kit: Any) -> Any:
    """Explains a request that carries RAW, whose record is `record` if there is one."""

    async def run(
        *strategies: Any, record: Any = None, live: Any = None, tags: Any = None, **request: Any
    ) -> Any:
        reader = kit.a_reader({kit.md5_of(RAW): record} if record else {})
        ids = (DeviceId(IdKind.OAID, RAW, IdForm.RAW),)
        asked = kit.a_request(**({"ids": ids} | request))
        shown = await explain(
            live or kit.a_live(*strategies), Means(reader, kit.keys, kit.a_clock(), tags), asked
        )
        json.dumps(shown, allow_nan=False)
        return shown

    return run


async def test_every_number_on_the_way_to_a_bid_is_shown(kit: Any, ask: Any) -> None:
    shown = await ask(record=kit.a_record())

    (strategy,) = shown["strategies"]
    assert (shown["participate"], shown["reason"], shown["ttl_s"]) == (True, "accepted", 3600)
    assert shown["versions"]["release"] == "r1"
    assert shown["person"]["stage"] == "growth"
    assert shown["person"]["thresholds"]["silent_days"] == 18
    assert shown["person"]["role"] == "buyer"
    assert shown["person"]["last_active_days_ago"] == 1.0
    assert shown["person"]["registered_days_ago"] is None
    assert strategy["bid"] == {"kind": "weight", "value": 1.0, "currency": ""}
    assert strategy["head.trade"] == strategy["value_given_event"] == 0.01
    assert strategy["weight_before_bounds"] == strategy["before_bounds"] == 1.0
    assert strategy["expected_value_micros"] == 300_000
    assert strategy["bounds"] == [0.2, 5.0]


async def test_ids_are_shown_as_keyed_hashes_only(kit: Any, ask: Any) -> None:
    shown = await ask(record=kit.a_record())

    text = json.dumps(shown)
    key = kit.keys.device_key(kit.md5_of(RAW)).hex()
    assert shown["ids"] == [{"kind": "oaid", "key": key, "found": True}]
    assert RAW not in text
    assert kit.md5_of(RAW) not in text
    assert "person_key" not in text


async def test_a_no_shows_its_sentence_and_no_price(kit: Any, ask: Any) -> None:
    shown = await ask(record=kit.a_record(tier=ValueTier.X))

    (strategy,) = shown["strategies"]
    assert strategy["reason"] == "never_bid"
    assert strategy["why"] == "value tier X: professional seller or suppressed"
    assert "before_bounds" not in strategy


async def test_the_last_reason_stands_even_where_a_price_was_worked_out(kit: Any, ask: Any) -> None:
    cpm = kit.a_strategy(answer=BidKind.CPM, bindings={"json": "s"})

    shown = await ask(cpm, record=kit.a_record())

    assert shown["reason"] == shown["strategies"][0]["reason"] == "no_pctr"
    assert shown["strategies"][0]["before_bounds"] == 0.0


async def test_a_stranger_has_a_stage_of_its_own_and_no_record(ask: Any) -> None:
    shown = await ask()

    assert (shown["person"]["known"], shown["person"]["stage"]) == (False, "unknown")
    assert shown["ids"][0]["found"] is False


async def test_numbers_that_are_none_are_shown_as_none(kit: Any, ask: Any) -> None:
    shown = await ask(live=kit.a_live(mean=0.0), record=kit.a_record())

    assert shown["strategies"][0]["reason"] == "no_value"
    assert shown["strategies"][0]["weight_before_bounds"] is None


async def test_the_rule_of_the_value_is_named(kit: Any, ask: Any) -> None:
    strategy = kit.a_strategy()
    rules = {(strategy.goal, strategy.optimises): ValueRule("ratio", "trade", "register")}
    live = kit.a_live(strategy, models=kit.some_models(rules=rules))

    shown = await ask(live=live, record=kit.a_record())

    assert shown["strategies"][0]["value_rule"] == "trade / register"


async def test_the_tag_of_a_yes_is_shown_where_tags_are_given(kit: Any, ask: Any) -> None:
    codec = TagCodec(b"an event key")

    (yes,) = (await ask(record=kit.a_record(), tags=codec))["strategies"]
    (no,) = (await ask(record=kit.a_record(tier=ValueTier.X), tags=codec))["strategies"]

    tag = codec.read(yes["tag"])
    assert tag is not None
    assert tag.release == release_mark("r1")
    assert "tag" not in no


async def test_without_a_usable_id_there_is_nobody_to_explain(ask: Any) -> None:
    shown = await ask(ids=())

    assert shown["reason"] == "no_device_id"
    assert "person" not in shown


async def test_a_store_that_is_away_is_said_plainly(kit: Any) -> None:
    reader = kit.a_reader(error=StoreUnavailable("gone"))

    with pytest.raises(StoreUnavailable):
        await explain(
            kit.a_live(),
            Means(reader, kit.keys, kit.a_clock()),
            kit.a_request(kit.md5_of(1)),
        )


@pytest.mark.parametrize(("share", "arm", "trade"), [(999_999, "canary", 0.03), (1, "live", 0.01)])
async def test_the_arm_and_the_bucket_that_chose_it_are_shown(
    kit: Any, ask: Any, share: int, arm: str, trade: float
) -> None:
    live = kit.two_arms(share)

    shown = await ask(record=kit.a_record(person_key=7), live=live)

    bucket = experiments.bucket(7, live.canary_salt)
    assert shown["arm"] == arm
    assert shown["canary"] == {
        "models": {"trade": "v2"},
        "bucket": bucket,
        "share_millionths": share,
    }
    assert shown["strategies"][0]["head.trade"] == trade
    assert shown["strategies"][0]["mean_value"] == (0.02 if arm == "canary" else 0.01)


async def test_a_release_without_a_canary_has_one_arm_only(kit: Any, ask: Any) -> None:
    shown = await ask(record=kit.a_record())

    assert shown["arm"] == "live"
    assert "canary" not in shown
