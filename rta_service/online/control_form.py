"""The `control` table of a strategy, as growth teams write it: what its bids are steered to."""

from collections.abc import Callable
from datetime import datetime, time
from typing import Annotated, Final

import msgspec

from rta_service.domain.control import MICROS, Aim, Budget, CostGoal, Limits, Mode, Targets
from rta_service.domain.control_order import ControlSettings
from rta_service.domain.errors import InvalidInput
from rta_service.domain.platform import BidKind
from rta_service.domain.strategy import Goal
from rta_service.domain.user import LifecycleStage, ValueTier

_Money = Annotated[float, msgspec.Meta(ge=1e-6, le=1e9)]
_DAY_MS: Final = 86_400_000
_GOALS: Final = {Goal.REGISTER: CostGoal.SHALLOW, Goal.TRADE: CostGoal.DEEP}
_TARGET_KEYS: Final = {
    CostGoal.SHALLOW: "target_shallow",
    CostGoal.DEEP: "target_deep",
    CostGoal.VALUE: "roas",
}
CELLS: Final = {
    f"{stage.label}.{tier.label}": (stage, tier)
    for stage in LifecycleStage
    for tier in ValueTier
    if stage is not LifecycleStage.UNKNOWN and tier not in (ValueTier.UNKNOWN, ValueTier.X)
}
"""The words of `shares`."""

Fail = Callable[[str, str], InvalidInput]
"""Takes a field and what is wrong with it."""


class ControlForm(msgspec.Struct, forbid_unknown_fields=True):
    """The keys of `[strategy.control]`; money in currency units."""

    mode: Mode
    goal: CostGoal | None = None
    target_shallow: _Money | None = None
    target_deep: _Money | None = None
    roas: Annotated[float, msgspec.Meta(ge=0.001, le=1000)] | None = None
    deep_rate: Annotated[float, msgspec.Meta(gt=0, le=1)] | None = None
    daily_budget: _Money | None = None
    day_starts: Annotated[
        str, msgspec.Meta(pattern=r"^([01]\d|2[0-3]):[0-5]\d(Z|[+-]([01]\d|2[0-3]):[0-5]\d)\Z")
    ] = "00:00+08:00"
    max_bid: _Money | None = None
    horizon_h: Annotated[float, msgspec.Meta(ge=0.01, le=720)] = 24.0
    per_minute: Annotated[float, msgspec.Meta(gt=0, le=10)] = 0.1
    explore_share: Annotated[float, msgspec.Meta(ge=0, le=0.2)] = 0.02
    guarantee_until: Annotated[datetime, msgspec.Meta(tz=True)] | None = None
    shares: dict[str, Annotated[float, msgspec.Meta(gt=0, le=1)]] = {}
    ahead_h: Annotated[float, msgspec.Meta(ge=0.05, le=24)] = 1.0


class Wanted(msgspec.Struct, frozen=True):
    """What the strategy itself says, and control builds on."""

    goal: Goal
    target_cpa: float
    value: float | None
    answer: BidKind = BidKind.WEIGHT


def control_settings(form: ControlForm, wanted: Wanted, fail: Fail) -> ControlSettings:
    """Turn the table into settings; raises what `fail` makes of a field that is wrong."""
    goal = form.goal or _GOALS[wanted.goal]
    if goal is CostGoal.VALUE and form.mode is not Mode.ROAS:
        raise fail("goal", f"only the mode roas steers value: {form.mode} takes shallow or deep")
    if form.mode is Mode.ROAS and wanted.value is None:
        raise fail("mode", "roas needs to know what a trade is worth: set the strategy's value")
    if form.mode is Mode.MAX_CONVERSIONS and form.daily_budget is None:
        raise fail("mode", "max_conversions spends a budget: set daily_budget")
    _refuse_idle(form, wanted, fail)
    budget = None if form.daily_budget is None else _budget(form.daily_budget, form.day_starts)
    until = form.guarantee_until
    return ControlSettings(
        _aim(form, _targets(form, wanted), goal, fail),
        budget,
        Limits(per_minute=form.per_minute, max_bid_micros=_micros(form.max_bid)),
        form.horizon_h * 3600.0,
        form.explore_share,
        0 if until is None else round(until.timestamp() * 1000),
        _shares(form, fail),
        round(form.ahead_h * 3_600_000),
    )


def _refuse_idle(form: ControlForm, wanted: Wanted, fail: Fail) -> None:
    """Refuse what would have no effect on the strategy's kind of answer."""
    if wanted.answer is BidKind.WEIGHT:
        return
    for key in ("shares", "guarantee_until"):
        if getattr(form, key):
            raise fail(key, f"acts on weights only, and this strategy answers {wanted.answer}")


def _targets(form: ControlForm, wanted: Wanted) -> Targets:
    """Read the targets; the strategy's own is that of its goal unless said otherwise."""
    shallow, deep = form.target_shallow, form.target_deep
    if wanted.goal is Goal.REGISTER:
        shallow = shallow or wanted.target_cpa
    else:
        deep = deep or wanted.target_cpa
    return Targets(_micros(shallow), _micros(deep), form.roas, form.deep_rate)


def _aim(form: ControlForm, targets: Targets, goal: CostGoal, fail: Fail) -> Aim:
    try:
        return Aim(form.mode, targets, goal)
    except InvalidInput as error:
        steered = {
            Mode.DUAL_GUARANTEE: (CostGoal.SHALLOW, CostGoal.DEEP),
            Mode.DEEP_BOOST: (CostGoal.SHALLOW,),
            Mode.ROAS: (CostGoal.VALUE,),
        }.get(form.mode, (goal,))
        missing = [_TARGET_KEYS[one] for one in steered if targets.price(one) is None]
        key = missing[0] if missing else "deep_rate"
        raise fail(key, f"{form.mode} needs it: {error}") from error


def _budget(daily: float, day_starts: str) -> Budget:
    starts = time.fromisoformat(day_starts)
    offset = starts.utcoffset()
    east_ms = 0 if offset is None else round(offset.total_seconds() * 1000)
    local_ms = (starts.hour * 60 + starts.minute) * 60_000
    return Budget(round(daily * MICROS), day_starts_ms=(local_ms - east_ms) % _DAY_MS)


def _shares(form: ControlForm, fail: Fail) -> dict[str, float]:
    for word in form.shares:
        if word not in CELLS:
            raise fail(
                "shares", f"{word!r} is no stage.tier, as growth.S; one of: {', '.join(CELLS)}"
            )
    if form.shares and form.daily_budget is None:
        raise fail("shares", "shares of a budget need one: set daily_budget")
    if (total := sum(form.shares.values())) > 1.0 + 1e-9:
        raise fail("shares", f"they add up to {total:g}, more than the whole budget")
    return form.shares


def _micros(money: float | None) -> int | None:
    return None if money is None else round(money * MICROS)
