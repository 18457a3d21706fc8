"""Everything that can go wrong on purpose.

RTAError
├── InvalidRequest          the caller's fault: a clear answer, never logged as our error
├── InvalidInput            the operator's fault: a file or option, named with its place
│   ├── UnknownName           nothing of that name exists
│   └── OutOfDate             decided on a release that no longer decides
├── NotAllowed              the role, or the same person twice: somebody else may
├── DegradedError           ours, and a safe answer exists
│   ├── DeadlineExceeded      no time left for the next step
│   ├── StoreUnavailable      the store is slow or gone
│   ├── SnapshotMissing       the release's snapshot expired or was lost
│   └── StaleWriter           somebody else wrote since this writer read
└── StartupError            ours, and there is no safe answer: the process does not start
    └── ModelRefused          a model is damaged, or speaks another feature set
        └── ModelUnsound        its text breaks a rule of structure; every fault found is named
"""

from typing import NamedTuple


class RTAError(Exception):
    """The root of all errors raised on purpose."""


class InvalidRequest(RTAError):
    """A platform's request can't be read; `field` names what is wrong with it."""

    def __init__(self, message: str, field: str = "") -> None:
        super().__init__(message)
        self.field = field


class InvalidInput(RTAError):
    """A file or option given by an operator is wrong; `place` says where (file, line, field)."""

    def __init__(self, message: str, place: str = "") -> None:
        super().__init__(f"{place}: {message}" if place else message)
        self.place = place


class UnknownName(InvalidInput):
    """A name stands for nothing here."""


class OutOfDate(InvalidInput):
    """A wish was made on a release that no longer decides; look again, then decide again."""


class NotAllowed(RTAError):
    """Who asks may not do this; the message says who may."""


class DegradedError(RTAError):
    """Something of ours failed for which a safe answer exists."""


class DeadlineExceeded(DegradedError):
    """No time is left for the next step."""


class StoreUnavailable(DegradedError):
    """The store did not answer in time or not at all."""


class SnapshotMissing(DegradedError):
    """The release's snapshot is not (any longer) in the store."""


class StaleWriter(DegradedError):
    """Somebody else wrote since this writer read; nothing was overwritten."""


class StartupError(RTAError):
    """No safe answer exists: the process must not start."""


class ModelRefused(StartupError):
    """A model is damaged or does not fit; the message names file and reason."""


class Fault(NamedTuple):
    """One broken rule of a model's text."""

    line: int
    """Line of the file, from 1; 0 where no line is at fault."""
    tree: int
    """Tree from 0 as the text counts them; -1 outside of trees."""
    field: str
    reason: str

    def __str__(self) -> str:
        tree = f", tree {self.tree}" if self.tree >= 0 else ""
        line = f"line {self.line}" if self.line else "whole file"
        return f"{line}{tree}, {self.field}: {self.reason}"


class ModelUnsound(ModelRefused):
    """A model's text breaks rules of structure; `faults` names each one that was found."""

    def __init__(self, place: str, faults: tuple[Fault, ...]) -> None:
        more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
        super().__init__(f"{place}: {faults[0]}{more}")
        self.place = place
        self.faults = faults
