from pathlib import Path

from rta_service.domain.happening import LineRule
from rta_service.domain.receipt import Fate, LineFate, Receipt
from rta_service.telemetry import Telemetry, exposition, read_all
from rta_service.telemetry.event_metrics import FRESH_RECORDS


def test_lines_are_counted_by_fate_and_rejected_ones_by_the_rule_they_break(tmp_path: Path) -> None:
    telemetry = Telemetry.open(tmp_path, "nearline")
    lines = (
        LineFate(1, Fate.ACCEPTED),
        LineFate(2, Fate.REJECTED, "ts_ms", LineRule.TOO_OLD, "is more than 8 days ago"),
        LineFate(3, Fate.DUPLICATE),
        LineFate(4, Fate.REJECTED, "line", "a rule of a later version", "is wrong"),
    )

    telemetry.count_lines(Receipt(1, 1, 2, lines))
    telemetry.count_lines(Receipt(499, 0, 0))

    shown = exposition(tmp_path, 0).decode().splitlines()
    counted = {line for line in shown if line.startswith("rta_ingest_")}
    assert counted == {
        'rta_ingest_lines_total{fate="accepted"} 500.0',
        'rta_ingest_lines_total{fate="duplicate"} 1.0',
        'rta_ingest_lines_total{fate="rejected"} 2.0',
        'rta_ingest_rejected_total{rule="too_old"} 1.0',
        'rta_ingest_rejected_total{rule="other"} 1.0',
    }


def test_fresh_records_are_counted_from_what_the_reader_has_met(tmp_path: Path) -> None:
    telemetry = Telemetry.open(tmp_path, "decision-0")

    for merged, unreadable in ((3, 0), (3, 0), (5, 1)):
        telemetry.count_fresh(merged, unreadable)
    Telemetry.open(tmp_path, "decision-0").count_fresh(2, 0)  # the same process, started anew

    counts = read_all(tmp_path).counts(FRESH_RECORDS, "outcome")
    assert counts == {("merged",): 7.0, ("unreadable",): 1.0}
