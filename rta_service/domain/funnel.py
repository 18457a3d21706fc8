"""The steps from an impression to money, and what models say about them."""

from enum import StrEnum
from typing import Final, Literal

import msgspec


class Step(StrEnum):
    """What people do, in the order in which most of them do it."""

    EXPOSURE = "exposure"
    CLICK = "click"
    DOWNLOAD = "download"
    ACTIVATE = "activate"
    REGISTER = "register"
    TRADE = "trade"


HeadKind = Literal["probability", "value"]
"""probability: P(goal within the window | given). value: E[money of the goal | given], in micros."""


class HeadSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One question a model answers."""

    name: str
    goal: Step
    given: Step
    kind: HeadKind = "probability"
    window_days: float = 7.0
    """How long after the given event the goal counts."""


REGISTER: Final = "register"
TRADE: Final = "trade"
CLICK: Final = "click"

DEFAULT_FUNNEL: Final = (
    HeadSpec(REGISTER, Step.REGISTER, Step.CLICK),
    HeadSpec(TRADE, Step.TRADE, Step.CLICK, window_days=14.0),
    HeadSpec("register_given_activate", Step.REGISTER, Step.ACTIVATE),
    HeadSpec("trade_given_activate", Step.TRADE, Step.ACTIVATE, window_days=14.0),
    HeadSpec("trade_given_register", Step.TRADE, Step.REGISTER, window_days=14.0),
    HeadSpec(CLICK, Step.CLICK, Step.EXPOSURE, window_days=1.0 / 24.0),
    HeadSpec("value", Step.TRADE, Step.TRADE, kind="value", window_days=14.0),
)
"""What is trained unless a funnel file says otherwise. `register` and `trade`, given a click, must
be in every funnel: strategies are decided by them."""
