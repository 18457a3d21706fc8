"""Which decisions are recorded whole, and how they reach the store without being waited for.

After the answers are out a decision is drawn by a keyed hash of its request's id, so that how
likely each was is known; then it waits in a bounded buffer for a thread that builds the record,
with the ghost bids of people held out, and writes it. What finds the buffer full or the store
away is counted as lost.
"""

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, Protocol

from rta_service.device_key import KeyRing
from rta_service.domain.clock import Clock
from rta_service.domain.decision import Decision, StrategyDecision
from rta_service.domain.decision_record import DecisionRecord, Ghost
from rta_service.domain.errors import StoreUnavailable
from rta_service.domain.reason import ReasonCode
from rta_service.domain.request import AdRequest
from rta_service.experiments import BUCKETS, bucket, layer_salt
from rta_service.online.control_desk import ControlDesk
from rta_service.online.ghost import ghosts
from rta_service.online.live_release import LiveRelease
from rta_service.online.person import Person
from rta_service.online.pipeline import BatchOutcome

MOST_WAITING: Final = 10_000
"""Decisions that wait for the thread: 2 s of it at full speed."""
GHOSTS_PER_S: Final = 50
"""Decisions of people held out that are scored in a second: half a percent of a core."""
_AT_ONCE: Final = 50
"""Decisions built and written in one go: a millisecond in which requests share the interpreter."""
_STEP_S: Final = 0.01
"""Between two goes while decisions wait: 5,000 a second at most, a tenth of a core."""
_PAUSE_S: Final = 0.1
"""Between two looks while none waits."""
_AWAY_S: Final = 1.0
"""After a failure."""
_SALT: Final = layer_salt("decision records")


class RecordSink(Protocol):
    """Where records end up."""

    def append(self, records: Sequence[DecisionRecord]) -> None:
        """Keep records; raises StoreUnavailable."""


class Counting(Protocol):
    """Who counts what became of records; each fate is counted by one thread only."""

    def count_records(self, fate: str, records: int) -> None:
        """Count records by what became of them."""

    def count_ghosts(self, *, scored: bool) -> None:
        """Count a decision about somebody held out by whether its ghost bids were scored."""

    def count_internal_error(self, place: str) -> None:
        """Count a bug that was caught."""


class _Noted(NamedTuple):
    """All that a decision's records are made of; references only."""

    now_ms: int
    live: LiveRelease
    request: AdRequest
    person: Person | None
    decision: Decision
    chosen: list[tuple[StrategyDecision, float]]
    """Answers to be recorded, with their propensities."""
    desk: ControlDesk | None


class DecisionRecorder:
    """Records decisions of one worker; costs nothing where no strategy asks for it."""

    def __init__(
        self,
        open_sink: Callable[[], RecordSink],
        counting: Counting,
        keys: KeyRing,
        clock: Clock,
        most_waiting: int = MOST_WAITING,
    ) -> None:
        self._open_sink = open_sink
        self._counting = counting
        self._keys = keys
        self._clock = clock
        self._most_waiting = most_waiting
        self._waiting: deque[_Noted] = deque()
        self._writer: _Writer | None = None

    def take(self, requests: Sequence[AdRequest], outcome: BatchOutcome) -> None:
        """Draw from a decided batch. Never raises and never waits."""
        live = outcome.live
        if live is None or not live.recorded:
            return
        try:
            self._draw(live, requests, outcome)
        except Exception:  # noqa: BLE001 - a record must never be felt by the requests; counted
            self._counting.count_internal_error("record")

    def close(self, timeout_s: float = 2.0) -> None:
        """Let the thread write what waits, for a while."""
        if self._writer is not None:
            self._writer.stop(timeout_s)

    def _draw(
        self, live: LiveRelease, requests: Sequence[AdRequest], outcome: BatchOutcome
    ) -> None:
        now_ms = self._clock.now_ms()
        people = outcome.people or [None] * len(requests)
        for row, request in enumerate(requests):
            shares = live.recorded.get(request.platform.name)
            decision = outcome.decisions[row]
            if shares is None or not decision.strategies or request.is_test:
                continue
            person = people[row]
            place = self._place(request, now_ms, 0 if person is None else person.key)
            chosen = [
                (one, share / BUCKETS)
                for one in decision.strategies
                if place < (share := shares.get(one.strategy_id, 0))
            ]
            if chosen:
                self._note(_Noted(now_ms, live, request, person, decision, chosen, outcome.desk))

    def _place(self, request: AdRequest, now_ms: int, person_key: int) -> int:
        """Draw a request's bucket: one for all its strategies, the same wherever it is asked again.

        Without an id of the request, the person and the instant stand for it.
        """
        name = request.request_id or f"{person_key} at {now_ms}"
        return bucket(self._keys.request_tag(request.platform.name, name), _SALT)

    def _note(self, noted: _Noted) -> None:
        if len(self._waiting) >= self._most_waiting:
            self._counting.count_records("buffer_full", len(noted.chosen))
            return
        self._waiting.append(noted)
        if self._writer is None:
            self._writer = _Writer(self._waiting, self._open_sink, self._counting, self._keys)


class _Writer:
    """The thread that builds records and writes them."""

    def __init__(
        self,
        waiting: deque[_Noted],
        open_sink: Callable[[], RecordSink],
        counting: Counting,
        keys: KeyRing,
    ) -> None:
        self._waiting = waiting
        self._open_sink = open_sink
        self._counting = counting
        self._keys = keys
        self._sink: RecordSink | None = None
        self._ghosts_of = -1
        self._ghosts_left = 0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="decision-records", daemon=True)
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        """Write what waits and end, within the time."""
        self._stopping.set()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        pause_s = _PAUSE_S
        while not self._stopping.wait(pause_s):
            is_written = self._drain()
            pause_s = (_STEP_S if self._waiting else _PAUSE_S) if is_written else _AWAY_S
        while self._waiting and self._drain():
            pass
        if left := sum(len(noted.chosen) for noted in self._waiting):
            self._counting.count_records("store_away", left)

    def _drain(self) -> bool:
        """Write some of what waits; False when the store is away."""
        records: list[DecisionRecord] = []
        for _ in range(min(len(self._waiting), _AT_ONCE)):
            records += self._built(self._waiting.popleft())
        try:
            if self._sink is None:
                self._sink = self._open_sink()
            self._sink.append(records)
        except StoreUnavailable:
            self._counting.count_records("store_away", len(records))
            return False
        except Exception:  # noqa: BLE001 - a thread that died would lose all that follows; counted
            self._counting.count_records("failed", len(records))
            return False
        self._counting.count_records("kept", len(records))
        return True

    def _built(self, noted: _Noted) -> list[DecisionRecord]:
        try:
            return self._records(noted)
        except Exception:  # noqa: BLE001 - one that can't be built costs itself; counted
            self._counting.count_records("failed", len(noted.chosen))
            return []

    def _records(self, noted: _Noted) -> list[DecisionRecord]:
        request, decision, person = noted.request, noted.decision, noted.person
        name, platform = request.request_id, request.platform.name
        by_ghost = self._ghosts(noted)
        return [
            DecisionRecord(
                ts_ms=noted.now_ms,
                platform=platform,
                request=self._keys.request_tag(platform, name) if name else 0,
                person=0 if person is None else person.key,
                strategy_id=one.strategy_id,
                participate=one.participate,
                reason=one.reason,
                propensity=propensity,
                bid=one.bid,
                pcvr=one.pcvr,
                versions=decision.versions,
                stage=decision.stage,
                tier=decision.tier,
                arm=decision.arm,
                tag=one.tag,
                ghost=by_ghost.get(one.strategy_id),
                steered=one.steered,
            )
            for one, propensity in noted.chosen
        ]

    def _ghosts(self, noted: _Noted) -> dict[str, Ghost]:
        """Score what would have been answered to somebody held out, at most so many a second."""
        person = noted.person
        held = any(one.reason is ReasonCode.HOLDOUT for one, _ in noted.chosen)
        if not held or person is None:
            return {}
        second = noted.now_ms // 1000
        if second != self._ghosts_of:
            self._ghosts_of, self._ghosts_left = second, GHOSTS_PER_S
        self._ghosts_left -= 1
        self._counting.count_ghosts(scored=self._ghosts_left >= 0)
        if self._ghosts_left < 0:
            return {}
        found = ghosts(noted.live, (noted.request, person), noted.decision, second, noted.desk)
        return {g.strategy_id: Ghost(g.reason, g.participate, g.bid, g.pcvr) for g in found}
