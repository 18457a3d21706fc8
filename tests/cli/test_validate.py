"""`rta models validate` as a person types it."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from rta_service.cli import commands
from rta_service.cli.app import EXIT_WRONG_INPUT, app as command_tree, run

assert commands.validate is not None  # importing it hangs the subcommands in

TREE = """Tree=0
num_leaves=2
num_cat=0
split_feature=0
split_gain=1
threshold=0.5
decision_type=2
left_child=-1
right_child=-2
leaf_value=-1 1
leaf_weight=1 1
leaf_count=1 1
internal_value=0
internal_weight=2
internal_count=2
is_linear=0
shrinkage=1


"""
SOUND = f"""tree
version=v4
num_class=1
num_tree_per_iteration=1
label_index=0
max_feature_idx=0
objective=binary sigmoid:1
feature_names=age
feature_infos=[0:1]
tree_sizes={len(TREE)}

{TREE}end of trees
"""


@pytest.fixture
def bundles(tmp_path: Path) -> Path:
    """Two models in folders as training writes them, and one beside them that is cut off."""
    for name in ("register/v1", "trade/v1"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "model.txt").write_text(SOUND)
    (tmp_path / "cut.txt").write_text(SOUND[:300])
    return tmp_path


def validate(*words: object) -> Any:
    arguments = ["models", "validate", *(str(word) for word in words)]
    return CliRunner().invoke(command_tree, arguments)


def test_sound_models_are_shown_and_exit_zero(bundles: Path) -> None:
    result = validate(bundles)

    assert result.exit_code == 0
    assert result.stdout.count("sound, 1 trees, 2 leaves") == 2
    assert str(bundles / "register" / "v1" / "model.txt") in result.stdout


def test_an_unsound_model_exits_two_with_its_reasons(bundles: Path) -> None:
    result = validate(bundles / "cut.txt")

    assert result.exit_code == EXIT_WRONG_INPUT
    assert "cut.txt: unsound, " in result.stdout
    assert "end of trees: missing: the file is cut off" in result.stdout
    assert "tree 0, " in result.stdout


def test_json_names_line_tree_field_and_reason(bundles: Path) -> None:
    (bundles / "trade" / "v1" / "model.txt").write_text(
        SOUND.replace("leaf_value=-1", "leaf_value=-x")
    )

    result = validate(bundles, "--json")

    document = json.loads(result.stdout)
    sound, unsound = document["models"]
    assert result.exit_code == EXIT_WRONG_INPUT
    assert document["sound"] is False
    assert (sound["sound"], sound["trees"], sound["leaves"], sound["faults"]) == (True, 1, 2, [])
    assert (sound["bytes"], len(sound["digest"])) == (len(SOUND), 64)
    assert 0 <= sound["seconds"] < 5
    assert unsound["digest"] == ""
    assert unsound["faults"] == [
        {
            "line": 21,
            "tree": 0,
            "field": "leaf_value",
            "reason": "number 0 is '-x', not a finite number",
        }
    ]


def test_a_path_without_models_is_wrong_input(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    code = run(lambda: command_tree(["models", "validate", str(tmp_path)], standalone_mode=False))

    assert code == EXIT_WRONG_INPUT
    assert "no model.txt there" in capfd.readouterr().err
