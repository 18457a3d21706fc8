"""What a sender of events is told: the fate of every line."""

from enum import StrEnum

import msgspec


class Fate(StrEnum):
    """What became of a line; accepted ones and duplicates are durable."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"
    REJECTED = "rejected"


class LineFate(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """What became of one line, and of a rejected one why; repeats nothing that was sent."""

    line: int
    """From 1, blank lines counted; a notice is line 1."""
    fate: Fate
    field: str = ""
    rule: str = ""
    """A word of LineRule."""
    reason: str = ""


class Receipt(msgspec.Struct, frozen=True):
    """The answer to a batch: how many met which fate, and each line's, in their order."""

    accepted: int = 0
    duplicate: int = 0
    rejected: int = 0
    lines: tuple[LineFate, ...] = ()
