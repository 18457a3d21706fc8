"""`rta models train` as a growth team types it."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from rta_service.cli import commands
from rta_service.cli.app import app as command_tree
from rta_service.demo.world import World
from rta_service.domain.errors import InvalidInput

assert commands.serve is not None  # importing it hangs the subcommands in

FUNNEL = """\
[[heads]]
name = "register"
goal = "register"
given = "click"
monotone = { browses = 1 }

[[heads]]
name = "trade"
goal = "trade"
given = "click"
window_days = 14

[[heads]]
name = "rare"
goal = "activate"
given = "download"
window_days = 0.00001
"""


def _train(world: World, *words: object) -> Result:
    end_s = world.build.manifest.as_of_s
    as_of = f"{datetime.fromtimestamp(end_s, UTC) - timedelta(days=1):%Y-%m-%d}"
    arguments = ["models", "train", world.events, "--as-of", as_of, *words]
    result = CliRunner().invoke(command_tree, [str(word) for word in arguments])
    if result.exception:
        raise result.exception
    return result


@pytest.fixture
def funnel(tmp_path: Path) -> Path:
    path = tmp_path / "funnel.toml"
    path.write_text(FUNNEL)
    return path


def test_a_funnels_heads_are_trained_and_what_was_left_out_is_told(
    made_world: World, funnel: Path, tmp_path: Path
) -> None:
    out = tmp_path / "models"

    result = _train(made_world, "--out", out, "--funnel", funnel, "--no-delayed")

    assert sorted(path.name for path in out.iterdir()) == ["register", "trade"]
    assert "rare was not trained: 0 positives, 200 are needed" in result.stdout
    assert "fresh rows" in result.stdout
    assert f"next: rta models publish {out}" in result.stdout


def test_json_tells_every_choice(made_world: World, funnel: Path, tmp_path: Path) -> None:
    result = _train(
        made_world, "--out", tmp_path / "m", "--funnel", funnel, "--tune", "0.2", "--json"
    )

    told: dict[str, Any] = json.loads(result.stdout)["heads"]
    choices = told["register"]["choices"]
    assert choices["monotone"] == {"browses": 1}
    assert choices["tuning"]["trials"] >= 1
    assert {"default_loss", "tuned_loss", "won"} <= choices["tuning"].keys()
    assert told["trade"]["choices"]["delayed"]["fresh_rows"] > 0
    assert told["rare"]["trained"] is False


def test_a_wrong_funnel_is_named_before_the_log_is_read(made_world: World, tmp_path: Path) -> None:
    path = tmp_path / "funnel.toml"
    path.write_text(FUNNEL.replace('given = "download"', 'given = "trade"'))

    with pytest.raises(InvalidInput, match=r"funnel.toml:16, heads\[2\].given"):
        _train(made_world, "--out", tmp_path / "m", "--funnel", path)
