"""The parameters of tracking links: which of them we sign, and which a platform fills in."""

from typing import Final

import msgspec

from rta_service.domain.device import IdForm, IdKind
from rta_service.domain.events import Event

TRACKED: Final = {event.value: event for event in (Event.AD_EXPOSURE, Event.AD_CLICK, Event.AD_WIN)}
"""Events that platforms tell of by a link."""

SIGNED: Final = {
    "strategy": "strategy_id",
    "campaign": "campaign_id",
    "currency": "currency",
    "placement": "placement",
    "need": "",
}
"""What a link says itself, as columns of an event; `need` names parameters that must be filled in.

None is called as a parameter that platforms add on their own, such as `campaign_id`.
"""

PLAIN: Final = {"request": "request_id", "tag": "tag", "order": "order_id", "os": "os"}
"""What a platform fills in and we take as it is, as columns of an event."""

IDS: Final[dict[str, tuple[IdKind | None, IdForm]]] = {
    f"{kind or 'device'}_{form}": (kind, form) for kind in (*IdKind, None) for form in IdForm
}
"""Ids of the device; `device_md5` and `device_raw` are of a kind that the platform does not say."""

INSTANTS: Final = {"ts_ms": 1, "ts_s": 1000}
"""When it happened, in milliseconds per unit."""

PRICES: Final = {
    "cost_micros": (1, 1),
    "cost_cents": (10_000, 1),
    "cost_units": (1_000_000, 1),
    "cpm_micros": (1, 1000),
    "cpm_cents": (10_000, 1000),
    "cpm_units": (1_000_000, 1000),
}
"""What one win, click or exposure cost, or a thousand: micros per unit, and how many it bought."""

NOTICE: Final = "notice"
"""The platform's own id of this click or exposure."""

FILLED: Final = frozenset((*PLAIN, *IDS, *INSTANTS, *PRICES, NOTICE))
"""Every parameter that a platform may fill in."""


class MacroTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a platform fills into links, from its tracking.toml: our parameter, its macro."""

    docs: str
    """Where the platform documents its macros."""
    events: dict[str, dict[str, str]]
    """For each event that it tells of, what only that event has."""
    macros: dict[str, str] = {}
    """What every event has."""
    absent: tuple[str, ...] = ()
    """Texts that stand for nothing; a macro left as it was always does."""

    def of(self, event: str) -> dict[str, str]:
        """Give all macros of an event's links."""
        return self.macros | self.events.get(event, {})
