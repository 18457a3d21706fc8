"""What a unit learns of the ledger's rows, by what its strategy answers."""

import pytest

from rta_service.domain.control import Aim, Budget, CostGoal, Mode, Targets
from rta_service.domain.control_feed import FeedRow, RowKind
from rta_service.domain.control_order import ControlSettings
from rta_service.domain.platform import BidKind
from rta_service.nearline.control.books import ARRIVED, COST, PAYERS, PREDICTED, WINS
from rta_service.nearline.control.feeding import Kept, Replay, Step, Terms

HOUR_MS = 3_600_000
ROWS = [
    FeedRow(RowKind.WIN, HOUR_MS, 0, 100),
    FeedRow(RowKind.CLICK, HOUR_MS + 1, 1, 7, 20_000_000, 5_000_000),
    FeedRow(RowKind.CLICK, HOUR_MS + 2, 0, 7),
    FeedRow(RowKind.REPORT, HOUR_MS + 3, 0, 1_000),
    FeedRow(RowKind.SHALLOW, HOUR_MS + 1, 1, came_ms=HOUR_MS + 9),
    FeedRow(RowKind.DEEP, HOUR_MS + 1, 1, came_ms=HOUR_MS + 9, cents=300),
    FeedRow(RowKind.DEEP, HOUR_MS + 4, 0, came_ms=HOUR_MS + 9, cents=-100),
    FeedRow(RowKind.CLICK, HOUR_MS - 1, 1, 7_000_000, 20_000_000, 5_000_000),
    FeedRow(RowKind.DEEP, HOUR_MS - 1, 1, came_ms=HOUR_MS + 9, cents=300),
]


def terms(answer: BidKind, target: int = 1_000_000) -> Terms:
    aim = Aim(Mode.TCPA, Targets(shallow_micros=target), CostGoal.SHALLOW)
    return Terms(ControlSettings(aim, Budget(10**9)), answer, value_micros=40_000_000)


def fed(answer: BidKind) -> dict[str, int]:
    kept = Kept("u", Step(1, HOUR_MS, 0, terms=terms(answer)))
    kept.take(Step(1, HOUR_MS, 0), [])
    kept.take(Step(2, 2 * HOUR_MS, 9), ROWS)
    sums = kept.unit.books.bought.totals()
    columns = {
        "cost": COST,
        "wins": WINS,
        "shallow": PREDICTED[CostGoal.SHALLOW],
        "value": PREDICTED[CostGoal.VALUE],
        "registered": ARRIVED[CostGoal.SHALLOW],
        "traded": ARRIVED[CostGoal.DEEP],
        "money": ARRIVED[CostGoal.VALUE],
        "payers": PAYERS,
    }
    return {name: int(sums[column]) for name, column in columns.items()}


def test_of_a_cpm_auctions_cost_and_of_other_answers_clicks_do() -> None:
    cpm, weight = fed(BidKind.CPM), fed(BidKind.WEIGHT)

    assert (cpm["cost"], weight["cost"]) == (1_100, 1_014)
    for found in (cpm, weight):
        assert (found["wins"], found["shallow"], found["value"]) == (1, 20_000_000, 200_000_000)
        assert (found["registered"], found["traded"], found["payers"]) == (1, 1, 1)
        assert found["money"] == 2_000_000, "300 cents less 100 paid back, in micros"


def test_a_replay_begins_at_a_checkpoint_and_passes_over_what_is_in_it() -> None:
    first = Step(1, HOUR_MS, 3, terms=terms(BidKind.CPC))
    steps = [first, Step(2, 2 * HOUR_MS, 5), Step(3, 3 * HOUR_MS, 8, terms=terms(BidKind.CPC, 5))]
    kept = Kept("u", first)
    kept.take(first, [])
    kept.take(steps[1], ROWS[:2])
    base = kept.to_bytes()
    kept.take(steps[2], ROWS[2:])

    again = [Replay("u", None, steps), Replay("u", base, steps), Replay("u", base, steps[2:])]
    for replay in again:
        for number, rows in ((2, ROWS[:1]), (4, ROWS[:1]), (5, ROWS[1:2]), (7, ROWS[2:])):
            replay.hear(number, rows)
    made = [replay.end() for replay in again]

    assert [one and one.to_bytes() for one in made] == [kept.to_bytes()] * 3
    assert Replay("u", None, []).end() is None


def test_a_first_step_says_what_is_wanted() -> None:
    with pytest.raises(ValueError, match="says no terms"):
        Kept("u", Step(1, HOUR_MS, 0))


def test_clicks_wait_for_the_report_of_their_hour_once_reports_come() -> None:
    kept = Kept("u", Step(1, 0, 0, terms=terms(BidKind.WEIGHT)))
    clicks = [FeedRow(RowKind.CLICK, at * HOUR_MS // 2, 1, 0, 20_000_000) for at in range(6)]
    report = FeedRow(RowKind.REPORT, HOUR_MS // 2, 0, 1_000)
    kept.take(Step(1, 0, 0), [])

    def wins() -> int:
        return int(kept.unit.books.bought.totals()[WINS])

    kept.take(Step(2, 1, 1), clicks[:1])
    before = wins()
    kept.take(Step(3, HOUR_MS, 2), [report, *clicks[1:4]])
    reported = wins()
    again = Kept.from_bytes("u", kept.to_bytes())
    again.take(Step(4, 2 * HOUR_MS, 3), [FeedRow(RowKind.REPORT, 3 * HOUR_MS // 2, 0, 1_000)])
    kept.take(Step(4, 9 * HOUR_MS, 4), clicks[4:])

    assert (before, reported, wins()) == (1, 2, 6), "in the end reports have stopped"
    assert int(again.unit.books.bought.totals()[WINS]) == 4
    assert (again.reported_ms, again.held) == (2 * HOUR_MS, [])
