"""Whatever a model file holds, the process that asks for the check lives and gets a verdict."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from rta_service.domain.errors import ModelRefused
from rta_service.domain.release import ModelRef
from rta_service.scoring.check import check_models

PutModel = Callable[..., ModelRef]


def test_sound_models_pass(put_model: PutModel, tmp_path: Path) -> None:
    refs = [put_model(), put_model("trade", goal="trade")]

    check_models(tmp_path, refs, timeout_s=60)


def test_a_truncated_model_is_refused_and_the_asker_lives(
    put_model: PutModel, tmp_path: Path, model_text: bytes
) -> None:
    verdicts = []
    for tenth in (1, 3, 5, 7, 9):
        ref = put_model(text=model_text[: len(model_text) * tenth // 10])
        with pytest.raises(ModelRefused, match=r"model\.txt: ") as refusal:
            check_models(tmp_path, [ref], timeout_s=60)
        verdicts.append(str(refusal.value))

    assert any("was killed by SIG" in verdict for verdict in verdicts), verdicts


def _altered(text: bytes, field: str, value: str) -> bytes:
    """Give the model with one field of its first tree changed, and without the trees' sizes."""
    text = re.sub(rb"tree_sizes=.*\n", b"", text)
    line = re.compile(rf"^{field}=.*$".encode(), re.MULTILINE)
    return line.sub(f"{field}={value}".encode(), text, count=1)


def test_a_tree_that_goes_round_in_circles_is_given_up_on(
    put_model: PutModel, tmp_path: Path, model_text: bytes
) -> None:
    circles = _altered(model_text, "left_child", " ".join(["0"] * 14))
    circles = _altered(circles, "right_child", " ".join(["0"] * 14))

    with pytest.raises(ModelRefused, match=r"model\.txt: not loaded and scored within 3 s"):
        check_models(tmp_path, [put_model(), put_model("trade", circles, goal="trade")], 3)


def test_the_model_that_failed_is_named(
    put_model: PutModel, tmp_path: Path, model_text: bytes
) -> None:
    bad = put_model("trade", model_text[: len(model_text) // 2], goal="trade")

    with pytest.raises(ModelRefused, match=rf"trade/{bad.version}/model\.txt"):
        check_models(tmp_path, [put_model(), bad], timeout_s=60)


def test_a_damaged_tree_kills_only_the_child(
    put_model: PutModel, tmp_path: Path, model_text: bytes
) -> None:
    ref = put_model(text=_altered(model_text, "left_child", "9999999 " * 14))

    with pytest.raises(ModelRefused, match="was killed by SIG"):
        check_models(tmp_path, [ref], timeout_s=60)


def test_what_lightgbm_itself_refuses_is_told_in_one_line(
    put_model: PutModel, tmp_path: Path, model_text: bytes
) -> None:
    ref = put_model(text=_altered(model_text, "num_leaves", "-1"))

    with pytest.raises(ModelRefused, match=r"^\S+model\.txt: LightGBM can't read it .*\)$"):
        check_models(tmp_path, [ref], timeout_s=60)


@pytest.mark.parametrize("seed", range(4))
def test_random_damage_always_ends_in_a_verdict(
    put_model: PutModel, tmp_path: Path, model_text: bytes, seed: int
) -> None:
    chance = np.random.default_rng(seed)
    text = np.frombuffer(model_text, np.uint8).copy()
    text[chance.integers(0, len(text) // 2, 20)] = chance.integers(32, 127, 20)

    with pytest.raises(ModelRefused, match=r"model\.txt: "):
        check_models(tmp_path, [put_model(text=text.tobytes())], timeout_s=5)


def test_raw_scores_that_are_no_probabilities_are_refused(
    put_model: PutModel, tmp_path: Path, model_text: bytes
) -> None:
    ref = put_model(text=model_text.replace(b"objective=binary sigmoid:1", b"objective=regression"))

    with pytest.raises(ModelRefused, match="as a raw probability"):
        check_models(tmp_path, [ref], timeout_s=60)


def test_a_child_that_is_refused_a_file_says_why(put_model: PutModel, tmp_path: Path) -> None:
    ref = ModelRef("register", "v20240601-00000000", "0" * 64)

    with pytest.raises(ModelRefused, match=r"manifest\.json: can't be read"):
        check_models(tmp_path, [ref], timeout_s=60)


def test_no_models_are_fine(tmp_path: Path) -> None:
    check_models(tmp_path, [], timeout_s=60)
