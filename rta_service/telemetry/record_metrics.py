"""The metrics of recorded decisions: what became of each, and of ghost bids."""

from typing import Final

from rta_service.telemetry.metric import Kind, Label, Metric

_FATE = Label("fate", ("kept", "buffer_full", "store_away", "failed"))
_GHOST = Label("ghost", ("scored", "skipped"))

DECISION_RECORDS = Metric(
    "rta_decision_records_total",
    Kind.COUNTER,
    "Decisions drawn to be recorded, by what became of them: all but those kept are lost.",
    "records",
    (_FATE,),
)
GHOSTS = Metric(
    "rta_ghost_bids_total",
    Kind.COUNTER,
    "Recorded decisions about people held out, by whether there was time to score what would have "
    "been bid.",
    "decisions",
    (_GHOST,),
)
RECORD_METRICS: Final = (DECISION_RECORDS, GHOSTS)
"""In the order of their cells and of the documentation."""
