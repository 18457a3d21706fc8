"""The words of a behaviour log."""

from enum import StrEnum


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
