"""Every metric: name, kind, labels with their closed values, unit, meaning, and its cells.

docs/metrics.md is made from this module by `page.document`. A label has no values but those listed
here, so the cells of all metrics form one fixed array, and a series is an offset into it.
"""

import hashlib
import itertools
import math
from collections.abc import Iterable, Mapping
from typing import Final

from rta_service.domain.decision import Arm
from rta_service.domain.device import IdKind
from rta_service.domain.funnel import DEFAULT_FUNNEL
from rta_service.domain.platform import PLATFORM_CODES
from rta_service.domain.reason import ReasonCode
from rta_service.domain.user import LifecycleStage, ValueTier
from rta_service.telemetry.control_metrics import CONTROL_METRICS
from rta_service.telemetry.event_metrics import EVENT_METRICS
from rta_service.telemetry.metric import Kind, Label, Metric
from rta_service.telemetry.record_metrics import RECORD_METRICS
from rta_service.telemetry.steering_metrics import STEERING_METRICS

PREFIX: Final = "rta_"


def _words(members: Iterable[LifecycleStage | ValueTier | ReasonCode]) -> tuple[str, ...]:
    """Spell an enum's members by code, which is also their cell."""
    ordered = sorted(members)
    if [int(member) for member in ordered] != list(range(len(ordered))):
        raise TypeError("codes that index metric cells must be 0, 1, 2, ... without a gap")
    return tuple(member.label for member in ordered)


def _steps_1_2_5(first_exponent: int, last_exponent: int) -> list[float]:
    decades = range(first_exponent, last_exponent)
    return [float(f"{step}e{decade}") for decade in decades for step in (1, 2, 5)]


DEADLINE_S: Final = 0.06
"""The time-out of the platforms, network included: a bucket ends there."""

LATENCY_BOUNDS_S: Final = tuple(sorted([*_steps_1_2_5(-5, 0), DEADLINE_S, 1.0]))
ACTIVATION_BOUNDS_S: Final = tuple(_steps_1_2_5(-3, 2))
BATCH_BOUNDS: Final = tuple(float(2**power) for power in range(11))

_PLATFORM = Label("platform", tuple(sorted(PLATFORM_CODES, key=PLATFORM_CODES.__getitem__)))
_STAGE = Label("stage", _words(LifecycleStage))
_TIER = Label("tier", _words(ValueTier))
_REASON = Label("reason", _words(ReasonCode))
_ID_KIND = Label("kind", tuple(kind.value for kind in IdKind))
_STEP = Label("stage", ("parse", "read", "decide", "render", "total"))
_STORE_ERROR = Label("kind", ("other", "unavailable", "snapshot_missing"))
_PLACE = Label(
    "place",
    ("other", "lane", "pipeline", "score", "render", "release", "control", "sample", "record"),
)
_PROCESS_KIND = Label("kind", ("other", "decision", "control", "nearline", "store"))
_HEAD = Label("model", ("other", *(spec.name for spec in DEFAULT_FUNNEL)))
_TRIAL_PHASE = Label("phase", ("shadow", "canary"))
_ARM = Label("arm", tuple(arm.value for arm in Arm))
_PARTICIPATE = Label("participate", ("yes", "no"))
_PHASE = Label("phase", ("prepare", "switch"))
_OUTCOME = Label("outcome", ("participate", "decline", "invalid"))

REQUESTS = Metric(
    "rta_requests_total",
    Kind.COUNTER,
    "Requests answered, by what the platform was told.",
    "requests",
    (_PLATFORM, _OUTCOME),
)
DECISIONS = Metric(
    "rta_decisions_total",
    Kind.COUNTER,
    "Decisions by who the device is and why it was answered so.",
    "decisions",
    (_PLATFORM, _STAGE, _TIER, _REASON),
    sparse=True,
)
WEIGHT = Metric(
    "rta_weight",
    Kind.SUMMARY,
    "Weight factors answered; sum over count is the mean weight, which should stay near 1.",
    "factor",
    (_PLATFORM, _TIER),
    sparse=True,
)
ARM_DECISIONS = Metric(
    "rta_arm_decisions_total",
    Kind.COUNTER,
    "Decisions by the arm of the release that made them; canary over all is the canary's share.",
    "decisions",
    (_ARM, _PARTICIPATE),
)
IDS_SEEN = Metric(
    "rta_ids_seen_total",
    Kind.COUNTER,
    "Usable device ids in requests.",
    "ids",
    (_ID_KIND,),
)
IDS_MATCHED = Metric(
    "rta_ids_matched_total",
    Kind.COUNTER,
    "Usable ids of this kind under which a record was found; over the ids seen it is the "
    "match rate.",
    "requests",
    (_ID_KIND,),
)
STAGE_LATENCY = Metric(
    "rta_stage_latency_seconds",
    Kind.HISTOGRAM,
    "Time in each step of a request; total counts from the first byte to the answer.",
    "seconds",
    (_STEP,),
    LATENCY_BOUNDS_S,
)
BATCH_ROWS = Metric(
    "rta_batch_rows",
    Kind.HISTOGRAM,
    "Requests that shared one store round trip and one scoring call.",
    "requests",
    bounds=BATCH_BOUNDS,
)
STORE_ERRORS = Metric(
    "rta_store_errors_total",
    Kind.COUNTER,
    "Reads of the store that failed; their requests got the degraded answer.",
    "reads",
    (_STORE_ERROR,),
)
BREAKER_OPEN = Metric(
    "rta_breaker_open",
    Kind.GAUGE,
    "1 while a worker leaves the store alone because it failed too often.",
    "0 or 1",
)
SHED = Metric(
    "rta_shed_total",
    Kind.COUNTER,
    "Requests answered at once with a safe no because too many were waiting.",
    "requests",
)
INTERNAL_ERRORS = Metric(
    "rta_internal_errors_total",
    Kind.COUNTER,
    "Errors of our own that were caught at the last resort; each one is a bug to look for.",
    "errors",
    (_PLACE,),
)
RELEASE_AGE = Metric(
    "rta_release_age_seconds",
    Kind.AGE,
    "Time since the release that a worker decides by was made.",
    "seconds",
)
RELEASE_SWITCHES = Metric(
    "rta_release_switches_total",
    Kind.COUNTER,
    "Times a worker took up another release.",
    "switches",
)
RELEASE_REFUSED = Metric(
    "rta_release_refused_total",
    Kind.COUNTER,
    "Times a worker kept its release because the new one could not be used.",
    "releases",
)
RELEASE_TAKEN = Metric(
    "rta_release_taken_age_seconds",
    Kind.AGE,
    "Time since a worker took up the release that it decides by.",
    "seconds",
)
SNAPSHOT_AGE = Metric(
    "rta_snapshot_age_seconds",
    Kind.AGE,
    "Time since the midnight that the snapshot of a worker's release is as of.",
    "seconds",
)
RELEASE_PREPARED = Metric(
    "rta_release_prepared_total",
    Kind.COUNTER,
    "Proposed releases that a worker made ready beside the one it decides by.",
    "releases",
)
ACTIVATION = Metric(
    "rta_activation_seconds",
    Kind.HISTOGRAM,
    "Time in which a worker made a proposed release ready, and in which it switched to one once it "
    "saw the pointer move.",
    "seconds",
    (_PHASE,),
    ACTIVATION_BOUNDS_S,
)
WORKERS_UP = Metric(
    "rta_workers_up",
    Kind.GAUGE,
    "Child processes that reported ready and are alive.",
    "processes",
    (_PROCESS_KIND,),
)
WORKER_RESTARTS = Metric(
    "rta_worker_restarts_total",
    Kind.COUNTER,
    "Child processes that died, or never became ready, and were started again.",
    "restarts",
    (_PROCESS_KIND,),
)
SHADOW_ROWS = Metric(
    "rta_shadow_rows_total",
    Kind.COUNTER,
    "Sampled rows scored by a model on trial beside the live one.",
    "rows",
    (_HEAD, _TRIAL_PHASE),
    sparse=True,
)
SHADOW_MEAN_RATIO = Metric(
    "rta_shadow_mean_ratio",
    Kind.GAUGE,
    "Mean score of a model on trial over the live one's, on the newest sampled rows.",
    "ratio",
    (_HEAD, _TRIAL_PHASE),
)
SHADOW_PSI = Metric(
    "rta_shadow_psi",
    Kind.GAUGE,
    "Population stability index of a model on trial against the live one; alarm above 0.25.",
    "index",
    (_HEAD, _TRIAL_PHASE),
)
RELEASE_VERSIONS = Metric(
    "rta_release_versions",
    Kind.DERIVED,
    "How many different releases the decision workers of this host decide by: 1 is right, 2 for a "
    "moment while they switch.",
    "releases",
)
RELEASE_SKEW = Metric(
    "rta_release_skew_seconds",
    Kind.DERIVED,
    "How long the decision workers have been on more than one release; 0 while they agree.",
    "seconds",
)
PARTICIPATION_SHARE = Metric(
    "rta_participation_share",
    Kind.DERIVED,
    "Share of a platform's requests answered yes, without probes and unreadable ones; platforms "
    "remove a service below 0.1 or above 0.9.",
    "share",
    (_PLATFORM,),
)
FILES_IGNORED = Metric(
    "rta_metric_files_ignored",
    Kind.DERIVED,
    "Counter files left out because another version of the service wrote them.",
    "files",
)

METRICS: Final = (
    REQUESTS,
    DECISIONS,
    WEIGHT,
    ARM_DECISIONS,
    IDS_SEEN,
    IDS_MATCHED,
    STAGE_LATENCY,
    BATCH_ROWS,
    STORE_ERRORS,
    BREAKER_OPEN,
    SHED,
    INTERNAL_ERRORS,
    RELEASE_AGE,
    RELEASE_SWITCHES,
    RELEASE_REFUSED,
    RELEASE_TAKEN,
    SNAPSHOT_AGE,
    RELEASE_PREPARED,
    ACTIVATION,
    WORKERS_UP,
    WORKER_RESTARTS,
    SHADOW_ROWS,
    SHADOW_MEAN_RATIO,
    SHADOW_PSI,
    *RECORD_METRICS,
    *EVENT_METRICS,
    *CONTROL_METRICS,
    *STEERING_METRICS,
    RELEASE_VERSIONS,
    RELEASE_SKEW,
    PARTICIPATION_SHARE,
    FILES_IGNORED,
)
"""In the order of their cells and of the documentation."""

_ENDS: Final = tuple(itertools.accumulate(math.prod(metric.shape) for metric in METRICS))
CELLS: Final = _ENDS[-1]
"""Cells of one process."""

FIRST_CELL: Final[Mapping[str, int]] = dict(
    zip((metric.name for metric in METRICS), (0, *_ENDS), strict=False)
)
"""Where a metric's cells begin."""

LAYOUT_ID: Final = hashlib.sha256(
    "\n".join(f"{m.name} {m.kind} {m.labels} {m.bounds}" for m in METRICS).encode()
).digest()[:16]
"""Changes whenever a cell would mean something else; files carry it."""
