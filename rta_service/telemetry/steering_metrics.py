"""The metrics of cost control, as decision workers do it."""

from typing import Final

from rta_service.telemetry.metric import Kind, Label, Metric

STEERED_ANSWERS = Metric(
    "rta_control_answers_total",
    Kind.COUNTER,
    "Answers of strategies under cost control: all yes answers, those of them that chance moved, that "
    "were cut to the highest bid, that followed a faded order or had a figure that was none; and the no "
    "answers for want of money or worth.",
    "answers",
    (Label("what", ("answered", "explored", "capped", "stale", "bad", "no_money", "not_worth")),),
)
CONTROL_EXCHANGES = Metric(
    "rta_control_exchanges_total",
    Kind.COUNTER,
    "Times that a worker told cost control what it did and asked for orders and money.",
    "exchanges",
    (Label("outcome", ("done", "failed")),),
)
CONTROL_HEARD = Metric(
    "rta_control_heard_age_seconds",
    Kind.AGE,
    "Time since a worker last heard from cost control; it asks every half second.",
    "seconds",
)
STEERING_METRICS: Final = (STEERED_ANSWERS, CONTROL_EXCHANGES, CONTROL_HEARD)
"""In the order of their cells and of the documentation."""
