"""The metrics of cost control, as its controllers see it."""

from typing import Final

from rta_service.domain.control import Reason
from rta_service.telemetry.metric import Kind, Label, Metric

_GUARD = Label("guard", tuple(reason.value for reason in Reason))

CONTROL_STEPS = Metric(
    "rta_control_steps_total",
    Kind.COUNTER,
    "Steps of control units that a controller made and saved.",
    "steps",
)
CONTROL_UNITS = Metric(
    "rta_control_units",
    Kind.GAUGE,
    "Strategies on platforms whose cost this process controls; 0 where another process does.",
    "units",
)
CONTROL_BLOCK_AGE = Metric(
    "rta_control_block_age_seconds",
    Kind.GAUGE,
    "Time since the step of the unit that was stepped longest ago; a period is 15 s.",
    "seconds",
)
CONTROL_FEED_LAG = Metric(
    "rta_control_feed_lag_seconds",
    Kind.GAUGE,
    "How old the newest moment is of which a controller knows all events.",
    "seconds",
)
CONTROL_OUTAGE = Metric(
    "rta_control_outage",
    Kind.GAUGE,
    "1 while postbacks of all units together are far too few, and everything is frozen.",
    "0 or 1",
)
CONTROL_GUARDS = Metric(
    "rta_control_guards",
    Kind.GAUGE,
    "Units that a guard holds now.",
    "units",
    (_GUARD,),
    sparse=True,
)
CONTROL_METRICS: Final = (
    CONTROL_STEPS,
    CONTROL_UNITS,
    CONTROL_BLOCK_AGE,
    CONTROL_FEED_LAG,
    CONTROL_OUTAGE,
    CONTROL_GUARDS,
)
"""In the order of their cells and of the documentation."""
