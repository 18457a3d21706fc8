"""The benchmark of cost control on the request's way measures what it says."""

from rich.console import Console

from loadtest.bench_steering import Cost, Report, Staleness, costs, staleness, tables
from rta_service.domain.platform import BidKind


def test_every_kind_of_answer_is_measured_alone_and_among_eight() -> None:
    found = costs(rounds=1)

    assert [(one.answer, one.strategies) for one in found] == [
        (kind.value, many) for kind in BidKind for many in (1, 8)
    ]
    assert all(min(one.formula_us, one.plain_us, one.steered_us) > 0.0 for one in found)


def test_each_worker_sees_each_order_within_its_period() -> None:
    found = staleness(seconds=1.5)

    assert found.orders >= 2
    assert found.seen > 0
    assert found.p50_s <= found.p99_s <= found.most_s


def test_the_report_shows_both_and_says_whether_the_targets_are_met() -> None:
    late = Staleness(10, 160, 0.2, 0.5, 0.6)
    met = Report([Cost("cpm", 8, 1.4, 1.5, 1.9)], late)
    missed = Report([Cost("cpm", 8, 2.1, 1.5, 3.0)], late)
    console = Console(width=120, record=True)

    for table in tables(met):
        console.print(table)

    assert (met.is_met, missed.is_met) == (True, False)
    text = console.export_text()
    assert "1.40" in text
    assert "0.50" in text
