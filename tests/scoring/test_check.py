"""Whatever a model file holds, the process that asks for the check lives and gets a verdict."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rta_service.domain.errors import ModelRefused
from rta_service.domain.funnel import Step
from rta_service.domain.release import ModelRef
from rta_service.scoring.calibration import Calibration
from rta_service.scoring.check import check_head, check_models
from rta_service.scoring.flat_forest import FlatForest
from rta_service.scoring.head import Head
from rta_service.scoring.model_set import load_head

PutModel = Callable[..., ModelRef]


def test_sound_models_pass_wherever_their_folder_is_named_from(
    put_model: PutModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refs = [put_model(), put_model("trade", goal=Step.TRADE)]
    monkeypatch.chdir(tmp_path.parent)

    check_models(Path(tmp_path.name), refs, timeout_s=60)


def test_a_damaged_tree_kills_only_the_child_and_is_named(
    put_model: PutModel, tmp_path: Path, model_forest: FlatForest
) -> None:
    far = replace(model_forest, left=np.full_like(model_forest.left, 999_999_999))
    refs = [put_model(), put_model("trade", far, goal=Step.TRADE)]

    with pytest.raises(
        ModelRefused, match=rf"^trade \S+ \S+{refs[1].sha256}\.forest: .* was killed by SIG"
    ):
        check_models(tmp_path, refs, timeout_s=60)


def test_a_tree_that_goes_round_in_circles_is_given_up_on(
    put_model: PutModel, tmp_path: Path, model_forest: FlatForest
) -> None:
    zeros = np.zeros_like(model_forest.left)
    circles = replace(model_forest, left=zeros, right=zeros)
    begun_s = time.monotonic()

    with pytest.raises(
        ModelRefused, match=r"^register .*\.forest: still busy after 3 s, and killed"
    ):
        check_models(tmp_path, [put_model(forest=circles)], 3)

    assert time.monotonic() - begun_s < 10


@pytest.mark.parametrize("seed", range(2))
def test_random_arrays_always_end_in_a_verdict(
    put_model: PutModel, tmp_path: Path, model_forest: FlatForest, seed: int
) -> None:
    chance = np.random.default_rng(seed)
    nodes = len(model_forest.left)
    damaged = replace(
        model_forest,
        left=chance.integers(-100, 100, nodes).astype(np.int32),
        right=chance.integers(-100, 100, nodes).astype(np.int32),
    )

    with pytest.raises(ModelRefused, match=r"^register "):
        check_models(tmp_path, [put_model(forest=damaged)], timeout_s=5)


def test_raw_scores_that_are_no_probabilities_are_refused(
    put_model: PutModel, tmp_path: Path, model_forest: FlatForest
) -> None:
    ref = put_model(forest=replace(model_forest, objective="regression"))

    with pytest.raises(ModelRefused, match=r"here: gives .* as a raw probability"):
        check_head(load_head(tmp_path, ref), "here")


def test_a_scorer_that_does_not_give_what_its_arrays_say_is_refused(
    put_model: PutModel, tmp_path: Path, model_forest: FlatForest
) -> None:
    other = load_head(tmp_path, put_model())
    leaves = model_forest.leaf_value.copy()
    leaves[0] = np.nextafter(leaves[0], 1.0) * 1.001
    arrays = replace(model_forest, leaf_value=leaves)

    with pytest.raises(ModelRefused, match="here: LightGBM's scores are not those of the"):
        check_head(Head(other.manifest, other.forest, arrays), "here")


def test_a_value_head_may_give_any_amount_but_no_negative_or_infinite_one(
    put_model: PutModel, tmp_path: Path, model_forest: FlatForest
) -> None:
    money = replace(model_forest, objective="regression", leaf_value=model_forest.leaf_value * 1e6)
    value: dict[str, object] = {"goal": Step.TRADE, "given": Step.TRADE, "kind": "value"}
    rising = Calibration((0.0, 1e6), (0.0, 2e6))
    endless = replace(money, leaf_value=np.full_like(money.leaf_value, 1e308))

    sound = put_model("value", money, calibration=rising, **value)
    check_head(load_head(tmp_path, sound), "here")
    without_bound = put_model("value", endless, calibration=rising, **value)
    with pytest.raises(ModelRefused, match=r"here: gives -?inf as a raw value"):
        check_head(load_head(tmp_path, without_bound), "here")


def test_a_child_that_is_refused_a_file_says_why(tmp_path: Path) -> None:
    ref = ModelRef("register", "v20240601-00000000", "0" * 64)

    with pytest.raises(ModelRefused, match=r"^register v20240601-00000000: \S+: can't be read"):
        check_models(tmp_path, [ref], timeout_s=60)


def test_no_models_are_fine(tmp_path: Path) -> None:
    check_models(tmp_path, [], timeout_s=60)
