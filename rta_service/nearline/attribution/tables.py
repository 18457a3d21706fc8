"""What attribution needs of the tables in which it remembers events."""

from collections.abc import Iterable
from typing import Protocol

from rta_service.domain.attribution import (
    Changes,
    Conversion,
    CostRow,
    Credit,
    Found,
    Identity,
    Oldest,
    Owed,
    Refund,
    Touch,
)


class Tables(Protocol):
    """What is remembered of events; times are inclusive."""

    def add_touch(self, touch: Touch, /) -> bool:
        """Remember a touch; False for a copy."""

    def add_conversion(self, conversion: Conversion, /) -> bool:
        """Remember a conversion that does not count yet; False for a copy."""

    def add_refund(self, refund: Refund, /) -> bool:
        """Remember a refund that takes nothing off yet; False for a copy."""

    def add_cost_row(self, row: CostRow, /) -> bool:
        """Remember a row of a report; False for a copy."""

    def named_touches(self, name: int, since_ms: int, until_ms: int, /) -> Iterable[Found]:
        """Give the touches of a name, the best first: by kind, then the latest."""

    def last_click(self, person: int, since_ms: int, until_ms: int, /) -> Found | None:
        """Give a person's last click of some time."""

    def after_click(self, person: int, click: Identity, until_ms: int, /) -> Iterable[Identity]:
        """Give a person's conversions from a click on, up to the instant of their next click."""

    def sharing(self, name: int, since_ms: int, until_ms: int, /) -> Iterable[Identity]:
        """Give the conversions of a name."""

    def reached(self, kin: int, goal: str, since_ms: int, before: Identity, /) -> bool:
        """Tell whether a person or name reached a goal before a conversion."""

    def next_reached(
        self, kin: int, goal: str, after: Identity, until_ms: int, /
    ) -> Identity | None:
        """Give the first conversion of a person or name that comes after one of the same goal."""

    def conversion(self, identity: Identity, /) -> tuple[Conversion, Credit | None]:
        """Give a conversion and where it counts."""

    def set_credit(self, identity: Identity, credit: Credit | None, /) -> None:
        """Say where a conversion counts."""

    def last_paid(self, order: int, since_ms: int, until_ms: int, /) -> Identity | None:
        """Give an order's last trade of some time, or else its last conversion."""

    def refunds_of(self, order: int, since_ms: int, until_ms: int, /) -> Iterable[Refund]:
        """Give an order's refunds of some time."""

    def owed(self, identity: Identity, /) -> Owed | None:
        """Say where a refund is taken off."""

    def set_owed(self, identity: Identity, owed: Owed | None, /) -> None:
        """Say where a refund is taken off from now on."""

    def add_sums(self, changes: Changes, /) -> None:
        """Add to what was counted; sums at 0 may go."""

    def newest_ms(self) -> int:
        """Say when the newest event that was remembered happened; 0 before any."""

    def forget(self, oldest: Oldest, /) -> None:
        """Drop what is older, some now and some later."""
