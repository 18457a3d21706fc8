"""The card's page stands alone, says nothing that data could have written, and is small."""

from collections.abc import Callable

import lightgbm
import msgspec
import pytest

from rta_service.domain.funnel import HeadSpec, Step
from rta_service.features import FEATURE_NAMES, FEATURE_SET_ID
from rta_service.offline.training.card_page import write_page
from rta_service.offline.training.dataset import HeadRows
from rta_service.offline.training.growing import Chance
from rta_service.offline.training.head_training import (
    Fitted,
    HeadOptions,
    HeadTask,
    train_head,
)
from rta_service.offline.training.model_card import write_card
from rta_service.offline.training.report import TuningMark
from rta_service.scoring.manifest import ModelManifest

MakeRows = Callable[..., HeadRows]

TRADE = HeadSpec("trade", Step.TRADE, Step.CLICK, window_days=14.0)
VALUE = HeadSpec("value", Step.TRADE, Step.TRADE, kind="value", window_days=14.0)


PLAIN = HeadOptions()


class NoBars:
    """Shows nothing."""

    def stage(self, name: str, steps: int) -> Callable[[], None]:
        return lambda: None


def _train(rows: HeadRows, spec: HeadSpec, options: HeadOptions = PLAIN) -> Fitted:
    end_s = int(rows.as_of_s[-1])
    known, fresh = rows.take(rows.known_s <= end_s), rows.take(rows.known_s > end_s)
    task = HeadTask(spec, known, fresh, end_s, {"browses": 1} if spec is TRADE else {})
    return train_head(task, options, Chance(1, 1), NoBars())


def _manifest(fitted: Fitted, spec: HeadSpec) -> ModelManifest:
    return ModelManifest(
        name=spec.name,
        version="v20240601-00000000",
        goal=spec.goal,
        given=spec.given,
        kind=spec.kind,
        feature_set_id=FEATURE_SET_ID,
        feature_names=FEATURE_NAMES,
        window_s=14 * 86_400,
        trained_from_s=1_710_000_000,
        trained_to_s=1_717_200_000,
        rows=2_000,
        positives=300,
        evaluation=fitted.evaluation,
        sha256="",
        calibration=fitted.calibration,
        seed=7,
        lightgbm_version=lightgbm.__version__,
        created_at_ms=0,
    )


@pytest.fixture(scope="session")
def trade(make_rows: MakeRows) -> Fitted:
    return _train(
        make_rows(6_000, drift=1.0, window_days=7.0), TRADE, HeadOptions(max_learn_rows=2_000)
    )


def test_the_page_is_small_and_loads_nothing(trade: Fitted) -> None:
    page = write_page(_manifest(trade, TRADE), trade, ())

    assert len(page.encode()) < 400_000
    assert page.count("<svg") == 8
    for word in ("<script", "<link", "<img", "@import", "url(http", 'src="'):
        assert word not in page


def test_the_same_figures_give_the_same_page(trade: Fitted) -> None:
    pages = {write_page(_manifest(trade, TRADE), trade, ()) for _ in range(2)}

    assert len(pages) == 1


def test_words_from_elsewhere_are_escaped(trade: Fitted) -> None:
    page = write_page(_manifest(trade, TRADE), trade, ("<script>alert('x')</script> & more",))

    assert "<script>" not in page
    assert "&lt;script&gt;alert(&#x27;x&#x27;)&lt;/script&gt; &amp; more" in page


def test_the_card_tells_what_was_sampled_constrained_and_tried(trade: Fitted) -> None:
    mark = TuningMark(12, 0.31, 0.30, 0.001, True, {"num_leaves": 40})
    tuned = trade._replace(choices=msgspec.structs.replace(trade.choices, tuning=mark))

    card = write_card(_manifest(tuned, TRADE), tuned, ("A remark.",))

    assert "of the negatives were learned from" in card
    assert "the prediction never falls with browses" in card
    assert "Fresh rows, whose window is not over" in card
    assert "12 trials" in card
    assert "the tuned ones won" in card
    assert "- A remark." in card


def test_a_value_heads_page_speaks_of_money(make_rows: MakeRows) -> None:
    fitted = _train(make_rows(3_000, is_value=True), VALUE)

    page = write_page(_manifest(fitted, VALUE), fitted, ())

    assert "normalised Gini" in page
    assert "gamma" in " ".join(fitted.choices.remarks)
    assert fitted.choices.delayed is None
    assert fitted.evaluation.pcoc == pytest.approx(1.0, abs=0.2)


def test_few_rows_let_the_calibration_rows_choose_the_trees(make_rows: MakeRows) -> None:
    fitted = _train(make_rows(200, days=20, window_days=1.0), TRADE)

    assert len(fitted.choices.folds) == 1
    assert "Too few rows for folds" in fitted.choices.remarks[0]


def test_tuning_is_part_of_training(make_rows: MakeRows) -> None:
    fitted = _train(make_rows(1_500), TRADE, HeadOptions(tune_s=0.5))

    assert fitted.choices.tuning is not None
    assert fitted.choices.tuning.trials >= 1
