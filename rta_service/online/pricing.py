"""One strategy's answer for a person: by its own formula, or as cost control steers it."""

from rta_service.domain.decision import Prediction, StrategyDecision
from rta_service.domain.reason import PARTICIPATING, ReasonCode
from rta_service.domain.request import AdRequest
from rta_service.online import bid
from rta_service.online.control_desk import Sitting
from rta_service.online.live_release import BoundStrategy
from rta_service.online.score import Scores
from rta_service.online.steering import Offer

Verdict = tuple[BoundStrategy, ReasonCode]
"""One strategy's judgement before any model is asked."""


def price_strategy(
    request: AdRequest,
    verdict: Verdict,
    scores: Scores,
    pcvr: Prediction,
    sitting: Sitting | None = None,
) -> StrategyDecision:
    """Price one wanted strategy, or pass its no on; predictions show wherever there are any."""
    bound, reason = verdict
    if reason not in PARTICIPATING:
        return declined(bound, reason, pcvr)
    if sitting is not None and bound.unit:
        return _steered(verdict, sitting.price(bound, scores, pcvr), pcvr)
    offered = bid.price(
        bound.strategy,
        bound.mean_value,
        bound.worth(scores),
        bound.asked_price(request, scores),
        bound.bounds,
    )
    if isinstance(offered, ReasonCode):
        return declined(bound, offered, pcvr)
    strategy_id = bound.strategy.strategy_id
    return StrategyDecision(strategy_id, bound.target_id, reason, True, offered, pcvr)  # noqa: FBT003 - the struct's fourth field is `participate`


def _steered(verdict: Verdict, offer: Offer, pcvr: Prediction) -> StrategyDecision:
    (bound, reason), (offered, steered) = verdict, offer
    strategy_id, target_id = bound.strategy.strategy_id, bound.target_id
    if isinstance(offered, ReasonCode):
        return StrategyDecision(strategy_id, target_id, offered, pcvr=pcvr, steered=steered)
    return StrategyDecision(strategy_id, target_id, reason, True, offered, pcvr, "", steered)  # noqa: FBT003 - the struct's fourth field is `participate`


def declined(
    bound: BoundStrategy, reason: ReasonCode, pcvr: Prediction | None = None
) -> StrategyDecision:
    """Say no for a strategy."""
    return StrategyDecision(bound.strategy.strategy_id, bound.target_id, reason, pcvr=pcvr)
