"""The models of a release are what it names, and each question finds its head."""

from collections.abc import Callable
from pathlib import Path

import lightgbm
import numpy as np
import pytest
from numpy.typing import NDArray

from rta_service.domain.errors import ModelRefused
from rta_service.domain.funnel import DEFAULT_FUNNEL
from rta_service.domain.release import ModelRef
from rta_service.domain.strategy import Goal, OptimisedEvent
from rta_service.scoring.calibration import calibrate_one
from rta_service.scoring.manifest import MODEL, model_path
from rta_service.scoring.model_set import ModelSet, ValueRule, load_model_set

PutModel = Callable[..., ModelRef]
PutHeads = Callable[..., ModelSet]


def test_a_head_gives_the_boosters_own_numbers_calibrated(
    put_model: PutModel, tmp_path: Path, model_text: bytes, rows: NDArray[np.float64]
) -> None:
    head = load_model_set(tmp_path, [put_model()]).heads["register"]

    found = head.probabilities(rows)

    raw = np.asarray(lightgbm.Booster(model_str=model_text.decode()).predict(rows))
    calibration = head.manifest.calibration
    assert (head.forest.predict(rows) == raw).all()
    assert found == pytest.approx([calibrate_one(float(one), calibration) for one in raw])


def test_a_batch_scores_as_one_by_one(
    put_model: PutModel, tmp_path: Path, rows: NDArray[np.float64]
) -> None:
    head = load_model_set(tmp_path, [put_model()]).heads["register"]

    single = [head.probabilities(row[np.newaxis])[0] for row in rows[:50]]

    assert single == head.probabilities(rows[:50]).tolist()


def test_changed_text_is_refused_before_it_is_parsed(put_model: PutModel, tmp_path: Path) -> None:
    ref = put_model()
    path = model_path(tmp_path, ref) / MODEL
    path.write_bytes(path.read_bytes()[:5_000])  # parsing this would end the process

    with pytest.raises(ModelRefused, match=r"model\.txt: damaged or changed"):
        load_model_set(tmp_path, [ref])


def test_a_missing_text_is_named(put_model: PutModel, tmp_path: Path) -> None:
    ref = put_model()
    (model_path(tmp_path, ref) / MODEL).unlink()

    with pytest.raises(ModelRefused, match=r"model\.txt: can't be read \(No such file"):
        load_model_set(tmp_path, [ref])


def test_a_model_named_twice_is_refused(put_model: PutModel, tmp_path: Path) -> None:
    ref = put_model()

    with pytest.raises(ModelRefused, match="'register' twice"):
        load_model_set(tmp_path, [ref, ref])


def test_a_known_name_must_answer_its_own_question(put_model: PutModel, tmp_path: Path) -> None:
    ref = put_model("trade")

    with pytest.raises(ModelRefused, match="'trade' must predict trade given click"):
        load_model_set(tmp_path, [ref])


def test_trees_grown_on_other_columns_are_refused(
    put_model: PutModel, tmp_path: Path, model_text: bytes
) -> None:
    ref = put_model(text=model_text.replace(b"feature_names=known", b"feature_names=Known"))

    with pytest.raises(ModelRefused, match="feature_names are not those of its manifest"):
        load_model_set(tmp_path, [ref])


@pytest.mark.parametrize("text", [b"", b"junk", b"\xff\xfe"])
def test_text_that_is_no_model_is_refused(put_model: PutModel, tmp_path: Path, text: bytes) -> None:
    with pytest.raises(ModelRefused, match="LightGBM can't read it"):
        load_model_set(tmp_path, [put_model(text=text)])


@pytest.fixture
def put_heads(put_model: PutModel, tmp_path: Path) -> PutHeads:
    def put(*names: str, prefer: str = "head") -> ModelSet:
        refs = [
            put_model(name, goal=KNOWN[name].goal, given=KNOWN[name].given, prefer=prefer)
            for name in names
        ]
        return load_model_set(tmp_path, refs)

    return put


CLICK, ACTIVATE, REGISTER = OptimisedEvent
KNOWN = {spec.name: spec for spec in DEFAULT_FUNNEL}
MISSING = ValueRule("missing")
RATIO = ValueRule("ratio", "trade", "register")


@pytest.mark.parametrize(
    ("heads", "goal", "event", "rule"),
    [
        (["register"], Goal.REGISTER, CLICK, ValueRule("head", "register")),
        (["trade"], Goal.TRADE, CLICK, ValueRule("head", "trade")),
        (["trade"], Goal.REGISTER, CLICK, MISSING),
        ([], Goal.REGISTER, REGISTER, ValueRule("one")),
        (["register"], Goal.REGISTER, ACTIVATE, MISSING),
        (
            ["register_given_activate"],
            Goal.REGISTER,
            ACTIVATE,
            ValueRule("head", "register_given_activate"),
        ),
        (["register", "trade"], Goal.TRADE, ACTIVATE, MISSING),
        (
            ["trade_given_activate"],
            Goal.TRADE,
            ACTIVATE,
            ValueRule("head", "trade_given_activate"),
        ),
        (["register", "trade"], Goal.TRADE, REGISTER, RATIO),
        (["trade"], Goal.TRADE, REGISTER, MISSING),
        (
            ["register", "trade", "trade_given_register"],
            Goal.TRADE,
            REGISTER,
            ValueRule("head", "trade_given_register"),
        ),
    ],
)
def test_each_question_finds_its_head(
    put_heads: PutHeads, heads: list[str], goal: Goal, event: OptimisedEvent, rule: ValueRule
) -> None:
    models = put_heads(*heads)

    assert models.value_rule(goal, event) == rule


def test_the_ratio_is_taken_where_training_found_it_better(put_heads: PutHeads) -> None:
    models = put_heads("register", "trade", "trade_given_register", prefer="ratio")

    assert models.value_rule(Goal.TRADE, REGISTER) == RATIO


def test_a_head_is_taken_where_the_preferred_ratio_is_not_at_hand(put_heads: PutHeads) -> None:
    models = put_heads("trade_given_register", prefer="ratio")

    assert models.value_rule(Goal.TRADE, REGISTER).kind == "head"
