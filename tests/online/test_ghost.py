"""Ghost bids: what people who are held out would have been answered."""

from typing import Any

import msgspec
import pytest

from rta_service.domain.decision import Decision
from rta_service.domain.reason import ReasonCode
from rta_service.domain.user import ValueTier
from rta_service.experiments import in_holdout
from rta_service.online.ghost import ghosts
from rta_service.online.person import Person

HELD = next(key for key in range(1, 100) if in_holdout(key, 0.5))


@pytest.fixture
def decided(kit: Any) -> Any:
    """Decides about one person by a release, and by the same release without holdouts."""

    async def run(live: Any, record: Any, who: object = 1) -> tuple[Decision, Person]:
        md5 = kit.md5_of(who)
        pipeline = kit.a_pipeline(kit.a_reader({md5: record} if record else {}), live)
        outcome = await pipeline.decide([kit.a_request(md5)], 1e9)
        assert outcome.live is live
        (person,) = outcome.people
        return outcome.decisions[0], person

    return run


@pytest.mark.parametrize("tier", [ValueTier.A, ValueTier.C])
@pytest.mark.parametrize("days", [1, 20, 40])
@pytest.mark.parametrize("share", [1, 999_999])
async def test_a_ghost_is_the_answer_that_would_have_been_given(
    kit: Any, decided: Any, tier: ValueTier, days: int, share: int
) -> None:
    last = kit.now_s - days * 86_400
    record = kit.a_record(person_key=HELD, tier=tier, last_active_at=last, activated_at=last)
    strategy = kit.a_strategy(holdout_share=0.5)
    free = msgspec.structs.replace(strategy, holdout_share=0.0)
    live = kit.two_arms(share, strategy)

    held, person = await decided(live, record)
    answer, _ = await decided(kit.two_arms(share, free), record)

    request = kit.a_request(kit.md5_of(1))
    found = ghosts(live, (request, person), held, kit.now_s)
    if held.reason is ReasonCode.HOLDOUT:
        assert found == list(answer.strategies)
        assert found[0].participate
    else:
        assert found == []
        assert held.reason == answer.reason


async def test_a_stranger_who_is_held_out_has_a_ghost_too(kit: Any, decided: Any) -> None:
    everybody = kit.an_audience(unknown=True)
    names = [f"s{share}" for share in range(1, 6)]
    live = kit.a_live(
        *(
            kit.a_strategy(
                strategy_id=name,
                bindings={"json": name},
                audience=everybody,
                holdout_share=share / 10,
            )
            for share, name in enumerate(names, 1)
        )
    )

    stranger = next(
        who for who in range(100) if in_holdout(kit.keys.person_key(None, kit.md5_of(who)), 0.3)
    )
    decision, person = await decided(live, None, stranger)

    held = [s.strategy_id for s in decision.strategies if s.reason is ReasonCode.HOLDOUT]
    found = ghosts(live, (kit.a_request(kit.md5_of(stranger)), person), decision, kit.now_s)
    assert {"s3", "s4", "s5"} <= set(held)
    assert [one.strategy_id for one in found] == held
    assert all(one.reason is ReasonCode.UNKNOWN_ACCEPTED for one in found)
    assert all(one.pcvr is not None for one in found)


async def test_nobody_held_out_asks_no_model(kit: Any, decided: Any) -> None:
    models = kit.some_models()
    live = kit.a_live(models=models)
    decision, person = await decided(live, kit.a_record())
    models.heads["trade"].rows.clear()

    found = ghosts(live, (kit.a_request(kit.md5_of(1)), person), decision, kit.now_s)

    assert found == []
    assert models.heads["trade"].rows == []
