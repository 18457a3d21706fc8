"""Strategies as growth teams write them: a TOML file, checked with line and field."""

import re
import tomllib
from collections.abc import Mapping, Sequence
from typing import Annotated, Final, TypeVar

import msgspec

from rta_service.domain.control import CostGoal, Mode
from rta_service.domain.control_order import ControlSettings
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
from rta_service.online.control_form import ControlForm, Wanted, control_settings

_Word = TypeVar("_Word")

_MICROS: Final = 1_000_000
_STAGES: Final = {s.label: s for s in LifecycleStage if s is not LifecycleStage.UNKNOWN}
_SEGMENTS: Final = {s.label: s for s in RFMSegment}
_TIERS: Final = {t.label: t for t in ValueTier if t not in (ValueTier.UNKNOWN, ValueTier.X)}
_ROLES: Final = {r.label: r for r in Role}
_WAKE_TIERS: Final = [t.label for t in (ValueTier.S, ValueTier.A, ValueTier.B)]
_WANTED_ROLES: Final = [r.label for r in Role if r is not Role.PROFESSIONAL_SELLER]
_PLATFORMS: Final = [name for name in PLATFORM_CODES if name != "other"]
_PRICED: Final = (BidKind.CPC, BidKind.CPM)
"""Answers that need a prediction, so none can be given without a decision."""

_Id = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_-]{1,32}\Z")]
_Share = Annotated[float, msgspec.Meta(ge=0, le=0.5)]
_Money = Annotated[float, msgspec.Meta(ge=1e-6, le=1e9)]
"""Currency units, at least a micro; the upper end keeps micros exact in a float."""
_Bindings = Annotated[dict[str, _Id], msgspec.Meta(min_length=1)]
_Seconds = Annotated[int, msgspec.Meta(ge=1, le=7 * 86_400)]


class _AudienceForm(msgspec.Struct, forbid_unknown_fields=True):
    stages: list[str] = msgspec.field(default_factory=lambda: list(_STAGES))
    segments: list[str] = msgspec.field(default_factory=lambda: list(_SEGMENTS))
    tiers: list[str] = msgspec.field(default_factory=lambda: list(_TIERS))
    wake_tiers: list[str] = msgspec.field(default_factory=lambda: list(_WAKE_TIERS))
    roles: list[str] = msgspec.field(default_factory=lambda: list(_WANTED_ROLES))
    funnel: list[FunnelRule] = []
    unknown: bool = False


class _StrategyForm(msgspec.Struct, forbid_unknown_fields=True):
    id: _Id
    bindings: _Bindings
    optimises: OptimisedEvent
    goal: Goal
    target_cpa: _Money
    answer: BidKind
    audience: _AudienceForm = msgspec.field(default_factory=_AudienceForm)
    currency: Annotated[str, msgspec.Meta(pattern=r"^[A-Z]{3}\Z")] = "CNY"
    bounds: tuple[_Money, _Money] | None = None
    value: _Money | None = None
    holdout_share: _Share = 0.0
    record_rate: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.0
    same_goal_exponent: Annotated[float, msgspec.Meta(ge=0, le=2)] = 0.0
    accept_ttl_s: _Seconds = 3600
    reject_ttl_s: _Seconds = 3600
    degraded: DegradedChoice = DegradedChoice.DECLINE
    degraded_ttl_s: _Seconds | None = None
    control: ControlForm | None = None


class _File(msgspec.Struct, forbid_unknown_fields=True):
    strategy: Annotated[list[_StrategyForm], msgspec.Meta(min_length=1)]


def parse(text: str, name: str = "strategies") -> tuple[Strategy, ...]:
    """Read a strategies file; raises InvalidInput whose place is `name:line: field`."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidInput(str(error), _syntax_place(str(error), text, name)) from error
    try:
        forms = msgspec.convert(document, _File).strategy
    except msgspec.ValidationError as error:
        message, _, path = str(error).partition(" - at `$")
        message += _allowed(path)
        raise InvalidInput(message, _place(text, name, _full_path(path, message))) from error
    strategies = tuple(
        _strategy(form, _Where(text, name, index)) for index, form in enumerate(forms)
    )
    _check_unique(strategies, text, name)
    return strategies


def _allowed(path: str) -> str:
    """List the words a field takes, where it takes only some."""
    field = re.sub(r"\[[^]]*\]|`", "", path)
    words = _WORDS.get(".".join(field.split(".")[-2:])) or _WORDS.get(field.rpartition(".")[2], ())
    return f"; one of: {', '.join(words)}" if words else ""


_WORDS: Final = {
    "optimises": tuple(OptimisedEvent),
    "goal": tuple(Goal),
    "answer": tuple(BidKind),
    "degraded": tuple(DegradedChoice),
    "funnel": tuple(FunnelRule),
    "mode": tuple(Mode),
    "control.goal": (CostGoal.SHALLOW, CostGoal.DEEP),
    "day_starts": ("a time with its offset, as 00:00+08:00",),
    "id": ("1 to 32 letters, digits, _ and -",),
}


class _Where(msgspec.Struct):
    """Which strategy of which text is being read, for error messages."""

    text: str
    name: str
    index: int

    def fail(self, field: str, message: str) -> InvalidInput:
        path = f"strategy[{self.index}].{field}"
        return InvalidInput(message, _place(self.text, self.name, path))


def _strategy(form: _StrategyForm, where: _Where) -> Strategy:
    _check(form, where)
    low, high = _bounds(form, where)
    return Strategy(
        strategy_id=form.id,
        bindings=form.bindings,
        audience=_audience(form.audience, where),
        optimises=form.optimises,
        goal=form.goal,
        target_cpa_micros=round(form.target_cpa * _MICROS),
        answer=form.answer,
        currency=form.currency,
        min_bid=low,
        max_bid=high,
        value_micros=None if form.value is None else round(form.value * _MICROS),
        holdout_share=form.holdout_share,
        record_rate=form.record_rate,
        same_goal_exponent=form.same_goal_exponent,
        accept_ttl_s=form.accept_ttl_s,
        reject_ttl_s=form.reject_ttl_s,
        degraded_ttl_s=form.degraded_ttl_s,
        degraded=form.degraded,
        control=_control(form, where),
    )


def _control(form: _StrategyForm, where: _Where) -> ControlSettings | None:
    if form.control is None:
        return None

    def fail(field: str, message: str) -> InvalidInput:
        return where.fail(f"control.{field}", message)

    wanted = Wanted(form.goal, form.target_cpa, form.value, form.answer)
    return control_settings(form.control, wanted, fail)


def _check(form: _StrategyForm, where: _Where) -> None:
    for platform in form.bindings:
        if platform not in _PLATFORMS:
            known = ", ".join(_PLATFORMS)
            raise where.fail("bindings", f"unknown platform {platform!r}; known: {known}")
    if form.same_goal_exponent and form.goal.value != form.optimises.value:
        raise where.fail(
            "same_goal_exponent", "only means something where goal and optimises are the same"
        )
    if form.degraded is DegradedChoice.ACCEPT and form.answer in _PRICED:
        message = f"a {form.answer} can't be given without a prediction: only decline is possible"
        raise where.fail("degraded", message)


def _bounds(form: _StrategyForm, where: _Where) -> tuple[float, float]:
    """Give the bounds as a factor for weights, as whole micros for prices."""
    weighs = form.answer is BidKind.WEIGHT
    low, high = form.bounds or ((0.2, 5.0) if weighs else (0.01, 1e6))
    if low > high:
        raise where.fail("bounds", f"lower bound {low} is above upper bound {high}")
    return (low, high) if weighs else (float(round(low * _MICROS)), float(round(high * _MICROS)))


def _audience(form: _AudienceForm, where: _Where) -> Audience:
    def words(field: str, known: Mapping[str, _Word]) -> frozenset[_Word]:
        given: list[str] = getattr(form, field)
        for word in given:
            if word not in known:
                options = ", ".join(known)
                raise where.fail(f"audience.{field}", f"unknown word {word!r}; one of: {options}")
        return frozenset(known[word] for word in given)

    for rule in form.funnel:
        if f"not_{rule}" in form.funnel:
            message = f"wants both {rule} and not_{rule}: reaches nobody"
            raise where.fail("audience.funnel", message)
    return Audience(
        stages=words("stages", _STAGES),
        segments=words("segments", _SEGMENTS),
        tiers=words("tiers", _TIERS),
        roles=words("roles", _ROLES),
        wake_tiers=words("wake_tiers", _TIERS),
        funnel=frozenset(form.funnel),
        unknown=form.unknown,
    )


def _check_unique(strategies: Sequence[Strategy], text: str, name: str) -> None:
    ids: set[str] = set()
    targets: set[tuple[str, str]] = set()
    for index, strategy in enumerate(strategies):
        where = _Where(text, name, index)
        if strategy.strategy_id in ids:
            raise where.fail("id", f"a strategy {strategy.strategy_id!r} stands above already")
        ids.add(strategy.strategy_id)
        for platform, target in strategy.bindings.items():
            if (platform, target) in targets:
                message = f"a strategy above has the id {target!r} on {platform} already"
                raise where.fail("bindings", message)
            targets.add((platform, target))


def _syntax_place(message: str, text: str, name: str) -> str:
    found = re.search(r"\(at line (\d+)", message)
    return f"{name}:{found[1] if found else len(text.splitlines())}"


def _full_path(path: str, message: str) -> str:
    """Join msgspec's path with the field that only its message names."""
    path = path.strip("`.")
    field = re.search(r"(?:unknown|required) field `([^`]+)`", message)
    return ".".join(filter(None, (path, field and field[1])))


def _place(text: str, name: str, path: str) -> str:
    """Find the line of a field such as strategy[1].audience.tiers[0] in the text."""
    found = re.match(r"(?:strategy\[(\d+)\]\.?)?(.*)", path)
    index, field = found.groups() if found else (None, "")
    field = re.sub(r"\[.*", "", field)
    lines = text.splitlines()
    heads = [i for i, line in enumerate(lines) if line.strip().startswith("[[strategy]]")]
    start, end = 0, len(lines)
    if index is not None and int(index) < len(heads):
        start, end = [*heads, end][int(index) : int(index) + 2]
    section, _, last = field.rpartition(".")
    if section:
        table = re.compile(
            rf"^\s*\[strategy\.{re.escape(section)}[\].]|^\s*{re.escape(section)}\s*="
        )
        start = next((i for i in range(start, end) if table.search(lines[i])), start)
    key = re.compile(rf"(^|[\s{{,.\[]){re.escape(last)}\s*[=\]]")
    named = (i for i in range(start, end) if field and key.search(lines[i].split("#")[0]))
    line = next(named, start)
    return f"{name}:{line + 1}: {field}" if field else f"{name}:{line + 1}"
