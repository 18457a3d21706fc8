"""What a decided batch adds to the counters."""

from typing import Protocol

from rta_service.domain.reason import ReasonCode
from rta_service.domain.request import AdRequest
from rta_service.online.pipeline import BatchOutcome
from rta_service.telemetry.recorder import Telemetry


class Guarded(Protocol):
    """A reader that leaves a failing store alone for a while, and counts fresh records."""

    fresh: int
    unreadable: int

    @property
    def breaker_open(self) -> bool:
        """Whether it does so now."""


def count_batch(
    telemetry: Telemetry,
    reader: Guarded,
    requests: list[AdRequest],
    outcome: BatchOutcome,
) -> None:
    """Count what a batch came to."""
    telemetry.observe_batch(len(requests))
    telemetry.observe("read", outcome.read_s)
    telemetry.observe("decide", outcome.decide_s)
    telemetry.set_breaker(is_open=reader.breaker_open)
    telemetry.count_fresh(reader.fresh, reader.unreadable)
    if outcome.failure is not None:
        telemetry.count_failure(outcome.failure)
    for request, decision in zip(requests, outcome.decisions, strict=True):
        telemetry.count_decision(decision, request.platform)
        if decision.reason is ReasonCode.OVERLOADED:
            telemetry.count_shed()
    for seen, matched in zip(outcome.seen_kinds, outcome.matched_kinds, strict=True):
        telemetry.count_ids(seen, matched)
