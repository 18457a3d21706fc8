"""The metrics of what comes back: what is taken in, and how the groups of the event log do."""

from typing import Final

from rta_service.domain.happening import LineRule
from rta_service.domain.receipt import Fate
from rta_service.telemetry.metric import Kind, Label, Metric

_GROUP = Label("group", ("other", "fresh", "archive", "attribution"))

LINES_TAKEN = Metric(
    "rta_ingest_lines_total",
    Kind.COUNTER,
    "Lines and notices that were answered, by their fate; accepted ones and duplicates are kept.",
    "lines",
    (Label("fate", tuple(fate.value for fate in Fate)),),
    sparse=True,
)
LINES_REJECTED = Metric(
    "rta_ingest_rejected_total",
    Kind.COUNTER,
    "Lines and notices that do not count, by the rule that they break.",
    "lines",
    (Label("rule", ("other", *(rule.value for rule in LineRule))),),
    sparse=True,
)
EVENTS_HANDLED = Metric(
    "rta_events_handled_total",
    Kind.COUNTER,
    "Events of the log that a group did, those included that a crash or a failure brought again.",
    "events",
    (_GROUP,),
)
EVENTS_ACKNOWLEDGED = Metric(
    "rta_events_acknowledged_total",
    Kind.COUNTER,
    "Events that a group told the log it is done with.",
    "events",
    (_GROUP,),
)
EVENTS_SET_ASIDE = Metric(
    "rta_events_set_aside_total",
    Kind.COUNTER,
    "Events that a group could not do and set aside with the reason; each one is to be looked at.",
    "events",
    (_GROUP,),
)
EVENTS_BACKLOG = Metric(
    "rta_events_backlog",
    Kind.GAUGE,
    "Accepted events that a group has not done yet.",
    "events",
    (_GROUP,),
)
EVENTS_LAG = Metric(
    "rta_events_lag_seconds",
    Kind.GAUGE,
    "How long the oldest event that a group has not done has been waiting.",
    "seconds",
    (_GROUP,),
)
EVENTS_POISONED = Metric(
    "rta_events_poisoned",
    Kind.GAUGE,
    "Events set aside that nobody has taken back or dropped yet.",
    "events",
)
FRESH_RECORDS = Metric(
    "rta_fresh_records_total",
    Kind.COUNTER,
    "Records read for decisions that events since the snapshot changed or made, and those that did"
    " not go together with theirs and were used as the snapshot has them.",
    "records",
    (Label("outcome", ("merged", "unreadable")),),
)
EVENT_METRICS: Final = (
    LINES_TAKEN,
    LINES_REJECTED,
    EVENTS_HANDLED,
    EVENTS_ACKNOWLEDGED,
    EVENTS_SET_ASIDE,
    EVENTS_BACKLOG,
    EVENTS_LAG,
    EVENTS_POISONED,
    FRESH_RECORDS,
)
"""In the order of their cells and of the documentation."""
