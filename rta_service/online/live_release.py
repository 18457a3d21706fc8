"""A release made ready to decide: everything of one release in one immutable object.

A batch takes it once at its start, so no answer can mix two releases.
"""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from rta_service.domain.control import Mode
from rta_service.domain.control_order import unit_id
from rta_service.domain.decision import Arm, Prediction, StrategyDecision, Versions
from rta_service.domain.errors import InvalidInput
from rta_service.domain.funnel import CLICK, REGISTER
from rta_service.domain.platform import BidKind, PlatformInfo
from rta_service.domain.reason import ReasonCode
from rta_service.domain.release import Release, SnapshotManifest
from rta_service.domain.request import AdRequest
from rta_service.domain.strategy import DegradedChoice, Goal, OptimisedEvent, Strategy
from rta_service.experiments import BUCKETS, bucket, layer_salt
from rta_service.online import bid, policy
from rta_service.online.bid import AskedPrice, Bounds, Worth
from rta_service.online.score import Models, Scores, ValueRule
from rta_service.record import RECORD_VERSION

_MIXING: Final = (Mode.DEEP_BOOST, Mode.DUAL_GUARANTEE)
"""A guarantee runs as a boost until its deep conversions are enough."""


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
    pctr_head: str = ""
    """The head that says P(click | exposure) where the price needs one and the platform sends none."""
    unit: str = ""
    """The control unit that steers it; empty without control."""
    event_head: str = ""
    """Of a steered price per goal: the head of P(optimised event | click); empty for a click."""
    given_event: tuple[ValueRule, ValueRule] | None = None
    """Of a steered weight: how registrations and trades follow from the event; None if unknown."""
    money_unit_micros: int = 1
    """The platform's smallest money."""

    @property
    def heads(self) -> tuple[str, ...]:
        """The heads that pricing this strategy needs."""
        asked = (self.goal_head, self.value_numerator, self.value_denominator, self.pctr_head)
        more = () if self.given_event is None else self.given_event
        ruled = [head for rule in more for head in (rule.numerator, rule.denominator)]
        return (*asked, self.event_head, *ruled)

    def asked_price(self, request: AdRequest, scores: Scores) -> AskedPrice:
        """Read what a request says about prices; a pCTR it lacks comes from the click head."""
        pctr = request.pctr
        if pctr is None and self.pctr_head:
            pctr = scores[self.pctr_head]
        return AskedPrice(pctr, request.bid_floor_micros, request.currency)

    def worth(self, scores: Scores) -> Worth:
        """Read one candidate's scores for this strategy."""
        goal = scores[self.goal_head]
        if self.value_kind == "one":
            return Worth(goal, goal**self.strategy.same_goal_exponent)
        names = self.value_kind, self.value_numerator, self.value_denominator
        return Worth(goal, _follows(*names, scores))

    def follows_event(self, scores: Scores) -> tuple[float, float] | None:
        """Read P(register | optimised event) and P(trade | it); None where models don't say."""
        if self.given_event is None:
            return None
        register, trade = self.given_event
        return (
            _follows(register.kind, register.numerator, register.denominator, scores),
            _follows(trade.kind, trade.numerator, trade.denominator, scores),
        )

    def happens(self, scores: Scores) -> float:
        """Read P(optimised event | click)."""
        if self.event_head:
            return scores[self.event_head]
        if self.strategy.optimises is OptimisedEvent.CLICK:
            return 1.0
        worth = self.worth(scores)
        value = worth.value_given_event
        return worth.goal_pcvr / value if value > 0.0 else math.nan

    def degraded(self, reason: ReasonCode) -> StrategyDecision:
        """Answer without a decision: what the strategy chose for such a moment."""
        if self.strategy.degraded is DegradedChoice.ACCEPT:
            neutral = bid.neutral(self.strategy, self.bounds)
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
    by_id: Mapping[str, Mapping[str, BoundStrategy]]
    """Platform name to strategy id to strategy."""
    arm: Arm = Arm.LIVE
    canary: "LiveRelease | None" = None
    """The same release with the canary's models, which decides for a share of all people."""
    canary_salt: int = 0
    canary_share: int = 0
    """Buckets, of a million, whose people the canary decides for."""
    recorded: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """Platform name to strategy id to the buckets, of a million, whose requests are recorded; only
    what is recorded at all stands here."""
    is_steered: bool = False
    """Whether any strategy is under cost control."""

    def arm_of(self, person_key: int) -> "LiveRelease":
        """Give the arm that decides for a person: always the same one while its share lasts.

        A larger share keeps the people of a smaller one; another canary draws its people anew.
        """
        if self.canary is None or bucket(person_key, self.canary_salt) >= self.canary_share:
            return self
        return self.canary

    def asked(self, request: AdRequest) -> Sequence[BoundStrategy]:
        """Give the strategies a request is about: those it names, or all that are bound there."""
        name = request.platform.name
        if not request.asked_strategies:
            return self.bound.get(name, ())
        by_id = self.by_id.get(name, {})
        return [by_id[i] for i in dict.fromkeys(request.asked_strategies) if i in by_id]


def assemble(
    release: Release,
    snapshot: SnapshotManifest,
    models: Models,
    strategies: Sequence[Strategy],
    platforms: Iterable[PlatformInfo],
) -> LiveRelease:
    """Bind strategies to platforms; raises InvalidInput when a part can't be served."""
    if snapshot.record_version != RECORD_VERSION:
        raise InvalidInput(
            f"its records have version {snapshot.record_version}, this service reads "
            f"{RECORD_VERSION}: build it again",
            f"snapshot {snapshot.snapshot_id}",
        )
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
    recorded = {name: shares for name, group in bound.items() if (shares := _recorded(group))}
    return LiveRelease(
        release,
        snapshot,
        models,
        versions,
        bound,
        tuple(sorted(heads)),
        by_id,
        recorded=recorded,
        is_steered=any(s.unit for group in bound.values() for s in group),
    )


def _recorded(group: Sequence[BoundStrategy]) -> dict[str, int]:
    shares = {b.strategy.strategy_id: round(b.strategy.record_rate * BUCKETS) for b in group}
    return {strategy_id: share for strategy_id, share in shares.items() if share}


def with_canary(live: LiveRelease, arm: LiveRelease) -> LiveRelease:
    """Let an arm decide for the people of the release's canary.

    The arm is `assemble` of `rollout.canary_arm`: bound anew, since other models may value people
    by other rules and weigh them by other means.
    """
    canary = live.release.canary
    if canary is None:
        return live
    return replace(
        live,
        canary=replace(arm, arm=Arm.CANARY),
        canary_salt=layer_salt(canary.layer),
        canary_share=canary.share_millionths,
    )


def mean_of(release: Release, strategy_id: str, platform: str) -> float:
    """Read a strategy's mean value on a platform; not-a-number where none was measured."""
    return release.mean_values.get(mean_name(strategy_id, platform), math.nan)


def mean_name(strategy_id: str, platform: str) -> str:
    """Name a mean value in a release."""
    return f"{strategy_id}@{platform}"


def bind(
    strategy: Strategy, info: PlatformInfo, models: Models, mean_value: float
) -> BoundStrategy:
    """Work out all that a strategy means on one platform; raises InvalidInput."""
    place = f"strategy {strategy.strategy_id}"
    _check_words(strategy, info, place)
    rule = models.value_rule(strategy.goal, strategy.optimises)
    if rule.kind == "missing":
        raise InvalidInput(
            f"no model for {strategy.goal} given {strategy.optimises}: train one, "
            "or let the strategy optimise another event",
            place,
        )

    def clamp_ttl(ttl_s: int) -> int:
        return min(max(ttl_s, info.min_ttl_s), info.max_ttl_s)

    degraded = strategy.degraded_ttl_s
    return BoundStrategy(
        strategy=strategy,
        target_id=strategy.bindings[info.name],
        mean_value=mean_value,
        bounds=_bounds(strategy, info, place),
        traits=policy.trait_table(strategy.audience),
        goal_head=strategy.goal.value,
        value_kind=rule.kind,
        value_numerator=rule.numerator,
        value_denominator=rule.denominator,
        accept_ttl_s=clamp_ttl(strategy.accept_ttl_s),
        reject_ttl_s=clamp_ttl(strategy.reject_ttl_s),
        degraded_ttl_s=info.min_ttl_s if degraded is None else clamp_ttl(degraded),
        pctr_head=CLICK if strategy.answer is BidKind.CPM and CLICK in models.heads else "",
        unit="" if strategy.control is None else unit_id(strategy.strategy_id, info.name),
        event_head=_event_head(strategy),
        given_event=_given_event(strategy, models),
        money_unit_micros=info.money_unit_micros,
    )


def _event_head(strategy: Strategy) -> str:
    """Name the head of P(optimised event | click) for a steered price per conversion."""
    is_priced = strategy.control is not None and strategy.answer is BidKind.CPA
    return REGISTER if is_priced and strategy.optimises is OptimisedEvent.REGISTER else ""


def _given_event(strategy: Strategy, models: Models) -> tuple[ValueRule, ValueRule] | None:
    """Find how both goals follow from the event, for weights of a mode that mixes them."""
    control = strategy.control
    if control is None or control.aim.mode not in _MIXING or strategy.answer is not BidKind.WEIGHT:
        return None
    rules = tuple(models.value_rule(goal, strategy.optimises) for goal in Goal)
    return None if any(rule.kind == "missing" for rule in rules) else (rules[0], rules[1])


def _follows(kind: str, numerator: str, denominator: str, scores: Scores) -> float:
    """Read P(goal | event) by a rule."""
    match kind:
        case "head":
            return scores[numerator]
        case "ratio":
            below = scores[denominator]
            return min(scores[numerator] / below, 1.0) if below > 0 else 0.0
        case _:
            return 1.0


def _check_words(strategy: Strategy, info: PlatformInfo, place: str) -> None:
    if strategy.answer not in info.bid_kinds:
        kinds = ", ".join(info.bid_kinds)
        raise InvalidInput(f"{info.name} takes no {strategy.answer} answers, only {kinds}", place)
    if strategy.answer is not BidKind.WEIGHT and info.currency not in ("", strategy.currency):
        raise InvalidInput(
            f"{info.name} takes prices in {info.currency}, not {strategy.currency}: set currency, "
            "target_cpa and bounds in it",
            place,
        )
    target_id, legal = strategy.bindings[info.name], info.target_id_pattern
    if legal and not re.fullmatch(legal, target_id):
        raise InvalidInput(f"{target_id!r} is no id of {info.name}: it must match {legal}", place)


def _bounds(strategy: Strategy, info: PlatformInfo, place: str) -> Bounds:
    if strategy.answer is BidKind.WEIGHT:
        lowest, highest = info.min_weight, info.max_weight
    else:
        lowest, highest = 0.0, float(info.max_price_micros)
    low, high = max(strategy.min_bid, lowest), min(strategy.max_bid, highest)
    if low > high:
        raise InvalidInput(f"bounds lie outside {info.name}'s {lowest} to {highest}", place)
    return Bounds(low, high)


def prediction(scores: Scores, *, registered: bool) -> Prediction:
    """Read the two published probabilities; who has registered can't register again."""
    return Prediction(0.0 if registered else scores["register"], scores["trade"])
