"""What would have been answered for people who are held out, for those who measure what bids bring."""

from msgspec.structs import replace

from rta_service.domain.decision import Decision, StrategyDecision
from rta_service.domain.reason import ReasonCode
from rta_service.domain.request import AdRequest
from rta_service.online import policy
from rta_service.online.control_desk import ControlDesk
from rta_service.online.live_release import BoundStrategy, LiveRelease, prediction
from rta_service.online.person import Person
from rta_service.online.pipeline import candidate
from rta_service.online.pricing import price_strategy
from rta_service.online.score import score


def ghosts(
    live: LiveRelease,
    asked: tuple[AdRequest, Person],
    decision: Decision,
    now_s: int,
    desk: ControlDesk | None = None,
) -> list[StrategyDecision]:
    """Answer for the strategies that held the person out as if they had not.

    By the same arm of the same release, at the same instant; never on the request's way.
    """
    request, person = asked
    arm = live.arm_of(person.key)
    by_id = arm.by_id.get(request.platform.name, {})
    held = [
        by_id[one.strategy_id]
        for one in decision.strategies
        if one.reason is ReasonCode.HOLDOUT and one.strategy_id in by_id
    ]
    if not held:
        return []
    scores = score(arm.models, arm.heads, [candidate(request, person)], now_s)[0]
    registered = person.record is not None and person.record.registered_at > 0
    pcvr = prediction(scores, registered=registered)
    steers = desk if arm.is_steered else None
    sitting = None if steers is None else steers.sit(request, person, counts=False)
    return [
        price_strategy(request, (bound, _without_holdout(bound, person)), scores, pcvr, sitting)
        for bound in held
    ]


def _without_holdout(bound: BoundStrategy, person: Person) -> ReasonCode:
    strategy = replace(bound.strategy, holdout_share=0.0)
    if person.record is None:
        return policy.admit_stranger(strategy, person.key)
    return policy.admit(strategy, bound.traits, person.record, person.stage)
