"""Training turns a log into models that the service loads, calibrated, or says what it lacks."""

import hashlib
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from rich.progress import Progress

from rta_service.domain.errors import InvalidInput
from rta_service.domain.funnel import DEFAULT_FUNNEL, HeadSpec, Step
from rta_service.domain.release import ModelRef
from rta_service.domain.strategy import Goal, OptimisedEvent
from rta_service.offline.events import LogOptions
from rta_service.offline.training.funnel_file import Funnel
from rta_service.offline.training.head_training import HeadOptions
from rta_service.offline.training.reading import DatasetOptions
from rta_service.offline.training.report import TrainReport
from rta_service.offline.training.train import TrainOptions, train_models
from rta_service.scoring.bundle import CARD_PAGE, EVALUATION, GOLDEN
from rta_service.scoring.check import check_models
from rta_service.scoring.evaluation_file import read_evaluation
from rta_service.scoring.forest_text import parse_forest
from rta_service.scoring.golden import read_golden
from rta_service.scoring.manifest import CARD, MANIFEST, MODEL, ModelManifest, model_path
from rta_service.scoring.metrics import evaluate
from rta_service.scoring.model_set import ModelSet, load_model_set
from rta_service.stores.model_folder import publish_model

WriteLog = Callable[[list[tuple[Any, ...]]], Path]

NOW_MS = 1_735_689_600_000
OPTIONS = TrainOptions()
NAMES = [spec.name for spec in DEFAULT_FUNNEL]
SHORT = Funnel(DEFAULT_FUNNEL[:2])
"""What a funnel can't do without."""


@pytest.fixture(scope="session")
def trained_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("trained")


@pytest.fixture(scope="session")
def report(market_log: Path, trained_folder: Path) -> TrainReport:
    return train_models(market_log, trained_folder, OPTIONS, NOW_MS)


@pytest.fixture(scope="session")
def models_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="session")
def refs(report: TrainReport, trained_folder: Path, models_folder: Path) -> list[ModelRef]:
    return [publish_model(model_path(trained_folder, ref), models_folder) for ref in report.refs]


@pytest.fixture(scope="session")
def models(refs: list[ModelRef], models_folder: Path) -> ModelSet:
    return load_model_set(models_folder, refs)


def _manifest(report: TrainReport, name: str) -> ModelManifest:
    manifest = report.heads[name].manifest
    assert manifest is not None
    return manifest


def test_all_heads_are_trained_and_load(models: ModelSet, report: TrainReport) -> None:
    assert list(models.heads) == NAMES
    assert [manifest.name for manifest in report.manifests] == NAMES


def test_what_is_published_passes_the_check(refs: list[ModelRef], models_folder: Path) -> None:
    check_models(models_folder, refs, timeout_s=60)


def test_heads_order_people_and_keep_their_rates(report: TrainReport) -> None:
    found = {manifest.name: manifest.evaluation for manifest in report.manifests}

    assert found["register"].auc > 0.7
    assert found["trade"].auc > 0.75
    assert 0.8 < found["register"].pcoc < 1.25
    assert 0.8 < found["trade"].pcoc < 1.25
    assert 0.8 < found["click"].pcoc < 1.25
    assert 0.8 < found["value"].pcoc < 1.25


@pytest.mark.parametrize("name", NAMES)
def test_the_claims_are_what_a_server_computes_from_the_evaluation_file(
    report: TrainReport, models: ModelSet, trained_folder: Path, name: str
) -> None:
    manifest = _manifest(report, name)
    path = model_path(trained_folder, manifest.ref)

    rows = read_evaluation(path / EVALUATION)

    served = models.heads[name].probabilities(rows.matrix)
    found = evaluate(manifest.kind, rows.labels, served)
    claimed = manifest.evaluation
    assert (found.rows, found.positives) == (claimed.rows, claimed.positives)
    for figure in ("auc", "log_loss", "pcoc"):
        assert getattr(found, figure) == pytest.approx(getattr(claimed, figure), rel=1e-9)


def test_golden_vectors_and_witness_are_those_of_the_text(
    report: TrainReport, trained_folder: Path
) -> None:
    for manifest in report.manifests:
        path = model_path(trained_folder, manifest.ref)
        golden = read_golden(path / GOLDEN)

        forest = parse_forest((path / MODEL).read_bytes(), "model.txt")

        assert forest.digest() == golden.witness
        assert np.allclose(golden.raw, forest.raw_plainly(golden.matrix()), rtol=0, atol=1e-12)
        for file, told in (
            (MODEL, manifest.sha256),
            (GOLDEN, manifest.golden_sha256),
            (EVALUATION, manifest.evaluation_sha256),
        ):
            assert hashlib.sha256((path / file).read_bytes()).hexdigest() == told


def test_the_manifest_tells_where_the_model_comes_from(report: TrainReport) -> None:
    register = _manifest(report, "register")

    assert re.fullmatch(r"v202404\d\d-[0-9a-f]{8}", register.version)
    assert register.window_s == 7 * 86_400
    assert register.created_at_ms == NOW_MS
    assert 0 < register.positives < register.rows
    assert report.heads["register"].dropped["already_registered"] > 0


def test_every_choice_is_told(report: TrainReport) -> None:
    choices = report.heads["trade"].choices

    assert choices is not None
    assert len(choices.folds) == 3
    assert all(fold.learn_until_s < fold.judge_from_s for fold in choices.folds)
    assert choices.delayed is not None
    assert choices.delayed.used_rows > 0 or not choices.delayed.kept
    assert choices.tuning is None


def test_the_better_of_head_and_ratio_is_preferred(report: TrainReport, models: ModelSet) -> None:
    manifest = report.heads["trade_given_register"].manifest

    assert manifest is not None
    rule = models.value_rule(Goal.TRADE, OptimisedEvent.REGISTER)
    assert rule.kind == manifest.prefer


def test_each_model_is_a_whole_bundle(report: TrainReport, trained_folder: Path) -> None:
    files = {MODEL, MANIFEST, CARD, CARD_PAGE, GOLDEN, EVALUATION}

    for ref in report.refs:
        path = model_path(trained_folder, ref)
        assert {file.name for file in path.iterdir()} == files
        assert (path / CARD_PAGE).stat().st_size < 400_000


def test_a_card_asks_its_question_and_names_its_slices(
    report: TrainReport, trained_folder: Path
) -> None:
    cards = {ref.name: (model_path(trained_folder, ref) / CARD).read_text() for ref in report.refs}

    assert "P(register within 7 days | click)" in cards["register"]
    assert "P(click within 1 hours | exposure)" in cards["click"]
    assert "E[money of a trade within 14 days of a click], in micros" in cards["value"]
    assert "| normalised Gini |" in cards["value"]
    for kind in ("platform", "placement", "stage", "stage x platform"):
        assert f"### By {kind}\n" in cards["trade"]
    assert "| tencent |" in cards["trade"]
    assert "| ~" in cards["trade"]
    assert "Log loss of this head" not in cards["trade"]


def test_the_card_of_trade_given_register_tells_the_comparison(
    report: TrainReport, trained_folder: Path
) -> None:
    ref = _manifest(report, "trade_given_register").ref

    assert "of the ratio trade / register" in (model_path(trained_folder, ref) / CARD).read_text()


def test_the_report_speaks_json(report: TrainReport) -> None:
    told = msgspec.json.decode(msgspec.json.encode(report.to_json()))

    assert told["heads"]["register"]["evaluation"]["auc"] > 0.7
    assert told["heads"]["register"]["trained"] is True
    assert len(told["heads"]["register"]["choices"]["folds"]) == 3


def test_the_same_log_and_seed_give_the_same_bytes(
    report: TrainReport, market_log: Path, trained_folder: Path, tmp_path: Path
) -> None:
    options = TrainOptions(funnel=Funnel((*DEFAULT_FUNNEL[:2], DEFAULT_FUNNEL[-1])))
    small = DatasetOptions(max_rows=5_000)

    folders = [tmp_path / "a", tmp_path / "b"]
    for folder in folders:
        train_models(market_log, folder, replace(options, dataset=small), NOW_MS)

    one, other = (
        {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*.*")}
        for folder in folders
    )
    assert len(one) == 3 * 6
    assert one == other


def test_heads_that_lack_positives_are_left_out_with_their_reason(
    market_log: Path, tmp_path: Path
) -> None:
    given_download = HeadSpec("late", Step.TRADE, Step.DOWNLOAD)
    options = TrainOptions(
        funnel=Funnel((*DEFAULT_FUNNEL[:2], given_download), {"trade": {"idle_days": -1}}),
        heads=HeadOptions(delayed=False, max_evaluation_rows=500),
    )

    report = train_models(market_log, tmp_path, options, NOW_MS, Progress(disable=True))

    assert report.to_json()["heads"]["late"] == {
        "trained": False,
        "reason": "0 positives, 200 are needed",
        "dropped": {"unmatured": 0},
    }
    assert {ref.name for ref in report.refs} == {"register", "trade"}
    trade = report.heads["trade"]
    assert trade.choices is not None
    assert trade.choices.monotone == {"idle_days": -1}
    assert trade.choices.delayed is None
    assert trade.manifest is not None
    assert 350 < trade.manifest.evaluation.rows < 650


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
    options = TrainOptions(LogOptions(as_of=date(2024, 3, 31)), funnel=SHORT)

    with pytest.raises(InvalidInput, match=r"0 positives in .* rows to"):
        train_models(write_log(clicks + goals), tmp_path / "models", options, NOW_MS)
