"""The metrics of what comes back: how the groups of the event log do."""

from typing import Final

from rta_service.telemetry.metric import Kind, Label, Metric

_GROUP = Label("group", ("other", "fresh", "archive", "attribution"))

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
EVENT_METRICS: Final = (
    EVENTS_HANDLED,
    EVENTS_ACKNOWLEDGED,
    EVENTS_SET_ASIDE,
    EVENTS_BACKLOG,
    EVENTS_LAG,
    EVENTS_POISONED,
)
"""In the order of their cells and of the documentation."""
