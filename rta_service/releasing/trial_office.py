"""All that a control process does with models on trial, put together and kept running."""

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from rta_service.device_key import KeyRing
from rta_service.domain.access import Actor
from rta_service.domain.clock import Clock
from rta_service.domain.errors import RTAError
from rta_service.domain.release import Release
from rta_service.releasing.autopilot_run import PERIOD_S, Autopilot, Status, Switch
from rta_service.releasing.background import Background, Pace
from rta_service.releasing.outcome_lines import Fate
from rta_service.releasing.outcomes import Outcomes, read_lines
from rta_service.releasing.shadow_ledger import ShadowLedger
from rta_service.releasing.shadowing import ShadowBoard, ShadowReport, Surroundings
from rta_service.releasing.shelf import Shelf
from rta_service.stores.traffic_sample import read_sample
from rta_service.stores.trial_store import TrialStore
from rta_service.telemetry import Telemetry

LOOK_EVERY_S = 1.0


class Habits(NamedTuple):
    """How a host works on trials."""

    run_dir: Path
    """Where its workers' traffic samples lie."""
    place: str
    """Names this host's control process among all that share the store."""
    cpu_share: float
    """Of one core, at most, for shadow scoring."""


class Parts(NamedTuple):
    """What an office is given."""

    shelf: Callable[[], Shelf]
    pilot: Autopilot
    keys: KeyRing
    clock: Clock
    telemetry: Telemetry
    failed: Callable[[str, Exception | None], None]
    """Told of each turn what it raised, or None."""


@dataclass(frozen=True, slots=True)
class TrialOffice:
    """What the control port may do with trials, and the threads behind it."""

    board: ShadowBoard
    pilot: Autopilot
    outcomes: Outcomes
    cpu_share: float
    failed: Callable[[str, Exception | None], None]

    def shadows(self) -> Sequence[ShadowReport]:
        """Give how each model on trial scores beside the live one."""
        return self.board.report()

    def take_outcomes(self, body: bytes, who: Actor) -> Sequence[Fate]:
        """Take matured labels in; raises InvalidInput or StoreUnavailable."""
        return self.outcomes.take(read_lines(body), who.name)

    def autopilot(self) -> Status:
        """Say whether the autopilot is on, and what it last saw and did."""
        return self.pilot.status()

    def switch_autopilot(self, who: Actor, why: str, *, on: bool) -> Switch:
        """Switch the autopilot; raises NotAllowed."""
        return self.pilot.switch(who, why, on=on)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Score shadows and run the autopilot meanwhile, each in a thread of its own."""
        looks = Pace(LOOK_EVERY_S, self.cpu_share, time.thread_time)
        turns = Pace(PERIOD_S, self.cpu_share, time.thread_time)
        with (
            Background("shadows", self.board.look, looks, lambda e: self.failed("shadows", e)),
            Background("autopilot", self.pilot.look, turns, lambda e: self.failed("autopilot", e)),
        ):
            yield
        with contextlib.suppress(RTAError):  # the lease ends by itself as well
            self.pilot.give_up()


def open_office(parts: Parts, habits: Habits) -> TrialOffice:
    """Put an office together; nothing runs yet, and the store is first asked when something does."""
    shelf, clock = parts.shelf, parts.clock

    def current() -> Release | None:
        return shelf().releases.current()

    board = ShadowBoard(
        Surroundings(
            release=current,
            load=lambda ref: shelf().heads.load(shelf().models_folder, ref),
            sample=lambda limit, after_ms: read_sample(habits.run_dir, limit, after_ms),
            now_ms=clock.now_ms,
            cpu_s=time.thread_time,
        ),
        ShadowLedger(lambda: TrialStore(shelf().client, shelf().namespace), habits.place, clock),
        Showing(parts.telemetry),
    )
    outcomes = Outcomes(shelf, parts.keys, clock)
    return TrialOffice(board, parts.pilot, outcomes, habits.cpu_share, parts.failed)


class Showing:
    """Shows reports as metrics."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._telemetry = telemetry
        self._rows: dict[tuple[str, str], tuple[str, int]] = {}

    def __call__(self, reports: list[ShadowReport]) -> None:
        """Show what changed; a trial that ended is not known any more."""
        shown = {(report.name, report.phase) for report in reports}
        for name, phase in self._rows.keys() - shown:
            self._telemetry.show_shadow(name, phase, float("nan"), float("nan"))
            del self._rows[name, phase]
        for report in reports:
            place = (report.name, report.phase)
            version, before = self._rows.get(place, ("", 0))
            more = report.rows - before if version == report.version else report.rows
            self._rows[place] = (report.version, report.rows)
            self._telemetry.count_shadow(*place, more)
            self._telemetry.show_shadow(*place, report.drift.mean_ratio, report.drift.psi)
