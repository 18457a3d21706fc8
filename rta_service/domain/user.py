"""Who a device is: lifecycle stage, RFM segment, value tier, role.

Codes are stored in records and model rows: never renumber, only append.
"""

from enum import IntEnum


class LifecycleStage(IntEnum):
    """Where a person stands, derived from orders and idle time at the moment of reading."""

    INTRODUCTION = 0
    GROWTH = 1
    MATURITY = 2
    SILENT = 3
    CHURNED = 4
    UNKNOWN = 5

    @property
    def label(self) -> str:
        """The word used in files, answers and metrics."""
        return self.name.lower()


class RFMSegment(IntEnum):
    """Payers by recency (4), frequency (2) and monetary value (1); NONE never paid."""

    GENERAL_WIN_BACK = 0
    IMPORTANT_WIN_BACK = 1
    GENERAL_KEEP = 2
    IMPORTANT_KEEP = 3
    GENERAL_DEVELOP = 4
    IMPORTANT_DEVELOP = 5
    GENERAL_VALUE = 6
    IMPORTANT_VALUE = 7
    NONE = 255

    @property
    def label(self) -> str:
        """The word used in files, answers and metrics."""
        return self.name.lower()


class ValueTier(IntEnum):
    """How much a person is worth whatever their stage; X is never bid for."""

    UNKNOWN = 0
    S = 1
    A = 2
    B = 3
    C = 4
    D = 5
    X = 6

    @property
    def label(self) -> str:
        """The word used in files, answers and metrics."""
        return "unknown" if self is ValueTier.UNKNOWN else self.name


class Role(IntEnum):
    """Which side of the marketplace a person is on."""

    UNKNOWN = 0
    BUYER = 1
    PRIVATE_SELLER = 2
    PROFESSIONAL_SELLER = 3

    @property
    def label(self) -> str:
        """The word used in files, answers and metrics."""
        return self.name.lower()
