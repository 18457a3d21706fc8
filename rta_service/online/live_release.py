"""A release made ready to decide: everything of one release in one immutable object.

A batch takes it once at its start, so no answer can mix two releases.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from rta_service.domain.decision import Bid, Prediction, StrategyDecision, Versions
from rta_service.domain.errors import InvalidInput
from rta_service.domain.platform import BidKind, PlatformInfo
from rta_service.domain.reason import ReasonCode
from rta_service.domain.release import Release, SnapshotManifest
from rta_service.domain.strategy import DegradedChoice, Strategy
from rta_service.online import bid, policy
from rta_service.online.bid import Bounds, Worth
from rta_service.online.score import Models, Scores


@dataclass(frozen=True, slots=True)
class BoundStrategy:
    """A strategy on one platform, with all that can be worked out before a request comes."""

    strategy: Strategy
    target_id: str
    mean_value: float
    bounds: Bounds
    traits: tuple[ReasonCode, ...]
    goal_head: str
    value_kind: str
    value_numerator: str
    value_denominator: str
    accept_ttl_s: int
    reject_ttl_s: int
    degraded_ttl_s: int

    @property
    def heads(self) -> tuple[str, ...]:
        """The heads that pricing this strategy needs."""
        return (self.goal_head, self.value_numerator, self.value_denominator)

    def worth(self, scores: Scores, row: int) -> Worth:
        """Read a scored row for this strategy."""
        goal = scores[self.goal_head][row]
        match self.value_kind:
            case "head":
                value = scores[self.value_numerator][row]
            case "ratio":
                below = scores[self.value_denominator][row]
                value = min(scores[self.value_numerator][row] / below, 1.0) if below > 0 else 0.0
            case _:
                value = goal**self.strategy.same_goal_exponent
        return Worth(goal, value)

    def degraded(self, reason: ReasonCode) -> StrategyDecision:
        """Answer without a decision: what the strategy chose for such a moment."""
        if self.strategy.degraded is DegradedChoice.ACCEPT:
            neutral: Bid | None = bid.neutral(self.strategy, self.bounds)
            if neutral is not None:
                return StrategyDecision(
                    self.strategy.strategy_id,
                    self.target_id,
                    ReasonCode.DEGRADED_ACCEPTED,
                    participate=True,
                    bid=neutral,
                )
        return StrategyDecision(self.strategy.strategy_id, self.target_id, reason)


@dataclass(frozen=True, slots=True)
class LiveRelease:
    """Snapshot, models and strategies that decide together."""

    release: Release
    snapshot: SnapshotManifest
    models: Models
    versions: Versions
    bound: Mapping[str, tuple[BoundStrategy, ...]]
    """Platform name to the strategies bound there."""
    heads: tuple[str, ...]
    """The heads that any bound strategy or answer needs."""
    by_id: Mapping[str, Mapping[str, BoundStrategy]] = field(default_factory=dict)
    """Platform name to strategy id to strategy."""


def assemble(
    release: Release,
    snapshot: SnapshotManifest,
    models: Models,
    strategies: Sequence[Strategy],
    platforms: Iterable[PlatformInfo],
) -> LiveRelease:
    """Bind strategies to platforms; raises InvalidInput when a strategy can't be served."""
    bound = {
        info.name: tuple(
            bind(strategy, info, models, mean_of(release, strategy.strategy_id, info.name))
            for strategy in strategies
            if info.name in strategy.bindings
        )
        for info in platforms
    }
    heads = {"register", "trade"} | {h for b in bound.values() for s in b for h in s.heads if h}
    versions = Versions(
        release.release_id,
        release.snapshot_id,
        {ref.name: ref.version for ref in release.models},
        release.strategies_id,
    )
    by_id = {name: {s.strategy.strategy_id: s for s in group} for name, group in bound.items()}
    return LiveRelease(release, snapshot, models, versions, bound, tuple(sorted(heads)), by_id)


def mean_of(release: Release, strategy_id: str, platform: str) -> float:
    """Read a strategy's mean value on a platform; not-a-number where none was measured."""
    return release.mean_values.get(mean_name(strategy_id, platform), math.nan)


def mean_name(strategy_id: str, platform: str) -> str:
    """Name a mean value in a release."""
    return f"{strategy_id}@{platform}"


def bind(
    strategy: Strategy, info: PlatformInfo, models: Models, mean_value: float
) -> BoundStrategy:
    """Work out all that a strategy means on one platform."""
    place = f"strategy {strategy.strategy_id}"
    if strategy.answer not in info.bid_kinds:
        kinds = ", ".join(info.bid_kinds)
        raise InvalidInput(f"{info.name} takes no {strategy.answer} answers, only {kinds}", place)
    rule = models.value_rule(strategy.goal, strategy.optimises)
    if rule.kind == "missing":
        raise InvalidInput(
            f"no model for {strategy.goal} given {strategy.optimises}: train one, "
            "or let the strategy optimise another event",
            place,
        )
    low, high = strategy.min_bid, strategy.max_bid
    if strategy.answer is BidKind.WEIGHT:
        low, high = max(low, info.min_weight), min(high, info.max_weight)
        if low > high:
            raise InvalidInput(
                f"bounds lie outside {info.name}'s {info.min_weight} to {info.max_weight}", place
            )

    def clamp_ttl(ttl_s: int) -> int:
        return min(max(ttl_s, info.min_ttl_s), info.max_ttl_s)

    degraded = strategy.degraded_ttl_s
    return BoundStrategy(
        strategy=strategy,
        target_id=strategy.bindings[info.name],
        mean_value=mean_value,
        bounds=Bounds(low, high),
        traits=policy.trait_table(strategy.audience),
        goal_head=strategy.goal.value,
        value_kind=rule.kind,
        value_numerator=rule.numerator,
        value_denominator=rule.denominator,
        accept_ttl_s=clamp_ttl(strategy.accept_ttl_s),
        reject_ttl_s=clamp_ttl(strategy.reject_ttl_s),
        degraded_ttl_s=info.min_ttl_s if degraded is None else clamp_ttl(degraded),
    )


def prediction(scores: Scores, row: int, *, registered: bool) -> Prediction:
    """Read the two published probabilities; who has registered can't register again."""
    register = 0.0 if registered else scores["register"][row]
    return Prediction(register, scores["trade"][row])
