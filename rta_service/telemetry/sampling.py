"""Which scored rows of a worker's traffic are kept for comparison, after their answers are out."""

from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from rta_service.device_key import KeyRing
from rta_service.domain.clock import Clock
from rta_service.domain.decision import Arm, Decision, Versions
from rta_service.domain.funnel import REGISTER, TRADE
from rta_service.domain.request import AdRequest
from rta_service.online.pipeline import BatchOutcome, Scored
from rta_service.online.score import Scores
from rta_service.stores.traffic_sample import (
    FLAG_CANARY,
    FLAG_FIRST_MET,
    FLAG_PARTICIPATED,
    HEADS,
    LineUp,
    SampledRow,
    SampleWriter,
    ring_path,
)

MOST_PER_S: Final = 200
"""Rows a worker keeps in a second, whatever the traffic."""
MOST_PEOPLE: Final = 20_000
"""People a worker remembers having met: about 2 MB."""


class Taking(NamedTuple):
    """How many rows of which worker are kept."""

    rate: float
    """Share of all scored rows: 0 keeps none, 1 keeps each."""
    worker: int
    workers: int
    """Of this host: each counts only its own share of people, so that none is counted twice."""
    failed: Callable[[str], None]
    """Counts a row that could not be kept."""


def open_ring(run_dir: Path, process: str, taking: Taking) -> SampleWriter | None:
    """Open a worker's ring; None, and counted, where the disk does not allow one."""
    try:
        return SampleWriter(ring_path(run_dir, process))
    except OSError:
        taking.failed("sample")
        return None


class TrafficSampler:
    """Keeps every n-th scored row of a worker, at most MOST_PER_S in a second."""

    def __init__(
        self, writer: SampleWriter | None, taking: Taking, keys: KeyRing, clock: Clock
    ) -> None:
        self._writer = writer
        self._taking = taking
        wanted = writer is not None and taking.rate > 0.0
        self._stride = round(1.0 / taking.rate) if wanted else 0
        self._keys = keys
        self._clock = clock
        self._next = 0
        self._second = 0
        self._left = 0
        self._line_ups: dict[Arm, tuple[Versions, LineUp]] = {}
        self._people: set[int] = set()
        self._people_of = ""

    def take(self, requests: list[AdRequest], outcome: BatchOutcome) -> None:
        """Keep the rows of a decided batch whose turn it is: nothing is done for the others."""
        scored = outcome.scored
        if not self._stride:
            return
        latency_us = round(1e6 * (outcome.read_s + outcome.decide_s))
        while self._next < len(scored):
            one = scored[self._next]
            self._next += self._stride
            if self._may_take():
                self._keep(requests[one.row], one, outcome.decisions[one.row], latency_us)
        self._next -= len(scored)

    def _may_take(self) -> bool:
        second = int(self._clock.monotonic_s())
        if second != self._second:
            self._second, self._left = second, MOST_PER_S
        self._left -= 1
        return self._left >= 0

    def _keep(self, request: AdRequest, one: Scored, decision: Decision, latency_us: int) -> None:
        try:
            self._write(request, one, decision, latency_us)
        except Exception:  # noqa: BLE001 - a sample must never be felt by the requests; counted
            self._taking.failed("sample")

    def _write(self, request: AdRequest, one: Scored, decision: Decision, latency_us: int) -> None:
        if self._writer is None:
            return
        line_up = self._line_up(one, decision.versions)
        row = one.candidate
        name = request.request_id
        self._writer.add(
            SampledRow(
                self._clock.now_ms(),
                self._keys.request_tag(request.platform.name, name) if name else 0,
                row.record,
                row.platform,
                row.os,
                row.placement,
                decision.stage,
                self._flags(one, decision),
                latency_us,
                line_up,
                tuple([one.scores[head] for head, _ in line_up.models]),
            )
        )

    def _flags(self, one: Scored, decision: Decision) -> int:
        flags = FLAG_CANARY if one.arm is Arm.CANARY else 0
        if decision.participate:
            flags |= FLAG_PARTICIPATED
        if self._is_first(one.person_key, decision.versions.release):
            flags |= FLAG_FIRST_MET
        return flags

    def _is_first(self, person_key: int, release_id: str) -> bool:
        """Remember a person; the arms' people are compared, and requests of one are no news."""
        if release_id != self._people_of:
            self._people_of = release_id
            self._people.clear()
        mine = person_key % self._taking.workers == self._taking.worker
        if not mine or len(self._people) >= MOST_PEOPLE or person_key in self._people:
            return False
        self._people.add(person_key)
        return True

    def _line_up(self, one: Scored, versions: Versions) -> LineUp:
        """Name the models behind an arm's scores; worked out once a release."""
        known = self._line_ups.get(one.arm)
        if known is not None and known[0] is versions:
            return known[1]
        models = tuple((name, versions.models.get(name, "")) for name in _first_heads(one.scores))
        line_up = LineUp(versions.release, models)
        self._line_ups[one.arm] = (versions, line_up)
        return line_up


def _first_heads(scores: Scores) -> list[str]:
    """Choose the heads to keep: the two that every release has come first."""
    return sorted(scores, key=lambda name: (name not in (REGISTER, TRADE), name))[:HEADS]
