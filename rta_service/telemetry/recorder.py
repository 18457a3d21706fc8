"""What a process counts, at 0.1 to 1.3 microseconds a call on the request's way."""

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final, Self

from rta_service.domain.control import Reason
from rta_service.domain.control_order import Usage
from rta_service.domain.decision import Arm, Decision
from rta_service.domain.device import IdKind
from rta_service.domain.errors import DeadlineExceeded, SnapshotMissing, StoreUnavailable
from rta_service.domain.platform import BidKind, PlatformInfo
from rta_service.domain.receipt import Receipt
from rta_service.telemetry.cells import CellFile
from rta_service.telemetry.control_metrics import (
    CONTROL_BLOCK_AGE,
    CONTROL_FEED_LAG,
    CONTROL_GUARDS,
    CONTROL_OUTAGE,
    CONTROL_STEPS,
    CONTROL_UNITS,
)
from rta_service.telemetry.event_metrics import (
    EVENTS_ACKNOWLEDGED,
    EVENTS_BACKLOG,
    EVENTS_HANDLED,
    EVENTS_LAG,
    EVENTS_POISONED,
    EVENTS_SET_ASIDE,
    FRESH_RECORDS,
    LINES_REJECTED,
    LINES_TAKEN,
)
from rta_service.telemetry.metric import Metric
from rta_service.telemetry.record_metrics import DECISION_RECORDS, GHOSTS
from rta_service.telemetry.registry import (
    ACTIVATION,
    ACTIVATION_BOUNDS_S,
    ARM_DECISIONS,
    BATCH_BOUNDS,
    BATCH_ROWS,
    BREAKER_OPEN,
    DECISIONS,
    FIRST_CELL,
    IDS_MATCHED,
    IDS_SEEN,
    INTERNAL_ERRORS,
    LATENCY_BOUNDS_S,
    RELEASE_AGE,
    RELEASE_PREPARED,
    RELEASE_REFUSED,
    RELEASE_SWITCHES,
    RELEASE_TAKEN,
    REQUESTS,
    SHADOW_MEAN_RATIO,
    SHADOW_PSI,
    SHADOW_ROWS,
    SHED,
    SNAPSHOT_AGE,
    STAGE_LATENCY,
    STORE_ERRORS,
    WEIGHT,
    WORKER_RESTARTS,
    WORKERS_UP,
)
from rta_service.telemetry.steering_metrics import (
    CONTROL_EXCHANGES,
    CONTROL_HEARD,
    STEERED_ANSWERS,
)


def _places(metric: Metric) -> Mapping[str, int]:
    """Map the values of a metric's only label to the first cell of their series."""
    first = FIRST_CELL[metric.name]
    values = metric.labels[0].values
    return {value: first + position * metric.width for position, value in enumerate(values)}


# Offsets once per process: the request's way only adds.
_REQUESTS: Final = FIRST_CELL[REQUESTS.name]
_DECISIONS: Final = FIRST_CELL[DECISIONS.name]
_WEIGHT: Final = FIRST_CELL[WEIGHT.name]
_BATCH: Final = FIRST_CELL[BATCH_ROWS.name]
_BREAKER: Final = FIRST_CELL[BREAKER_OPEN.name]
_SHED: Final = FIRST_CELL[SHED.name]
_RELEASE_MADE: Final = FIRST_CELL[RELEASE_AGE.name]
_TAKEN: Final = FIRST_CELL[RELEASE_TAKEN.name]
_SNAPSHOT: Final = FIRST_CELL[SNAPSHOT_AGE.name]
_PREPARED: Final = FIRST_CELL[RELEASE_PREPARED.name]
_ACTIVATION: Final = _places(ACTIVATION)
_ACTIVATION_SUM: Final = ACTIVATION.width - 1
_LIVE: Final = FIRST_CELL[ARM_DECISIONS.name]
_CANARY: Final = _LIVE + ARM_DECISIONS.shape[1]
# a member looked up by its class costs 0.1 microseconds on Python 3.11
_IS_CANARY: Final = Arm.CANARY
_SWITCHES: Final = FIRST_CELL[RELEASE_SWITCHES.name]
_REFUSED: Final = FIRST_CELL[RELEASE_REFUSED.name]
_, _STAGES, _TIERS, _REASONS, _ = DECISIONS.shape
_OUTCOMES: Final = REQUESTS.shape[1]
_SEEN: Final = _places(IDS_SEEN)
_MATCHED: Final = _places(IDS_MATCHED)
_LATENCY: Final = _places(STAGE_LATENCY)
_LATENCY_SUM: Final = STAGE_LATENCY.width - 1
_BATCH_SUM: Final = BATCH_ROWS.width - 1
_STORE_ERRORS: Final = _places(STORE_ERRORS)
_INTERNAL: Final = _places(INTERNAL_ERRORS)
_UP: Final = _places(WORKERS_UP)
_RESTARTS: Final = _places(WORKER_RESTARTS)
_RECORDS: Final = _places(DECISION_RECORDS)
_GHOSTS: Final = _places(GHOSTS)
_FATES: Final = _places(LINES_TAKEN)
_REJECTED: Final = _places(LINES_REJECTED)
_HANDLED: Final = _places(EVENTS_HANDLED)
_ACKNOWLEDGED: Final = _places(EVENTS_ACKNOWLEDGED)
_SET_ASIDE: Final = _places(EVENTS_SET_ASIDE)
_BACKLOG: Final = _places(EVENTS_BACKLOG)
_LAG: Final = _places(EVENTS_LAG)
_STEERED: Final = tuple(_places(STEERED_ANSWERS).items())
_EXCHANGES: Final = _places(CONTROL_EXCHANGES)
_HEARD: Final = FIRST_CELL[CONTROL_HEARD.name]
_POISONED: Final = FIRST_CELL[EVENTS_POISONED.name]
_CONTROL_STEPS: Final = FIRST_CELL[CONTROL_STEPS.name]
_CONTROL: Final = tuple(
    FIRST_CELL[metric.name]
    for metric in (CONTROL_UNITS, CONTROL_BLOCK_AGE, CONTROL_FEED_LAG, CONTROL_OUTAGE)
)
_CONTROL_GUARDS: Final = _places(CONTROL_GUARDS)
_FRESH: Final = FIRST_CELL[FRESH_RECORDS.name]


def _trial_cell(metric: Metric, model: str, phase: str) -> int:
    """Find the cell of a model's trial; one that the registry lacks counts as "other"."""
    models, phases = (label.values for label in metric.labels)
    head = models.index(model if model in models else "other")
    return FIRST_CELL[metric.name] + head * len(phases) + phases.index(phase)


class Telemetry:
    """The counters of this process. One thread writes: increments are not atomic."""

    def __init__(self, file: CellFile) -> None:
        self._file = file
        self._cells = file.cells
        self._fresh = (0, 0)

    @classmethod
    def open(cls, run_dir: Path, process_name: str) -> Self:
        """Count into <run_dir>/metrics/<process_name>.cells, going on where it stands."""
        return cls(CellFile.open(run_dir, process_name))

    def count_decision(self, decision: Decision, platform: PlatformInfo) -> None:
        """Count an answer by platform, outcome, stage, tier and reason, and its weights."""
        cells = self._cells
        code = platform.code
        cells[_REQUESTS + code * _OUTCOMES + (not decision.participate)] += 1.0
        row = (code * _STAGES + decision.stage) * _TIERS + decision.tier
        cells[_DECISIONS + row * _REASONS + decision.reason] += 1.0
        cells[(_CANARY if decision.arm is _IS_CANARY else _LIVE) + (not decision.participate)] += (
            1.0
        )
        if decision.participate:
            self._count_weights(decision, _WEIGHT + (code * _TIERS + decision.tier) * 2)

    def _count_weights(self, decision: Decision, place: int) -> None:
        cells = self._cells
        for strategy in decision.strategies:
            bid = strategy.bid
            if bid is not None and bid.kind is BidKind.WEIGHT:
                cells[place] += 1.0
                cells[place + 1] += bid.value

    def count_invalid(self, platform: PlatformInfo) -> None:
        """Count a request that could not be read."""
        self._cells[_REQUESTS + platform.code * _OUTCOMES + 2] += 1.0

    def count_ids(self, seen: Iterable[IdKind], matched: Iterable[IdKind]) -> None:
        """Count the kinds of a request's usable ids, and of those that have a record."""
        cells = self._cells
        for kind in seen:
            cells[_SEEN[kind]] += 1.0
        for kind in matched:
            cells[_MATCHED[kind]] += 1.0

    def observe(self, stage: str, seconds: float) -> None:
        """Count how long a step took; raises KeyError for a step that the registry lacks."""
        cells = self._cells
        place = _LATENCY[stage]
        cells[place + bisect_left(LATENCY_BOUNDS_S, seconds)] += 1.0
        cells[place + _LATENCY_SUM] += seconds

    def observe_batch(self, rows: int) -> None:
        """Count how many requests shared a batch."""
        cells = self._cells
        cells[_BATCH + bisect_left(BATCH_BOUNDS, rows)] += 1.0
        cells[_BATCH + _BATCH_SUM] += rows

    def count_store_error(self, kind: str) -> None:
        """Count a failed read; a kind that the registry lacks counts as "other"."""
        self._cells[_STORE_ERRORS.get(kind, _STORE_ERRORS["other"])] += 1.0

    def count_failure(self, error: Exception) -> None:
        """Count what made a whole batch degrade: the store's errors and our own.

        A missed deadline is no error; its decisions carry the reason.
        """
        match error:
            case SnapshotMissing():
                self.count_store_error("snapshot_missing")
            case StoreUnavailable():
                self.count_store_error("unavailable")
            case DeadlineExceeded():
                pass
            case _:
                self.count_internal_error("pipeline")

    def set_breaker(self, *, is_open: bool) -> None:
        """Show whether the store is left alone at the moment."""
        self._cells[_BREAKER] = float(is_open)

    def count_shed(self, requests: int = 1) -> None:
        """Count requests that were answered without a decision because too many waited."""
        self._cells[_SHED] += requests

    def count_internal_error(self, place: str) -> None:
        """Count a bug that was caught; a place that the registry lacks counts as "other"."""
        self._cells[_INTERNAL.get(place, _INTERNAL["other"])] += 1.0

    def release_taken(self, made_ms: int, now_ms: int, seconds: float) -> None:
        """Count the switch to another release, and remember when both happened."""
        self._cells[_SWITCHES] += 1.0
        self._cells[_RELEASE_MADE] = made_ms / 1000
        self._cells[_TAKEN] = now_ms / 1000
        self._observe_activation("switch", seconds)

    def snapshot_taken(self, as_of_s: int) -> None:
        """Remember of which day the records are that decide now."""
        self._cells[_SNAPSHOT] = as_of_s

    def release_prepared(self, seconds: float) -> None:
        """Count a proposed release that was made ready."""
        self._cells[_PREPARED] += 1.0
        self._observe_activation("prepare", seconds)

    def _observe_activation(self, phase: str, seconds: float) -> None:
        place = _ACTIVATION[phase]
        self._cells[place + bisect_left(ACTIVATION_BOUNDS_S, seconds)] += 1.0
        self._cells[place + _ACTIVATION_SUM] += seconds

    def count_release_refused(self) -> None:
        """Count a release that could not be used, so that the one before stays."""
        self._cells[_REFUSED] += 1.0

    def count_shadow(self, model: str, phase: str, rows: int) -> None:
        """Count rows scored by a model on trial; for the control process."""
        self._cells[_trial_cell(SHADOW_ROWS, model, phase)] += rows

    def show_shadow(self, model: str, phase: str, mean_ratio: float, psi: float) -> None:
        """Show how a model on trial scores beside the live one; NaN where nothing is known."""
        self._cells[_trial_cell(SHADOW_MEAN_RATIO, model, phase)] = mean_ratio
        self._cells[_trial_cell(SHADOW_PSI, model, phase)] = psi

    def count_lines(self, receipt: Receipt) -> None:
        """Count the fates of lines and notices; for the process that takes events in."""
        self._cells[_FATES["accepted"]] += receipt.accepted
        self._cells[_FATES["duplicate"]] += receipt.duplicate
        self._cells[_FATES["rejected"]] += receipt.rejected
        if receipt.rejected:
            for line in receipt.lines:
                if line.rule:
                    self._cells[_REJECTED.get(line.rule, _REJECTED["other"])] += 1

    def count_fresh(self, merged: int, unreadable: int) -> None:
        """Count records with newer events, from what a reader has met since its start."""
        if (merged, unreadable) != self._fresh:
            self._cells[_FRESH] += merged - self._fresh[0]
            self._cells[_FRESH + 1] += unreadable - self._fresh[1]
            self._fresh = merged, unreadable

    def count_events(self, group: str, handled: int, acknowledged: int, set_aside: int) -> None:
        """Count what a group did with events of the log; for the process that consumes."""
        counted = ((_HANDLED, handled), (_ACKNOWLEDGED, acknowledged), (_SET_ASIDE, set_aside))
        for places, events in counted:
            self._cells[places.get(group, places["other"])] += events

    def show_backlog(self, group: str, events: int, lag_s: float) -> None:
        """Show how much a group has still to do, and how long its oldest event has waited."""
        self._cells[_BACKLOG.get(group, _BACKLOG["other"])] = events
        self._cells[_LAG.get(group, _LAG["other"])] = lag_s

    def show_poisoned(self, events: int) -> None:
        """Show how many events wait for somebody's decision."""
        self._cells[_POISONED] = events

    def count_control_steps(self, steps: int) -> None:
        """Count steps of control units."""
        self._cells[_CONTROL_STEPS] += steps

    def show_control(self, units: int, oldest_s: float, lag_s: float, *, outage: bool) -> None:
        """Show how many units there are, the oldest block's age, and how far behind the feed is."""
        for place, shown in zip(_CONTROL, (units, oldest_s, lag_s, outage), strict=True):
            self._cells[place] = shown

    def show_control_guards(self, flags: Mapping[Reason, int]) -> None:
        """Show how many units each guard holds."""
        for flag, units in flags.items():
            self._cells[_CONTROL_GUARDS[flag]] = units

    def count_steered(self, usage: Usage) -> None:
        """Count what was answered under cost control since the last time."""
        for what, place in _STEERED:
            self._cells[place] += getattr(usage, what)

    def count_exchange(self, now_ms: int, *, is_done: bool) -> None:
        """Count an exchange with cost control, and remember when the last one was done."""
        self._cells[_EXCHANGES["done" if is_done else "failed"]] += 1.0
        if is_done:
            self._cells[_HEARD] = now_ms / 1000

    def count_records(self, fate: str, records: int) -> None:
        """Count recorded decisions by their fate; raises KeyError for one the registry lacks.

        Of two threads: each fate has its own cell, and is counted by one of them only.
        """
        self._cells[_RECORDS[fate]] += records

    def count_ghosts(self, *, scored: bool) -> None:
        """Count a recorded decision about somebody held out."""
        self._cells[_GHOSTS["scored" if scored else "skipped"]] += 1.0

    def set_workers_up(self, kind: str, count: int) -> None:
        """Show how many processes of a kind are ready; for the supervisor."""
        self._cells[_UP.get(kind, _UP["other"])] = count

    def count_restart(self, kind: str) -> None:
        """Count a child process that is started again; for the supervisor."""
        self._cells[_RESTARTS.get(kind, _RESTARTS["other"])] += 1.0

    def close(self) -> None:
        """Forget the gauges and unmap; what was counted stays counted."""
        self._file.forget_gauges()
        self._file.close()
