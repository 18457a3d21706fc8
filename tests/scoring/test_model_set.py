"""The models of a release are what it names, and each question finds its head."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import lightgbm
import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from rta_service.domain.errors import ModelRefused
from rta_service.domain.funnel import DEFAULT_FUNNEL
from rta_service.domain.release import ModelRef
from rta_service.domain.strategy import Goal, OptimisedEvent
from rta_service.scoring.calibration import calibrate_one
from rta_service.scoring.canonical_text import canonical_text
from rta_service.scoring.flat_forest import FlatForest
from rta_service.scoring.forest_text import parse_forest
from rta_service.scoring.model_file import object_path
from rta_service.scoring.model_set import ModelSet, ValueRule, load_head, load_model_set

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


def test_a_head_keeps_the_arrays_it_was_made_of(
    put_model: PutModel, tmp_path: Path, rows: NDArray[np.float64]
) -> None:
    head = load_head(tmp_path, put_model())

    assert head.flat.predict_plainly(rows) == pytest.approx(head.forest.predict(rows), rel=1e-15)
    assert not head.flat.leaf_value.flags.writeable


def test_no_byte_of_an_upload_reaches_lightgbm(
    put_model: PutModel, model_text: bytes, tmp_path: Path
) -> None:
    marked = model_text.replace(b"\nparameters:\n", b"\nparameters:\n[marked: by the uploader]\n")
    forest = parse_forest(marked, "model.txt")
    ref = put_model(forest=forest)

    assert b"marked" in marked
    assert b"marked" not in object_path(tmp_path, ref.sha256).read_bytes()
    assert "marked" not in canonical_text(load_head(tmp_path, ref).flat)


def test_a_damaged_file_is_refused_before_anything_reads_it(
    put_model: PutModel, tmp_path: Path
) -> None:
    ref = put_model()
    path = object_path(tmp_path, ref.sha256)
    path.write_bytes(path.read_bytes()[:5_000])

    with pytest.raises(ModelRefused, match=rf"register {ref.version}: .*\.forest: damaged"):
        load_model_set(tmp_path, [ref])


def test_a_missing_file_is_named(put_model: PutModel, tmp_path: Path) -> None:
    ref = put_model()
    object_path(tmp_path, ref.sha256).unlink()

    with pytest.raises(ModelRefused, match=r"\.forest: can't be read \(No such file"):
        load_model_set(tmp_path, [ref])


@pytest.mark.parametrize("changes", [{"name": "trade"}, {"version": "v2"}])
def test_a_file_of_another_model_than_the_release_says_is_refused(
    put_model: PutModel, tmp_path: Path, changes: dict[str, str]
) -> None:
    ref = msgspec.structs.replace(put_model(), **changes)

    with pytest.raises(ModelRefused, match=r"is register v.*, the release names it"):
        load_head(tmp_path, ref)


def test_a_model_named_twice_is_refused(put_model: PutModel, tmp_path: Path) -> None:
    ref = put_model()

    with pytest.raises(ModelRefused, match="'register' twice"):
        load_model_set(tmp_path, [ref, ref])


def test_a_known_name_must_answer_its_own_question(put_model: PutModel, tmp_path: Path) -> None:
    ref = put_model("trade")

    with pytest.raises(ModelRefused, match="'trade' must predict trade given click"):
        load_model_set(tmp_path, [ref])


def test_what_lightgbm_refuses_is_told_in_one_line(
    put_model: PutModel, small_forest: FlatForest, tmp_path: Path
) -> None:
    wrong = replace(small_forest, sigmoid=-1.0)

    with pytest.raises(ModelRefused, match=r"^register v\S+ \S+\.forest: can't be scored \(.*\)$"):
        load_head(tmp_path, put_model(forest=wrong))


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
