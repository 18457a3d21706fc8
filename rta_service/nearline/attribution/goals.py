"""What counts as a conversion, and for how long an ad may claim one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from rta_service.domain.events import Event
from rta_service.domain.funnel import DEFAULT_FUNNEL, HeadSpec, Step

DAY_MS: Final = 86_400_000

GOALS: Final[Mapping[Event, str]] = {
    Event.DOWNLOAD: Step.DOWNLOAD.value,
    Event.ACTIVATE: Step.ACTIVATE.value,
    Event.REGISTER: Step.REGISTER.value,
    Event.PAY: Step.TRADE.value,
}
"""Words that are goals; the goal of a `conversion` is its step."""

TRADE: Final = Step.TRADE.value


def click_windows(funnel: Sequence[HeadSpec] = DEFAULT_FUNNEL) -> dict[str, int]:
    """Give how long after a click a funnel counts each goal, in milliseconds."""
    return {
        spec.goal.value: round(spec.window_days * DAY_MS)
        for spec in funnel
        if spec.given is Step.CLICK
    }


@dataclass(frozen=True, slots=True)
class AttributionRules:
    """For how long ads may claim conversions, and for how long events are remembered."""

    windows_ms: Mapping[str, int] = field(default_factory=click_windows)
    """How long after a click each goal counts."""
    other_window_ms: int = 7 * DAY_MS
    """The same for goals that the funnel does not know."""
    one_off: frozenset[str] = frozenset({"download", "activate", "register"})
    """Goals that a person reaches once: more are repeats and do not count."""
    once_ms: int = 90 * DAY_MS
    """For how long a goal reached is remembered as such."""
    refund_ms: int = 60 * DAY_MS
    """How long after its payment a refund may come."""
    skew_ms: int = 10 * 60_000
    """By how much two senders' clocks may differ where a request or an order is named."""
    late_ms: int = 9 * DAY_MS
    """By how much an event may be older than the newest: the ingest port's limit and a day."""
    kept_ms: int = 400 * DAY_MS
    """How long cells are kept."""

    def __post_init__(self) -> None:
        if (
            self.kept_ms
            < self.late_ms + self.longest_ms + max(self.once_ms, self.refund_ms) + DAY_MS
        ):
            raise ValueError("cells must be kept for longer than what counts in them can change")

    def window_ms(self, goal: str) -> int:
        """Say how long after a click a goal counts."""
        return self.windows_ms.get(goal, self.other_window_ms)

    @property
    def longest_ms(self) -> int:
        """The longest window: a touch that is named may be this old whatever the goal."""
        return max(self.other_window_ms, *self.windows_ms.values(), 0)
