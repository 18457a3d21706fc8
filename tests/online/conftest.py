"""Builders whose every argument has a default, and fakes of what a test can't have for real."""

import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from rta_service.device_key import KeyRing
from rta_service.domain.control import Aim, Block, CostGoal, GoalBlock, Mode, Reason, Targets
from rta_service.domain.control_order import ControlSettings, Grant, Order
from rta_service.domain.device import DeviceId, IdForm, IdKind, OperatingSystem, Placement
from rta_service.domain.platform import BidKind, PlatformInfo
from rta_service.domain.release import Canary, ModelRef, Release, SnapshotManifest
from rta_service.domain.request import AdRequest
from rta_service.domain.rollout import canary_arm
from rta_service.domain.strategy import Audience, Goal, OptimisedEvent, Strategy
from rta_service.domain.thresholds import DAY_S, Thresholds
from rta_service.domain.user import LifecycleStage, RFMSegment, Role, ValueTier
from rta_service.online.control_desk import ControlDesk
from rta_service.online.live_release import LiveRelease, assemble, mean_name, with_canary
from rta_service.online.pipeline import Pipeline
from rta_service.online.score import Models
from rta_service.platforms.registry import load_adapters
from rta_service.record import UserRecord, pack
from rta_service.scoring.model_set import ValueRule

NOW_S = 1_717_286_400
KEYS = KeyRing(b"pepper-of-16-bytes", b"experiment-of-16-b")
THRESHOLDS = Thresholds(
    silent_s=18 * DAY_S,
    churned_s=27 * DAY_S,
    recency_s=18 * DAY_S,
    frequency=3,
    monetary_cents=250_000,
    tier_s_cents=500_000,
    tier_a_cents=250_000,
    tier_b_cents=50_000,
)
INFOS = {name: adapter.info for name, adapter in load_adapters().items()}


@dataclass
class FakeClock:
    """Stands still until it is told otherwise."""

    now_s: int = NOW_S
    monotonic: float = 100.0

    def now_ms(self) -> int:
        return self.now_s * 1000

    def monotonic_s(self) -> float:
        return self.monotonic


@dataclass
class FakeReader:
    """Gives what `records` holds; fails with `error`; runs `meanwhile` while it is awaited."""

    records: dict[bytes, bytes] = field(default_factory=dict)
    error: Exception | None = None
    meanwhile: Callable[[], Awaitable[None]] | None = None
    calls: list[tuple[str, list[bytes]]] = field(default_factory=list)

    async def read(self, snapshot: SnapshotManifest, keys: Sequence[bytes]) -> list[bytes | None]:
        self.calls.append((snapshot.snapshot_id, list(keys)))
        if self.meanwhile is not None:
            await self.meanwhile()
        if self.error is not None:
            raise self.error
        return [self.records.get(key) for key in keys]


@dataclass
class FakeHead:
    """One probability for all, or what `formula` makes of the matrix."""

    p: float = 0.1
    formula: Callable[[NDArray[np.float64]], NDArray[np.float64]] | None = None
    rows: list[int] = field(default_factory=list)

    def probabilities(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        self.rows.append(len(rows))
        return np.full(len(rows), self.p) if self.formula is None else self.formula(rows)


@dataclass
class FakeModels:
    """Heads by name; a rule for every question, from `rules` or by the usual meaning."""

    heads: dict[str, FakeHead]
    rules: dict[tuple[str, str], ValueRule]

    def value_rule(self, goal: Goal, event: OptimisedEvent) -> ValueRule:
        usual = ValueRule("one") if goal == event.value else ValueRule("head", goal.value)
        return self.rules.get((goal, event), usual)


@pytest.fixture(scope="session")
def keys() -> KeyRing:
    return KEYS


@pytest.fixture(scope="session")
def infos() -> Mapping[str, PlatformInfo]:
    return INFOS


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture(scope="session")
def a_reader() -> Callable[..., FakeReader]:
    """Takes MD5s with their records."""

    def build(records: Mapping[str, UserRecord] | None = None, **fields: Any) -> FakeReader:
        by_key = {KEYS.device_key(md5): pack(r) for md5, r in (records or {}).items()}
        return FakeReader(by_key, **fields)

    return build


@pytest.fixture(scope="session")
def a_head() -> Callable[..., FakeHead]:
    return FakeHead


@pytest.fixture(scope="session")
def some_models() -> Callable[..., Models]:
    def build(
        register: float = 0.05, trade: float = 0.01, rules: Any = None, **more: FakeHead
    ) -> FakeModels:
        heads = {"register": FakeHead(register), "trade": FakeHead(trade), **more}
        return FakeModels(heads, rules or {})

    return build


@pytest.fixture(scope="session")
def an_audience() -> Callable[..., Audience]:
    """Wants everybody that may be wanted, wakes from B up, unless told otherwise."""

    def build(**changes: Any) -> Audience:
        usual: dict[str, Any] = {
            "stages": frozenset(LifecycleStage) - {LifecycleStage.UNKNOWN},
            "segments": frozenset(RFMSegment),
            "tiers": frozenset(ValueTier) - {ValueTier.X, ValueTier.UNKNOWN},
            "roles": frozenset(Role) - {Role.PROFESSIONAL_SELLER},
            "wake_tiers": frozenset({ValueTier.S, ValueTier.A, ValueTier.B}),
        }
        return Audience(**(usual | changes))

    return build


@pytest.fixture(scope="session")
def a_strategy(an_audience: Callable[..., Audience]) -> Callable[..., Strategy]:
    def build(**changes: Any) -> Strategy:
        usual: dict[str, Any] = {
            "strategy_id": "s",
            "bindings": {"json": "s", "tencent": "t-s"},
            "audience": an_audience(),
            "optimises": OptimisedEvent.CLICK,
            "goal": Goal.TRADE,
            "target_cpa_micros": 30_000_000,
            "answer": BidKind.WEIGHT,
            "currency": "CNY",
            "min_bid": 0.2,
            "max_bid": 5.0,
        }
        return Strategy(**(usual | changes))

    return build


@pytest.fixture(scope="session")
def a_record() -> Callable[..., UserRecord]:
    """A fresh buyer of tier C who activated and has one order, launched yesterday."""

    def build(**changes: int) -> UserRecord:
        day = NOW_S - DAY_S
        usual = dict.fromkeys(UserRecord._fields, 0) | {
            "version": 1,
            "tier": ValueTier.C,
            "role": Role.BUYER,
            "segment": RFMSegment.GENERAL_DEVELOP,
            "orders": 1,
            "person_key": 7,
            "last_active_at": day,
            "activated_at": day,
        }
        return UserRecord(**(usual | changes))

    return build


@pytest.fixture(scope="session")
def md5_of() -> Callable[[object], str]:
    return lambda raw: hashlib.md5(str(raw).encode(), usedforsecurity=False).hexdigest()


@pytest.fixture(scope="session")
def a_request() -> Callable[..., AdRequest]:
    """Takes OAIDs as MD5s."""

    def build(*md5s: str, platform: str = "json", **changes: Any) -> AdRequest:
        usual: dict[str, Any] = {
            "request_id": "q",
            "platform": INFOS[platform],
            "ids": tuple(DeviceId(IdKind.OAID, md5, IdForm.MD5) for md5 in md5s),
            "os": OperatingSystem.ANDROID,
            "placement": Placement.FEED,
        }
        return AdRequest(**(usual | changes))

    return build


@pytest.fixture(scope="session")
def a_snapshot() -> SnapshotManifest:
    return SnapshotManifest(
        snapshot_id="snap",
        record_version=1,
        as_of_s=NOW_S,
        built_at_ms=NOW_S * 1000,
        devices=1,
        persons=1,
        bucket_bits=8,
        thresholds=THRESHOLDS,
        stages={},
        segments={},
        tiers={},
        pepper_id=KEYS.pepper_id,
        keys_sha256="",
        records_sha256="",
    )


@pytest.fixture(scope="session")
def a_live(
    a_strategy: Callable[..., Strategy],
    a_snapshot: SnapshotManifest,
    some_models: Callable[..., Models],
) -> Callable[..., LiveRelease]:
    """A release with the strategies given (one usual one by default), of mean value `mean`."""

    def build(
        *strategies: Strategy,
        release_id: str = "r1",
        mean: float = 0.01,
        models: Models | None = None,
    ) -> LiveRelease:
        group = strategies or (a_strategy(),)
        release = Release(
            release_id=release_id,
            snapshot_id="snap-" + release_id,
            models=(ModelRef("trade", "v1", "0" * 64),),
            strategies_id="st-" + release_id,
            created_at_ms=0,
            mean_values={mean_name(s.strategy_id, p): mean for s in group for p in s.bindings},
        )
        snapshot = msgspec.structs.replace(a_snapshot, snapshot_id=release.snapshot_id)
        return assemble(release, snapshot, models or some_models(), group, INFOS.values())

    return build


@pytest.fixture(scope="session")
def two_arms(
    a_live: Callable[..., LiveRelease],
    a_strategy: Callable[..., Strategy],
    some_models: Callable[..., Models],
) -> Callable[..., LiveRelease]:
    """A release whose canary, trade v2, is worth `means[1]` on average where v1 is worth `means[0]`."""

    def build(
        share_millionths: int,
        *strategies: Strategy,
        version: str = "v2",
        models: tuple[Models, Models] | None = None,
        means: tuple[float, float] = (0.01, 0.02),
    ) -> LiveRelease:
        group = strategies or (a_strategy(),)
        ours, theirs = models or (some_models(trade=0.01), some_models(trade=0.03))
        live = a_live(*group, mean=means[0], models=ours)
        canary = Canary(
            (ModelRef("trade", version, "1" * 64),),
            share_millionths,
            since_ms=0,
            mean_values=dict.fromkeys(live.release.mean_values, means[1]),
        )
        live = replace(live, release=msgspec.structs.replace(live.release, canary=canary))
        arm = canary_arm(live.release)
        assert arm is not None
        return with_canary(live, assemble(arm, live.snapshot, theirs, group, INFOS.values()))

    return build


@pytest.fixture(scope="session")
def a_pipeline(a_live: Callable[..., LiveRelease]) -> Callable[..., Pipeline]:
    def build(
        reader: FakeReader, live: LiveRelease | None = None, clock: FakeClock | None = None
    ) -> Pipeline:
        pipeline = Pipeline(reader, KEYS, clock or FakeClock())
        pipeline.live = a_live() if live is None else live
        return pipeline

    return build


SETTINGS = ControlSettings(
    Aim(Mode.TCPA, Targets(deep_micros=30_000_000), CostGoal.DEEP), explore_share=0.0
)


@dataclass
class FakeExchanged:
    """What an exchange brings."""

    orders: dict[str, Order] | None = None
    grants: list[Grant] = field(default_factory=list)
    now_ms: int = NOW_S * 1000


@pytest.fixture(scope="session")
def settings_of() -> Callable[..., ControlSettings]:
    """The settings of a strategy whose trades are to cost 30; nothing is left to chance."""

    def build(**changes: Any) -> ControlSettings:
        return msgspec.structs.replace(SETTINGS, **changes)

    return build


@pytest.fixture(scope="session")
def an_order() -> Callable[..., Order]:
    """An order of now for the unit s@json: 30 a trade, nothing to correct. Takes a block's fields
    and an order's."""

    def build(unit_id: str = "s@json", **changes: Any) -> Order:
        usual: dict[str, Any] = {
            "unit_id": unit_id,
            "version": 7,
            "made_at_ms": NOW_S * 1000,
            "period_ms": 15_000,
            "mode": Mode.TCPA,
            "goals": (GoalBlock(CostGoal.DEEP, 3e7, 1.0, 0.0, 0.01, Reason.ON_TARGET),),
            "neutral_micros": 300_000.0,
        }
        of_order: dict[str, Any] = {
            name: changes.pop(name)
            for name in ("settings", "shape", "hold_rate")
            if name in changes
        }
        return Order(Block(**(usual | changes)), **({"settings": SETTINGS} | of_order))

    return build


@pytest.fixture(scope="session")
def a_desk() -> Callable[..., ControlDesk]:
    """A desk with orders, and with money by unit that may be held for 5 s."""

    def build(
        *orders: Order, money: Mapping[str, int] | None = None, clock: FakeClock | None = None
    ) -> ControlDesk:
        clock = clock or FakeClock()
        desk = ControlDesk(KEYS, clock)
        until_ms = NOW_S * 1000 + 5_000
        grants = [Grant(unit, micros, until_ms) for unit, micros in (money or {}).items()]
        given = {order.block.unit_id: order for order in orders}
        desk.take(FakeExchanged(given, grants), clock.monotonic_s())
        return desk

    return build


_KIT = [
    "a_desk",
    "an_order",
    "settings_of",
    "a_head",
    "a_live",
    "a_pipeline",
    "a_reader",
    "a_record",
    "a_request",
    "a_snapshot",
    "a_strategy",
    "an_audience",
    "infos",
    "keys",
    "md5_of",
    "some_models",
    "two_arms",
]


@pytest.fixture(scope="session")
def kit(request: pytest.FixtureRequest) -> SimpleNamespace:
    """All builders together, for tests that need many."""
    return SimpleNamespace(
        now_s=NOW_S,
        a_clock=FakeClock,
        exchanged=FakeExchanged,
        **{name: request.getfixturevalue(name) for name in _KIT},
    )
