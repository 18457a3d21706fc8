"""Counters of all processes: counted in mapped cells, added up and shown by the control process."""

from rta_service.telemetry.batches import count_batch
from rta_service.telemetry.exposition import CONTENT_TYPE, exposition
from rta_service.telemetry.page import document
from rta_service.telemetry.recorder import Telemetry
from rta_service.telemetry.skew import SkewAlarm
from rta_service.telemetry.totals import Totals, read_all

__all__ = [
    "CONTENT_TYPE",
    "SkewAlarm",
    "Telemetry",
    "Totals",
    "count_batch",
    "document",
    "exposition",
    "read_all",
]
