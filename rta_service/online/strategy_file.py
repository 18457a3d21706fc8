"""Strategies as growth teams write them: a TOML file, checked with line and field."""

import re
import tomllib
from collections.abc import Sequence
from typing import Annotated, Any, Final

import msgspec

from rta_service.domain.errors import InvalidInput
from rta_service.domain.platform import PLATFORM_CODES, BidKind
from rta_service.domain.strategy import (
    Audience,
    DegradedChoice,
    FunnelRule,
    Goal,
    OptimisedEvent,
    Strategy,
)
from rta_service.domain.user import LifecycleStage, RFMSegment, Role, ValueTier

_MICROS: Final = 1_000_000
_STAGES: Final = [s.label for s in LifecycleStage if s is not LifecycleStage.UNKNOWN]
_TIERS: Final = [t.label for t in ValueTier if t not in (ValueTier.UNKNOWN, ValueTier.X)]
_WAKE_TIERS: Final = [ValueTier.S.label, ValueTier.A.label, ValueTier.B.label]
_ROLES: Final = [r.label for r in Role if r is not Role.PROFESSIONAL_SELLER]
_SEGMENTS: Final = [s.label for s in RFMSegment]

_Id = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_-]{1,32}$")]
_Share = Annotated[float, msgspec.Meta(ge=0, le=0.5)]
_Positive = Annotated[float, msgspec.Meta(gt=0)]
_Seconds = Annotated[int, msgspec.Meta(ge=1, le=7 * 86_400)]


class _AudienceForm(msgspec.Struct, forbid_unknown_fields=True):
    stages: list[str] = msgspec.field(default_factory=lambda: list(_STAGES))
    segments: list[str] = msgspec.field(default_factory=lambda: list(_SEGMENTS))
    tiers: list[str] = msgspec.field(default_factory=lambda: list(_TIERS))
    wake_tiers: list[str] = msgspec.field(default_factory=lambda: list(_WAKE_TIERS))
    roles: list[str] = msgspec.field(default_factory=lambda: list(_ROLES))
    funnel: list[FunnelRule] = []
    unknown: bool = False


class _StrategyForm(msgspec.Struct, forbid_unknown_fields=True):
    id: _Id
    bindings: dict[str, _Id]
    optimises: OptimisedEvent
    goal: Goal
    target_cpa: _Positive
    answer: BidKind
    audience: _AudienceForm = msgspec.field(default_factory=_AudienceForm)
    currency: Annotated[str, msgspec.Meta(pattern="^[A-Z]{3}$")] = "CNY"
    bounds: tuple[_Positive, _Positive] | None = None
    value: _Positive | None = None
    holdout_share: _Share = 0.0
    same_goal_exponent: Annotated[float, msgspec.Meta(ge=0, le=2)] = 0.0
    accept_ttl_s: _Seconds = 3600
    reject_ttl_s: _Seconds = 3600
    degraded: DegradedChoice = DegradedChoice.DECLINE
    degraded_ttl_s: _Seconds | None = None


class _File(msgspec.Struct, forbid_unknown_fields=True):
    strategy: Annotated[list[_StrategyForm], msgspec.Meta(min_length=1)]


def parse(text: str, name: str = "strategies") -> tuple[Strategy, ...]:
    """Read a strategies file; raises InvalidInput whose place is `name:line: field`."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidInput(str(error), name) from error
    try:
        forms = msgspec.convert(document, _File).strategy
    except msgspec.ValidationError as error:
        message, _, path = str(error).partition(" - at `$.")
        raise InvalidInput(message, _place(text, name, path.rstrip("`"))) from error
    strategies = tuple(
        _strategy(form, _Where(text, name, index)) for index, form in enumerate(forms)
    )
    _check_unique([s.strategy_id for s in strategies], text, name)
    return strategies


class _Where(msgspec.Struct):
    """Which strategy of which text is being read, for error messages."""

    text: str
    name: str
    index: int

    def fail(self, field: str, message: str) -> InvalidInput:
        path = f"strategy[{self.index}].{field}"
        return InvalidInput(message, _place(self.text, self.name, path))


def _strategy(form: _StrategyForm, where: _Where) -> Strategy:
    for platform in form.bindings:
        if platform not in PLATFORM_CODES:
            known = ", ".join(PLATFORM_CODES)
            raise where.fail("bindings", f"unknown platform {platform!r}; known: {known}")
    low, high = form.bounds or ((0.2, 5.0) if form.answer is BidKind.WEIGHT else (0.01, 1e6))
    if low > high:
        raise where.fail("bounds", f"lower bound {low} is above upper bound {high}")
    if form.same_goal_exponent and form.goal.value != form.optimises.value:
        raise where.fail(
            "same_goal_exponent", "only means something where goal and optimises are the same"
        )
    unit = 1.0 if form.answer is BidKind.WEIGHT else _MICROS
    return Strategy(
        strategy_id=form.id,
        bindings=form.bindings,
        audience=_audience(form.audience, where),
        optimises=form.optimises,
        goal=form.goal,
        target_cpa_micros=round(form.target_cpa * _MICROS),
        answer=form.answer,
        currency=form.currency,
        min_bid=low * unit,
        max_bid=high * unit,
        value_micros=None if form.value is None else round(form.value * _MICROS),
        holdout_share=form.holdout_share,
        same_goal_exponent=form.same_goal_exponent,
        accept_ttl_s=form.accept_ttl_s,
        reject_ttl_s=form.reject_ttl_s,
        degraded_ttl_s=form.degraded_ttl_s,
        degraded=form.degraded,
    )


def _audience(form: _AudienceForm, where: _Where) -> Audience:
    def words(field: str, given: Sequence[str], known: Any) -> frozenset[Any]:
        by_label = {member.label: member for member in known}
        for word in given:
            if word not in by_label:
                options = ", ".join(by_label)
                raise where.fail(f"audience.{field}", f"unknown word {word!r}; one of: {options}")
        return frozenset(by_label[word] for word in given)

    for contradiction in FunnelRule:
        if contradiction in form.funnel and f"not_{contradiction}" in form.funnel:
            message = f"wants both {contradiction} and not_{contradiction}: reaches nobody"
            raise where.fail("audience.funnel", message)
    return Audience(
        stages=words("stages", form.stages, LifecycleStage),
        segments=words("segments", form.segments, RFMSegment),
        tiers=words("tiers", form.tiers, ValueTier),
        roles=words("roles", form.roles, Role),
        wake_tiers=words("wake_tiers", form.wake_tiers, ValueTier),
        funnel=frozenset(form.funnel),
        unknown=form.unknown,
    )


def _check_unique(ids: Sequence[str], text: str, name: str) -> None:
    for index, strategy_id in enumerate(ids):
        if strategy_id in ids[:index]:
            place = _place(text, name, f"strategy[{index}].id")
            raise InvalidInput(f"a strategy {strategy_id!r} stands above already", place)


def _place(text: str, name: str, path: str) -> str:
    """Find the line of a field such as strategy[1].audience.tiers[0] in the text."""
    found = re.match(r"strategy\[(\d+)\]\.?(.*)", path)
    if found is None:
        return f"{name}: {path}" if path else name
    index, field = int(found[1]), re.sub(r"\[.*", "", found[2])
    lines = text.splitlines()
    heads = [i for i, line in enumerate(lines) if line.strip().startswith("[[strategy]]")]
    start = heads[index] if index < len(heads) else 0
    end = heads[index + 1] if index + 1 < len(heads) else len(lines)
    last = re.escape(field.rsplit(".", maxsplit=1)[-1])
    for number in range(start, end):
        if last and re.search(rf"(^|[\s{{,.\[]){last}\s*[=\]]", lines[number]):
            return f"{name}:{number + 1}: {field}"
    return f"{name}:{start + 1}: {field}" if field else f"{name}:{start + 1}"
