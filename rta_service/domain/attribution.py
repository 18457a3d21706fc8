"""What attribution counts: touches, conversions, refunds and costs, and where they are added up.

Whoever is meant is only known by keyed hashes; whole numbers throughout, so that what is added in
one order can be taken away in another and nothing is left over.
"""

from collections import defaultdict
from collections.abc import Mapping
from enum import IntEnum, StrEnum
from typing import Final, NamedTuple

import msgspec

from rta_service.domain.control_feed import FeedRow
from rta_service.domain.funnel import Step

HOUR_MS: Final = 3_600_000
NANOS: Final = 1_000_000_000
"""Predictions are added up in thousand-millionths."""
FIRST_TRADE: Final = "first_trade"
"""The goal that a person's first trade reaches besides `trade`."""


class Place(NamedTuple):
    """Where something is counted: one hour of one strategy's models on one channel."""

    hour: int
    """Hours since 1970, UTC."""
    channel: str = ""
    strategy: str = ""
    campaign: str = ""
    arm: str = ""
    release: str = ""
    """Mark of the release, from a tag; empty where no tag told."""


class TouchKind(IntEnum):
    """What an ad did; the higher, the more a conversion that names its request is owed to it."""

    WIN = 0
    EXPOSURE = 1
    CLICK = 2


class Touch(msgspec.Struct, frozen=True, gc=False):
    """An auction won, an ad shown or clicked."""

    ts_ms: int
    key: int
    """Keyed hash of the event's id: with `ts_ms` it is the event's identity and breaks ties."""
    kind: TouchKind
    place: Place
    persons: tuple[int, ...] = ()
    """Keyed hashes of the devices' ids and of the user id."""
    names: tuple[int, ...] = ()
    """Keyed hashes of the request's id and of the tag."""
    cost_micros: int = 0
    told: bool = False
    """Whether a tag told what was predicted."""
    register_nanos: int = 0
    trade_nanos: int = 0


class Conversion(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A step of the funnel that a person took.

    Kept as an array, so fields are only ever appended, with a default.
    """

    ts_ms: int
    key: int
    goal: str
    place: Place
    """What the event itself says, in its own hour: where it counts when nothing was clicked."""
    persons: tuple[int, ...] = ()
    names: tuple[int, ...] = ()
    cents: int = 0
    order: int = 0
    """Hash of the order's id; 0 for none."""
    told: Place | None = None
    """What its tag says, in the hour of the decision."""
    told_ms: int = 0


class Refund(msgspec.Struct, frozen=True, gc=False):
    """Money of an order that was paid back."""

    ts_ms: int
    key: int
    order: int
    cents: int


class CostRow(msgspec.Struct, frozen=True, gc=False):
    """What one hour of a channel's strategy, or else campaign, cost by the platform's report."""

    ts_ms: int
    key: int
    place: Place
    """Its channel with either the strategy or the campaign."""
    cost_micros: int


Fact = Touch | Conversion | Refund | CostRow

Identity = tuple[int, int]
"""`ts_ms` and `key`: what an event is known by, and the order of events."""


class Method(StrEnum):
    """Why a conversion counts where it counts."""

    NAMED = "named"
    """Its request id or tag names the touch."""
    TAG = "tag"
    """Its tag tells the decision, of which no touch is known."""
    LAST_CLICK = "last_click"
    NONE = "none"
    """Nothing of ours led to it."""


class Attribution(NamedTuple):
    """A conversion that counts, and what it is owed to."""

    ts_ms: int
    key: int
    goal: str
    method: Method
    place: Place
    touch_ms: int
    """When the touch was; 0 without one."""
    touch_key: int
    is_first: bool
    """No earlier one of this goal is known of the person."""
    cents: int
    """Less what was refunded."""


class Found(NamedTuple):
    """A touch as a conversion finds it; the greatest of those that it names is what it is owed to."""

    kind: TouchKind
    ts_ms: int
    key: int
    place: Place


class Credit(NamedTuple):
    """Where a conversion counts, and why."""

    method: Method
    place: Place
    touch_ms: int = 0
    touch_key: int = 0
    is_first: bool = False


class Owed(NamedTuple):
    """Where a refund is taken off."""

    paid: Identity
    """The conversion whose money it was."""
    place: Place
    goal: str
    is_first: bool


class TouchSum(NamedTuple):
    """Touches of one kind in one place."""

    touches: int = 0
    told: int = 0
    """Those whose tag told predictions."""
    register_nanos: int = 0
    trade_nanos: int = 0
    cost_micros: int = 0


class GoalSum(NamedTuple):
    """Conversions owed to one place."""

    conversions: int = 0
    cents: int = 0
    """Less what was refunded."""


class Sums(NamedTuple):
    """Everything that was counted in some places."""

    touches: Mapping[tuple[Place, TouchKind], TouchSum]
    goals: Mapping[tuple[Place, str], GoalSum]
    reported: Mapping[Place, int]
    """Costs of reports in micros, by what the reports are about."""


class Cell(msgspec.Struct, frozen=True):
    """What is known of one place."""

    place: Place
    exposures: int = 0
    clicks: int = 0
    wins: int = 0
    cost_micros: int = 0
    """Of touches, and the place's share of reports."""
    told_clicks: int = 0
    """Clicks whose tag told predictions: those that the sums are of."""
    register_sum: float = 0.0
    """Registrations predicted for them."""
    trade_sum: float = 0.0
    goals: dict[str, GoalSum] = {}

    @property
    def value_cents(self) -> int:
        """Money of all goals; a first trade's is in `trade`."""
        return sum(found.cents for goal, found in self.goals.items() if goal != FIRST_TRADE)


class Oldest(NamedTuple):
    """How far back each kind of thing can still matter."""

    event_ms: int
    """Identities, by which copies are told."""
    touch_ms: int
    conversion_ms: int
    refund_ms: int
    place_hour: int


class Applied(NamedTuple):
    """What became of facts."""

    counted: int = 0
    copies: int = 0
    late: int = 0
    """Older than is remembered; never counted."""
    settled: int = 0
    """Conversions, old and new, that were looked at."""


class Changes:
    """What a batch adds to sums; negative where something moved away."""

    def __init__(self) -> None:
        self.touches: defaultdict[tuple[Place, TouchKind], list[int]] = defaultdict(
            lambda: [0, 0, 0, 0, 0]
        )
        """Touches, told, register_nanos, trade_nanos, cost_micros."""
        self.goals: defaultdict[tuple[Place, str], list[int]] = defaultdict(lambda: [0, 0])
        """Conversions, cents."""
        self.reported: defaultdict[Place, int] = defaultdict(int)
        """Micros."""
        self.newest_ms = 0
        self.applied = Applied()
        self.told: list[tuple[str, FeedRow]] = []
        """For cost control, by control unit; costs of reports are added where they are spread."""

    def touch(self, touch: Touch) -> None:
        """Count a touch in its place."""
        sums = self.touches[touch.place, touch.kind]
        sums[0] += 1
        sums[1] += touch.told
        sums[2] += touch.register_nanos
        sums[3] += touch.trade_nanos
        sums[4] += touch.cost_micros

    def tell(self, row: tuple[str, FeedRow] | None) -> None:
        """Tell cost control a row, if it is one for it."""
        if row is not None:
            self.told.append(row)

    def goal(self, owed: Owed, conversions: int, cents: int) -> None:
        """Count a conversion, or money, where it is owed."""
        goals = (owed.goal, FIRST_TRADE) if _is_first_trade(owed) else (owed.goal,)
        for goal in goals:
            sums = self.goals[owed.place, goal]
            sums[0] += conversions
            sums[1] += cents


def _is_first_trade(owed: Owed) -> bool:
    return owed.is_first and owed.goal == Step.TRADE
