"""Training turns a log into models that the service loads, calibrated, or says what it lacks."""

from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import msgspec
import pytest
from rich.progress import Progress

from rta_service.domain.errors import InvalidInput
from rta_service.domain.strategy import Goal, OptimisedEvent
from rta_service.offline.events import LogOptions, clean_log
from rta_service.offline.training.dataset import DatasetOptions, read_dataset
from rta_service.offline.training.report import TrainReport
from rta_service.offline.training.train import HEADS, TrainOptions, train_models
from rta_service.scoring.check import check_models
from rta_service.scoring.manifest import CARD, MANIFEST, MODEL, model_path
from rta_service.scoring.model_set import ModelSet, load_model_set

WriteLog = Callable[[list[tuple[Any, ...]]], Path]

NOW_MS = 1_735_689_600_000
OPTIONS = TrainOptions()


@pytest.fixture(scope="session")
def models_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="session")
def report(market_log: Path, models_folder: Path) -> TrainReport:
    return train_models(market_log, models_folder, OPTIONS, NOW_MS)


@pytest.fixture(scope="session")
def models(report: TrainReport, models_folder: Path) -> ModelSet:
    return load_model_set(models_folder, report.refs)


def test_all_heads_are_trained_and_load(models: ModelSet, report: TrainReport) -> None:
    assert list(models.heads) == list(HEADS)
    assert [manifest.name for manifest in report.manifests] == list(HEADS)


def test_what_is_published_passes_the_check(report: TrainReport, models_folder: Path) -> None:
    check_models(models_folder, report.refs, timeout_s=60)


def test_heads_order_people_and_keep_their_rates(report: TrainReport) -> None:
    found = {manifest.name: manifest.evaluation for manifest in report.manifests}

    assert found["register"].auc > 0.7
    assert found["trade"].auc > 0.75
    assert 0.8 < found["register"].pcoc < 1.25
    assert 0.8 < found["trade"].pcoc < 1.25


def test_the_evaluation_is_what_the_service_would_have_said(
    models: ModelSet, market_log: Path
) -> None:
    log = clean_log(market_log, LogOptions())
    rows = read_dataset(log, DatasetOptions()).head_rows(Goal.TRADE, OptimisedEvent.CLICK)
    log.close()
    head = models.heads["trade"]
    found = head.manifest.evaluation

    served = head.probabilities(rows.matrix[-found.rows :])

    assert int(rows.labels[-found.rows :].sum()) == found.positives
    assert served.sum() / found.positives == pytest.approx(found.pcoc)


def test_the_manifest_tells_where_the_model_comes_from(report: TrainReport) -> None:
    register = report.heads["register"].manifest

    assert register is not None
    assert register.version == f"v20240402-{register.sha256[:8]}"
    assert register.window_s == 7 * 86_400
    assert register.created_at_ms == NOW_MS
    assert 0 < register.positives < register.rows
    assert report.heads["register"].dropped["already_registered"] > 0


def test_the_better_of_head_and_ratio_is_preferred(report: TrainReport, models: ModelSet) -> None:
    manifest = report.heads["trade_given_register"].manifest

    assert manifest is not None
    rule = models.value_rule(Goal.TRADE, OptimisedEvent.REGISTER)
    assert rule.kind == manifest.prefer


def test_each_model_has_its_card(report: TrainReport, models_folder: Path) -> None:
    for ref in report.refs:
        path = model_path(models_folder, ref)
        assert {file.name for file in path.iterdir()} == {MODEL, MANIFEST, CARD}

    card = (model_path(models_folder, report.refs[0]) / CARD).read_text()

    assert "P(register within 7 days | click)" in card
    assert card.count("\n| ") == 2 + 11
    assert "Log loss of this head" not in card


def test_the_card_of_trade_given_register_tells_the_comparison(
    report: TrainReport, models_folder: Path
) -> None:
    card = (model_path(models_folder, report.refs[-1]) / CARD).read_text()

    assert "of the ratio trade / register" in card


def test_the_report_speaks_json(report: TrainReport) -> None:
    told = msgspec.json.decode(msgspec.json.encode(report.to_json()))

    assert told["heads"]["register"]["evaluation"]["auc"] > 0.7
    assert told["heads"]["register"]["trained"] is True


def test_the_same_log_and_seed_give_the_same_models(
    report: TrainReport, market_log: Path, tmp_path: Path
) -> None:
    again = train_models(market_log, tmp_path, OPTIONS, NOW_MS, Progress(disable=True))

    assert again.refs == report.refs


def test_a_head_with_too_few_positives_is_left_out_with_its_reason(
    market_log: Path, tmp_path: Path
) -> None:
    options = TrainOptions(min_positives_given=2_000)

    report = train_models(market_log, tmp_path, options, NOW_MS)

    left_out = report.to_json()["heads"]["trade_given_register"]
    assert left_out["trained"] is False
    assert "2000 are needed" in left_out["reason"]
    assert {"register", "trade"} <= {ref.name for ref in report.refs}


def test_a_log_without_clicks_is_refused_with_what_it_needs(
    write_log: WriteLog, tmp_path: Path
) -> None:
    log = write_log([("ann", 0, "launch"), ("bob", 5, "launch")])

    with pytest.raises(
        InvalidInput, match=r"can't train register: 0 clicks .* at least 500 and 50"
    ):
        train_models(log, tmp_path / "models", OPTIONS, NOW_MS)

    assert not (tmp_path / "models").exists()


def test_goals_that_all_came_early_are_refused(write_log: WriteLog, tmp_path: Path) -> None:
    clicks = [(f"p{n}", n * 3_600, "ad_click") for n in range(1_000)]
    goals = [
        (f"p{n}", n * 3_600 + after, event)
        for n in range(0, 400, 4)
        for after, event in ((60, "register"), (90, "pay"))
    ]
    options = TrainOptions(LogOptions(as_of=date(2024, 3, 31)))

    with pytest.raises(InvalidInput, match=r"0 positives in .* rows to"):
        train_models(write_log(clicks + goals), tmp_path / "models", options, NOW_MS)
