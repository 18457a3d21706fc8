"""Outcomes and the autopilot from the command line, on a store of their own."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from rta_service.cli import commands
from rta_service.cli.app import app as command_tree
from rta_service.domain.clock import SystemClock
from rta_service.domain.errors import InvalidInput

assert commands.serve is not None  # importing it hangs the subcommands in

Rta = Callable[..., Any]


@pytest.fixture
def rta(tmp_path: Path) -> Rta:
    (tmp_path / "data").mkdir()

    def call(*words: object, stdin: str | None = None) -> Any:
        environment = {"RTA_DATA_DIR": str(tmp_path / "data"), "RTA_REDIS_URL": None}
        arguments = ["models", *(str(word) for word in words)]
        result = CliRunner().invoke(command_tree, arguments, input=stdin, env=environment)
        if result.exception and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return call


def lines(*changes: dict[str, Any]) -> str:
    now_ms = SystemClock().now_ms()
    usual = {"ts_ms": now_ms, "platform": "json", "labels": {"register": 0}}
    return "\n".join(json.dumps({"id": str(n), **usual, **c}) for n, c in enumerate(changes))


def test_outcomes_are_brought_from_a_file_line_by_line(rta: Rta, tmp_path: Path) -> None:
    file = tmp_path / "outcomes.jsonl"
    file.write_text(lines({}, {"labels": {"register": 3}}, {}, {"id": "0"}))

    first = rta("outcomes", file)
    shown = first.stdout
    again = json.loads(rta("outcomes", file, "--json").stdout)

    assert first.exit_code == 1
    assert "2 accepted, 1 duplicate, 1 rejected" in shown
    assert "line 2: labels.register must be 0 or 1" in shown
    assert [line["fate"] for line in again["lines"]].count("duplicate") == 3


def test_outcomes_are_read_from_standard_input_and_only_some_faults_are_shown(rta: Rta) -> None:
    shown = rta("outcomes", "-", stdin=lines(*[{"labels": {}}] * 25)).stdout

    assert "25 rejected" in shown
    assert "and 5 more" in shown


def test_outcomes_that_are_all_taken_are_no_failure(rta: Rta) -> None:
    text = lines({}, {})

    first, again = rta("outcomes", "-", stdin=text), rta("outcomes", "-", "--json", stdin=text)

    assert (first.exit_code, again.exit_code) == (0, 0)


def test_a_file_that_is_not_there_is_named(rta: Rta) -> None:
    with pytest.raises(InvalidInput, match=r"nowhere\.jsonl"):
        rta("outcomes", "nowhere.jsonl")


def test_the_autopilot_is_switched_and_says_who_did_it(rta: Rta) -> None:
    assert "off by RTA_AUTOPILOT" in rta("autopilot").stdout

    rta("autopilot", "on", "--why", "a holiday")
    status = json.loads(rta("autopilot", "--json").stdout)["autopilot"]

    assert status["switch"]["on"]
    assert status["switch"]["who"].startswith("cli:")
    assert "by cli:" in rta("autopilot", "status").stdout
    assert "nothing is on trial\nit has judged nothing yet" in rta("autopilot").stdout
    assert rta("autopilot", "off", "--why", "back").stdout.startswith("off since")


def test_a_switch_without_a_reason_is_refused(rta: Rta) -> None:
    with pytest.raises(InvalidInput, match="why"):
        rta("autopilot", "on")
