"""What the strategies of a release ask of cost control."""

from collections.abc import Iterable

from rta_service.domain.control import CostGoal
from rta_service.domain.control_order import unit_id
from rta_service.domain.platform import BidKind
from rta_service.domain.strategy import OptimisedEvent, Strategy
from rta_service.nearline.control.feeding import Terms


def terms_of(strategies: Iterable[Strategy]) -> dict[str, Terms]:
    """Give the terms of each control unit."""
    found = {}
    for strategy in strategies:
        terms = _terms(strategy)
        if terms is not None:
            for platform in strategy.bindings:
                found[unit_id(strategy.strategy_id, platform)] = terms
    return found


def _terms(strategy: Strategy) -> Terms | None:
    settings = strategy.control
    if settings is None:
        return None
    weighs = strategy.answer is BidKind.WEIGHT
    registers = strategy.optimises is OptimisedEvent.REGISTER
    return Terms(
        settings,
        strategy.answer,
        strategy.value_micros or 0,
        # a cpm is a bid in one auction; other answers live as long as the platform keeps them
        0.0 if strategy.answer is BidKind.CPM else float(strategy.accept_ttl_s),
        (strategy.min_bid, strategy.max_bid) if weighs else (0.2, 5.0),
        CostGoal.SHALLOW if weighs and registers else None,
    )
