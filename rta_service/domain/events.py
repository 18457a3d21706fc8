"""The words of a behaviour log, and those that only attribution reads."""

from enum import StrEnum
from typing import Final


class Event(StrEnum):
    """What a person did, or what was done to them."""

    DOWNLOAD = "download"
    ACTIVATE = "activate"
    LAUNCH = "launch"
    VIEW = "view"
    SEARCH = "search"
    CART = "cart"
    REGISTER = "register"
    PAY = "pay"
    REFUND = "refund"
    PUBLISH = "publish"
    SOLD = "sold"
    AD_EXPOSURE = "ad_exposure"
    AD_CLICK = "ad_click"
    COMPETITOR_ACTIVE = "competitor_active"
    INDUSTRY_ACTIVE = "industry_active"
    OPT_OUT = "opt_out"
    OPT_IN = "opt_in"
    AD_WIN = "ad_win"
    """An auction won, with what it cost."""
    COST_REPORT = "cost_report"
    """A row of a platform's report: what one hour of a channel's strategy or campaign cost."""
    CONVERSION = "conversion"
    """Any step of the funnel that has no word of its own; its name is the event's `step`."""


UNRECORDED: Final = frozenset({Event.AD_WIN, Event.COST_REPORT, Event.CONVERSION})
"""Words that leave no mark: neither in records nor in the history that models learn from."""
RECORDED: Final = tuple(event for event in Event if event not in UNRECORDED)
"""The words of a behaviour log."""
