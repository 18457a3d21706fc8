"""Trained on a simulated log and judged on the week after its end: levels hold, slice by slice."""

import sys
from collections.abc import Mapping
from contextlib import closing
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from rta_service.domain.funnel import DEFAULT_FUNNEL
from rta_service.offline.events import LogOptions, clean_log
from rta_service.offline.training.funnel_file import Funnel
from rta_service.offline.training.reading import DatasetOptions, read_dataset
from rta_service.offline.training.slices import Slice, slice_of, slices
from rta_service.offline.training.train import TrainOptions, train_models
from rta_service.scoring.manifest import model_path
from rta_service.scoring.model_set import ModelSet, load_model_set
from rta_service.simulation.market import simulate_market
from rta_service.simulation.people import MarketOptions
from rta_service.stores.model_folder import publish_model

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3_600)]

DEVICES = 1_450_000
"""A week has 7 registrations after a click per thousand devices: 10,000 need this many."""
DAYS = 81
TRAIN_END = date(2026, 3, 1)
SIMULATED_END = date(2026, 3, 22)
"""Three weeks later: the judged week and the fourteen days in which its trades may follow."""
WEEK_S = 7 * 86_400
HEADS = DEFAULT_FUNNEL[:2]

Judged = dict[str, tuple[Slice, Mapping[str, tuple[Slice, ...]]]]
"""By head: all rows as one slice, and the slices of each kind."""


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Judged:
    folder = tmp_path_factory.mktemp("accuracy")
    log = folder / "events.parquet"
    market = MarketOptions(devices=DEVICES, days=DAYS, as_of=SIMULATED_END)
    simulate_market(market).write_events(log)
    train = TrainOptions(log=LogOptions(as_of=TRAIN_END), funnel=Funnel(HEADS))
    report = train_models(log, folder / "trained", train, now_ms=1)
    trained = [model_path(folder / "trained", ref) for ref in report.refs]
    refs = [publish_model(path, folder / "models") for path in trained]
    return _judge(log, load_model_set(folder / "models", refs))


def _judge(log: Path, models: ModelSet) -> Judged:
    """Ask the models, as they are served, about all clicks of the week after the log's end."""
    end_s = int(datetime(TRAIN_END.year, TRAIN_END.month, TRAIN_END.day, tzinfo=UTC).timestamp())
    week = DatasetOptions(from_s=end_s, until_s=end_s + WEEK_S)
    with closing(clean_log(log, LogOptions(as_of=SIMULATED_END))) as clean:
        dataset = read_dataset(clean, week, HEADS)
    judged: Judged = {}
    for spec in HEADS:
        rows = dataset.head_rows(spec)
        said = models.heads[spec.name].probabilities(rows.matrix)
        whole = slice_of("all", rows.labels, said, is_value=False)
        judged[spec.name] = whole, slices(rows, said)
    return judged


@pytest.mark.parametrize("name", [spec.name for spec in HEADS])
def test_a_later_week_is_met_as_a_whole_and_in_every_solid_slice(
    judged: Judged, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, kinds = judged[name]

    with capsys.disabled():
        _show(name, whole, kinds)

    assert whole.positives >= 10_000
    assert 0.97 <= whole.pcoc <= 1.03
    solid = [part for part in kinds["stage x platform"] if part.is_solid]
    assert len(solid) >= 2
    assert all(0.9 <= part.pcoc <= 1.1 for part in solid)


def _show(name: str, whole: Slice, kinds: Mapping[str, tuple[Slice, ...]]) -> None:
    write = sys.stdout.write
    write(f"\n{name:10} {'slice':24} {'rows':>9} {'positives':>10}   PCOC   95 % interval\n")
    for part in (whole, *kinds["stage x platform"]):
        mark = " " if part.is_solid else "~"
        write(
            f"{name:10} {part.name:24} {part.rows:>9,} {part.positives:>10,}"
            f"  {mark}{part.pcoc:.3f}  {part.low:.3f} to {part.high:.3f}\n"
        )
