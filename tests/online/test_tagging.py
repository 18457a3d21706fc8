"""Tags on answers: which get one, what it says, and that nothing else changes."""

from typing import Any

import msgspec
import pytest
from hypothesis import given, strategies as st

from rta_service.domain.decision import Arm, Decision
from rta_service.domain.errors import StoreUnavailable
from rta_service.domain.reason import ReasonCode
from rta_service.domain.strategy import DegradedChoice
from rta_service.domain.tag import Tag, TagCodec, release_mark, strategy_mark
from rta_service.domain.user import LifecycleStage, ValueTier
from rta_service.experiments import in_holdout
from rta_service.online.pipeline import BatchOutcome, Pipeline

CODEC = TagCodec(b"an event key")
LATER = 1e9


@pytest.fixture
def decide(kit: Any) -> Any:
    """Decides requests of person 1 with and without tags."""

    async def run(live: Any, *requests: Any, tags: Any = CODEC, **fields: Any) -> BatchOutcome:
        record = kit.a_record(tier=ValueTier.A, person_key=7)
        reader = kit.a_reader({kit.md5_of(1): record}, **fields)
        pipeline = Pipeline(reader, kit.keys, kit.a_clock(), tags)
        pipeline.live = live
        return await pipeline.decide(list(requests), LATER)

    return run


def _read(decision: Decision) -> list[Tag | None]:
    return [CODEC.read(one.tag) if one.tag else None for one in decision.strategies]


def _bare(decision: Decision) -> Decision:
    strategies = [msgspec.structs.replace(one, tag="") for one in decision.strategies]
    return msgspec.structs.replace(decision, strategies=tuple(strategies))


async def test_a_tag_says_what_decided_and_what_came_of_it(kit: Any, decide: Any) -> None:
    outcome = await decide(kit.a_live(), kit.a_request(kit.md5_of(1), platform="tencent"))

    (tag,) = _read(outcome.decisions[0])
    assert tag is not None
    assert (tag.release, tag.strategy) == (release_mark("r1"), strategy_mark("s"))
    assert tag.request == CODEC.request_mark("tencent", "q")
    assert tag.decided_ms == kit.now_s * 1000 // 60_000 * 60_000
    assert (tag.stage, tag.tier, tag.arm) == (LifecycleStage.GROWTH, ValueTier.A, Arm.LIVE)
    assert tag.bid is not None
    assert tag.bid.value == pytest.approx(1.0, rel=0.0025)
    assert tag.pcvr is not None
    assert tag.pcvr.trade == pytest.approx(0.01, rel=0.0025)
    assert not tag.held_out


async def test_only_strategies_that_take_part_get_one(kit: Any, decide: Any) -> None:
    unwanted = kit.a_strategy(
        strategy_id="n", audience=kit.an_audience(tiers=frozenset({ValueTier.D}))
    )

    outcome = await decide(kit.a_live(kit.a_strategy(), unwanted), kit.a_request(kit.md5_of(1)))

    yes, no = _read(outcome.decisions[0])
    assert yes is not None
    assert no is None


async def test_a_holdout_of_another_strategy_shows(kit: Any) -> None:
    held = next(key for key in range(100) if in_holdout(key, 0.5))
    other = kit.a_strategy(strategy_id="h", holdout_share=0.5)
    reader = kit.a_reader({kit.md5_of(1): kit.a_record(person_key=held)})
    pipeline = Pipeline(reader, kit.keys, kit.a_clock(), CODEC)
    pipeline.live = kit.a_live(kit.a_strategy(), other)

    outcome = await pipeline.decide([kit.a_request(kit.md5_of(1))], LATER)

    (yes, no) = _read(outcome.decisions[0])
    assert outcome.decisions[0].strategies[1].reason is ReasonCode.HOLDOUT
    assert yes is not None
    assert yes.held_out
    assert no is None


async def test_a_platform_that_takes_no_tags_gets_none(
    kit: Any, decide: Any, infos: dict[str, Any]
) -> None:
    plain = msgspec.structs.replace(infos["json"], tags=False)
    request = msgspec.structs.replace(kit.a_request(kit.md5_of(1)), platform=plain)

    outcome = await decide(kit.a_live(), request)

    assert outcome.decisions[0].participate
    assert _read(outcome.decisions[0]) == [None]


@given(st.lists(st.integers(1, 3), min_size=1, max_size=6))
def test_a_tag_changes_nothing_else_of_an_answer(kit: Any, people: list[int]) -> None:
    def decided(tags: TagCodec | None) -> list[Decision]:
        live = kit.two_arms(500_000)
        reader = kit.a_reader({kit.md5_of(1): kit.a_record(), kit.md5_of(2): kit.a_record()})
        pipeline = Pipeline(reader, kit.keys, kit.a_clock(), tags)
        pipeline.live = live
        batch = [kit.a_request(kit.md5_of(person)) for person in people]
        deciding = pipeline.decide(batch, LATER)
        with pytest.raises(StopIteration) as done:
            deciding.send(None)
        outcome = done.value.value
        assert isinstance(outcome, BatchOutcome)
        return outcome.decisions

    with_tags, without = decided(CODEC), decided(None)

    assert list(map(_bare, with_tags)) == without
    assert [d.participate for d in with_tags] == [
        any(one.tag for one in d.strategies) for d in with_tags
    ]


async def test_a_degraded_yes_has_a_tag_without_predictions(kit: Any, decide: Any) -> None:
    live = kit.a_live(kit.a_strategy(degraded=DegradedChoice.ACCEPT))

    outcome = await decide(live, kit.a_request(kit.md5_of(1)), error=StoreUnavailable("gone"))

    (tag,) = _read(outcome.decisions[0])
    assert tag is not None
    assert tag.pcvr is None
    assert tag.bid is not None


async def test_an_answer_whose_tag_fails_goes_without_and_is_counted(kit: Any, decide: Any) -> None:
    class Broken(TagCodec):
        def write(self, tag: Tag) -> str:
            raise RuntimeError(tag)

    outcome = await decide(kit.a_live(), kit.a_request(kit.md5_of(1)), tags=Broken(b"key"))

    assert outcome.decisions[0].participate
    assert _read(outcome.decisions[0]) == [None]
    assert isinstance(outcome.failure, RuntimeError)
